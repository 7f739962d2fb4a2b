"""Raw files of every supported layout, read into one table."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rubro.base.errors import DataError
from rubro.base.text import normalise
from rubro.data.sources import CORRECTIONS, RawTitles, find_sources, read_titles

Read = Callable[..., RawTitles]

MESSY = Path(__file__).resolve().parents[3] / "shared" / "data" / "messy"
# Awkward but legal titles: quotes, commas, tabs inside, letters outside ASCII, an emoji.
TITLES = ['Mesa "ratona", roble', "Cámara Ñandú 24''", "a,b,,c", "❤️ regalo", "100% algodón;"]
CATEGORIES = ["TABLES", "CAMERAS", "OTHERS", "GIFTS", "SHIRTS"]


@pytest.fixture
def read(make_params: Callable[..., Any]) -> Read:
    def run(path: Path, language: str | None = None, **data: Any) -> RawTitles:
        overrides = {"data.path": str(path), "data.max_quarantined_share": 1.0}
        overrides |= {f"data.{key}": value for key, value in data.items()}
        return read_titles(make_params(overrides).data, language)

    return run


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def frame() -> pd.DataFrame:
    return pd.DataFrame({"title": TITLES, "category": CATEGORIES})


def write_frame(table: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif "json" in path.suffix:
        table.to_json(path, orient="records", lines=path.suffix != ".json", force_ascii=False)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


def rows(raw: RawTitles) -> list[tuple[str, str]]:
    return list(zip(raw.table["title"], raw.table["category"], strict=True))


def reasons(raw: RawTitles) -> list[tuple[int, str]]:
    return list(zip(raw.quarantine["line"], raw.quarantine["reason"], strict=True))


# Corrections


def test_corrections_come_last_and_have_names_of_their_own(read: Read, tmp_path: Path) -> None:
    source, corrections = tmp_path / "shop.csv", tmp_path / "corrections.csv"
    source.write_text("nombre,rubro,split\nMesa,TABLES,test\nSilla,CHAIRS,\n", encoding="utf-8")
    content = 'title,category\r\n"Mesa ""ratona"", roble",TABLES\r\n=1+1,MUGS\r\n,\r\nTaza,\r\n'
    corrections.write_bytes(content.encode())
    raw = read(source, title_column="nombre", category_column="rubro", corrections=str(corrections))
    assert rows(raw) == [
        ("Mesa", "TABLES"),
        ("Silla", "CHAIRS"),
        ('Mesa "ratona", roble', "TABLES"),
        ("=1+1", "MUGS"),
    ]
    assert list(raw.table["split"]) == ["test", "", CORRECTIONS, CORRECTIONS]
    assert reasons(raw) == [(5, "category_empty")]
    assert raw.empty_rows == 1


def test_no_source_can_name_the_split_of_the_corrections(read: Read, tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text(f"title,category,split\nMesa,TABLES,{CORRECTIONS}\n")
    assert reasons(read(tmp_path / "shop.csv")) == [(2, "unknown_split")]


def test_corrections_that_are_not_there_have_a_remedy(read: Read, tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("title,category\nMesa,TABLES\n")
    with pytest.raises(DataError, match=r"none\.csv: no such file; set data\.corrections"):
        read(tmp_path / "shop.csv", corrections="none.csv")


# Layouts


@pytest.mark.parametrize(
    "name",
    ["x.csv", "x.tsv", "x.jsonl", "x.parquet", "x.csv.gz", "x.tsv.gz", "x.jsonl.gz"],
)
@pytest.mark.parametrize("given", ["file", "folder"])
def test_the_same_rows_come_out_of_every_kind_of_file(
    tmp_path: Path, read: Read, name: str, given: str
) -> None:
    path = tmp_path / name
    if ".parquet" in name:
        frame().to_parquet(path)
    elif ".jsonl" in name:
        frame().to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        frame().to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    raw = read(path if given == "file" else tmp_path)
    assert rows(raw) == list(zip(TITLES, CATEGORIES, strict=True))
    assert raw.quarantine.empty
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
    records = [{"title": title, "category": "A"} for title in titles]
    path.write_text(jsonl(*records), encoding="utf-8", newline="\n")
    raw = read_titles(make_params({"data.path": str(path)}).data, None)
    assert list(raw.table["title"]) == [title.strip() for title in titles]


def test_split_and_language_come_from_the_names_of_the_files(tmp_path: Path, read: Read) -> None:
    for language in ("spanish", "portuguese"):
        for split in ("train", "validation", "test"):
            record = {"title": f"{language} {split}", "category": "A"}
            (tmp_path / f"{language}.{split}.jsonl").write_text(jsonl(record))
    (tmp_path / "README.md").write_text("not data")
    table = read(tmp_path).table.astype("str")
    assert len(table) == 6
    assert all(table["title"] == table["language"] + " " + table["split"])
    assert set(read(tmp_path, "portuguese").table["language"]) == {"portuguese"}


def test_the_split_column_of_a_single_file_is_followed(tmp_path: Path, read: Read) -> None:
    (tmp_path / "all.csv").write_text(
        "title,category,split\na,A,train\nb,B,test\nc,C,\nd,D,Val\ne,E,other\n"
    )
    raw = read(tmp_path)
    assert list(raw.table["split"]) == ["train", "test", "", "validation"]
    assert reasons(raw) == [(6, "unknown_split")]


def test_the_name_of_a_file_outranks_its_split_column(tmp_path: Path, read: Read) -> None:
    (tmp_path / "train.csv").write_text("title,category,split\na,A,test\n")
    assert list(read(tmp_path).table["split"]) == ["train"]


def test_columns_may_have_other_names_and_any_order(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text("id,Clase, Nombre\n1,TABLES,Mesa\n2,CHAIRS,Silla\n")
    raw = read(tmp_path, title_column="Nombre", category_column="Clase")
    assert rows(raw) == [("Mesa", "TABLES"), ("Silla", "CHAIRS")]


def test_the_language_column_is_read_in_any_case(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text("title,category,language\na,A, Spanish \nb,B,PORTUGUESE\n")
    assert list(read(tmp_path).table["language"]) == ["spanish", "portuguese"]


def test_rows_are_reliable_unless_they_say_otherwise(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text(
        "title,category,label_quality\na,A,\nb,A,unreliable\nc,A,reliable\nd,A,good\n"
    )
    raw = read(tmp_path)
    assert list(raw.table["label_quality"]) == ["reliable", "unreliable", "reliable"]
    assert reasons(raw) == [(5, "unknown_label_quality")]


# Text that is awkward but right


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_a_byte_order_mark_is_not_part_of_the_data(tmp_path: Path, read: Read, name: str) -> None:
    text = "title,category\na,A\n" if name == "x.csv" else jsonl({"title": "a", "category": "A"})
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A")]
    assert raw.quarantine.empty


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
def test_windows_line_ends_are_not_part_of_the_data(tmp_path: Path, read: Read, name: str) -> None:
    text = "title,category\na,A\nb,B\n".replace(",", "\t" if name == "x.tsv" else ",")
    if name == "x.jsonl":
        text = jsonl({"title": "a", "category": "A"}, {"title": "b", "category": "B"})
    (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode())
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("b", "B")]
    assert raw.quarantine.empty


def test_quoted_commas_and_doubled_quotes_belong_to_the_title(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text('title,category\n"Mesa, roble",A\n"TV 24""",B\nTV 32",C\n')
    raw = read(tmp_path)
    assert rows(raw) == [("Mesa, roble", "A"), ('TV 24"', "B"), ('TV 32"', "C")]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_a_file_without_a_last_line_end_keeps_its_last_row(
    tmp_path: Path, read: Read, name: str
) -> None:
    text = "title,category\na,A" if name == "x.csv" else '{"title": "a", "category": "A"}'
    (tmp_path / name).write_text(text)
    assert rows(read(tmp_path)) == [("a", "A")]


