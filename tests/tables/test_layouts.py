"""Kinds, encodings and separators, found from the content of files that people have."""

from __future__ import annotations

import gzip
import json
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rubro.base.errors import DataError
from rubro.data.sources import RawTitles, read_titles

Read = Callable[..., RawTitles]
ROWS = [("Maceta económica", "Jardín"), ("Sartén, 20 cm; roja", "Cocina"), ("Niño 3 años", "Ropa")]


@pytest.fixture
def read(make_params: Callable[..., Any]) -> Read:
    def run(path: Path, **data: Any) -> RawTitles:
        overrides = {"data.path": str(path), "data.max_quarantined_share": 1.0}
        overrides |= {f"data.{key}": value for key, value in data.items()}
        return read_titles(make_params(overrides).data, None)

    return run


def rows(raw: RawTitles) -> list[tuple[str, str]]:
    return list(zip(raw.table["title"], raw.table["category"], strict=True))


def table(separator: str = ",", end: str = "\n") -> str:
    frame = pd.DataFrame(ROWS, columns=["title", "category"])
    frame.insert(0, "id", ["1", "2", "3"])
    frame["price"] = ["64,28", "1.5", ""]
    return frame.to_csv(index=False, sep=separator, lineterminator=end)


def array(**options: Any) -> str:
    records = [{"title": title, "category": category} for title, category in ROWS]
    return json.dumps(records, ensure_ascii=False, **options)


# Separators and encodings


