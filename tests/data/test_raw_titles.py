"""Reading the rows of raw files in every supported format into one table."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rubro.base.errors import DataError
from rubro.base.text import normalise
from rubro.base.text_columns import MAX_TEXT_CHARACTERS
from rubro.data.raw_titles import CORRECTIONS, read_titles, require_usable
from support.raw_titles import (
    Read,
    all_rows,
    jsonl,
    reasons,
    rows,
    titles_of,
    write_frame,
    write_text,
)

pytest_plugins = ["support.raw_titles"]

MESSY = Path(__file__).resolve().parents[3] / "shared" / "data" / "messy"
# Awkward but legal titles: quotes, commas, separators, letters outside ASCII, an emoji.
TITLES = ['Mesa "ratona", roble', "Cámara Ñandú 24''", "a,b,,c", "❤️ regalo", "100% algodón;"]
CATEGORIES = ["TABLES", "CAMERAS", "OTHERS", "GIFTS", "SHIRTS"]
TABLE = "title,category\na,A\nb,B\n"
GOOD = {"title": "a", "category": "A"}


def frame() -> pd.DataFrame:
    return pd.DataFrame({"title": TITLES, "category": CATEGORIES})


# Corrections


def test_corrections_come_last_and_use_their_own_column_names(read: Read, tmp_path: Path) -> None:
    source, corrections = tmp_path / "shop.csv", tmp_path / "corrections.csv"
    write_text(source, "nombre,rubro,split\nMesa,TABLES,test\nSilla,CHAIRS,\n")
    content = 'title,category\r\n"Mesa ""ratona"", roble",TABLES\r\n=1+1,MUGS\r\n,\r\nTaza,\r\n'
    write_text(corrections, content)
    raw = read(source, title_column="nombre", category_column="rubro", corrections=str(corrections))
    assert rows(raw) == [
        ("Mesa", "TABLES"),
        ("Silla", "CHAIRS"),
        ('Mesa "ratona", roble', "TABLES"),
        ("=1+1", "MUGS"),
    ]
    assert list(raw.table["split"]) == ["test", "", CORRECTIONS, CORRECTIONS]
    assert reasons(raw) == []
    assert raw.empty_rows == 1
    assert raw.corrections.skipped == [("corrections.csv", 5, "Taza", "undecided", "")]
    assert [each.line for each in raw.corrections.rows] == [2, 3]


def test_missing_corrections_are_an_error_with_a_remedy(read_file: Read) -> None:
    with pytest.raises(
        DataError, match=r"none\.csv: no such file or folder.*set data\.corrections"
    ):
        read_file(TABLE, corrections="none.csv")


def test_corrections_may_have_text_columns(read_file: Read, tmp_path: Path) -> None:
    """A column of the source that is called like a column of the corrections is not read there."""
    corrections = tmp_path / "corrections.csv"
    write_text(corrections, "marca,title,category\nPhilips,Lampara,LAMPS\n")
    raw = read_file(
        "nombre,rubro,marca,category\nMesa,TABLES,Roble,muebles\n",
        title_column="nombre",
        category_column="rubro",
        text_columns=["marca", "category"],
        corrections=str(corrections),
    )
    assert all_rows(raw) == [("Mesa", "TABLES"), ("Lampara", "LAMPS")]
    assert list(raw.table["text.marca"]) == ["Roble", "Philips"]
    assert list(raw.table["text.category"]) == ["muebles", ""]


# Text columns and levels of categories

BRANDS = [" Philips ", None, "", 3.5, "a,b\nc"]
TEXT_OF_BRANDS = ["Philips", "", "", "3.5", "a,b\nc"]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.json", "x.jsonl.gz", "x.parquet"])
def test_text_columns_are_read_from_every_format(read_file: Read, name: str) -> None:
    brands = pd.Series(BRANDS, dtype=object)
    if "json" not in name:
        brands = brands.map(str, na_action="ignore")
    raw = read_file(frame().assign(brand=brands, other="x"), name, text_columns=["brand"])
    assert all_rows(raw) == list(zip(TITLES, CATEGORIES, strict=True))
    assert list(raw.table["text.brand"]) == TEXT_OF_BRANDS
    assert "text.other" not in raw.table


def test_rows_of_json_may_lack_a_text_column_but_not_all_of_them(read_file: Read) -> None:
    other = {**GOOD, "brand ": "b", "size": True}
    raw = read_file(jsonl(GOOD, other), "x.jsonl", text_columns=["brand", "size"])
    assert list(raw.table["text.brand"]) == ["", "b"]
    assert list(raw.table["text.size"]) == ["", "true"]
    with pytest.raises(DataError, match=r"no row has 'marca' .*; set data\.text_columns"):
        read_file(jsonl(GOOD, other), "x.jsonl", text_columns=["brand", "marca"])


def test_a_missing_or_repeated_text_column_of_a_table_is_an_error(read_file: Read) -> None:
    table = "title,category,marca,marca,precio\na,A,b,c,1\n"
    with pytest.raises(DataError, match=r"'brand' \(found: title, .*set data\.text_columns"):
        read_file(table, text_columns=["brand"])
    with pytest.raises(DataError, match="'marca' is listed twice"):
        read_file(table, text_columns=["marca"])


def test_nested_and_undecodable_texts_are_quarantined(read_file: Read) -> None:
    records = [{**GOOD, "brand": brand} for brand in (["b"], {"b": 1}, "b")]
    raw = read_file(jsonl(*records), "x.jsonl", text_columns=["brand"])
    assert reasons(raw) == [(1, "text_not_text"), (2, "text_not_text")]
    table = pd.DataFrame({"title": ["a", "b"], "category": "A", "brand": [b"\xff", "ñ".encode()]})
    raw = read_file(table, "x.parquet", text_columns=["brand"])
    assert reasons(raw) == [(1, "text_not_text")]
    assert list(raw.table["text.brand"]) == ["ñ"]
    content = b"title,category,brand\na,A,\xff\nb,A,\xc3\xb1\n"
    raw = read_file(content, encoding="utf-8", text_columns=["brand"])
    assert reasons(raw) == [(2, "not_utf8")]


def test_an_undecodable_language_is_quarantined(read_file: Read) -> None:
    raw = read_file(b"title,category,language\na,A,espa\xf1ol\nb,B,\n", encoding="utf-8")
    assert reasons(raw) == [(2, "not_utf8")]
    raw = read_file(b'{"title": "a", "category": "A", "language": "\\ud800"}\n', "x.jsonl")
    assert reasons(raw) == [(1, "not_utf8")]


def test_only_the_beginning_of_a_very_long_text_is_kept(read_file: Read) -> None:
    row = {**GOOD, "description": "palabra " * 100_000}
    raw = read_file(jsonl(row), "x.jsonl", text_columns=["description"])
    assert len(raw.table["text.description"][0]) <= MAX_TEXT_CHARACTERS


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_levels_of_a_category_in_several_columns_are_joined(read_file: Read, name: str) -> None:
    table = pd.DataFrame(
        [
            ("a", "Bebidas", " Vinos  Finos", "Tintos\x1f"),
            ("b", "Bebidas", None, "Aguas"),
            ("c", "Hogar", "", None),
            ("d", None, " ", ""),
            (None, "", None, None),
        ],
        columns=["title", "uno", "dos", "tres"],
    )
    raw = read_file(table, name, category_column=["uno", "dos", "tres"])
    assert rows(raw) == [
        ("a", "Bebidas\x1fVinos Finos\x1fTintos"),
        ("b", "Bebidas\x1fAguas"),
        ("c", "Hogar"),
    ]
    assert raw.quarantine.empty
    assert titles_of(raw.unlabelled) == ["d"]
    assert raw.empty_rows == 1
    with pytest.raises(DataError, match=r"cuatro.*data\.category_column"):
        read_file(table, name, category_column=["uno", "cuatro"])


def test_a_list_with_one_category_column_is_its_name(read_file: Read) -> None:
    raw = read_file(TABLE, category_column=["category"])
    assert all_rows(raw) == [("a", "A"), ("b", "B")]


def test_a_test_file_without_any_level_is_unlabelled(tmp_path: Path, read: Read) -> None:
    for name in ("test.csv", "test.jsonl"):
        folder = tmp_path / name
        folder.mkdir()
        write_text(folder / "train.csv", "title,uno,dos\na,A,B\n")
        write_frame(pd.DataFrame({"title": ["b"]}), folder / name)
        raw = read(folder, category_column=["uno", "dos"])
        assert all_rows(raw) == [("a", "A\x1fB")]
        assert titles_of(raw.unlabelled) == ["b"]
        assert any("'uno', 'dos'" in notice for notice in raw.notices)


# Layouts


@pytest.mark.parametrize(
    "name",
    ["x.csv", "x.tsv", "x.json", "x.jsonl", "x.parquet", "x.csv.gz", "x.tsv.gz", "x.jsonl.gz"],
)
def test_every_format_yields_the_same_rows(tmp_path: Path, read: Read, name: str) -> None:
    write_frame(frame(), tmp_path / name)
    for path in (tmp_path / name, tmp_path):
        raw = read(path)
        assert all_rows(raw) == list(zip(TITLES, CATEGORIES, strict=True))
        assert set(raw.table["split"]) == {""}


@settings(max_examples=50, deadline=None)
@given(
    titles=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
            normalise
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_title_survives_jsonl(
    tmp_path_factory: pytest.TempPathFactory, make_params: Callable[..., Any], titles: list[str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    write_text(path, jsonl(*({"title": title, "category": "A"} for title in titles)))
    raw = read_titles(make_params({"data.path": str(path)}).data, None)
    assert list(raw.table["title"]) == [title.strip() for title in titles]


def test_the_split_column_of_a_single_file_is_used(tmp_path: Path, read: Read) -> None:
    text = "title,category,split\na,A,train\nb,B,test\nc,C,\nd,D,Val\ne,E,other\n"
    write_text(tmp_path / "all.csv", text)
    raw = read(tmp_path)
    assert list(raw.table["split"]) == ["train", "test", "", "validation"]
    assert reasons(raw) == [(6, "unknown_split")]
    write_text(tmp_path / "train.csv", "title,category,split\na,A,test\n")
    assert list(read(tmp_path).table["split"]) == ["train"]  # the file's name has priority


def test_labels_are_reliable_unless_marked_otherwise(read_file: Read) -> None:
    text = "title,category,label_quality\na,A,\nb,A,unreliable\nc,A,reliable\nd,A,good\n"
    raw = read_file(text)
    assert list(raw.table["label_quality"]) == ["reliable", "unreliable", "reliable"]
    assert reasons(raw) == [(5, "unknown_label_quality")]


# Awkward but correct text


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.removesuffix("\n"),
        lambda text: text.replace("\n", "\n\n\n"),
    ],
    ids=[
        "byte order mark",
        "Windows line ends",
        "old Mac line ends",
        "no last line end",
        "blank lines",
    ],
)
def test_marks_line_ends_and_blank_lines_are_not_data(
    read_file: Read, name: str, change: Callable[[str], str]
) -> None:
    text = TABLE.replace(",", "\t" if name == "x.tsv" else ",")
    if name == "x.jsonl":
        text = jsonl({"title": "a", "category": "A"}, {"title": "b", "category": "B"})
    assert all_rows(read_file(change(text), name)) == [("a", "A"), ("b", "B")]


def test_quoted_commas_and_doubled_quotes_belong_to_the_title(read_file: Read) -> None:
    raw = read_file('title,category\n"Mesa, roble",A\n"TV 24""",B\nTV 32",C\n')
    assert rows(raw) == [("Mesa, roble", "A"), ('TV 24"', "B"), ('TV 32"', "C")]