def test_blank_lines_in_csv_are_no_rows(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text("title,category\n\na,A\n\n\n")
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A")]
    assert raw.quarantine.empty


def test_blank_lines_in_jsonl_are_no_rows(tmp_path: Path, read: Read) -> None:
    row = jsonl({"title": "a", "category": "A"})
    (tmp_path / "x.jsonl").write_text("\n" + row + " \t\r\n\nno json\n\n")
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A")]
    assert reasons(raw) == [(5, "not_json")]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_other_encodings_are_read_when_named(
    tmp_path: Path, read: Read, name: str, encoding: str
) -> None:
    text = "title,category\nCañón,AÑO\n"
    if name == "x.jsonl":
        text = jsonl({"title": "Cañón", "category": "AÑO"})
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert rows(read(tmp_path, encoding=encoding)) == [("Cañón", "AÑO")]


@pytest.mark.parametrize("encoding", ["UTF-8", "utf8", "utf_8", "utf-8-sig"])
def test_every_spelling_of_utf_8_skips_the_byte_order_mark(
    tmp_path: Path, read: Read, encoding: str
) -> None:
    (tmp_path / "x.csv").write_bytes("\ufefftitle,category\nñ,A\n".encode())
    assert rows(read(tmp_path, encoding=encoding)) == [("ñ", "A")]


# Rows that cannot be used


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"category": "A"}, "title_missing"),
        ({"title": None, "category": "A"}, "title_missing"),
        ({"title": {"es": "a"}, "category": "A"}, "title_not_text"),
        ({"title": ["a"], "category": "A"}, "title_not_text"),
        ({"title": "", "category": "A"}, "title_empty"),
        ({"title": " \t\r\n", "category": "A"}, "title_empty"),
        ({"title": "a" * 101, "category": "A"}, "title_too_long"),
        ({"title": "\ud800", "category": "A"}, "not_utf8"),
        ({"title": "a", "category": "\udcff"}, "not_utf8"),
        ({"title": "a"}, "category_missing"),
        ({"title": "a", "category": None}, "category_empty"),
        ({"title": "a", "category": ""}, "category_empty"),
        ({"title": "a", "category": ["A", "B"]}, "category_not_text"),
        ({"title": "a", "category": "A", "split": "other"}, "unknown_split"),
        ({"title": "a", "category": "A", "split": ["train"]}, "unknown_split"),
        ({"title": "a", "category": "A", "label_quality": "good"}, "unknown_label_quality"),
        ({"title": "a", "category": "A", "label_quality": 3}, "unknown_label_quality"),
        (["a", "A"], "not_an_object"),
        ("a", "not_an_object"),
        (None, "not_an_object"),
    ],
)
def test_an_unusable_row_is_quarantined_and_its_neighbours_are_kept(
    tmp_path: Path, read: Read, record: object, reason: str
) -> None:
    good = {"title": "a" * 100, "category": "A"}
    text = "".join(json.dumps(row) + "\n" for row in (good, record, good))
    (tmp_path / "x.jsonl").write_text(text)
    raw = read(tmp_path, max_title_length=100)
    assert len(raw.table) == 2
    assert reasons(raw) == [(2, reason)]
    assert list(raw.quarantine["file"]) == ["x.jsonl"]


