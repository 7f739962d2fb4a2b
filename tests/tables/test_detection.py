"""Detection of formats, encodings and separators from the content of files."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rubro.base.errors import DataError
from support.raw_titles import Read, all_rows, reasons, rows, write_text

pytest_plugins = ["support.raw_titles"]

ROWS = [("Maceta económica", "Jardín"), ("Sartén, 20 cm; roja", "Cocina"), ("Niño 3 años", "Ropa")]
RECORDS = [{"title": title, "category": category} for title, category in ROWS]


def table(separator: str = ",", end: str = "\n") -> str:
    frame = pd.DataFrame(ROWS, columns=["title", "category"])
    frame.insert(0, "id", ["1", "2", "3"])
    frame["price"] = ["64,28", "1.5", ""]
    return frame.to_csv(index=False, sep=separator, lineterminator=end)


# Separators and encodings


@pytest.mark.parametrize(
    ("name", "separator", "encoding"),
    [
        *((name, ";", "cp1252") for name in ("X.CSV", "x.tsv", "x.txt", "x", "x.csv.gz")),
        *(("x.dat", separator, "utf-8") for separator in ",;\t|"),
        *(("x.csv", separator, "utf-16") for separator in ",;\t|"),
        ("x.csv", ",", "utf-32"),
        ("x", "\t", "utf-32"),
        *((name, ",", "utf-8-sig") for name in ("x.csv", "x.tsv", "x")),
    ],
)
def test_the_separator_and_the_encoding_are_detected(
    tmp_path: Path, read: Read, name: str, separator: str, encoding: str
) -> None:
    write_text(tmp_path / name, table(separator, "\r\n"), encoding)
    raw = read(tmp_path / name)
    assert all_rows(raw) == ROWS
    notices = " ".join(raw.notices)
    assert {";": "semicolon", "|": "pipe"}.get(separator, "") in notices
    assert (f"{encoding} text" in notices) == (encoding in ("utf-16", "utf-32", "cp1252"))


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_first_line_with_the_separator_is_followed(read_file: Read, first: str) -> None:
    raw = read_file(f"{first}\r\n" + table(";", "\r\n") + "bad\r\n")
    assert rows(raw) == ROWS
    assert list(raw.quarantine["line"]) == [6]


def test_the_separator_and_the_encoding_can_be_set(read_file: Read) -> None:
    content = "title|category,more\nñandú|A,x\n".encode("cp850")
    raw = read_file(content, separator="pipe", encoding="cp850", category_column="category,more")
    assert rows(raw) == [("ñandú", "A,x")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("title,category\nДим 3 л,Жил\n", "cp1251"),
        ("title,category\n台灯,灯具\n", "gbk"),
        ("title,category\nÁrbol pequeño,JARDÍN\n", "cp850"),
    ],
)
def test_an_uncertain_encoding_is_not_guessed(read_file: Read, text: str, encoding: str) -> None:
    assert reasons(read_file(text.encode(encoding))) == [(2, "not_utf8")]
    raw = read_file(text.encode(encoding), encoding=encoding)
    assert f"title,category\n{','.join(rows(raw)[0])}\n" == text


def test_latin_1_rows_in_a_utf_8_file_do_not_change_its_encoding(read_file: Read) -> None:
    raw = read_file("title,category\nñ,A\n".encode() + b"\xf1,B\n" * 5)
    assert rows(raw) == [("ñ", "A")]
    assert list(raw.quarantine["reason"]) == ["not_utf8"] * 5


# Quotes, white space and surplus separators


def test_text_with_tabs_may_be_unquoted(read_file: Read) -> None:
    titles = [
        ('"Super" maceta', '"Super" maceta'),
        ('TV 32"', 'TV 32"'),
        ('"Cuaderno chico', '"Cuaderno chico'),
        ('Monitor 24"', 'Monitor 24"'),
        ('"Mesa ""ratona"""', 'Mesa "ratona"'),
        ('""', None),
        ('"línea\notra"', "línea\notra"),
        ('"con\ttab"', "con\ttab"),
    ]
    text = "title\tcategory\n" + "".join(f"{title}\tA\n" for title, _ in titles)
    raw = read_file(text, "x.tsv")
    assert [title for title, _ in rows(raw)] == [title for _, title in titles if title]
    assert reasons(raw) == [(7, "title_empty")]
    raw = read_file('category\ttitle\nA\t"a\nb"\nB\td\nC\t"e\n', "x.tsv")
    assert rows(raw) == [("a\nb", "A"), ("d", "B"), ('"e', "C")]


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("header", ["title,category", "title,category,,"])
@pytest.mark.parametrize("end", ["", ",", ",,", ", ,"])
def test_separators_at_the_end_of_a_line_are_ignored(
    read_file: Read, separator: str, header: str, end: str
) -> None:
    raw = read_file(f"{header}\na,A{end}\nb,B{end}\n".replace(",", separator))
    assert all_rows(raw) == [("a", "A"), ("b", "B")]


def test_white_space_around_names_and_values_is_ignored(read_file: Read) -> None:
    text = ' Product Title , Category  \n"\n   a   ",  Home   Garden \n'
    raw = read_file(text, title_column="Product Title ", category_column=" Category")
    assert rows(raw) == [("a", "Home Garden")]
    table = pd.DataFrame({" Title": ["a"], "Category ": ["B "]})
    raw = read_file(table, "x.parquet", title_column="Title", category_column="Category")
    assert rows(raw) == [("a", "B")]


