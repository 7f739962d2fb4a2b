"""Rows in, the same rows with answers out, whatever the files and the titles."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rubro.base.errors import DataError
from rubro.cli.predict import Options, predict
from rubro.tables.detection import find_column, kind_of
from rubro.tables.streams import is_unicode

pytest_plugins = ["support.hand_made"]

Predict = Callable[..., int]
IDS = ["00012", "x;1", 'q"2', "línea\nnueva", "5"]
TITLES = ["Mesa ratona", 'Silla "gamer"; azul, alta', "Lámpara\nde pie\r\n2 luces", "❤️", "= taza"]
CATEGORIES = ["TABLES", "CHAIRS", "LAMPS", "TABLES", "MUGS"]
INPUTS = ["csv", "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz", "parquet"]
OUTPUTS = [*INPUTS]


@pytest.fixture
def run(model: Path) -> Predict:
    return runner(model)


def runner(model: Path) -> Predict:
    """Return `rubro predict` as a function of its input, its output and other options."""

    def run(source: Path, output: Path, **changes: Any) -> int:
        options = {
            "titles": [str(source)],
            "model": model,
            "top": None,
            "least_confidence": None,
            "thresholds": None,
            "details": False,
            "output": output,
            "output_format": None,
            "input_format": None,
            "column": None,
            "encoding": None,
            "separator": None,
            "batch": 2,
            "processes": 1,
            "prefix": "",
        }
        return predict(Options(**{**options, **changes}))

    return run


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    table = pd.DataFrame(rows)
    if "parquet" in path.name:
        table.to_parquet(path)
    elif "jsonl" in path.name:
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        table.to_csv(path, index=False, sep="\t" if "tsv" in path.name else ",")
    return path


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    """Read a file with pandas, as most who go on with it will."""
    if "parquet" in path.name:
        return cast(list[dict[str, Any]], pyarrow.parquet.read_table(path).to_pylist())
    if "jsonl" in path.name:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        return [json.loads(line) for line in content.split(b"\n")[:-1]]
    options = {"sep": "\t" if "tsv" in path.name else ",", **options}
    table = pd.read_csv(path, dtype=str, keep_default_na=False, **options)
    return cast(list[dict[str, Any]], table.to_dict("records"))


def values(rows: list[dict[str, Any]], column: str) -> list[Any]:
    return [row[column] for row in rows]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("source", INPUTS)
def test_every_kind_of_file_becomes_every_kind(
    tmp_path: Path, run: Predict, source: str, output: str
) -> None:
    rows = [{"id": one, "title": other} for one, other in zip(IDS, TITLES, strict=True)]
    path = write(tmp_path / f"in.{source}", rows)
    assert run(path, tmp_path / f"out.{output}") == 0
    answers = read(tmp_path / f"out.{output}")
    assert list(answers[0]) == ["id", "title", "predicted_category", "confidence", "error"]
    assert values(answers, "id") == IDS
    assert values(answers, "title") == TITLES
    assert values(answers, "predicted_category") == CATEGORIES
    assert all(0.25 < float(row["confidence"]) <= 1 for row in answers)
    assert not any(values(answers, "error"))


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_line_of_a_text_is_a_title(tmp_path: Path, run: Predict, output: str) -> None:
    (tmp_path / "in.txt").write_text("mesa\n\n a,b;'c'\"d \r\nsilla", encoding="utf-8")
    assert run(tmp_path / "in.txt", tmp_path / f"out.{output}") == 3
    answers = read(tmp_path / f"out.{output}")
    assert values(answers, "title") == ["mesa", "", " a,b;'c'\"d ", "silla"]
    assert answers[1]["error"] == "the title is empty"
    assert not answers[1]["predicted_category"]


def test_objects_keep_their_own_keys_and_types(tmp_path: Path, run: Predict) -> None:
    rows = [
        {"title": "mesa", "n": 2**70, "deep": {"a": [1, None, "ñ"]}},
        {"other": 1.5, "title": "silla"},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(path, tmp_path / "out.jsonl")
    new = ("predicted_category", "confidence", "error")
    answers = read(tmp_path / "out.jsonl")
    assert [{key: row[key] for key in row if key not in new} for row in answers] == rows


def test_objects_of_different_keys_share_the_columns_of_a_table(
    tmp_path: Path, run: Predict
) -> None:
    rows: list[dict[str, Any]] = [
        {"title": "mesa", "n": 1, "big": 2**60, "share": 0.5, "is_new": True, "mixed": 1},
        {"title": "silla", "n": None, "big": 1, "share": 1, "is_new": False, "mixed": "a"},
        {"title": "taza", "late": {"a": [1]}, "huge": 2**70},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(path, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert {name: str(table.schema.field(name).type) for name in table.column_names[:8]} == {
        "title": "string",
        "n": "int64",
        "big": "int64",
        "share": "double",
        "is_new": "bool",
        "mixed": "string",
        "late": "string",
        "huge": "string",
    }
    assert table["mixed"].to_pylist() == ["1", "a", None]
    assert table["big"].to_pylist() == [2**60, 1, None]
    assert table["late"].to_pylist() == [None, None, '{"a": [1]}']
    run(path, tmp_path / "out.csv")
    answers = read(tmp_path / "out.csv")
    assert values(answers, "is_new") == ["true", "false", ""]
    assert values(answers, "huge") == ["", "", str(2**70)]


def test_objects_with_too_many_keys_are_no_table(tmp_path: Path, run: Predict) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"title": "mesa", "{n}": 1}}\n' for n in range(1001)))
    with pytest.raises(DataError, match=r"more than 1000 different keys .*write jsonl"):
        run(path, tmp_path / "out.csv")
    assert run(path, tmp_path / "out.jsonl") == 0


def test_columns_of_parquet_keep_their_types_in_parquet_and_become_text_elsewhere(
    tmp_path: Path, run: Predict
) -> None:
    table = pyarrow.table(
        {
            "title": pyarrow.array(["mesa", "silla"]).dictionary_encode(),
            "time": pyarrow.array([datetime(2020, 1, 2, 3), None], pyarrow.timestamp("ns")),
            "price": pyarrow.array([Decimal("1.50"), None], pyarrow.decimal128(9, 2)),
            "weight": pyarrow.array([float("nan"), 1.25]),
            "tags": pyarrow.array([["a", "ñ"], None]),
            "raw": pyarrow.array([b"a\xff", None]),
            "beyond": pyarrow.array([[2**62], None], pyarrow.list_(pyarrow.timestamp("us"))),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    answers = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert answers.schema.types[:7] == table.schema.types
    assert answers.select(table.column_names[1:]).drop_columns("weight") == table.drop_columns(
        ["title", "weight"]
    )
    with pytest.raises(DataError, match=r"column 'beyond': .* cannot be written as text"):
        run(tmp_path / "in.parquet", tmp_path / "out.csv")
    pyarrow.parquet.write_table(table.drop_columns("beyond"), tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.csv")
    first, second = read(tmp_path / "out.csv")
    assert first | {"predicted_category": "", "confidence": ""} == {
        "title": "mesa",
        "time": "2020-01-02 03:00:00.000000000",
        "price": "1.50",
        "weight": "",
        "tags": '["a", "ñ"]',
        "raw": r"a\xff",
        "predicted_category": "",
        "confidence": "",
        "error": "",
    }
    assert second["weight"] == "1.25"


def test_titles_missing_in_parquet_are_reported(tmp_path: Path, run: Predict) -> None:
    pd.DataFrame({"title": ["mesa", None, " "]}).to_parquet(tmp_path / "in.parquet")
    assert run(tmp_path / "in.parquet", tmp_path / "out.parquet") == 3
    answers = read(tmp_path / "out.parquet")
    assert values(answers, "error") == [None, "no title", "the title is empty"]
    assert values(answers, "predicted_category") == ["TABLES", None, None]


@pytest.mark.parametrize("source", ["csv", "json", "jsonl", "parquet"])
def test_numbers_are_titles_in_every_kind_of_file(
    tmp_path: Path, run: Predict, source: str
) -> None:
    rows = pd.DataFrame({"title": [808, 205]})
    if source == "parquet":
        rows.to_parquet(tmp_path / "in.parquet")
    elif source == "csv":
        rows.to_csv(tmp_path / "in.csv", index=False)
    else:
        rows.to_json(tmp_path / f"in.{source}", orient="records", lines=source == "jsonl")
    assert run(tmp_path / f"in.{source}", tmp_path / "out.csv") == 0
    answers = read(tmp_path / "out.csv")
    assert values(answers, "title") == ["808", "205"]
    assert all(values(answers, "predicted_category"))


# Rows that cannot be read


def test_unreadable_rows_of_csv_keep_their_place_and_what_was_read(
    tmp_path: Path, run: Predict
) -> None:
    (tmp_path / "in.csv").write_bytes(
        "id,title\n1,mesa ñ\n".encode() + b"2\n3,silla,alta,azul\n"
        b'4,"a"b\n5,caf\xe9\n\n6,"' + b"a" * 2**21 + b'"\n7,taza\n'
    )
    assert run(tmp_path / "in.csv", tmp_path / "out.csv") == 3
    answers = read(tmp_path / "out.csv")
    assert values(answers, "id") == ["1", "2", "3", "", "5", "", "7"]
    assert values(answers, "title") == ["mesa ñ", "", "silla", "", "caf\ufffd", "", "taza"]
    assert values(answers, "error") == [
        "",
        "line 3: 1 field, and the header has 2",
        "line 4: 4 fields, and the header has 2; without a column: alta, azul",
        "line 5: not CSV (',' expected after '\"')",
        "line 6: not utf-8 text; set --encoding, for instance to latin-1",
        "line 8: more than 1048576 characters in a line",
        "",
    ]


def test_unreadable_rows_of_jsonl_keep_their_place(tmp_path: Path, run: Predict) -> None:
    (tmp_path / "in.jsonl").write_bytes(
        '{"title": "mesa ñ", "id": 1}\n'.encode()
        + b'{"id": 2}\n{"title": null, "id": 3}\n{"title": [5], "id": 4}\n'
        b'{"title": "", "id": 5}\nno\n[1]\n{"title": "caf\xe9", "id": 6}\n'
        b'{"title": "\\ud800", "id": 7, "\\udfff": [{"a": "\\udc00"}]}\n'
    )
    for kind in ("jsonl", "csv", "parquet"):
        assert run(tmp_path / "in.jsonl", tmp_path / f"out.{kind}") == 3
        answers = read(tmp_path / f"out.{kind}")
        not_text = "not utf-8 text; set --encoding, for instance to latin-1"
        assert [row["error"] or "" for row in answers] == [
            "",
            "no title",
            "no title",
            "the title is not text: [5]",
            "the title is empty",
            "line 6: not JSON: 'no'",
            "line 7: JSON, but no object: '[1]'",
            f"line 8: {not_text}",
            f"line 9: {not_text}",
        ]
        assert answers[8]["title"] == "\ufffd"
        assert "\ufffd" in answers[8]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("depth", [98, 100, 500, 900, 990])
def test_an_object_nested_too_deep_costs_its_row(
    tmp_path: Path, run: Predict, kind: str, depth: int
) -> None:
    deep = '{"title": "mesa", "x": ' + "[" * depth + "]" * depth + "}\n"
    (tmp_path / "in.jsonl").write_text(deep + '{"title": "silla", "x": 1}\n')
    run(tmp_path / "in.jsonl", tmp_path / f"out.{kind}")
    first, second = read(tmp_path / f"out.{kind}")
    assert second["predicted_category"] == "CHAIRS"
    if depth < 100:
        assert first["predicted_category"] == "TABLES"
    else:
        assert re.search("nested more than 100 deep|not JSON", first["error"])


def test_a_quote_that_is_never_closed_is_one_message_and_no_file(
    tmp_path: Path, run: Predict
) -> None:
    (tmp_path / "in.csv").write_text('title,id\n"mesa,1\n' + "silla,2\n" * 2000)
    with pytest.raises(DataError, match=r"in\.csv:2: a quote opens here and is not closed"):
        run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


# Columns


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["id", "title", "name"], "title"),
        (["name", "Título"], "Título"),
        (["ID", "TITULO"], "TITULO"),
        (["nombre", "x"], "nombre"),
        (["x", "Product_Title"], "Product_Title"),
        (["Title", "title"], "title"),
        (["titles"], None),
    ],
)
def test_the_column_of_titles_is_known_by_common_names(
    columns: list[str], found: str | None
) -> None:
    names = ("title", "titulo", "nombre", "name", "product title")
    assert find_column(columns, names) == found


def test_the_column_of_the_models_training_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from support.hand_made import write_model

    run = runner(write_model(tmp_path / "model", title_column="Producto"))
    write(tmp_path / "in.csv", [{"title": "mesa", "producto": "silla"}])
    run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")[0]["predicted_category"] == "CHAIRS"
    assert "in.csv: titles from column 'producto'" in capsys.readouterr().err


def test_a_named_column_is_taken_and_not_talked_about(
    tmp_path: Path, run: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.csv", [{"title": "mesa", " what ": "silla"}])
    run(tmp_path / "in.csv", tmp_path / "out.csv", column="what")
    assert read(tmp_path / "out.csv")[0]["predicted_category"] == "CHAIRS"
    assert "from column" not in capsys.readouterr().err


def test_the_only_column_will_do(tmp_path: Path, run: Predict) -> None:
    (tmp_path / "in.csv").write_text("producto\nmesa\n")
    run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")[0]["predicted_category"] == "TABLES"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("a,b\n1,2\n", None, r"no column 'title', nor .* \(found: a, b\); set --column"),
        ("a,b\n1,2\n", "c", r"no column 'c' \(found: a, b\); set --column to one of them"),
        ("title,title\n1,2\n", None, "column 'title' .*; rename one"),
        (
            "a,título\n\u0081,2\n",
            None,
            "header is not utf-8 text: .*; set --encoding, for instance",
        ),
    ],
)
def test_columns_that_cannot_be_used_are_one_message(
    tmp_path: Path, run: Predict, text: str, column: str | None, message: str
) -> None:
    (tmp_path / "in.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        run(tmp_path / "in.csv", tmp_path / "out.csv", column=column)


@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet"])
def test_a_column_of_the_input_is_never_replaced(tmp_path: Path, run: Predict, source: str) -> None:
    path = write(tmp_path / f"in.{source}", [{"title": "mesa", "error": "mine"}])
    with pytest.raises(DataError, match="already has a column 'error'; set --prefix"):
        run(path, tmp_path / f"out.{source}")
    assert run(path, tmp_path / f"out.{source}", prefix="rubro_") == 0
    (answer,) = read(tmp_path / f"out.{source}")
    assert answer["error"] == "mine"
    assert answer["rubro_predicted_category"] == "TABLES"


def test_columns_of_one_name_stay_in_csv_and_are_refused_elsewhere(
    tmp_path: Path, run: Predict
) -> None:
    (tmp_path / "in.csv").write_text("title,x,x,,\nmesa,1,2,3,4\n")
    run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().split("\n")[1].startswith("mesa,1,2,3,4,TABLES,")
    with pytest.raises(DataError, match=r"column 'x' .*jsonl cannot hold"):
        run(tmp_path / "in.csv", tmp_path / "out.jsonl")


# Encodings and dialects


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_a_byte_order_mark_tells_the_encoding(
    tmp_path: Path, run: Predict, kind: str, encoding: str
) -> None:
    text = {"csv": "title\nlámpara\n", "jsonl": '{"title": "lámpara"}\n', "txt": "lámpara\n"}[kind]
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / f"in.{kind}").write_bytes((mark + text).encode(encoding))
    assert run(tmp_path / f"in.{kind}", tmp_path / "out.jsonl") == 0
    (answer,) = read(tmp_path / "out.jsonl")
    assert (answer["title"], answer["predicted_category"]) == ("lámpara", "LAMPS")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "UTF8"])
def test_another_encoding_is_read_when_named(tmp_path: Path, run: Predict, encoding: str) -> None:
    (tmp_path / "in.csv").write_bytes("título\nlámpara\n".encode(encoding))
    assert run(tmp_path / "in.csv", tmp_path / "out.csv", encoding=encoding) == 0
    assert read(tmp_path / "out.csv")[0]["predicted_category"] == "LAMPS"


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "a\0b", ""])
def test_an_unknown_encoding_is_one_message(tmp_path: Path, run: Predict, encoding: str) -> None:
    (tmp_path / "in.csv").write_text("title\nmesa\n")
    with pytest.raises(DataError, match="unknown encoding; for instance utf-8"):
        run(tmp_path / "in.csv", tmp_path / "out.csv", encoding=encoding)


def test_what_excel_writes_in_spanish_comes_back_as_it_writes_it(
    tmp_path: Path, run: Predict
) -> None:
    (tmp_path / "in.csv").write_bytes('\ufefftítulo;precio\r\n"mesa; alta";1,5\r\n'.encode())
    run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes().startswith("\ufefftítulo;precio;".encode())
    (answer,) = read(tmp_path / "out.csv", sep=";")
    assert answer["título"] == "mesa; alta"
    assert answer["precio"] == "1,5"


# Answers


def test_the_best_categories_stand_in_order(tmp_path: Path, run: Predict) -> None:
    write(tmp_path / "in.csv", [{"title": "mesa y silla"}])
    run(tmp_path / "in.csv", tmp_path / "out.csv", top=99)
    (answer,) = read(tmp_path / "out.csv")
    places = ["", "_2", "_3", "_4"]
    best = [answer[f"predicted_category{place}"] for place in places]
    shares = [float(answer[f"confidence{place}"]) for place in places]
    assert best == ["TABLES", "CHAIRS", "LAMPS", "MUGS"]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_below_the_least_confidence_only_a_guess_is_left(tmp_path: Path, run: Predict) -> None:
    write(tmp_path / "in.csv", [{"title": "mesa"}, {"title": "nada"}])
    assert run(tmp_path / "in.csv", tmp_path / "out.csv", least_confidence=0.8) == 0
    answers = read(tmp_path / "out.csv")
    assert values(answers, "predicted_category") == ["TABLES", ""]
    assert values(answers, "best_guess") == ["TABLES", "TABLES"]
    assert float(answers[1]["confidence"]) < 0.8


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_the_batch_changes_no_answer(tmp_path: Path, run: Predict, batch: int) -> None:
    write(tmp_path / "in.csv", [{"title": title} for title in TITLES * 3])
    run(tmp_path / "in.csv", tmp_path / "out.csv", batch=batch)
    assert values(read(tmp_path / "out.csv"), "predicted_category") == CATEGORIES * 3


def test_a_parquet_output_of_many_batches_has_few_row_groups(tmp_path: Path, run: Predict) -> None:
    write(tmp_path / "in.csv", [{"title": "mesa"}] * 3000)
    run(tmp_path / "in.csv", tmp_path / "out.parquet", batch=100)
    assert pyarrow.parquet.ParquetFile(tmp_path / "out.parquet").num_row_groups == 1


def test_the_same_gzip_bytes_come_out_each_time(tmp_path: Path, run: Predict) -> None:
    write(tmp_path / "in.csv", [{"title": "mesa"}])
    contents = set()
    for name in ("a.csv.gz", "b.csv.gz"):
        run(tmp_path / "in.csv", tmp_path / name)
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1


def test_a_file_without_rows_gives_one_without_rows(tmp_path: Path, run: Predict) -> None:
    (tmp_path / "in.csv").write_text("id,title\n")
    for kind in ("csv", "jsonl", "parquet"):
        assert run(tmp_path / "in.csv", tmp_path / f"out.{kind}") == 0
    assert (tmp_path / "out.csv").read_text() == "id,title,predicted_category,confidence,error\n"
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert pd.read_parquet(tmp_path / "out.parquet").empty


# Output files


def test_a_link_stays_a_link_and_permissions_stay(tmp_path: Path, run: Predict) -> None:
    write(tmp_path / "in.csv", [{"title": "mesa"}])
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "real.csv").chmod(0o600)
    (tmp_path / "out.csv").symlink_to(tmp_path / "real.csv")
    run(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").is_symlink()
    assert (tmp_path / "real.csv").stat().st_mode & 0o777 == 0o600
    assert read(tmp_path / "real.csv")[0]["predicted_category"] == "TABLES"


def test_the_input_may_be_the_output(tmp_path: Path, run: Predict) -> None:
    path = write(tmp_path / "x.csv", [{"title": "mesa"}] * 5)
    run(path, path)
    assert values(read(path), "predicted_category") == ["TABLES"] * 5


def test_a_device_is_written_and_not_replaced(tmp_path: Path, run: Predict) -> None:
    write(tmp_path / "in.csv", [{"title": "mesa"}])
    run(tmp_path / "in.csv", Path("/dev/null"), output_format="csv")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.xls", "unknown kind of file; .*\\.csv"),
        ("nowhere/out.csv", "nowhere: no such folder"),
        ("folder.csv", "folder.csv: .*a folder; name a file in it"),
    ],
)
def test_an_output_that_cannot_be_is_one_message(
    tmp_path: Path, run: Predict, name: str, message: str
) -> None:
    write(tmp_path / "in.csv", [{"title": "mesa"}])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=message):
        run(tmp_path / "in.csv", tmp_path / name)


def test_names_tell_the_kinds_of_files() -> None:
    names = ["a.csv", "A.CSV.GZ", "a.b.jsonl", "a.parquet", "a.parquet.gz", "csv", "a.txt.gz"]
    kinds = [kind_of(Path(name)) for name in names]
    assert kinds == ["csv", "csv", "jsonl", "parquet", None, None, "txt"]


# Any titles, any columns

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=30) | st.sampled_from(
    [
        "",
        " ",
        "\0",
        "=1+1",
        "@SUM(A1)",
        '"',
        '""',
        "a\nb",
        "a\rb",
        "\r\n",
        ";",
        ",",
        "\t",
        "\u2028",
        "\u202eabc",
        "\ufeffa",
        "مرحبا",
        "👩\u200d👧",
        "\ud800",
        "\udcff",
        "\x1b[2J",
        "mesa ñ" * 150_000,
    ]
)
PLAIN_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\n\r\",;\t'\\"),
    max_size=12,
)
SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SLOW
@given(st.lists(ANY_TEXT, min_size=1, max_size=6), st.sampled_from(["csv", "jsonl", "parquet"]))
def test_any_title_is_answered_or_reported_in_its_place(
    tmp_path: Path, run: Predict, titles: list[str], kind: str
) -> None:
    lines = [
        json.dumps({"id": n, "title": title}, ensure_ascii=not is_unicode(title)) + "\n"
        for n, title in enumerate(titles)
    ]
    (tmp_path / "in.jsonl").write_bytes("".join(lines).encode())
    code = run(tmp_path / "in.jsonl", tmp_path / f"out.{kind}")
    answers = read(tmp_path / f"out.{kind}")
    assert [int(row["id"]) for row in answers] == list(range(len(titles)))
    for title, row in zip(titles, answers, strict=True):
        assert bool(row["predicted_category"]) != bool(row["error"])
        assert bool(row["predicted_category"]) == (is_unicode(title) and bool(title.strip()))
        # pandas ends a field of csv at a NUL.
        if is_unicode(title) and not ("\0" in title and kind == "csv"):
            assert row["title"] == title
    assert code == (3 if any(values(answers, "error")) else 0)


@SLOW
@given(st.data())
def test_any_csv_keeps_its_columns(tmp_path: Path, run: Predict, data: st.DataObject) -> None:
    """Any separator in any field: what Python's csv reads from it is what it read before."""
    width = data.draw(st.integers(1, 4))
    header = [*data.draw(st.lists(PLAIN_TEXT.filter(_is_name), min_size=width, max_size=width))]
    place = data.draw(st.integers(0, width - 1))
    header[place] = "title"
    rows = data.draw(st.lists(st.lists(PLAIN_TEXT, min_size=width, max_size=width), max_size=6))
    rows = [row for row in rows if any(row)]
    (tmp_path / "in.csv").write_bytes(_csv([header, *rows]))
    run(tmp_path / "in.csv", tmp_path / "out.csv", column="title")
    content = (tmp_path / "out.csv").read_bytes().decode()
    delimiter = ";" if ";" in ",".join(header) and width == 1 else ","
    written = list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True))
    assert [row[:width] for row in written] == [header, *rows]
    for row in written[1:]:
        category, _, error = row[width:]
        assert bool(category) != bool(error)
        assert bool(category) == bool(row[place].strip())


