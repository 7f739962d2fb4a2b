"""Detect the format, encoding and separator of a file from its name and its first bytes."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rubro.base.text import normalise

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
# The marks of UTF-32 come first, because one of them begins with a mark of UTF-16.
BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_SUFFIX = re.compile(r"\.(csv|tsv|jsonl|ndjson|json|txt)(\.gz)?$|\.(parquet)$", re.IGNORECASE)
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
_SAMPLE_ROWS = 200
_HIGH_BYTES = re.compile(b"[\x80-\xff]+")
# Signs that occur in Western European titles in cp1252; letters are checked separately.
_WESTERN_SIGNS = "€…‘’“”•–—™\xa0¡©ª«®°²³´·º»¼½¾¿×"  # noqa: RUF001
_MIN_WESTERN_SHARE = 0.9
# Numbers with three digits after each separator may be whole numbers with thousands separators.
_DECIMAL_COMMA = re.compile(r"[-+]?(?![1-9]\d{0,2}(?:,\d{3})+$)[\d.]+,\d+")
_DECIMAL_POINT = re.compile(r"[-+]?(?![1-9]\d{0,2}(?:\.\d{3})+$)[\d,]+\.\d+")

_UNPACK = "Unpack it first."
_CONVERT = "Convert it to CSV, JSON Lines or parquet."
# Formats that are recognised but not read: name, remedy, file suffixes and first bytes.
_UNREADABLE_FORMATS = (
    ("a spreadsheet", "Save it as CSV (UTF-8).", "xlsx xlsm xlsb xls ods", b"\xd0\xcf\x11\xe0"),
    ("a zip archive", _UNPACK, "zip", None),
    ("a tar archive", _UNPACK, "tar tgz", None),
    ("a rar archive", _UNPACK, "rar", b"Rar!\x1a"),
    ("a 7z archive", _UNPACK, "7z", b"7z\xbc\xaf"),
    ("compressed with bzip2", _UNPACK, "bz2", b"BZh"),
    ("compressed with xz", _UNPACK, "xz", b"\xfd7zXZ"),
    ("compressed with zstd", _UNPACK, "zst", b"\x28\xb5\x2f\xfd"),
    ("an Arrow or Feather file", _CONVERT, "feather arrow", b"ARROW1"),
    ("an ORC file", _CONVERT, "orc", None),
    ("a pickle", _CONVERT, "pkl pickle", None),
    ("an XML file", _CONVERT, "xml", None),
    ("a web page", _CONVERT, "html", None),
    ("a database", "Export its titles as CSV.", "sqlite db", b"SQLite format 3"),
    (
        "the macOS metadata of another file",
        "Use the file of the same name without ._ at its beginning.",
        "appledouble",
        b"\0\x05\x16\x07",
    ),
)
_DESCRIPTIONS = {
    suffix: f"{format_name}, which rubro does not read. {remedy}"
    for format_name, remedy, suffixes, _ in _UNREADABLE_FORMATS
    for suffix in suffixes.split()
}
_WEB_PAGE_STARTS = (b"<html", b"<!doctype html", b"<table")


def kind_of(path: Path) -> str | None:
    """Return the format that a file's name implies, such as "csv"; None if it is unknown."""
    match = _SUFFIX.search(path.name)
    if match is None:
        return None
    kind = (match[1] or match[3]).lower()
    return "jsonl" if kind == "ndjson" else kind


def unreadable_by_name(path: Path) -> str | None:
    """Return a message if the name of a file implies an unsupported format, otherwise None."""
    return _DESCRIPTIONS.get(path.suffix.lower().removeprefix("."))


def unreadable_format(path: Path, kind: str | None, sample: bytes) -> str | None:
    """Return a message if a file has an unsupported format, otherwise None.

    What the content shows has priority over what the name implies.

    Args:
        path: Path of the file.
        kind: Format given by the user or implied by the name; None if neither is known.
        sample: First bytes of the file.
    """
    start = sample[:1000].lstrip().lower()
    if start.startswith(_WEB_PAGE_STARTS):
        return _DESCRIPTIONS["html"]
    if start.startswith(b"<?xml"):
        return _DESCRIPTIONS["xml"]
    if sample[257:262] == b"ustar":
        return _DESCRIPTIONS["tar"]
    by_name = unreadable_by_name(path) if kind is None else None
    if by_name is None and sample.startswith(b"PK\x03\x04"):
        is_spreadsheet = b"[Content_Types].xml" in sample[:2000]
        return _DESCRIPTIONS["xlsx" if is_spreadsheet else "zip"]
    by_content = (
        _DESCRIPTIONS[suffixes.split()[0]]
        for _, _, suffixes, first_bytes in _UNREADABLE_FORMATS
        if first_bytes is not None and sample.startswith(first_bytes)
    )
    return by_name or next(by_content, None)


