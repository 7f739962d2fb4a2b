"""Read randomly damaged raw files with read_titles.

Each file must be read, read with rows in quarantine, or refused with a RubroError, and no row may
be lost. `fuzz(1000, seed=0, folder=Path("/tmp/f"))` counts the outcomes. Any other outcome raises
Fault with the seed of the file, and `fuzz(1, seed=SEED, folder=...)` repeats it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from rubro.base.errors import RubroError
from rubro.base.params_file import load_params
from rubro.data.raw_titles import RawTitles, read_titles
from rubro.tables.readers import MAX_LINE

KINDS = ("jsonl", "csv", "tsv", "jsonl.gz", "csv.gz", "tsv.gz", "parquet")
ENCODINGS = ("utf-8", "utf-8", "utf-8", "latin-1", "utf-16", "utf-8-sig")
ROOT = Path(__file__).resolve().parents[2]
# Settings of the columns that are read: titles only, with a text column, and with two levels.
COLUMNS: tuple[dict[str, object], ...] = (
    {},
    {"text_columns": ["brand"]},
    {"text_columns": ["brand"], "category_column": ["category", "level"]},
)
WORDS = ("mesa", "silla", "lámpara", "ñandú", '24"', "taza,", "❤️", "de", "roble", "100%", "x\ty")


class Fault(AssertionError):
    """A file was neither read nor refused; the message contains its seed."""


def fuzz(count: int, seed: int, folder: Path) -> Counter[tuple[str, str]]:
    """Create damaged files and read them.

    Args:
        count: Number of files.
        seed: Seed of the first file; the next file has seed + 1.
        folder: Folder of the files, which is created if it is missing.

    Returns:
        Number of files by mutation and outcome (read, quarantined or refused).

    Raises:
        Fault: A file has another outcome.
    """
    folder.mkdir(parents=True, exist_ok=True)
    params = load_params(ROOT / "params.yaml").data
    outcomes: Counter[tuple[str, str]] = Counter()
    for number in range(seed, seed + count):
        rng = random.Random(number)
        kind, encoding = rng.choice(KINDS), rng.choice(ENCODINGS)
        names = [name for name in MUTATIONS if _suits(name, kind)]
        name = rng.choice(names)
        if name == "gigantic_line" and rng.random() < 0.8:  # it takes longer than all others
            name = rng.choice(names)
        written = rng.choice([encoding, encoding, "utf-8"])
        content = _mutated(_rows(rng), kind, written, name, rng)
        path = folder / f"x.{kind}"
        path.write_bytes(content)
        changes = {"path": str(path), "encoding": encoding, "max_quarantined_share": 1.0}
        changes |= rng.choice(COLUMNS)
        try:
            raw = read_titles(params.model_copy(update=changes), None)
            _check(raw, content, kind, encoding)
        except RubroError as error:
            outcome = "refused"
            if str(path) not in str(error):
                raise Fault(
                    f"seed {number}: {name}, {kind}: the message does not name the file: {error}"
                ) from error
        except Exception as error:
            raise Fault(f"seed {number}: {name} of {kind} read as {encoding}") from error
        else:
            outcome = "read" if raw.quarantine.empty else "quarantined"
        outcomes[name, outcome] += 1
    return outcomes


def _rows(rng: random.Random) -> list[dict[str, str]]:
    def row() -> dict[str, str]:
        title = " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))
        category = rng.choice(["TABLES", "CHAIRS", "LAMPS"])
        return {"title": title, "category": category, "brand": rng.choice(WORDS), "level": "x"}

    return [row() for _ in range(rng.randint(1, 30))]


def _encoded(rows: list[dict[str, str]], kind: str, encoding: str) -> bytes:
    if kind == "parquet":
        buffer = io.BytesIO()
        pd.DataFrame(rows).to_parquet(buffer)
        return buffer.getvalue()
    if kind.startswith("jsonl"):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        return _bytes("".join(lines), encoding)
    text = io.StringIO()
    delimiter = "\t" if kind.startswith("tsv") else ","
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return _bytes(text.getvalue(), encoding)


def _bytes(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")


def _mutated(
    rows: list[dict[str, str]], kind: str, encoding: str, name: str, rng: random.Random
) -> bytes:
    """Return the bytes of a file whose titles, text or bytes are damaged."""
    if name in TITLE_MUTATIONS:
        for row in rng.sample(rows, rng.randint(1, len(rows))):
            column = rng.choice(["title", "title", "category", "brand", "level"])
            row[column] = TITLE_MUTATIONS[name](row[column], rng)
    content = _encoded(rows, kind, encoding)
    if name in TEXT_MUTATIONS:
        content = TEXT_MUTATIONS[name](content, rng)
    if kind.endswith(".gz"):
        content = gzip.compress(content)
    if name in FILE_MUTATIONS:
        content = FILE_MUTATIONS[name](content, rng)
    return content


def _suits(name: str, kind: str) -> bool:
    if kind == "parquet":
        return name in FILE_MUTATIONS or name in ("formula", "control_characters", "long_title")
    if name in ("duplicate_keys", "deep_json", "other_json"):
        return kind.startswith("jsonl")
    if name in ("quotes", "header"):
        return not kind.startswith("jsonl")
    return True


# Mutations of one title or category


def _formula(text: str, rng: random.Random) -> str:
    return rng.choice(["=cmd()", "=1+1", "@SUM(A1)", "+54 11", "-1", "=HYPERLINK(A1)"]) + text


def _control_characters(text: str, rng: random.Random) -> str:
    place = rng.randint(0, len(text))
    marks: list[str] = [*"\0\r\n\x85\u2028\ufeff\u202e\x0c\x1c", "\r\n", "\x1b[2J"]
    return text[:place] + rng.choice(marks) + text[place:]


def _surrogate(text: str, rng: random.Random) -> str:
    return text + rng.choice(["\ud800", "\udfff", "\udc80", "\ud83d"])


def _long_title(text: str, rng: random.Random) -> str:
    return text * rng.choice([200, 2000])


TITLE_MUTATIONS: dict[str, Callable[[str, random.Random], str]] = {
    mutation.__name__.removeprefix("_"): mutation
    for mutation in (_formula, _control_characters, _surrogate, _long_title)
}

# Mutations of the text of a file before it is compressed


def _insert(content: bytes, piece: bytes, rng: random.Random) -> bytes:
    place = rng.randint(0, len(content))
    return content[:place] + piece + content[place:]


def _nuls(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 5)):
        content = _insert(content, b"\0" * rng.choice([1, 1, 100]), rng)
    return content


def _re_encoded(content: bytes, rng: random.Random) -> bytes:
    encoding = rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7", "cp037"])
    return content.decode("utf-8", "replace").encode(encoding, "replace")


def _mixed_encodings(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(_re_encoded(line, rng) if rng.random() < 0.2 else line for line in lines)


def _gigantic_line(content: bytes, rng: random.Random) -> bytes:
    return _insert(content, rng.choice([b"a", b" ", b'"', b"[", b"\0"]) * 1_200_000, rng)


def _quotes(content: bytes, rng: random.Random) -> bytes:
    pieces = [
        *(b'"', b'""', b'"""', b'","', b'"\n', b'\n"', b'",\n,"', b'\\"', b',"', b'"\r\n"', b"'")
    ]
    for _ in range(rng.randint(1, 6)):
        content = _insert(content, rng.choice(pieces), rng)
    return content