def _is_name(name: str) -> bool:
    """Whether it can be in a header: one line, not a column of titles, not one of ours."""
    taken = ("title", "error", "confidence", "predicted_category")
    return not set("\n\r") & set(name) and name.strip() not in taken


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


@SLOW
@given(
    st.binary(max_size=200), st.sampled_from(["csv", "tsv", "jsonl", "txt", "parquet", "csv.gz"])
)
def test_any_bytes_are_read_or_refused(
    tmp_path: Path, run: Predict, content: bytes, kind: str
) -> None:
    path = tmp_path / f"in.{kind}"
    path.write_bytes(b"title,id\n" * (kind == "csv") + content)
    try:
        code = run(path, tmp_path / "out.jsonl")
    except DataError as error:
        assert f"in.{kind}" in str(error)
    else:
        assert code in (0, 3)
        for row in read(tmp_path / "out.jsonl"):
            assert bool(row["predicted_category"]) != bool(row["error"])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_output_is_the_same_for_any_number_of_processes(
    kind: str, run: Predict, tmp_path: Path
) -> None:
    rows = [{"id": n, "title": TITLES[n % 5] if n % 7 else "", "more": "x" * n} for n in range(60)]
    pd.DataFrame(rows).to_parquet(tmp_path / "in.parquet")
    outputs = []
    for processes in (1, 2, 3):
        output = tmp_path / f"{processes}.{kind}"
        assert run(tmp_path / "in.parquet", output, processes=processes, top=2) == 3
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0]