def test_blank_lines_count_in_line_numbers(read_file: Read) -> None:
    raw = read_file("\n" + jsonl(GOOD) + " \t\r\n\nno json\n\n", "x.jsonl")
    assert rows(raw) == [("a", "A")]
    assert reasons(raw) == [(5, "not_json")]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "UTF8", "utf-8-sig"])
def test_the_encoding_can_be_set(read_file: Read, name: str, encoding: str) -> None:
    text = "title,category\nCañón,AÑO\n"
    if name == "x.jsonl":
        text = jsonl({"title": "Cañón", "category": "AÑO"})
    content = ("\ufeff" * (encoding == "UTF8") + text).encode(encoding)
    assert rows(read_file(content, name, encoding=encoding)) == [("Cañón", "AÑO")]


# Unusable rows


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"category": "A"}, "title_missing"),
        ({"title": None, "category": "A"}, "title_missing"),
        ({"title": {"es": "a"}, "category": "A"}, "title_not_text"),
        ({"title": ["a"], "category": "A"}, "title_not_text"),
        ({"title": "", "category": "A"}, "title_empty"),
        ({"title": " \t\r\n", "category": "A"}, "title_empty"),
        ({"title": "\u00a0", "category": "A"}, "title_empty"),
        ({"title": "\u3000\u2003", "category": "A"}, "title_empty"),
        ({"title": "\u200b", "category": "A"}, "title_empty"),
        ({"title": "\u0301", "category": "A"}, "title_empty"),
        ({"title": "a" * 101, "category": "A"}, "title_too_long"),
        ({"title": "\ud800", "category": "A"}, "not_utf8"),
        ({"title": "a", "category": "\udcff"}, "not_utf8"),
        ({"title": "\ud800"}, "not_utf8"),
        ({"title": "a" * 101, "category": ""}, "title_too_long"),
        ({"category": None}, "title_missing"),
        ({"title": "a", "category": ["A", "B"]}, "category_not_text"),
        ({"title": "a", "category": "A", "split": "other"}, "unknown_split"),
        ({"title": "a", "category": "A", "split": ["train"]}, "unknown_split"),
        ({"title": "a", "category": "A", "split": CORRECTIONS}, "unknown_split"),
        ({"title": "a", "category": "A", "label_quality": "good"}, "unknown_label_quality"),
        ({"title": "a", "category": "A", "label_quality": 3}, "unknown_label_quality"),
        (["a", "A"], "not_an_object"),
        ("a", "not_an_object"),
        (None, "not_an_object"),
    ],
)
def test_only_the_unusable_row_is_quarantined(read_file: Read, record: object, reason: str) -> None:
    good = {"title": "a" * 100, "category": "A"}
    text = "".join(json.dumps(row) + "\n" for row in (good, record, good))
    raw = read_file(text, "x.jsonl", max_title_length=100)
    assert len(raw.table) == 2
    assert reasons(raw) == [(2, reason)]
    assert list(raw.quarantine["file"]) == ["x.jsonl"]


