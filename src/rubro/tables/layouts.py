"""Layout of a title file: its kind, encoding and separator, told or found from its content."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import BufferedIOBase, BufferedReader, BytesIO, RawIOBase, TextIOWrapper
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO, Any, cast

from rubro.base.errors import DataError
from rubro.base.text import normalise
from rubro.tables.records import (
    Origin,
    Record,
    Unzipped,
    csv_records,
    empty,
    json_array_records,
    json_records,
    line_records,
    open_text,
)

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_SEPARATOR_NAMES = {character: name for name, character in SEPARATORS.items()}
_SUFFIX = re.compile(r"\.(csv|tsv|jsonl|ndjson|json|txt)(\.gz)?$|\.(parquet)$", re.IGNORECASE)
_SPREADSHEET = (
    "a spreadsheet; save it as CSV UTF-8, or: "
    "python -c \"import pandas; pandas.read_excel('{name}').to_csv('titles.csv', index=False)\""
)
_FRAME = "python -c \"import pandas; pandas.{reader}('{name}').to_parquet('titles.parquet')\""
# Kinds that are not read, and how to convert them.
_CONVERSIONS = {
    "xlsx": _SPREADSHEET,
    "xlsm": _SPREADSHEET,
    "xlsb": _SPREADSHEET,
    "xls": _SPREADSHEET,
    "ods": _SPREADSHEET,
    "zip": "a zip archive; unpack it: python -m zipfile -e {name} .",
    "tar": "a tar archive; unpack it: tar xf {name}",
    "tgz": "a tar archive; unpack it: tar xf {name}",
    "rar": "a rar archive; unpack it: unrar x {name}",
    "7z": "a 7z archive; unpack it: 7z x {name}",
    "bz2": "compressed with bzip2; unpack it: bunzip2 -k {name}",
    "xz": "compressed with xz; unpack it: unxz -k {name}",
    "zst": "compressed with zstd; unpack it: unzstd {name}",
    "feather": "a Feather file; convert it: " + _FRAME.replace("{reader}", "read_feather"),
    "arrow": "an Arrow file; convert it: " + _FRAME.replace("{reader}", "read_feather"),
    "orc": "an ORC file; convert it: " + _FRAME.replace("{reader}", "read_orc"),
    "pkl": "a pickle; convert it: " + _FRAME.replace("{reader}", "read_pickle"),
    "pickle": "a pickle; convert it: " + _FRAME.replace("{reader}", "read_pickle"),
    "xml": "an XML file; convert it: " + _FRAME.replace("{reader}", "read_xml"),
    "html": "a web page; convert it: "
    "python -c \"import pandas; pandas.read_html('{name}')[0].to_csv('titles.csv', index=False)\"",
    "sqlite": "a database; export a query: sqlite3 -header -csv {name} 'select ...' > titles.csv",
    "db": "a database; export a query: sqlite3 -header -csv {name} 'select ...' > titles.csv",
}
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"\xd0\xcf\x11\xe0": "xls",
    b"Rar!\x1a": "rar",
    b"7z\xbc\xaf": "7z",
    b"BZh": "bz2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"ARROW1": "arrow",
    b"SQLite format 3": "sqlite",
}
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
_ARRAY_START = re.compile(r"\s*\[\s*[{\]]")
_HEAD_BYTES = 2**16
_SAMPLE_BYTES = 2**20
_SAMPLE_ROWS = 200
_HIGH_BYTES = re.compile(b"[\x80-\xff]+")
# Characters outside ASCII that Western European titles have in cp1252, besides letters.
_WESTERN_SIGNS = (
    b"\x80\x85\x91\x92\x93\x94\x95\x96\x97\x99\xa0\xa1\xa9\xaa\xab\xae\xb0\xb2\xb3\xb4\xb7\xba\xbb\xbc"
    b"\xbd\xbe\xbf\xd7"
).decode("cp1252")
_WESTERN_SHARE = 0.9
_LONG_VALUE = 40
_NUMBER = re.compile(r"\s*[-+]?\d+([.,]\d+)?\s*")


@dataclass(frozen=True)
class Asked:
    """What the user says of a file.

    Attributes:
        kind: Kind of file; None = the name or the content tells.
        encoding: Python's name of an encoding; None = the content tells.
        separator: Character between fields; None = the content tells.
        columns: For each column that will be read, the names that it may have.
        is_table: Whether text is a table even where its header has none of these names.
    """

    kind: str | None = None
    encoding: str | None = None
    separator: str | None = None
    columns: tuple[tuple[str, ...], ...] = ()
    is_table: bool = False


@dataclass
class TitleFile:
    """An open file of titles.

    Attributes:
        kind: "csv", "tsv", "jsonl", "json", "txt" or "parquet".
        origin: Path, size and encoding.
        records: Rows, to be read once; none for parquet.
        columns: Names in the header; None where there is none.
        separator: Character between fields.
        has_mark: Whether the text begins with a byte order mark.
        found: What was found of the layout that neither the name nor the user told, in words.
        first_rows: Some of the first rows, for messages.
        raw: Bytes of a parquet file.
    """

    kind: str
    origin: Origin
    records: Iterator[Record] = field(default_factory=lambda: iter(()))
    columns: list[str] | None = None
    separator: str = ","
    has_mark: bool = False
    found: list[str] = field(default_factory=list)
    first_rows: list[list[str]] = field(default_factory=list)
    raw: IO[bytes] | None = None


def kind_of(path: Path) -> str | None:
    """Return the kind of file that a name tells; None where it tells none."""
    match = _SUFFIX.search(path.name)
    if match is None:
        return None
    kind = (match[1] or match[3]).lower()
    return "jsonl" if kind == "ndjson" else kind


def conversion(path: Path) -> str | None:
    """Return what a file is by its name that is not read, and how to convert it; None = unknown."""
    how = _CONVERSIONS.get(path.suffix.lower().removeprefix("."))
    return how and how.replace("{name}", path.name)


def find_column(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """Return the column that has one of the names, in any case and with or without accents.

    Args:
        columns: Names in a file.
        names: Names that would do, the best one first.
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