@pytest.mark.parametrize("line", ["{", "{'title': 'a'}", "titulo", '{"title": "a"} x', "[" * 99999])
def test_a_line_that_is_not_json_is_quarantined_with_a_short_excerpt(
    tmp_path: Path, read: Read, line: str
) -> None:
    good = jsonl({"title": "a", "category": "A"})
    (tmp_path / "x.jsonl").write_text(good + line + "\n" + good)
    raw = read(tmp_path)
    assert len(raw.table) == 2
    assert reasons(raw) == [(2, "not_json")]
    excerpt = raw.quarantine["excerpt"][0]
    assert line[:10].replace("'", "") in excerpt.replace("\\'", "'").replace("'", "")
    assert len(excerpt) <= 200


@pytest.mark.parametrize("title", ["\u00a0", "\u3000\u2003", "\u200b", "\u0301"])
def test_a_title_without_any_visible_character_is_empty(
    tmp_path: Path, read: Read, title: str
) -> None:
    (tmp_path / "x.jsonl").write_text(jsonl({"title": title, "category": "A"}), encoding="utf-8")
    assert reasons(read(tmp_path)) == [(1, "title_empty")]


def test_a_blank_category_is_empty(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text("title,category\na,  \n")
    assert reasons(read(tmp_path)) == [(2, "category_empty")]


def test_blanks_around_a_category_make_no_class_of_their_own(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text("title,category\na,A\nb, A\t\nc,\u00a0A \n", encoding="utf-8")
    assert rows(read(tmp_path)) == [("a", "A"), ("b", "A"), ("c", "A")]


def test_excerpts_show_in_ascii_what_no_terminal_can(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_bytes(
        "title,category\nñ,A\n".encode() + b"cama\x1b[2J\xf1,A\n\xf1,\x07,B\n"
    )
    raw = read(tmp_path)
    assert reasons(raw) == [(3, "not_utf8"), (4, "wrong_field_count")]
    assert raw.quarantine["excerpt"][0] == r"{'title': 'cama\x1b[2J\udcf1', 'category': 'A'}"
    assert raw.quarantine["excerpt"][1] == r"['\udcf1', '\x07', 'B']"


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_a_row_with_the_wrong_number_of_fields_is_quarantined_with_its_line(
    tmp_path: Path, read: Read, name: str
) -> None:
    text = "title,category\na,A\nb\nc,C,extra\nd,D\n"
    (tmp_path / name).write_text(text.replace(",", "\t" if name == "x.tsv" else ","))
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("d", "D")]
    assert reasons(raw) == [(3, "wrong_field_count"), (4, "wrong_field_count")]
    assert list(raw.quarantine["problem"]) == [
        "1 field, and the header has 2",
        "3 fields, and the header has 2",
    ]


def test_line_numbers_hold_after_a_title_of_several_lines(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text('title,category\n"a\nb",A\nbad\n')
    raw = read(tmp_path)
    assert rows(raw) == [("a\nb", "A")]
    assert reasons(raw) == [(4, "wrong_field_count")]


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
    tmp_path: Path, read: Read, record: str, row: tuple[str, str]
) -> None:
    (tmp_path / "x.csv").write_text(f"title,category,description\nb,B,\n{record}\nc,C,\n")
    raw = read(tmp_path)
    assert rows(raw) == [("b", "B"), row, ("c", "C")]
    assert raw.quarantine.empty


@pytest.mark.parametrize(
    "record", ['"Mesa,A\nSilla,B\nMonitor 24",C', 'Mesa,"A\nSilla,B\nMonitor,C"', '"Mesa,A\n24",B']
)
def test_rows_between_an_open_quote_and_the_next_one_are_quarantined_line_by_line(
    tmp_path: Path, read: Read, record: str
) -> None:
    (tmp_path / "x.csv").write_text(f"title,category\nb,B\n{record}\nc,C\n")
    raw = read(tmp_path)
    assert rows(raw) == [("b", "B"), ("c", "C")]
    lines = range(3, 4 + record.count("\n"))
    assert reasons(raw) == [(line, "open_quote") for line in lines]
    assert raw.quarantine["problem"][0].startswith("a quote opens in line 3 and closes in line ")


def test_other_columns_may_have_several_lines(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text(
        'description,title,category\n"of\n\nlines",Mesa,A\n"24"" of\r\nlines",Silla,B\nbad\n'
    )
    raw = read(tmp_path)
    assert rows(raw) == [("Mesa", "A"), ("Silla", "B")]
    assert reasons(raw) == [(7, "wrong_field_count")]


def test_a_title_of_several_lines_is_fine_where_a_record_is_one_line(
    tmp_path: Path, read: Read
) -> None:
    (tmp_path / "x.jsonl").write_text(jsonl({"title": "a\nb", "category": "A"}))
    assert rows(read(tmp_path)) == [("a\nb", "A")]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_a_title_of_a_megabyte_is_quarantined_and_not_copied_into_the_report(
    tmp_path: Path, read: Read, name: str
) -> None:
    table = pd.DataFrame({"title": ["a", "ñ" * 1_000_000, "b"], "category": ["A", "A", "B"]})
    if name == "x.csv":
        table.to_csv(tmp_path / name, index=False)
    elif name == "x.jsonl":
        table.to_json(tmp_path / name, orient="records", lines=True, force_ascii=False)
    else:
        table.to_parquet(tmp_path / name)
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("b", "B")]
    assert list(raw.quarantine["reason"]) == ["title_too_long"]
    assert len(raw.quarantine["excerpt"][0]) <= 200


def test_a_field_beyond_any_limit_costs_only_its_row(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text("title,category\na,A\n" + "b" * 9_000_000 + ",B\nc,C\n")
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("c", "C")]
    assert len(raw.quarantine) == 1


def test_rows_in_latin_1_among_utf_8_are_quarantined(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_bytes(
        "title,category\nñandú,A\n".encode() + "caña,B\n".encode("latin-1") + b"c,C\n"
    )
    raw = read(tmp_path)
    assert rows(raw) == [("ñandú", "A"), ("c", "C")]
    assert reasons(raw) == [(3, "not_utf8")]


def test_an_open_quote_that_swallows_the_file_is_an_error_with_its_line(
    tmp_path: Path, read: Read
) -> None:
    body = "".join(f"titulo {i},A\n" for i in range(100))
    (tmp_path / "x.csv").write_text(f'title,category\nb,B\n"Mesa,A\n{body}')
    with pytest.raises(DataError, match=r"x\.csv:3: a quote opens here and is not closed"):
        read(tmp_path)


def test_a_quote_may_stay_open_over_a_thousand_lines_and_no_longer(
    tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "x.csv"
    text = 'title,category,description\na,A,\nb,B,"{}"\nc,C,\n'
    path.write_text(text.format("\n" * 999))
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("b", "B"), ("c", "C")]
    assert raw.quarantine.empty
    path.write_text(text.format("\n" * 1000))
    with pytest.raises(DataError, match=r"x\.csv:3: a quote opens here and is not closed"):
        read(tmp_path)


@pytest.mark.parametrize(
    "later",
    ['Monitor 24",MON', '"Monitor, 24",MON'],
    ids=["a quote that closes it in a later row", "a quoted title in a later row"],
)
def test_rows_swallowed_by_an_open_quote_are_accounted_for(
    tmp_path: Path, read: Read, later: str
) -> None:
    (tmp_path / "x.csv").write_text(f'title,category\n"Mesa,A\nSilla,B\nCama,C\n{later}\n')
    raw = read(tmp_path)
    assert not any("\n" in title for title in raw.table["title"])
    assert len(raw.table) + len(raw.quarantine) == 4
    assert list(raw.quarantine["line"]) == [2, 3, 4, 5]


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_two_columns_of_one_name_are_an_error(tmp_path: Path, read: Read, name: str) -> None:
    if name == "x.csv":
        (tmp_path / name).write_text("title,category, title\na,A,z\n")
    else:
        columns = ["title", "category", "title"]
        table = pyarrow.table([["a"], ["A"], ["z"]], names=columns)
        pyarrow.parquet.write_table(table, tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: column 'title' is there twice; rename one"):
        read(tmp_path)


# Test files of a challenge, and folders that mislead


@pytest.mark.parametrize("name", ["test.csv", "test.tsv"])
def test_a_test_file_without_labels_is_left_out_with_a_notice(
    tmp_path: Path, read: Read, name: str
) -> None:
    (tmp_path / "train.csv").write_text("title,category\na,A\nb,B\n")
    text = "id,title,language\n0,c,spanish\n"
    (tmp_path / name).write_text(text.replace(",", "\t" if name == "test.tsv" else ","))
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("b", "B")]
    assert raw.notices == [f"{name} has no column 'category': left out"]
    assert raw.quarantine.empty


@pytest.mark.parametrize("name", ["test.jsonl", "test.parquet"])
def test_a_test_file_without_labels_of_another_kind_is_left_out_too(
    tmp_path: Path, read: Read, name: str
) -> None:
    (tmp_path / "train.csv").write_text("title,category\na,A\nb,B\n")
    table = pd.DataFrame({"title": ["c", "d"]})
    if name == "test.jsonl":
        table.to_json(tmp_path / name, orient="records", lines=True)
    else:
        table.to_parquet(tmp_path / name)
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("b", "B")]
    assert raw.quarantine.empty


def test_a_training_file_without_labels_is_an_error(tmp_path: Path, read: Read) -> None:
    (tmp_path / "train.csv").write_text("title,text\na,A\n")
    with pytest.raises(DataError, match=r"train\.csv: no column 'category' \(found: title, text\)"):
        read(tmp_path)


def test_a_folder_with_the_name_of_a_file_is_not_read(tmp_path: Path, read: Read) -> None:
    (tmp_path / "train.csv").write_text("title,category\na,A\nb,B\n")
    (tmp_path / "test.csv").mkdir()
    assert rows(read(tmp_path)) == [("a", "A"), ("b", "B")]


def test_the_same_split_in_two_files_is_an_error(tmp_path: Path, read: Read) -> None:
    text = "title,category\na,A\nb,B\n"
    (tmp_path / "train.csv").write_text(text)
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(text.encode()))
    message = r"train\.csv and .*train\.csv\.gz are the same split twice; remove one"
    with pytest.raises(DataError, match=message):
        read(tmp_path)


TABLE = "title,category\na,A\nb,B\n"


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.csv", "valid.csv", "test.csv"], "train validation test"),
        (["train.csv", "val.tsv"], "train validation"),
        (["Train.CSV", "DEV.csv"], "train validation"),
        (["training.json", "validation.ndjson", "testing.csv"], "train validation test"),
        (["train_1.csv", "train_2.csv", "train_10.csv", "test.csv"], "train train train test"),
        (["train.csv", "train_2.csv"], "train train"),
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], "train train"),
        (["train-00000-of-00001-a09b74b3ef9c3b56.parquet", "test.csv"], "train test"),
        (["spanish.train.part1.csv", "spanish.train.part2.csv"], "train train"),
        (["shop_train.csv", "shop-val.csv", "shop test_1.csv"], "train validation test"),
    ],
)
def test_names_of_splits_and_parts_as_people_write_them(
    tmp_path: Path, read: Read, names: list[str], splits: str
) -> None:
    for number, name in enumerate(names):
        table = pd.DataFrame({"title": [f"title {number}"], "category": ["A"]})
        write_frame(table, tmp_path / name)
    raw = read(tmp_path)
    found = dict(zip(raw.table["title"], raw.table["split"], strict=True))
    assert found == {f"title {n}": split for n, split in enumerate(splits.split())}
    assert raw.notices == []