@pytest.mark.parametrize("line", ["{", "{'title': 'a'}", "titulo", '{"title": "a"} x', "[" * 99999])
def test_a_line_that_is_not_json_is_quarantined_with_a_short_excerpt(
    read_file: Read, line: str
) -> None:
    raw = read_file(jsonl(GOOD) + line + "\n" + jsonl(GOOD), "x.jsonl")
    assert len(raw.table) == 2
    assert reasons(raw) == [(2, "not_json")]
    excerpt = raw.quarantine["excerpt"][0]
    assert line[:10].replace("'", "") in excerpt.replace("\\'", "'").replace("'", "")
    assert len(excerpt) <= 200


def test_excerpts_are_ascii(read_file: Read) -> None:
    content = "title,category\nñ,A\n".encode() + b"cama\x1b[2J\xf1,A\n\xf1,\x07,B\n"
    raw = read_file(content)
    assert reasons(raw) == [(3, "not_utf8"), (4, "wrong_field_count")]
    assert raw.quarantine["excerpt"][0] == r"{'title': 'cama\x1b[2J\udcf1', 'category': 'A'}"
    assert raw.quarantine["excerpt"][1] == r"['\udcf1', '\x07', 'B']"


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_row_with_the_wrong_number_of_fields_is_quarantined(
    read_file: Read, separator: str
) -> None:
    raw = read_file('title,category\n"a\nb",A\nb\nc,C,extra\nd,D\n'.replace(",", separator))
    assert rows(raw) == [("a\nb", "A"), ("d", "D")]
    assert reasons(raw) == [(4, "wrong_field_count"), (5, "wrong_field_count")]


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ('"a\nb\nc",A,x', ("a\nb\nc", "A")),
        ('"\n   a, b   ",A,x', ("a, b", "A")),
        ('"a, b\n",A,x', ("a, b", "A")),
        ('a,"\n A  \n",x', ("a", "A")),
        ('a,"A\nb",x', ("a", "A b")),
    ],
)
def test_a_title_or_category_may_have_several_lines(
    read_file: Read, record: str, row: tuple[str, str]
) -> None:
    raw = read_file(f"title,category,description\nb,B,\n{record}\nc,C,\n")
    assert all_rows(raw) == [("b", "B"), row, ("c", "C")]