def _header(content: bytes, rng: random.Random) -> bytes:
    first, _, rest = content.partition(b"\n")
    headers = [
        *(b"", first.upper(), first + first, b"," + first, b'"' + first, first + b',"more'),
        *(first + b'\t"a\tb', first.replace(b"category", b"title"), b" " + first, b"#" + first),
        first + b"," * 5000,
    ]
    return rng.choice(headers) + b"\n" + rest


def _byte_order_marks(content: bytes, rng: random.Random) -> bytes:
    mark = rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf" * 2, b"\xef\xbb"])
    return mark + content if rng.random() < 0.5 else _insert(content, mark, rng)


def _line_ends(content: bytes, rng: random.Random) -> bytes:
    ends = [b"\n", b"\r\n", b"\r", b"\n\r", b"\n\n", b"\x0b", b"\x85", b"\x1e", b"\n \n", b""]
    return b"".join(line + rng.choice(ends) for line in content.split(b"\n"))


def _duplicate_keys(content: bytes, rng: random.Random) -> bytes:
    value = rng.choice([b'"b"', b"5", b"null", b"[]", b"{}", b"true", b"1e999", b"NaN"])
    key = rng.choice([b"title", b"category", b"split", b"label_quality", b"brand", b"level"])
    extra = b', "' + key + b'": ' + value + b"}\n"
    lines = content.splitlines(keepends=True)
    return b"".join(line.replace(b"}\n", extra) if rng.random() < 0.5 else line for line in lines)