@pytest.mark.parametrize(
    ("others", "notices"),
    [
        (["old.csv"], ["not read, named neither train, validation nor test: old.csv"]),
        (["train.old.csv"], ["not read, named neither train, validation nor test: train.old.csv"]),
        (["more.xlsx"], ["not read, named neither train, validation nor test: more.xlsx"]),
        (
            ["portuguese.test.csv", "portuguese.train.csv"],
            [
                "not read, another language than subset.language: "
                + "portuguese.test.csv, portuguese.train.csv"
            ],
        ),
        (["test-00000-of-00003.csv"], ["test: 1 of 3 parts are there"]),
        (["README.md", "train.csv.dvc", ".gitignore", "image.png"], []),
    ],
)
def test_files_of_titles_that_are_not_read_are_named(
    tmp_path: Path, read: Read, others: list[str], notices: list[str]
) -> None:
    for name in ["train.csv", *others]:
        (tmp_path / name).write_text(TABLE)
    assert read(tmp_path, "spanish").notices == notices


@pytest.mark.parametrize(
    "names", [["train.csv", "val.csv", "valid.csv"], ["train_1.csv", "train_1.tsv"]]
)
def test_two_names_of_one_split_are_an_error(tmp_path: Path, read: Read, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text(TABLE)
    with pytest.raises(DataError, match="are the same split twice; remove one"):
        read(tmp_path)


# Columns of language, label quality and split


@pytest.mark.parametrize(
    ("key", "values", "wanted"),
    [
        ("language", ["Spanish", "PORTUGUESE"], ["spanish", "portuguese"]),
        ("label_quality", ["reliable", "Unreliable"], ["reliable", "unreliable"]),
        ("split", ["Training", "val"], ["train", "validation"]),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_columns_of_other_facts_have_names_to_be_set(
    tmp_path: Path, read: Read, key: str, values: list[str], wanted: list[str], name: str
) -> None:
    table = pd.DataFrame({"title": ["a", "b"], "category": ["A", "B"], "mine": values})
    write_frame(table, tmp_path / name)
    assert list(read(tmp_path, **{f"{key}_column": "mine"}).table[key]) == wanted


@pytest.mark.parametrize("key", ["language", "label_quality", "split"])
def test_columns_of_other_facts_can_be_left_out(tmp_path: Path, read: Read, key: str) -> None:
    (tmp_path / "x.csv").write_text(f"title,category,{key}\na,A,*****\nb,B,7\n")
    raw = read(tmp_path, **{f"{key}_column": None})
    assert set(raw.table[key]) == {"reliable" if key == "label_quality" else ""}
    assert raw.quarantine.empty


def test_a_column_that_is_named_and_not_there_is_an_error(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.csv").write_text(TABLE)
    with pytest.raises(DataError, match=r"no column 'lang' .*; set data\.language_column"):
        read(tmp_path, language_column="lang")


# Rows without a title and a category


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.parquet"])
def test_variants_of_a_product_are_no_titles(tmp_path: Path, read: Read, name: str) -> None:
    table = pd.DataFrame(
        {
            "title": ["Bota", None, " ", "Mesa", ""],
            "category": ["A", None, "", "B", None],
            "size": list("SMLSM"),
        }
    )
    write_frame(table, tmp_path / name)
    raw = read(tmp_path)
    assert rows(raw) == [("Bota", "A"), ("Mesa", "B")]
    assert raw.quarantine.empty
    assert raw.empty_rows == 3


def test_files_are_listed_in_the_same_order_each_time(tmp_path: Path) -> None:
    for name in ("b.test.csv", "a.train.csv", "b.train.csv", "a.test.csv", "notes.txt"):
        (tmp_path / name).write_text("title,category\n")
    names = [source.path.name for source in find_sources(tmp_path, None)[0]]
    assert names == ["a.test.csv", "a.train.csv", "b.test.csv", "b.train.csv"]


def test_a_language_is_found_whatever_its_case(tmp_path: Path, read: Read) -> None:
    (tmp_path / "spanish.train.csv").write_text("title,category\na,A\n")
    assert len(read(tmp_path, "Spanish").table) == 1


# Parquet


def test_line_numbers_of_parquet_are_row_numbers(tmp_path: Path, read: Read) -> None:
    table = pd.DataFrame({"title": ["a", None, "c"], "category": ["A", "B", None]})
    table.to_parquet(tmp_path / "x.parquet")
    assert reasons(read(tmp_path)) == [(2, "title_missing"), (3, "category_empty")]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.json", "x.jsonl", "x.parquet"])
def test_numbers_are_the_same_text_in_every_kind_of_file(
    tmp_path: Path, read: Read, name: str
) -> None:
    table = pd.DataFrame({"title": [808, 205], "category": [103, 101], "share": [1.0, 0.5]})
    write_frame(table, tmp_path / name)
    assert rows(read(tmp_path)) == [("808", "103"), ("205", "101")]
    raw = read(tmp_path, category_column="share")
    assert rows(raw) == [("808", "1.0"), ("205", "0.5")]


def test_columns_of_parquet_that_nobody_reads_may_hold_anything(tmp_path: Path, read: Read) -> None:
    table = pyarrow.table(
        {
            "title": ["Mesa"],
            "category": ["TABLES"],
            "created": pyarrow.array([2**62], pyarrow.timestamp("us")),
            "day": pyarrow.array([3_000_000], pyarrow.date32()),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    assert rows(read(tmp_path)) == [("Mesa", "TABLES")]


@pytest.mark.parametrize("column", ["title", "language"])
def test_a_column_of_parquet_that_python_cannot_hold_is_one_message(
    column: str, tmp_path: Path, read: Read
) -> None:
    columns = {"title": ["Mesa"], "category": ["TABLES"], "language": ["spanish"]}
    beyond = pyarrow.array([2**62], pyarrow.timestamp("us"))
    pyarrow.parquet.write_table(pyarrow.table({**columns, column: beyond}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: not a readable parquet file"):
        read(tmp_path)


def test_categorical_columns_of_parquet_are_text(tmp_path: Path, read: Read) -> None:
    table = frame()
    table["category"] = table["category"].astype("category")
    table.to_parquet(tmp_path / "x.parquet")
    assert rows(read(tmp_path)) == list(zip(TITLES, CATEGORIES, strict=True))


# Files made to fill the memory

GOOD = {"title": "a", "category": "A"}
MEASURED = """
import resource, sys
from rubro.base.errors import DataError
from rubro.base.params_file import load_params
from pathlib import Path
from rubro.data.sources import read_titles, require_usable

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
    """Read in a process of its own: the megabytes that it took, and what came of it."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(root / "params.yaml"), str(path), str(share)],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    megabytes, _, outcome = done.stdout.strip().partition(" ")
    return int(megabytes), outcome


def write_bomb(path: Path, start: str, filling: bytes, count: int, end: str) -> None:
    """Gzip start, filling times count, and end."""
    with gzip.open(path, "wb") as file:
        file.write(start.encode())
        for _ in range(count):
            file.write(filling)
        file.write(end.encode())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz", "x.tsv.gz"])
@pytest.mark.parametrize("filling", [b"0", b"\0"])
def test_a_line_of_200_megabytes_costs_its_row_and_little_memory(
    tmp_path: Path, project_root: Path, name: str, filling: bytes
) -> None:
    first, last = "title,category\na,A\n", "\nb,B\n"
    if "jsonl" in name:
        first, last = jsonl(GOOD), "\n" + jsonl(GOOD)
    elif "tsv" in name:
        first, last = first.replace(",", "\t"), last.replace(",", "\t")
    write_bomb(tmp_path / name, first, filling * 2_000_000, 100, last)
    assert (tmp_path / name).stat().st_size < 300_000
    megabytes, outcome = measured(project_root, tmp_path / name)
    assert outcome == "2 line_too_long"
    assert megabytes < 40


def test_the_start_of_a_line_that_is_too_long_is_reported(tmp_path: Path, read: Read) -> None:
    title = "mesa" * 2**18
    (tmp_path / "x.jsonl").write_text(jsonl(GOOD, {**GOOD, "title": title}, GOOD))
    raw = read(tmp_path)
    assert len(raw.table) == 2
    assert reasons(raw) == [(2, "line_too_long")]
    assert "mesamesa" in raw.quarantine["excerpt"][0]
    assert len(raw.quarantine["excerpt"][0]) <= 200


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
@pytest.mark.parametrize("more", [-1, 0])
def test_a_line_may_have_a_million_characters_and_no_more(
    tmp_path: Path, read: Read, name: str, more: int
) -> None:
    line = '{"title": "%s", "category": "A"}' if name == "x.jsonl" else "%s,A"
    header = "" if name == "x.jsonl" else "title,category\n"
    title = "ñ" * (2**20 - len(line % "") - 1 + more)
    (tmp_path / name).write_text(header + line % title + "\n", encoding="utf-8")
    raw = read(tmp_path, max_title_length=2**21)
    assert len(raw.table) == 1
    (tmp_path / name).write_text(header + line % (title + "ññ") + "\n", encoding="utf-8")
    assert list(read(tmp_path).quarantine["reason"]) == ["line_too_long"]


def test_a_line_that_is_too_long_inside_quotes_costs_its_record(tmp_path: Path, read: Read) -> None:
    text = f'title,category,description\na,A,\nb,B,"of\n{"x" * 2**21}\nlines"\nc,C,\n'
    (tmp_path / "x.csv").write_text(text)
    raw = read(tmp_path)
    assert rows(raw) == [("a", "A"), ("c", "C")]
    assert reasons(raw) == [(line, "line_too_long") for line in (3, 4, 5)]


@pytest.mark.slow
def test_quotes_that_open_again_and_again_do_not_fill_the_memory(
    tmp_path: Path, project_root: Path
) -> None:
    path = tmp_path / "x.csv.gz"
    write_bomb(path, 'title,category\na,"', b'b\n","' * 100_000, 400, "")
    megabytes, outcome = measured(project_root, path)
    assert "x.csv.gz:2: a quote opens here and is not closed" in outcome
    assert megabytes < 400


@pytest.mark.slow
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, project_root: Path
) -> None:
    path = tmp_path / "x.jsonl.gz"
    write_bomb(path, jsonl(GOOD), b" " * (2**20 - 1) + b"\n", 300, "")
    megabytes, outcome = measured(project_root, path)
    assert "more than 100 times its size (a gzip bomb?)" in outcome
    assert "unpack it with gunzip" in outcome
    assert megabytes < 40


def test_a_file_that_shrinks_a_lot_is_read_while_it_is_small(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "x.jsonl.gz"
    write_bomb(path, "", jsonl(GOOD).encode() * 1000, 30, "")
    assert path.stat().st_size * 100 < 30_000 * len(jsonl(GOOD))
    assert len(read(tmp_path).table) == 30_000


@pytest.mark.slow
def test_millions_of_unusable_rows_stop_the_reading_early(
    tmp_path: Path, project_root: Path
) -> None:
    path = tmp_path / "x.jsonl.gz"
    write_bomb(path, jsonl(GOOD), b"5\n" * 10_000, 500, "")
    megabytes, outcome = measured(project_root, path, share=0.05)
    assert "1048577 of 1048578 rows (100.0%) cannot be used" in outcome
    assert megabytes < 500


def test_a_parquet_file_of_more_rows_than_it_can_hold_titles_is_refused(
    tmp_path: Path, project_root: Path
) -> None:
    column = pyarrow.array(["a"]).dictionary_encode()
    many = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(2**24 + 1, np.int8)), column.dictionary
    )
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"title": many, "category": many}), path)
    assert path.stat().st_size < 2**20
    megabytes, outcome = measured(project_root, path)
    assert "x.parquet: 16777217 rows in fewer bytes cannot be titles" in outcome
    assert megabytes < 40


def test_a_header_of_several_lines_is_no_header(tmp_path: Path, read: Read) -> None:
    """It would swallow the rows up to the next quote."""
    (tmp_path / "x.csv").write_text('title,category,"more\na,A,x\nb",B,x\nc,C,x\n')
    with pytest.raises(DataError, match=r"x\.csv:1: no readable header \(3 lines long"):
        read(tmp_path)


# Real rows of the challenge, where they are at hand


@pytest.mark.skipif(not MESSY.is_dir(), reason="needs ../shared/data/messy")
def test_the_mixed_challenge_file_reads_with_both_languages(read: Read) -> None:
    path = MESSY / "train_mixed.csv"
    expected = pd.read_csv(path, dtype=str, keep_default_na=False)
    raw = read(path)
    assert set(raw.table["language"]) == {"spanish", "portuguese"}
    assert len(raw.table) + len(raw.quarantine) == len(expected)
    assert len(raw.quarantine) / len(expected) < 0.05


@pytest.mark.skipif(not MESSY.is_dir(), reason="needs ../shared/data/messy")
def test_a_challenge_file_of_title_and_category_alone_reads(read: Read) -> None:
    path = MESSY / "train_head.csv"
    expected = pd.read_csv(path, dtype=str, keep_default_na=False)
    raw = read(path)
    assert rows(raw) == list(zip(expected["title"], expected["category"], strict=True))