def no_header(file: TitleFile) -> bool:
    """Return whether the first line of a table looks like a row, not like names of columns."""
    header = file.columns or []
    below = [row for row in file.first_rows if len(row) == len(header)]
    repeated = any(
        name.strip() and any(row[place] == name for row in below)
        for place, name in enumerate(header)
    )
    return repeated or any(len(name) > _LONG_VALUE or _NUMBER.fullmatch(name) for name in header)


def open_title_file(
    stack: ExitStack, origin: Origin, raw: BufferedReader, asked: Asked
) -> TitleFile:
    """Find the layout of a file and open its records.

    Args:
        stack: Stack that closes what is opened besides raw.
        origin: Path and size of the file.
        raw: Open file or pipe, at its start.
        asked: What the user says of it.

    Raises:
        DataError: The file is empty, damaged or of a kind that is not read.
    """
    head, stream = _head(raw, origin.size)
    if origin.path.suffix.lower() == ".gz" or head.startswith(_GZIP_MAGIC):
        head, stream = _head(cast(BufferedIOBase, Unzipped(origin, stream)), origin.size)
    if not head:
        raise empty(origin)
    kind = asked.kind or kind_of(origin.path)
    if kind == "parquet" or (kind is None and head.startswith(_PARQUET_MAGIC)):
        if origin.size is not None:
            raw.seek(0)
            return TitleFile("parquet", origin, raw=raw)
        return TitleFile("parquet", origin, raw=stack.enter_context(_copied(stream)))
    _refuse_others(origin, head, kind)
    mark = next((mark for mark in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if asked.encoding is None:
        encoding = _BYTE_ORDER_MARKS[mark] if mark else _encoding(head)
        origin = replace(origin, encoding=encoding)
    sample = head.decode(origin.encoding, "replace").removeprefix("\ufeff")
    file = _text_file(origin, stream, sample, kind, asked)
    file.has_mark = mark is not None
    if asked.encoding is None and origin.encoding != "utf-8":
        file.found.append(f"{origin.encoding} text")
    return file


def _text_file(
    origin: Origin, stream: BufferedReader, sample: str, kind: str | None, asked: Asked
) -> TitleFile:
    text = open_text(origin, stream)
    if (
        _ARRAY_START.match(sample)
        if kind is None
        else kind in ("json", "jsonl") and (sample.lstrip()[:1] == "[")
    ):
        found = [] if kind == "json" else ["a JSON array"]
        return TitleFile("json", origin, json_array_records(origin, text), found=found)
    if kind in ("json", "jsonl") or (kind is None and sample.lstrip()[:1] == "{"):
        if kind == "json":
            _require_lines(origin, sample, [name for names in asked.columns for name in names])
        return TitleFile("jsonl", origin, json_records(text), found=[] if kind else ["jsonl"])
    layout = _separator(sample, kind, asked)
    if kind == "txt":
        is_table = asked.kind is None and layout.columns > 0 and len(layout.rows[0]) > 1
    else:
        is_table = kind is not None or layout.columns > 0 or asked.is_table
    if is_table:
        return _table(origin, text, layout, kind, asked)
    found = [] if kind == "txt" else ["text, one title a line"]
    return TitleFile("txt", origin, line_records(text), ["title"], found=found)


def _table(
    origin: Origin, text: TextIOWrapper, layout: _Layout, kind: str | None, asked: Asked
) -> TitleFile:
    separator = layout.separator
    table = "tsv" if separator == "\t" else "csv"
    found = [] if kind in ("csv", "tsv") else [table]
    if asked.separator is None and separator != ("\t" if "tsv" in (kind, *found) else ","):
        found.append(f"separated by {_SEPARATOR_NAMES.get(separator, repr(separator))}")
    header, rows = csv_records(origin, text, separator, layout.skipped_lines)
    stripped = [name.strip() for name in header]
    places = [find_column(stripped, names) for names in asked.columns]
    read = {stripped.index(name) for name in places if name is not None}
    return TitleFile(
        table, origin, rows(read), header, separator, found=found, first_rows=layout.rows[1:]
    )


class _Rejoined(RawIOBase):
    """A stream with the bytes in front that were already read from it."""

    def __init__(self, head: bytes, rest: BufferedIOBase) -> None:
        self._head = BytesIO(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._head.readinto(buffer) or self._rest.readinto1(buffer)


def _head(stream: BufferedIOBase, size: int | None) -> tuple[bytes, BufferedReader]:
    """Return the first bytes, of a pipe the first line alone, and the stream with them in it."""
    head = b""
    while len(head) < _SAMPLE_BYTES if size is not None else b"\n" not in head:
        more = stream.read1(_HEAD_BYTES)
        head += more
        if not more or len(head) >= _SAMPLE_BYTES:
            break
    return head, BufferedReader(_Rejoined(head, stream), _HEAD_BYTES)


@contextmanager
def _copied(stream: BufferedReader) -> Iterator[IO[bytes]]:
    """Yield a pipe as a file: parquet is read from its end."""
    with TemporaryFile() as file:
        copyfileobj(stream, file)
        yield file


def _refuse_others(origin: Origin, head: bytes, kind: str | None) -> None:
    how = conversion(origin.path) if kind is None else None
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            if name == "zip" and b"[Content_Types].xml" in head[:2000]:
                name = "xlsx"
            how = how or _CONVERSIONS[name].replace("{name}", origin.path.name)
    start = head[:1000].lstrip().lower()
    for name, is_one in (
        ("tar", head[257:262] == b"ustar"),
        ("html", start.startswith((b"<html", b"<!doctype html", b"<table"))),
        ("xml", start.startswith(b"<?xml")),
    ):
        if is_one:
            how = _CONVERSIONS[name].replace("{name}", origin.path.name)
    if how is not None:
        raise DataError(f"{origin.path}: {how}")


def _require_lines(origin: Origin, sample: str, names: Collection[str]) -> None:
    """Refuse what is no JSON, and one object with a table in it: by columns, or under a key."""
    if sample.lstrip()[:1] != "{":
        raise DataError(f"{origin.path}: not JSON: {sample[:60]!a}; mend or rename the file")
    first, second, *_ = [*(line for line in sample.splitlines() if line.strip()), "", ""]
    try:
        value = json.loads(first)
        if second and isinstance(json.loads(second), dict):
            return
    except ValueError:
        value = {}
    if any(isinstance(value.get(name), (str, int, float)) for name in names):
        return
    whole = _whole(sample)
    key = next((key for key, inner in whole.items() if isinstance(inner, list)), "rows")
    how = (
        f"import json; json.dump(json.load(open('{origin.path.name}'))[{key!r}], "
        "open('titles.json', 'w'))"
    )
    if any(isinstance(inner, dict) for inner in whole.values()):
        how = (
            f"import pandas; pandas.read_json('{origin.path.name}')"
            ".to_csv('titles.csv', index=False)"
        )
    raise DataError(
        f"{origin.path}: one JSON object, and not an array of objects or an object a line; convert "
        f'it: python -c "{how}"'
    )


def _whole(sample: str) -> dict[str, Any]:
    """Return the object of a JSON text, or what its first key tells where the text is longer."""
    try:
        value = json.loads(sample)
    except ValueError:
        match = re.match(r'\s*\{\s*"([^"\\]*)"\s*:\s*([\[{])', sample)
        return {} if match is None else {match[1]: [] if match[2] == "[" else {}}
    return value if isinstance(value, dict) else {}


def _encoding(sample: bytes) -> str:
    """Return cp1252 where that is sure, else utf-8: its wrong rows are counted."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    lines = [line for line in sample.split(b"\n")[:-1] or [sample] if not line.isascii()]
    for line in lines:
        try:
            line.decode("utf-8")
            return "utf-8"
        except UnicodeDecodeError:
            continue
    runs = _HIGH_BYTES.findall(b"\n".join(lines))
    signs = b"".join(runs).decode("cp1252", "replace")
    # Texts of other scripts have words of them, Western ones single letters in words of ASCII.
    western = sum(sign in _WESTERN_SIGNS or "À" <= sign <= "ÿ" for sign in signs)
    if runs and western >= _WESTERN_SHARE * len(signs) and len(signs) < 2 * len(runs):
        return "cp1252"
    return "utf-8"


@dataclass(frozen=True)
class _Layout:
    """Separator of a table, its first rows, and the number of asked columns in its header."""

    separator: str
    rows: list[list[str]]
    columns: int
    skipped_lines: int


def _separator(sample: str, kind: str | None, asked: Asked) -> _Layout:
    """Find the separator of a table.

    The best separator shows most of the asked columns in the header, and then gives most rows as
    many fields as the header has.
    """
    told = _SEPARATOR_LINE.match(sample)
    if told:
        sample = sample[told.end() :]
    lines = sample.splitlines(keepends=True)[: _SAMPLE_ROWS + 1]
    if len(lines) > 1 and not lines[-1].endswith("\n"):
        lines.pop()
    usual = "\t" if kind == "tsv" else ","
    chosen = asked.separator or (told and told[1])
    candidates = [chosen] if chosen else sorted(_SEPARATOR_NAMES, key=lambda one: one != usual)
    layouts = []
    for separator in candidates:
        rows = _sample_rows(lines, separator)
        header = [name.strip() for name in rows[0]]
        columns = sum(find_column(header, names) is not None for names in asked.columns)
        layouts.append(_Layout(separator, rows, columns, 1 if told else 0))
    return max(layouts, key=lambda layout: (layout.columns, _fitting_share(layout)))


def _fitting_share(layout: _Layout) -> float:
    count = len(layout.rows[0])
    if count == 1 and not layout.columns:
        return 0.0
    return sum(_fits(row, count) for row in layout.rows) / len(layout.rows)


def _sample_rows(lines: Sequence[str], separator: str) -> list[list[str]]:
    # Text with tabs need not be quoted.
    lines = [line.replace('"', "") for line in lines] if separator == "\t" else lines
    reader = csv.reader(lines, delimiter=separator)
    rows: list[list[str]] = []
    with suppress(csv.Error):  # a field beyond any limit; the rows before it will do
        rows += itertools.islice((row for row in reader if row), _SAMPLE_ROWS)
    return rows or [[""]]


def _fits(row: Sequence[str], count: int) -> bool:
    return len(row) >= count and not any(field.strip() for field in row[count:])