@pytest.mark.parametrize("name", ["x.csv", "X.CSV", "x.tsv", "x.txt", "x", "x.dat", "x.csv.gz"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_separator_and_the_encoding_come_from_the_file(
    tmp_path: Path, read: Read, name: str, separator: str, encoding: str
) -> None:
    content = table(separator, "\r\n").encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    raw = read(tmp_path / name)
    assert rows(raw) == ROWS
    assert raw.quarantine.empty
    said = " ".join(raw.notices)
    assert {";": "separated by semicolon", "|": "separated by pipe"}.get(separator, "") in said
    assert (f"{encoding} text" in said) == (encoding in ("utf-16", "cp1252"))


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_line_that_tells_the_separator_is_followed(
    tmp_path: Path, read: Read, first: str
) -> None:
    (tmp_path / "x.csv").write_text(f"{first}\r\n" + table(";", "\r\n") + "bad\r\n")
    raw = read(tmp_path)
    assert rows(raw) == ROWS
    assert list(raw.quarantine["line"]) == [6]


def test_the_separator_and_the_encoding_may_be_set(tmp_path: Path, read: Read) -> None:
    text = "title|category,more\nñandú|A,x\n"
    (tmp_path / "x.csv").write_bytes(text.encode("cp850"))
    raw = read(tmp_path, separator="pipe", encoding="cp850", category_column="category,more")
    assert rows(raw) == [("ñandú", "A,x")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("title,category\nДим 3 л,Жил\n", "cp1251"),
        ("title,category\n台灯,灯具\n", "gbk"),
        ("title,category\nÁrbol pequeño,JARDÍN\n", "cp850"),
    ],
)
def test_an_encoding_that_is_not_sure_is_not_guessed(
    tmp_path: Path, read: Read, text: str, encoding: str
) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    assert list(read(tmp_path).quarantine["reason"]) == ["not_utf8"]
    raw = read(tmp_path, encoding=encoding)
    assert f"title,category\n{','.join(rows(raw)[0])}\n" == text


def test_a_latin_1_row_among_utf_8_ones_is_no_other_encoding(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_bytes("title,category\nñ,A\n".encode() + b"\xf1,B\n" * 5)
    raw = read(tmp_path)
    assert rows(raw) == [("ñ", "A")]
    assert list(raw.quarantine["reason"]) == ["not_utf8"] * 5


# Quotes, blanks and surplus separators


def test_text_with_tabs_need_not_be_quoted(tmp_path: Path, read: Read) -> None:
    lines = [
        ('"Super" maceta', '"Super" maceta'),
        ('TV 32"', 'TV 32"'),
        ('"Cuaderno chico', '"Cuaderno chico'),
        ('Monitor 24"', 'Monitor 24"'),
        ('"Mesa ""ratona"""', 'Mesa "ratona"'),
        ('""', None),
        ('"línea\notra"', "línea\notra"),
        ('"con\ttab"', "con\ttab"),
    ]
    text = "title\tcategory\n" + "".join(f"{title}\tA\n" for title, _ in lines)
    (tmp_path / "x.tsv").write_text(text)
    raw = read(tmp_path)
    assert [title for title, _ in rows(raw)] == [title for _, title in lines if title]
    assert list(raw.quarantine["reason"]) == ["title_empty"]
    assert list(raw.quarantine["line"]) == [7]


def test_quoted_line_breaks_in_the_last_column_are_read(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.tsv").write_text('category\ttitle\nA\t"a\nb"\nB\td\nC\t"e\n')
    assert rows(read(tmp_path)) == [("a\nb", "A"), ("d", "B"), ('"e', "C")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["title,category", "title,category,,"])
@pytest.mark.parametrize("end", ["", ",", ",,", ", ,"])
def test_separators_at_the_end_are_no_fields(
    tmp_path: Path, read: Read, separator: str, header: str, end: str
) -> None:
    text = f"{header}\na,A{end}\nb,B{end}\n".replace(",", separator)
    (tmp_path / "x.csv").write_text(text)
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("b", "B")]
    assert raw.quarantine.empty


def test_blanks_around_names_and_values_are_no_part_of_them(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text(' Product Title , Category  \n"\n   a   ",  Home   Garden \n')
    raw = read(tmp_path, title_column="Product Title ", category_column=" Category")
    assert rows(raw) == [("a", "Home Garden")]
    pd.DataFrame({" Title": ["a"], "Category ": ["B "]}).to_parquet(tmp_path / "x.parquet")
    raw = read(tmp_path / "x.parquet", title_column="Title", category_column="Category")
    assert rows(raw) == [("a", "B")]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_a_column_that_nobody_reads_may_be_there_twice(
    tmp_path: Path, read: Read, name: str
) -> None:
    text = "price,title,category,price,,\n1,a,A,2,,\n".replace(",", "\t" if "tsv" in name else ",")
    (tmp_path / name).write_text(text)
    assert rows(read(tmp_path)) == [("a", "A")]


# JSON


@pytest.mark.parametrize("name", ["x.json", "X.JSON", "x.json.gz", "x.jsonl", "x.ndjson", "x"])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_one_array_is_read(tmp_path: Path, read: Read, name: str, options: dict[str, Any]) -> None:
    content = ("\n " + array(**options) + "\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert rows(read(tmp_path / name)) == ROWS


@pytest.mark.parametrize("name", ["x.json", "x.ndjson", "x.JSONL"])
def test_an_object_a_line_is_read(tmp_path: Path, read: Read, name: str) -> None:
    lines = [json.dumps({"category": category, "title": title}) for title, category in ROWS]
    (tmp_path / name).write_text("\n".join(lines))
    assert rows(read(tmp_path)) == ROWS


def test_a_large_array_is_read_piece_by_piece(tmp_path: Path, read: Read) -> None:
    records = [{"title": f"título {n}" + "\n" * (n % 3), "category": "A"} for n in range(20_000)]
    (tmp_path / "x.json").write_text(json.dumps([*records, 5], indent=1), encoding="utf-8")
    raw = read(tmp_path)
    assert list(raw.table["title"]) == [record["title"].strip() for record in records]
    assert list(raw.quarantine["reason"]) == ["not_an_object"]
    assert list(raw.quarantine["line"]) == [4 * 20_000 + 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"title": "a", "category": "A"}', r"x\.json:1: the array ends early"),
        ('[\n{"title": "a", "category": "A"},\n', r"x\.json:2: the array ends early"),
        ('[\n{"title": "a" "category": "A"}]', r"x\.json:2: not JSON: '{\"title\""),
        ('[{"title": "a"} {"title": "b"}]', r"x\.json:1: no comma between two values"),
        ("[1, 2] 3", r"x\.json:1: something follows the end"),
        ("title,category\na,A\n", r"x\.json: not JSON: 'title,category"),
    ],
)
def test_a_damaged_array_is_one_message_with_its_line(
    tmp_path: Path, read: Read, text: str, message: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_an_empty_array_has_no_rows(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.json").write_text(" [ \n ] \n")
    raw = read(tmp_path)
    assert len(raw.table) == len(raw.quarantine) == 0


def converted(folder: Path, message: str, made: str) -> Path:
    """Run the command in a message and return the file that it makes."""
    words = shlex.split(message[message.index("python -c") :])[:3]
    subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True)
    return folder / made


@pytest.mark.parametrize(
    ("content", "made"),
    [
        (json.dumps({"total": 3, "products": json.loads(array())}), "titles.json"),
        (json.dumps({"products": json.loads(array())}, indent=2), "titles.json"),
        (pd.DataFrame(ROWS, columns=["title", "category"]).to_json(), "titles.csv"),
        (pd.DataFrame(ROWS, columns=["title", "category"]).to_json(indent=2), "titles.csv"),
    ],
)
def test_one_object_is_refused_with_a_conversion_that_works(
    tmp_path: Path, read: Read, content: str, made: str
) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match="one JSON object, and not an array") as caught:
        read(tmp_path)
    assert rows(read(converted(tmp_path, str(caught.value), made))) == ROWS


# Kinds that are not read


@pytest.mark.parametrize("suffix", ["feather", "pkl"])
def test_a_conversion_of_a_data_frame_works(tmp_path: Path, read: Read, suffix: str) -> None:
    frame = pd.DataFrame(ROWS, columns=["title", "category"])
    path = tmp_path / f"x.{suffix}"
    frame.to_feather(path) if suffix == "feather" else frame.to_pickle(path)
    with pytest.raises(DataError, match="convert it: python -c") as caught:
        read(path)
    assert rows(read(converted(tmp_path, str(caught.value), "titles.parquet"))) == ROWS


def test_a_zip_is_refused_with_a_command_that_unpacks_it(tmp_path: Path, read: Read) -> None:
    with zipfile.ZipFile(tmp_path / "x.csv.zip", "w") as file:
        file.writestr("inner.csv", table())
    with pytest.raises(
        DataError, match=r"a zip archive; unpack it: python -m zipfile -e"
    ) as caught:
        read(tmp_path)
    words = shlex.split(str(caught.value).split("unpack it: python ")[1])
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True)
    assert rows(read(tmp_path / "inner.csv")) == ROWS


def spreadsheet() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.xlsx", spreadsheet(), "a spreadsheet; save it as CSV UTF-8"),
        ("x.csv", spreadsheet(), "a spreadsheet; save it as CSV UTF-8"),
        ("x.XLS", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "a spreadsheet"),
        ("x.xls", b"<html><table>", "a spreadsheet|a web page"),
        ("x.csv", b" <!DOCTYPE html><p>Sign in</p>", "a web page"),
        ("x.csv", b"<?xml version='1.0'?>", "an XML file"),
        ("x.csv.bz2", b"BZh91AY&SY", "compressed with bzip2; unpack it: bunzip2 -k x.csv.bz2"),
        ("x.zst", b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        ("x.db", b"SQLite format 3\0", "a database"),
    ],
)
def test_what_is_not_read_is_named_with_a_conversion(
    tmp_path: Path, read: Read, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=rf"{name}: ({message})"):
            read(path)


# No header


@pytest.mark.parametrize(
    "body",
    [
        "Maceta mod 0,Jardín\nBota,Calzado\nRastrillo,Jardín\n",
        "Maceta de cerámica esmaltada 20 cm con plato,Jardín\nBota,Calzado\n",
        "101,Maceta,Jardín\n102,Bota,Calzado\n",
    ],
)
def test_a_missing_header_is_told_with_a_remedy_that_works(
    tmp_path: Path, read: Read, body: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(body)
    with pytest.raises(DataError, match="no header\\? The first line looks like a row") as caught:
        read(tmp_path)
    header = str(caught.value).rpartition("such as ")[2]
    assert header == "title,category"
    extra = body.split("\n")[0].count(",") - 1
    path.write_text("id," * extra + header + "\n" + body)
    assert len(rows(read(tmp_path))) == body.count("\n")


def test_a_header_without_the_columns_is_no_missing_header(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text("nombre,rubro\nMaceta,Jardín\n")
    with pytest.raises(DataError, match=r"no column 'title' \(found: nombre, rubro\); set data\."):
        read(tmp_path)