def _deep_json(content: bytes, rng: random.Random) -> bytes:
    depth = rng.choice([900, 10_000])
    objects = b'{"a":' * depth + b"1" + b"}" * depth
    nested = rng.choice([b"[" * depth + b"]" * depth, b"[" * depth, objects])
    if rng.random() < 0.5:
        nested = b'{"title": ' + nested + b', "category": "A"}'
    lines = content.splitlines(keepends=True)
    lines.insert(rng.randint(0, len(lines)), nested + b"\n")
    return b"".join(lines)


def _other_json(content: bytes, rng: random.Random) -> bytes:
    values = [b"5", b"null", b'"a"', b"NaN", b"-", b"{", b"{}", b"9" * 5000, b'"\\ud800"', b"\xff"]
    lines = content.splitlines(keepends=True)
    for _ in range(rng.randint(1, 5)):
        lines.insert(rng.randint(0, len(lines)), rng.choice(values) + b"\n")
    return b"".join(lines)


TEXT_MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    mutation.__name__.removeprefix("_"): mutation
    for mutation in (
        *(_nuls, _re_encoded, _mixed_encodings, _gigantic_line, _quotes, _header),
        *(_byte_order_marks, _line_ends, _duplicate_keys, _deep_json, _other_json),
    )
}

# Mutations of the bytes of a file on disk


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _flipped_bits(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 3, 30])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut_out(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.choices(range(len(content) + 1), k=2))
    return content[:start] + content[end:]


def _repeated(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.choices(range(len(content) + 1), k=2))
    return content[:end] + content[start:]


def _bytes_appended(content: bytes, rng: random.Random) -> bytes:
    return content + rng.choice([b"\0" * 10, b"PAR1", b"\x1f\x8b", rng.randbytes(50)])


def _random_bytes(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice([0, 4, 10])] + rng.randbytes(rng.randint(0, 200))


def _unchanged(content: bytes, rng: random.Random) -> bytes:
    return content


FILE_MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    mutation.__name__.removeprefix("_"): mutation
    for mutation in (
        *(_truncated, _flipped_bits, _cut_out, _repeated),
        *(_bytes_appended, _random_bytes, _unchanged),
    )
}
MUTATIONS = (*TITLE_MUTATIONS, *TEXT_MUTATIONS, *FILE_MUTATIONS)

# Checks of every file that is read


def _check(raw: RawTitles, content: bytes, kind: str, encoding: str) -> None:
    tables = [raw.table] if raw.unlabelled is None else [raw.table, raw.unlabelled]
    for table in tables:
        for column in table.drop(columns="line"):
            for text in table[column]:
                assert isinstance(text, str), column
                text.encode("utf-8")
        assert all(title.strip() for title in table["title"])
        assert all(bool(name.strip()) == (table is raw.table) for name in table["category"])
    assert sum(map(len, tables)) == raw.usable_rows
    assert raw.quarantine["excerpt"].str.len().max() <= 200 or raw.quarantine.empty
    rows = raw.usable_rows + len(raw.quarantine) + raw.empty_rows
    minimum, maximum = _row_counts(content, kind, encoding)
    assert minimum <= rows <= maximum, f"{rows} rows instead of {minimum} to {maximum}"


def _row_counts(content: bytes, kind: str, encoding: str) -> tuple[int, int]:
    """Return the minimum and maximum number of rows, because a quoted field may span lines."""
    if kind == "parquet":
        rows = pyarrow.parquet.ParquetFile(io.BytesIO(content)).metadata.num_rows
        return rows, rows
    if kind.endswith(".gz"):
        content = gzip.decompress(content)
    text = content.decode(encoding, "surrogateescape").removeprefix("\ufeff")
    lines = text.split("\n")
    maximum = len(re.split("\r\n?|\n", text))
    if kind.startswith("jsonl"):
        rows = sum(bool(line.strip()) or len(line) >= MAX_LINE for line in lines)
        return rows, rows if "\r" not in text else maximum
    delimiter = "\t" if kind.startswith("tsv") else ","
    csv.field_size_limit(2**27)
    records = csv.reader([line + "\n" for line in lines], delimiter=delimiter)
    record: list[str] | None = []
    minimum = -1  # the header is not a row
    while record is not None:
        try:
            record = next(records, None)
            minimum += bool(record)
        except csv.Error:
            minimum += 1
    return minimum, maximum - 1