@pytest.mark.parametrize(
    "record",
    [
        '"Mesa,A\nSilla,B\nMonitor 24",C',
        'Mesa,"A\nSilla,B\nMonitor,C"',
        '"Mesa,A\n24",B',
        '"Mesa,A\nSilla,B\n"Monitor, 24",C',
    ],
)
def test_rows_swallowed_by_an_open_quote_are_quarantined_line_by_line(
    read_file: Read, record: str
) -> None:
    raw = read_file(f"title,category\nb,B\n{record}\nc,C\n")
    assert rows(raw) == [("b", "B"), ("c", "C")]
    assert list(raw.quarantine["line"]) == list(range(3, 4 + record.count("\n")))
    reason = raw.quarantine["reason"][0]
    assert reason == ("not_csv" if '\n"' in record else "open_quote")
    if reason == "open_quote":
        assert "opens in line 3 and closes in line " in raw.quarantine["problem"][0]


def test_other_columns_may_have_several_lines(read_file: Read) -> None:
    text = 'description,title,category\n"of\n\nlines",Mesa,A\n"24"" of\r\nlines",Silla,B\nbad\n'
    raw = read_file(text)
    assert rows(raw) == [("Mesa", "A"), ("Silla", "B")]
    assert reasons(raw) == [(7, "wrong_field_count")]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_a_title_of_a_megabyte_is_quarantined_with_a_short_excerpt(
    read_file: Read, name: str
) -> None:
    table = pd.DataFrame({"title": ["a", "ñ" * 1_000_000, "b"], "category": ["A", "A", "B"]})
    raw = read_file(table, name)
    assert rows(raw) == [("a", "A"), ("b", "B")]
    assert list(raw.quarantine["reason"]) == ["title_too_long"]
    assert len(raw.quarantine["excerpt"][0]) <= 200