@pytest.mark.parametrize("separator", [",", "\t"])
def test_an_unused_column_name_may_be_repeated(read_file: Read, separator: str) -> None:
    raw = read_file("price,title,category,price,,\n1,a,A,2,,\n".replace(",", separator))
    assert rows(raw) == [("a", "A")]


# JSON


@pytest.mark.parametrize("name", ["X.JSON", "x.json.gz", "x.jsonl", "x.ndjson", "x"])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_a_json_array_is_read(read_file: Read, name: str, options: dict[str, Any]) -> None:
    text = json.dumps(RECORDS, ensure_ascii=False, **options)
    assert rows(read_file(f"\n {text}\n", name)) == ROWS


@pytest.mark.parametrize("name", ["x.json", "x.ndjson", "x.JSONL"])
def test_one_json_object_per_line_is_read(tmp_path: Path, read: Read, name: str) -> None:
    write_text(tmp_path / name, "\n".join(map(json.dumps, RECORDS)))
    assert rows(read(tmp_path)) == ROWS


def test_a_large_array_is_read_piece_by_piece(read_file: Read) -> None:
    records = [{"title": f"título {n}" + "\n" * (n % 3), "category": "A"} for n in range(20_000)]
    raw = read_file(json.dumps([*records, 5], indent=1), "x.json")
    assert list(raw.table["title"]) == [record["title"].strip() for record in records]
    assert reasons(raw) == [(4 * 20_000 + 2, "not_an_object")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"title": "a", "category": "A"}', r"x\.json:1: the array ends early"),
        ('[\n{"title": "a", "category": "A"},\n', r"x\.json:2: the array ends early"),
        ('[\n{"title": "a" "category": "A"}]', r"x\.json:2: not JSON: '{\"title\""),
        ('[{"title": "a"} {"title": "b"}]', r"x\.json:1: no comma between two values"),
        ("[1, 2] 3", r"x\.json:1: something follows the end"),
        ("title,category\na,A\n", r"x\.json: not JSON: 'title,category"),
        (json.dumps({"products": RECORDS}), r"x\.json holds one JSON object.*array of objects"),
        (json.dumps({"products": RECORDS}, indent=2), r"x\.json holds one JSON object"),
        (pd.DataFrame(RECORDS).to_json(), r"x\.json holds one JSON object"),
        (pd.DataFrame(RECORDS).to_json(indent=2), r"x\.json holds one JSON object"),
        (pd.DataFrame(RECORDS).to_json(orient="split"), "columns, index, data"),
        (pd.DataFrame(RECORDS).to_json(orient="table"), "schema, data"),
    ],
)
def test_json_that_is_damaged_or_not_a_list_of_rows_is_an_error(
    read_file: Read, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_file(text, "x.json")


def test_an_empty_array_has_no_rows(read_file: Read) -> None:
    assert all_rows(read_file(" [ \n ] \n", "x.json")) == []


# Formats that are not read


def zip_archive(name: str) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, table())
    return buffer.getvalue()


SPREADSHEET = zip_archive("[Content_Types].xml")


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("x.xlsx", SPREADSHEET, "a spreadsheet,.*CSV"),
        ("x.csv", SPREADSHEET, "a spreadsheet,.*CSV"),
        ("x.ods", zip_archive("mimetype"), "a spreadsheet,.*CSV"),
        ("x.XLS", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "a spreadsheet,.*CSV"),
        ("x.csv.zip", zip_archive("x.csv"), r"a zip archive,.*[Uu]npack"),
        ("x.csv", b"\0" * 257 + b"ustar", r"a tar archive,.*[Uu]npack"),
        ("x.xls", b"<html><table>", "(a web page|a spreadsheet)"),
        ("x.csv", b" <!DOCTYPE html><p>Sign in</p>", "a web page"),
        ("x.csv", b"<?xml version='1.0'?>", "an XML file"),
        ("x.csv.bz2", b"BZh91AY&SY", "compressed with bzip2,.*[Uu]npack"),
        ("x.zst", b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        ("x.feather", b"ARROW1", "an Arrow or Feather file,.*parquet"),
        ("x.pkl", b"\x80\x04", "a pickle,.*parquet"),
        ("x.db", b"SQLite format 3\0", "a database"),
    ],
)
def test_a_format_that_is_not_read_is_named(
    tmp_path: Path, read: Read, name: str, content: bytes, facts: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=rf"{name} is {facts}"):
            read(path)


# Missing headers


@pytest.mark.parametrize(
    "body",
    [
        "Maceta mod 0,Jardín\nBota,Calzado\nRastrillo,Jardín\n",
        "Maceta de cerámica esmaltada 20 cm con plato,Jardín\nBota,Calzado\n",
        "101,Maceta,Jardín\n102,Bota,Calzado\n",
    ],
)
def test_the_remedy_for_a_missing_header_works(read_file: Read, body: str) -> None:
    with pytest.raises(DataError, match="no header\\?") as caught:
        read_file(body)
    header = str(caught.value).rpartition("such as ")[2]
    assert header == "title,category"
    extra = body.split("\n")[0].count(",") - 1
    raw = read_file("id," * extra + header + "\n" + body)
    assert len(rows(raw)) == body.count("\n")


def test_a_header_without_the_columns_is_not_a_missing_header(read_file: Read) -> None:
    with pytest.raises(
        DataError, match=r"no column 'title' \(found: nombre, rubro\); set data\.title_c"
    ):
        read_file("nombre,rubro\nMaceta,Jardín\n")