def find_column(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """Return the column that has one of the given names, ignoring case and accents.

    Args:
        columns: Column names of a file.
        names: Accepted names, the preferred one first.
    """
    exact = list(columns)
    plain = [_plain(column) for column in exact]
    for name in names:
        if name in exact:
            return name
        if _plain(name) in plain:
            return exact[plain.index(_plain(name))]
    return None


def _plain(name: str) -> str:
    return normalise(re.sub("[_-]", " ", name))


def detect_encoding(sample: bytes) -> str:
    """Return "cp1252" if the text is certainly in this encoding, otherwise "utf-8".

    A file in another encoding is read as utf-8, and its undecodable rows are reported.
    """
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return "utf-8"
    lines = [line for line in sample.split(b"\n")[:-1] or [sample] if not line.isascii()]
    for line in lines:
        with suppress(UnicodeDecodeError):
            line.decode("utf-8")
            return "utf-8"
    runs = _HIGH_BYTES.findall(b"\n".join(lines))
    signs = b"".join(runs).decode("cp1252", "replace")
    # Western text has single non-ASCII letters in ASCII words; other scripts have whole words.
    western = sum(sign in _WESTERN_SIGNS or "À" <= sign <= "ÿ" for sign in signs)
    if runs and western >= _MIN_WESTERN_SHARE * len(signs) and len(signs) < 2 * len(runs):
        return "cp1252"
    return "utf-8"


@dataclass(frozen=True)
class TableLayout:
    """Separator and header of a table, detected from its first lines.

    Attributes:
        separator: Character between fields.
        rows: Fields of the first lines, including the header.
        wanted_columns: Number of header fields that name a column the caller looks for.
        skipped_lines: Number of lines before the header.
    """

    separator: str
    rows: list[list[str]]
    wanted_columns: int
    skipped_lines: int


def detect_layout(
    sample: str, kind: str | None, separator: str | None, columns: Iterable[Sequence[str]]
) -> TableLayout:
    """Detect the separator and the header of a table.

    The separator is chosen that finds the most wanted columns in the header. In a tie, the
    separator is chosen that splits most rows into as many fields as the header.

    Args:
        sample: Beginning of the text.
        kind: Format of the file, if it is known.
        separator: Character between fields; None means detect it.
        columns: Accepted names of each wanted column.
    """
    separator_line = _SEPARATOR_LINE.match(sample)
    if separator_line:
        sample = sample[separator_line.end() :]
        separator = separator or separator_line[1]
    lines = sample.splitlines(keepends=True)[: _SAMPLE_ROWS + 1]
    if len(lines) > 1 and not lines[-1].endswith("\n"):
        lines.pop()
    usual = "\t" if kind == "tsv" else ","
    candidates = sorted(SEPARATORS.values(), key=lambda candidate: candidate != usual)
    layouts = []
    for candidate in [separator] if separator else candidates:
        rows = _sample_rows(lines, candidate)
        header = [name.strip() for name in rows[0]]
        found = sum(find_column(header, names) is not None for names in columns)
        layouts.append(TableLayout(candidate, rows, found, 1 if separator_line else 0))
    return max(layouts, key=lambda layout: (layout.wanted_columns, _fitting_share(layout)))


def _sample_rows(lines: Sequence[str], separator: str) -> list[list[str]]:
    # In text with tabs, fields may be unquoted.
    lines = [line.replace('"', "") for line in lines] if separator == "\t" else lines
    reader = csv.reader(lines, delimiter=separator)
    rows: list[list[str]] = []
    with suppress(csv.Error):  # a field is too long; the rows before it are enough
        rows += itertools.islice((row for row in reader if row), _SAMPLE_ROWS)
    return rows or [[""]]


def _fitting_share(layout: TableLayout) -> float:
    count = len(layout.rows[0])
    if count == 1 and not layout.wanted_columns:
        return 0.0
    fitting = sum(
        len(row) >= count and not any(field.strip() for field in row[count:]) for row in layout.rows
    )
    return fitting / len(layout.rows)


def has_decimal_comma(separator: str, rows: Iterable[Sequence[str]]) -> bool:
    """Return whether the numbers of a table have a decimal comma.

    A spreadsheet separates fields by semicolons if its numbers have decimal commas, so such a table
    has them unless its numbers show the opposite. A number such as 1.500 shows nothing.

    Args:
        separator: Character between fields.
        rows: Fields of the first rows.
    """
    if separator == ",":
        return False
    fields = [field.strip() for row in rows for field in row]
    if any(map(_DECIMAL_COMMA.fullmatch, fields)):
        return True
    return separator == ";" and not any(map(_DECIMAL_POINT.fullmatch, fields))