def test_a_quote_may_stay_open_for_at_most_a_thousand_lines(read_file: Read) -> None:
    text = 'title,category,description\na,A,\nb,B,"{}"\nc,C,\n'
    raw = read_file(text.format("\n" * 999))
    assert all_rows(raw) == [("a", "A"), ("b", "B"), ("c", "C")]
    for damaged in (text.format("\n" * 1000), 'title,category\nb,B\n"Mesa,A\n' + "c,C\n" * 100):
        with pytest.raises(DataError, match=r"x\.csv:3: a quote opens here and is not closed"):
            read_file(damaged)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_a_repeated_column_name_is_an_error(tmp_path: Path, read: Read, name: str) -> None:
    if name == "x.csv":
        write_text(tmp_path / name, "title,category, title\na,A,z\n")
    else:
        table = pyarrow.table([["a"], ["A"], ["z"]], names=["title", "category", "title"])
        pyarrow.parquet.write_table(table, tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: column 'title' .*rename one"):
        read(tmp_path)


# Titles without categories


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl", "x.parquet"])
def test_rows_without_a_category_are_unlabelled(read_file: Read, name: str) -> None:
    table = pd.DataFrame(
        [["a", "A", "x", "train"], ["b", None, "y", "nonsense"], ["c", " ", "z", None]],
        columns=["title", "category", "brand", "split"],
    )
    raw = read_file(table, name, text_columns=["brand"])
    assert all_rows(raw) == [("a", "A")]
    assert titles_of(raw.unlabelled) == ["b", "c"]
    assert raw.unlabelled is not None
    assert list(raw.unlabelled["text.brand"]) == ["y", "z"]
    assert raw.without_category == {"category_empty": 2}
    ignored = read_file(table, name, text_columns=["brand"], unlabelled="ignore")
    assert all_rows(ignored) == [("a", "A")]
    assert ignored.unlabelled is None
    assert ignored.without_category == {"category_empty": 2}


def test_rows_of_json_without_the_category_key_are_unlabelled(read_file: Read) -> None:
    raw = read_file(jsonl({"title": "b"}, GOOD, {"title": "c", "category": None}), "x.jsonl")
    assert all_rows(raw) == [("a", "A")]
    assert titles_of(raw.unlabelled) == ["b", "c"]
    assert raw.without_category == {"category_missing": 1, "category_empty": 1}


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl", "x.csv", "x.json"])
def test_a_training_file_without_a_category_column_is_an_error(read_file: Read, name: str) -> None:
    table = pd.DataFrame({"title": ["a", "b"], "rubro": ["A", "B"]})
    with pytest.raises(DataError, match=r"'category' .*title, rubro\); set data\.category_column"):
        read_file(table, name)


def test_the_row_of_each_title_is_known(tmp_path: Path, read: Read) -> None:
    write_text(tmp_path / "train.csv", 'title,category\n"a\nb",A\nc,\nd,B\n')
    write_text(tmp_path / "test.jsonl", "\n" + jsonl(GOOD))
    raw = read(tmp_path)
    places = list(zip(raw.table["file"], raw.table["line"], strict=True))
    assert places == [("test.jsonl", 2), ("train.csv", 2), ("train.csv", 5)]
    assert raw.unlabelled is not None
    assert list(raw.unlabelled["line"]) == [4]
    assert raw.table["line"].dtype == np.int32
    assert isinstance(raw.table["file"].dtype, pd.CategoricalDtype)


def test_bad_titles_without_categories_are_quarantined(tmp_path: Path, read: Read) -> None:
    write_text(tmp_path / "train.csv", TABLE)
    records = [{"title": "b" * 101}, {"title": ["c"]}, {"name": "d"}, {"title": "e"}]
    write_text(tmp_path / "unlabelled.jsonl", jsonl(*records))
    raw = read(tmp_path, max_title_length=100)
    assert reasons(raw) == [(1, "title_too_long"), (2, "title_not_text"), (3, "title_missing")]
    assert titles_of(raw.unlabelled) == ["e"]


def test_a_source_without_any_category_is_an_error(
    read_file: Read, make_params: Callable[..., Any]
) -> None:
    raw = read_file("title,category\na,\nb,\n")
    with pytest.raises(DataError, match=r"none of 2 rows .*has a category.*data\.category_column"):
        require_usable(raw, make_params().data, Path("quarantine.csv"))


@pytest.mark.parametrize("name", ["test.csv", "test.tsv", "test.jsonl", "validation.parquet"])
def test_a_held_out_file_without_categories_is_unlabelled_with_a_notice(
    tmp_path: Path, read: Read, name: str
) -> None:
    write_text(tmp_path / "train.csv", TABLE)
    write_frame(pd.DataFrame({"id": [0, 1], "title": ["c", "d"]}), tmp_path / name)
    (tmp_path / "valid.csv").mkdir()  # a folder with the name of a file is ignored
    raw = read(tmp_path)
    assert all_rows(raw) == [("a", "A"), ("b", "B")]
    assert titles_of(raw.unlabelled) == ["c", "d"]
    (notice,) = raw.notices
    assert name in notice and "'category'" in notice


# Column names


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.json", "x.parquet"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_column_names_compare_by_unicode_form(
    read_file: Read, name: str, stored: Literal["NFC", "NFD"]
) -> None:
    columns = [
        unicodedata.normalize(stored, column) for column in (" título", "categoría", "división")
    ]
    table = pd.DataFrame([["a", "A", "train"], ["b", "B", "test"]], columns=columns)
    for form in ("NFC", "NFD"):
        title, category, split = (
            unicodedata.normalize(form, column) for column in ("título", "categoría ", "división")
        )
        raw = read_file(
            table, name, title_column=title, category_column=category, split_column=split
        )
        assert all_rows(raw) == [("a", "A"), ("b", "B")]
        assert list(raw.table["split"]) == ["train", "test"]


# Columns for language, label quality and split


@pytest.mark.parametrize(
    ("key", "values", "wanted"),
    [
        ("language", [" Spanish ", "PORTUGUESE"], ["spanish", "portuguese"]),
        ("label_quality", ["reliable", "Unreliable"], ["reliable", "unreliable"]),
        ("split", ["Training", "val"], ["train", "validation"]),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_optional_columns_can_be_renamed_and_switched_off(
    read_file: Read, key: str, values: list[str], wanted: list[str], name: str
) -> None:
    table = pd.DataFrame({"title": ["a", "b"], "category": ["A", "B"], "mine": values})
    assert list(read_file(table, name, **{f"{key}_column": "mine"}).table[key]) == wanted
    table = table.rename(columns={"mine": key}).assign(**{key: "7"})
    raw = read_file(table, name, **{f"{key}_column": None})
    assert set(raw.table[key]) == {"reliable" if key == "label_quality" else ""}
    assert raw.quarantine.empty


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl", "x.parquet"])
def test_a_column_that_is_set_but_missing_is_an_error(read_file: Read, name: str) -> None:
    with pytest.raises(DataError, match=r"no (column|row has) 'lang'.*; set data\.language_column"):
        read_file(frame(), name, language_column="lang")


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.parquet"])
def test_rows_with_neither_title_nor_category_are_counted(read_file: Read, name: str) -> None:
    titles, categories = ["Bota", None, " ", "Mesa", ""], ["A", None, "", "B", None]
    table = pd.DataFrame({"title": titles, "category": categories, "size": list("SMLSM")})
    raw = read_file(table, name)
    assert all_rows(raw) == [("Bota", "A"), ("Mesa", "B")]
    assert raw.empty_rows == 3


# Parquet


def test_line_numbers_of_parquet_are_row_numbers(read_file: Read) -> None:
    table = pd.DataFrame({"title": ["a", None, "c"], "category": ["A", "B", None]})
    raw = read_file(table, "x.parquet")
    assert reasons(raw) == [(2, "title_missing")]
    assert list(raw.table["line"]) == [1]
    assert raw.unlabelled is not None
    assert list(raw.unlabelled["line"]) == [3]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.json", "x.jsonl", "x.parquet"])
def test_a_number_is_the_same_text_in_every_format(read_file: Read, name: str) -> None:
    table = pd.DataFrame({"title": [808, 205], "category": [103, 101], "share": [1.0, 0.5]})
    assert rows(read_file(table, name)) == [("808", "103"), ("205", "101")]
    raw = read_file(table, name, category_column="share")
    assert rows(raw) == [("808", "1.0"), ("205", "0.5")]


@pytest.mark.parametrize("column", ["title", "language", "created"])
def test_a_parquet_column_that_python_cannot_hold_is_an_error_only_if_it_is_used(
    column: str, tmp_path: Path, read: Read
) -> None:
    columns = {"title": ["Mesa"], "category": ["TABLES"], "language": ["spanish"]}
    beyond = pyarrow.array([2**62], pyarrow.timestamp("us"))
    pyarrow.parquet.write_table(pyarrow.table({**columns, column: beyond}), tmp_path / "x.parquet")
    if column == "created":
        assert rows(read(tmp_path)) == [("Mesa", "TABLES")]
        return
    with pytest.raises(DataError, match=r"x\.parquet: not a readable parquet file"):
        read(tmp_path)


def test_text_stored_as_bytes_in_parquet_is_read(read_file: Read) -> None:
    table = pd.DataFrame({"title": ["ñandú".encode(), b"caf\xe9"], "category": [b"A", b"B"]})
    raw = read_file(table, "x.parquet")
    assert rows(raw) == [("ñandú", "A")]
    assert reasons(raw) == [(2, "title_not_text")]


def test_categorical_columns_of_parquet_are_text(read_file: Read) -> None:
    raw = read_file(frame().astype({"category": "category"}), "x.parquet")
    assert rows(raw) == list(zip(TITLES, CATEGORIES, strict=True))


# Files made to exhaust the memory

MEASURED = """
import resource, sys
from rubro.base.errors import DataError
from rubro.base.params_file import load_params
from pathlib import Path
from rubro.data.raw_titles import read_titles, require_usable

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

params = load_params(sys.argv[1]).data.model_copy(
    update={"path": sys.argv[2], "max_quarantined_share": float(sys.argv[3])}
)
before = peak()
try:
    raw = read_titles(params, None)
    require_usable(raw, params, Path("quarantine.csv"))
    print(peak() - before, len(raw.table), *raw.quarantine["reason"])
except DataError as error:
    print(peak() - before, error)
"""


def measured(root: Path, path: Path, share: float = 1.0) -> tuple[int, str]:
    """Read in a new process; return the megabytes that reading took, and its outcome."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(root / "params.yaml"), str(path), str(share)],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    megabytes, _, outcome = done.stdout.strip().partition(" ")
    return int(megabytes), outcome


def write_bomb(path: Path, start: str, filling: bytes, count: int, end: str = "") -> Path:
    """Compress start, filling repeated count times, and end."""
    with gzip.open(path, "wb") as file:
        file.write(start.encode())
        for _ in range(count):
            file.write(filling)
        file.write(end.encode())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz", "x.tsv.gz"])
@pytest.mark.parametrize("filling", [b"0", b"\0"])
def test_a_line_of_200_megabytes_is_rejected_in_little_memory(
    tmp_path: Path, project_root: Path, name: str, filling: bytes
) -> None:
    first, last = "title,category\na,A\n", "\nb,B\n"
    if "jsonl" in name:
        first, last = jsonl(GOOD), "\n" + jsonl(GOOD)
    elif "tsv" in name:
        first, last = first.replace(",", "\t"), last.replace(",", "\t")
    path = write_bomb(tmp_path / name, first, filling * 2_000_000, 100, last)
    assert path.stat().st_size < 300_000
    megabytes, outcome = measured(project_root, path)
    assert outcome == "2 line_too_long"
    assert megabytes < 40


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_a_line_may_have_at_most_a_million_characters(read_file: Read, name: str) -> None:
    line = '{"title": "%s", "category": "A"}\n' if name == "x.jsonl" else "%s,A\n"
    header = "" if name == "x.jsonl" else "title,category\n"
    longest = 2**20 - len(line % "")
    for title, is_read in (
        ("mesa" + "ñ" * (longest - 5), True),
        ("mesa" + "ñ" * (longest - 4), True),
        ("mesa" + "ñ" * (longest - 2), False),
        ("mesa" * 2_300_000, False),  # also too long for the csv module
    ):
        text = header + line % "a" + line % title + line % "b"
        raw = read_file(text, name, max_title_length=2**21)
        assert len(raw.table) == 2 + is_read
        if not is_read:
            assert reasons(raw) == [(2 + bool(header), "line_too_long")]
            assert "mesa" in raw.quarantine["excerpt"][0]
            assert len(raw.quarantine["excerpt"][0]) <= 200


def test_a_line_that_is_too_long_inside_quotes_rejects_its_record(read_file: Read) -> None:
    text = f'title,category,description\na,A,\nb,B,"of\n{"x" * 2**21}\nlines"\nc,C,\n'
    raw = read_file(text)
    assert rows(raw) == [("a", "A"), ("c", "C")]
    assert reasons(raw) == [(line, "line_too_long") for line in (3, 4, 5)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start", "filling", "count", "facts", "limit"),
    [
        (
            "x.csv.gz",
            'title,category\na,"',
            b'b\n","' * 100_000,
            400,
            ["x.csv.gz:2: a quote opens here and is not closed"],
            400,
        ),
        (
            "x.jsonl.gz",
            jsonl(GOOD),
            b" " * (2**20 - 1) + b"\n",
            300,
            ["more than 100 times its size (a gzip bomb?)", "gunzip"],
            40,
        ),
        ("y.jsonl.gz", jsonl(GOOD), b"5\n" * 10_000, 500, ["1048577 of 1048578 rows"], 500),
    ],
    ids=["quotes that open again and again", "a gzip bomb", "millions of unusable rows"],
)
def test_reading_stops_before_a_file_fills_the_memory(
    tmp_path: Path,
    project_root: Path,
    name: str,
    start: str,
    filling: bytes,
    count: int,
    facts: list[str],
    limit: int,
) -> None:
    path = write_bomb(tmp_path / name, start, filling, count)
    megabytes, outcome = measured(project_root, path, share=0.05)
    assert all(fact in outcome for fact in facts)
    assert megabytes < limit


def test_a_small_file_may_expand_a_lot(tmp_path: Path, read: Read) -> None:
    path = write_bomb(tmp_path / "x.jsonl.gz", "", jsonl(GOOD).encode() * 1000, 30)
    assert path.stat().st_size * 100 < 30_000 * len(jsonl(GOOD))
    assert len(read(tmp_path).table) == 30_000


def test_a_parquet_file_with_more_rows_than_bytes_is_refused(
    tmp_path: Path, project_root: Path
) -> None:
    column = pyarrow.array(["a"]).dictionary_encode()
    many = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(2**20 + 1, np.int8)), column.dictionary
    )
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"title": many, "category": many}), path)
    megabytes, outcome = measured(project_root, path)
    assert "x.parquet: 1048577 rows" in outcome
    assert megabytes < 40


def test_a_parquet_file_that_repeats_long_titles_is_refused(
    tmp_path: Path, project_root: Path
) -> None:
    titles = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(2**19, np.int32)), pyarrow.array(["g" * 900])
    )
    pyarrow.parquet.write_table(
        pyarrow.table({"title": titles, "category": titles}), tmp_path / "x.parquet"
    )
    megabytes, outcome = measured(project_root, tmp_path / "x.parquet")
    assert "more than 100 times its size" in outcome
    assert megabytes < 200


def test_a_header_of_several_lines_is_an_error(read_file: Read) -> None:
    """Otherwise the header would swallow the rows up to the next quote."""
    with pytest.raises(DataError, match=r"x\.csv:1: no readable header \(3 lines long"):
        read_file('title,category,"more\na,A,x\nb",B,x\nc,C,x\n')


# Real rows of the challenge, if they are available


@pytest.mark.skipif(not MESSY.is_dir(), reason="needs ../shared/data/messy")
def test_challenge_files_are_read(read: Read) -> None:
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    expected = pd.read_csv(MESSY / "train_mixed.csv", **options)
    raw = read(MESSY / "train_mixed.csv")
    assert set(raw.table["language"]) == {"spanish", "portuguese"}
    assert len(raw.table) + len(raw.quarantine) == len(expected)
    assert len(raw.quarantine) / len(expected) < 0.05
    expected = pd.read_csv(MESSY / "train_head.csv", **options)  # only title and category
    assert rows(read(MESSY / "train_head.csv")) == list(
        zip(expected["title"], expected["category"], strict=True)
    )
