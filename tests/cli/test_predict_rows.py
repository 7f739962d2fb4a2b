"""The rows that `rubro predict` writes for any file and any titles."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import unicodedata
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rubro.base.errors import DataError
from rubro.base.text_encoding import known_encoding
from rubro.cli.predict import main
from rubro.tables.detection import find_column, kind_of
from rubro.tables.inputs import TITLE_NAMES
from rubro.tables.streams import is_unicode
from support.keyword_model import write_model
from support.raw_titles import jsonl

pytest_plugins = ["support.keyword_model"]

Rows = list[dict[str, Any]]
Predict = Callable[..., Rows]
IDS = ["00012", "x;1", 'q"2', "línea\nnueva", "5"]
TITLES = ["Mesa ratona", 'Silla "gamer"; azul, alta', "Lámpara\nde pie\r\n2 luces", "❤️", "= taza"]
CATEGORIES = ["TABLES", "CHAIRS", "LAMPS", "TABLES", "MUGS"]
FORMATS = ["csv", "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz", "parquet"]
NEW_COLUMNS = ["predicted_category", "confidence", "error"]
MESA = [{"title": "mesa"}]


@pytest.fixture
def predict(tmp_path: Path, model: Path) -> Predict:
    return predictor(tmp_path, model)


def predictor(folder: Path, model: Path) -> Predict:
    """Return a function that writes in.csv, predicts it and reads out.csv, or other formats."""

    def predict(
        content: bytes | str | Rows | pyarrow.Table,
        source: str = "csv",
        output: str = "csv",
        **options: Any,
    ) -> Rows:
        path = folder / f"in.{source}"
        write(path, content)
        options = {"model": model, "batch": 2, "processes": 1, **options}
        code = main([str(path)], folder / f"out.{output}", **options)
        answers = read(folder / f"out.{output}")
        has_errors = any(row[f"{options.get('prefix', '')}error"] for row in answers)
        assert code == (3 if has_errors else 0)
        return answers

    return predict


def write(path: Path, content: bytes | str | Rows | pyarrow.Table) -> None:
    if isinstance(content, list) and path.suffix == ".parquet":
        content = pyarrow.Table.from_pylist(content)
    if isinstance(content, pyarrow.Table):
        pyarrow.parquet.write_table(content, path)
        return
    if isinstance(content, list) and "json" in path.name:
        content = jsonl(*content)
    elif isinstance(content, list):
        separator = "\t" if "tsv" in path.name else ","
        content = pd.DataFrame(content).to_csv(index=False, sep=separator)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def read(path: Path, **options: Any) -> Rows:
    """Read an output file, csv with pandas as many users will."""
    if "parquet" in path.name:
        return cast(Rows, pyarrow.parquet.read_table(path).to_pylist())
    if "jsonl" in path.name:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        return [json.loads(line) for line in content.split(b"\n")[:-1]]
    options = {"sep": "\t" if "tsv" in path.name else ",", **options}
    table = pd.read_csv(path, dtype=str, keep_default_na=False, **options)
    return cast(Rows, table.to_dict("records"))


def values(rows: Rows, column: str) -> list[Any]:
    return [row[column] for row in rows]


def without_new_columns(rows: Rows) -> Rows:
    return [{key: row[key] for key in row if key not in NEW_COLUMNS} for row in rows]


@pytest.mark.parametrize(
    ("source", "output"), [*zip(FORMATS, FORMATS[1:] + FORMATS[:1], strict=True), ("csv", "csv")]
)
def test_every_format_is_read_and_written(predict: Predict, source: str, output: str) -> None:
    rows = [{"id": one, "title": other} for one, other in zip(IDS, TITLES, strict=True)]
    answers = predict(rows, source, output)
    assert list(answers[0]) == ["id", "title", *NEW_COLUMNS]
    assert without_new_columns(answers) == rows
    assert values(answers, "predicted_category") == CATEGORIES
    assert all(0.25 < float(row["confidence"]) <= 1 for row in answers)
    assert not any(values(answers, "error"))


@pytest.mark.parametrize("output", ["csv", "jsonl.gz", "parquet"])
def test_each_line_of_a_text_file_is_a_title(predict: Predict, output: str) -> None:
    answers = predict("mesa\n\n a,b;'c'\"d \r\nsilla", "txt", output)
    assert values(answers, "title") == ["mesa", "", " a,b;'c'\"d ", "silla"]
    assert [bool(row["error"]) for row in answers] == [False, True, False, False]
    assert not answers[1]["predicted_category"]


def test_objects_keep_their_own_keys_and_types(predict: Predict) -> None:
    rows = [
        {"title": "mesa", "n": 2**70, "deep": {"a": [1, None, "ñ"]}},
        {"other": 1.5, "title": "silla"},
    ]
    assert without_new_columns(predict(rows, "jsonl", "jsonl")) == rows


def test_objects_of_different_keys_share_the_columns_of_a_table(
    tmp_path: Path, predict: Predict
) -> None:
    rows: Rows = [
        {"title": "mesa", "n": 1, "big": 2**60, "share": 0.5, "is_new": True, "mixed": 1},
        {"title": "silla", "n": None, "big": 1, "share": 1, "is_new": False, "mixed": "a"},
        {"title": "taza", "late": {"a": [1]}, "huge": 2**70},
    ]
    predict(rows, "jsonl", "parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert list(map(str, table.schema.types[:8])) == [
        *("string", "int64", "int64", "double", "bool", "string", "string", "string")
    ]
    assert table["mixed"].to_pylist() == ["1", "a", None]
    assert table["big"].to_pylist() == [2**60, 1, None]
    assert table["late"].to_pylist() == [None, None, '{"a": [1]}']
    answers = predict(rows, "jsonl", "csv")
    assert values(answers, "is_new") == ["true", "false", ""]
    assert values(answers, "huge") == ["", "", str(2**70)]


def test_objects_with_too_many_keys_are_only_written_as_jsonl(predict: Predict) -> None:
    rows = [{"title": "a", f"{n}": 1} for n in range(1001)]
    with pytest.raises(DataError, match=r"1000.*jsonl"):
        predict(rows, "jsonl", "csv")
    predict(rows, "jsonl", "jsonl")


def test_parquet_columns_keep_their_types_and_become_text_in_csv(
    tmp_path: Path, model: Path, predict: Predict
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
    write(tmp_path / "in.parquet", table)
    main([str(tmp_path / "in.parquet")], tmp_path / "out.parquet", model=model)
    answers = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert answers.schema.types[:7] == table.schema.types
    assert answers.select(table.column_names[1:]).drop_columns("weight") == table.drop_columns(
        ["title", "weight"]
    )
    with pytest.raises(DataError, match="'beyond'"):
        predict(table, "parquet", "csv")
    first, second = predict(table.drop_columns("beyond"), "parquet", "csv")
    assert without_new_columns([first])[0] == {
        "title": "mesa",
        "time": "2020-01-02 03:00:00.000000000",
        "price": "1.50",
        "weight": "",
        "tags": '["a", "ñ"]',
        "raw": r"a\xff",
    }
    assert second["weight"] == "1.25"


def test_bytes_in_parquet_are_titles(predict: Predict) -> None:
    rows = [{"title": "lámpara".encode()}, {"title": b"caf\xe9"}]
    lamp, other = predict(rows, "parquet", "parquet")
    assert lamp["predicted_category"] == "LAMPS"
    assert "xe9" in other["error"]


@pytest.mark.parametrize("source", ["csv", "json", "jsonl", "parquet"])
def test_numbers_are_titles_in_every_format(predict: Predict, source: str) -> None:
    rows = [{"title": 808}, {"title": 205}]
    answers = predict(json.dumps(rows) if source == "json" else rows, source)
    assert values(answers, "title") == ["808", "205"]
    assert all(values(answers, "predicted_category"))


# Numbers that JSON cannot hold


def strict_json(line: bytes) -> Any:
    """Read JSON that contains neither NaN nor Infinity, which Python's json accepts."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {line!r}")

    return json.loads(line, parse_constant=refuse)


def test_jsonl_is_valid_json_and_keeps_the_numbers_that_json_can_hold(
    tmp_path: Path, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = '{"title": "mesa", "n": %s, "deep": {"a": [%s, 1.5]}}\n'
    numbers = ["1e999", "-1.5E+4000", "1" + "0" * 400, "1.1"]
    lost = ["NaN", "Infinity", "-Infinity"]
    predict("".join(kept % (number, number) for number in [*numbers, *lost]), "jsonl", "jsonl")
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    for line, number in zip(lines, numbers, strict=False):
        strict_json(line)
        exact = json.loads(line, parse_float=Decimal, parse_int=Decimal)
        assert exact["n"] == exact["deep"]["a"][0] == Decimal(number)
    for line in lines[len(numbers) :]:
        row = strict_json(line)
        assert (row["n"], row["deep"]["a"]) == (None, [None, 1.5])
    assert f"{2 * len(lost)} numbers" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["jsonl", "csv", "parquet"])
def test_numbers_of_any_size_are_read_and_written_in_every_format(
    predict: Predict, output: str
) -> None:
    content = '{"title": "mesa", "n": %s, "list": [%s], "mixed": "a"}\n'
    numbers = ["NaN", "Infinity", "1e999", "1e99999999999999999999999", "1"]
    mixed = "".join((content % (n, n)).replace('"a"', n) for n in numbers)
    answers = predict(content % (1, 1) + mixed, "jsonl", output)
    assert values(answers, "predicted_category") == ["TABLES"] * 6
    if output != "jsonl":
        for row in answers:
            strict_json(row["list"].encode())


def test_titles_that_are_numbers_keep_their_text(predict: Predict) -> None:
    answers = predict('{"title": 1e999}\n{"title": NaN}\n{"title": Infinity}\n', "jsonl", "csv")
    assert values(answers, "title")[0] == "1E+999"
    assert_errors(answers, "", "no title", "")


def test_nan_and_infinity_of_parquet_become_null_in_jsonl(
    tmp_path: Path, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = [float("nan"), float("inf"), 1.5, None]
    table = pyarrow.table(
        {
            "title": ["mesa"] * 4,
            "price": numbers,
            "half": pyarrow.array([None if n is None else np.float16(n) for n in numbers]),
            "list": [[number] for number in numbers],
            "deep": [{"a": number} for number in numbers],
        }
    )
    predict(table, "parquet", "jsonl")
    rows = [strict_json(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    for name in ("price", "half"):
        assert values(rows, name) == [None, None, 1.5, None]
    assert values(rows, "list") == [[None], [None], [1.5], [None]]
    assert values(rows, "deep") == [{"a": None}, {"a": None}, {"a": 1.5}, {"a": None}]
    assert "8 numbers" in capsys.readouterr().err


# Rows that cannot be read


def assert_errors(answers: Rows, *patterns: str) -> None:
    for row, pattern in zip(answers, patterns, strict=True):
        assert re.fullmatch(f"{pattern}.*" if pattern else "", row["error"] or "")


def test_missing_titles_in_parquet_are_reported(predict: Predict) -> None:
    answers = predict([*MESA, {"title": None}, {"title": " "}], "parquet", "parquet")
    assert_errors(answers, "", ".*title", ".*title")
    assert values(answers, "predicted_category") == ["TABLES", None, None]


def test_unreadable_rows_of_csv_keep_their_place_and_their_cells(predict: Predict) -> None:
    answers = predict(
        "id,title\n1,mesa ñ\n".encode() + b"2\n3,silla,alta,azul\n"
        b'4,"a"b\n5,caf\xe9\n\n6,"' + b"a" * 2**21 + b'"\n7,taza\n'
    )
    assert values(answers, "id") == ["1", "2", "3", "", "5", "", "7"]
    assert values(answers, "title") == ["mesa ñ", "", "silla", "", "caf\ufffd", "", "taza"]
    assert_errors(
        answers,
        *("", "line 3: .*2", "line 4: .*2.*alta, azul", "line 5: .*','", "line 6: .*--encoding"),
        *("line 8: .*1048576", ""),
    )


@pytest.mark.parametrize(
    ("source", "output", "header"),
    [
        ("csv", "csv", "title"),
        ("csv", "parquet", '"producto"'),
        ("csv.gz", "csv", "title,"),
        ("tsv", "jsonl", "title"),
        ("txt", "csv", "title"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_blank_line_of_one_column_is_a_row(
    predict: Predict, source: str, output: str, end: str, header: str
) -> None:
    lines = ["mesa", "", "", "taza", ""]
    answers = predict("".join(line + end for line in [header, *lines]), source, output)
    if source == "txt":
        answers = answers[1:]
    assert values(answers, "predicted_category")[::3] == ["TABLES", "MUGS"]
    assert [bool(error) for error in values(answers, "error")] == [not line for line in lines]


@pytest.mark.parametrize(
    ("source", "content", "titles"),
    [
        ("csv", "title\r\r\nmesa\r\r\ntaza\r\r\n", ["mesa", "taza"]),  # csv.writer on Windows
        ("txt", "mesa\r\r\ntaza\r\r\n", ["mesa", "taza"]),
        ("txt", "mesa\rratona\ntaza\n", ["mesa\rratona", "taza"]),
        ("csv", 'title,x\r"mesa\nratona",1\rtaza,2', ["mesa\nratona", "taza"]),
    ],
)
def test_carriage_returns_end_lines_only_if_nothing_else_does(
    predict: Predict, source: str, content: str, titles: list[str]
) -> None:
    answers = predict(content, source, "jsonl")
    assert [title.rstrip("\r") for title in values(answers, "title")] == titles
    assert values(answers, "predicted_category") == ["TABLES", "MUGS"]


def test_keys_of_json_rows_may_have_different_unicode_forms(predict: Predict) -> None:
    content = '{"ti\u0301tulo": "mesa"}\n{"t\u00edtulo": "taza"}\n{"x": 1}\n'
    answers = predict(content, "jsonl", "jsonl")
    assert values(answers, "predicted_category") == ["TABLES", "MUGS", None]


def test_a_blank_line_between_rows_of_several_columns_is_not_a_row(predict: Predict) -> None:
    answers = predict("title,id\n\nmesa,1\n\n\ntaza,2\n\n")
    assert values(answers, "id") == ["1", "2"]


@pytest.mark.parametrize("output", ["jsonl", "csv", "parquet"])
def test_unreadable_rows_of_jsonl_keep_their_place(predict: Predict, output: str) -> None:
    content = (
        '{"title": "mesa ñ", "id": 1}\n'.encode()
        + b'{"id": 2}\n{"title": null, "id": 3}\n{"title": [5], "id": 4}\n'
        b'{"title": "", "id": 5}\nno\n[1]\n{"title": "caf\xe9", "id": 6}\n'
        b'{"title": "\\ud800", "id": 7, "\\udfff": [{"a": "\\udc00"}]}\n'
    )
    answers = predict(content, "jsonl", output)
    assert_errors(
        answers,
        *("", ".*title", ".*title", r".*title.*\[5\]", ".*title", "line 6: .*'no'"),
        *(r"line 7: .*'\[1\]'", "line 8: .*--encoding", "line 9: .*--encoding"),
    )
    assert answers[8]["title"] == "\ufffd"
    assert "\ufffd" in answers[8]


@pytest.mark.parametrize(
    ("output", "depth"),
    [("jsonl", 98), ("jsonl", 100), ("csv", 500), ("parquet", 900), ("csv", 990)],
)
def test_an_object_that_is_nested_too_deep_has_an_error(
    predict: Predict, output: str, depth: int
) -> None:
    deep = '{"title": "mesa", "x": ' + "[" * depth + "]" * depth + "}\n"
    first, second = predict(deep + '{"title": "silla", "x": 1}\n', "jsonl", output)
    assert second["predicted_category"] == "CHAIRS"
    assert (first["predicted_category"] == "TABLES") == (depth < 100)
    assert bool(first["error"]) == (depth >= 100)


def test_an_open_quote_gives_one_message_and_no_file(tmp_path: Path, predict: Predict) -> None:
    with pytest.raises(DataError, match=r"in\.csv:2: "):
        predict('title,id\n"mesa,1\n' + "silla,2\n" * 2000)
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
def test_common_names_of_the_title_column_are_found(columns: list[str], found: str | None) -> None:
    assert find_column(columns, TITLE_NAMES) == found


def test_the_title_column_of_the_training_data_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = predictor(tmp_path, write_model(tmp_path / "model", title_column="Producto"))
    (answer,) = predict([{"title": "mesa", "producto": "silla"}])
    assert answer["predicted_category"] == "CHAIRS"
    assert "'producto'" in capsys.readouterr().err


def test_a_named_column_is_used_without_a_message(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    (answer,) = predict([{"title": "mesa", " what ": "silla"}], column="what")
    assert answer["predicted_category"] == "CHAIRS"
    assert "what" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_named_column_is_found_by_unicode_form(
    predict: Predict, kind: str, forms: tuple[Literal["NFC", "NFD"], ...]
) -> None:
    stored, given = (unicodedata.normalize(form, "descripción") for form in forms)
    (answer,) = predict([{"title": "mesa", stored: "silla"}], kind, kind, column=given)
    assert answer["predicted_category"] == "CHAIRS"
    assert answer[stored] == "silla"


def test_the_only_column_is_the_title_column(predict: Predict) -> None:
    assert predict("producto\nmesa\n")[0]["predicted_category"] == "TABLES"


@pytest.mark.parametrize(
    ("text", "column", "facts"),
    [
        ("a,b\n1,2\n", None, r"'title'.*\(found: a, b\).*--column"),
        ("a,b\n1,2\n", "c", r"'c'.*\(found: a, b\).*--column"),
        ("title,title\n1,2\n", None, "'title'"),
        ("a,título\n\u0081,2\n", None, ":1: .*utf-8.*--encoding"),
    ],
)
def test_unusable_columns_give_one_message(
    predict: Predict, text: str, column: str | None, facts: str
) -> None:
    with pytest.raises(DataError, match=rf"in\.csv.*{facts}"):
        predict(text.encode("latin-1"), column=column)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_the_input_is_not_overwritten(predict: Predict, kind: str) -> None:
    rows = [{"title": "mesa", "error": "mine"}]
    with pytest.raises(DataError, match=r"'error'.*--prefix"):
        predict(rows, kind, kind)
    (answer,) = predict(rows, kind, kind, prefix="rubro_")
    assert answer["error"] == "mine"
    assert answer["rubro_predicted_category"] == "TABLES"


def test_duplicate_columns_are_only_written_as_csv(tmp_path: Path, predict: Predict) -> None:
    content = "title,x,x,,\nmesa,1,2,3,4\n"
    predict(content)
    assert (tmp_path / "out.csv").read_text().split("\n")[1].startswith("mesa,1,2,3,4,TABLES,")
    with pytest.raises(DataError, match=r"'x'.*jsonl"):
        predict(content, "csv", "jsonl")


# Encodings and dialects


@pytest.mark.parametrize(
    ("text", "source", "encoding"),
    [
        ("title\nlámpara\n", "csv", "utf-8-sig"),
        ("title\nlámpara\n", "csv", "utf-32"),
        ('{"title": "lámpara"}\n', "jsonl", "utf-32"),
        ('{"title": "lámpara"}\n', "jsonl", "utf-16"),
        ("\ufefflámpara\n", "txt", "utf-16-be"),
    ],
)
def test_the_encoding_is_detected_from_a_byte_order_mark(
    predict: Predict, text: str, source: str, encoding: str
) -> None:
    (answer,) = predict(text.encode(encoding), source, "jsonl")
    assert (answer["title"], answer["predicted_category"]) == ("lámpara", "LAMPS")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "UTF8"])
def test_a_given_encoding_is_used(predict: Predict, encoding: str) -> None:
    content = "título\nlámpara\n".encode(encoding)
    (answer,) = predict(content, encoding=encoding, output_encoding="utf-8")
    assert answer["predicted_category"] == "LAMPS"


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "idna", "a\0b", ""])
def test_an_unknown_encoding_is_rejected(encoding: str) -> None:
    with pytest.raises(ValueError, match="utf-8, latin-1"):
        known_encoding(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "separator", "has_comma"),
    [
        ("id;título\n1;Lámpara\n", "cp1252", ";", True),
        ('\ufefftítulo;precio\n"mesa; alta";1,5\n', "utf-8", ";", True),
        ("título;precio\nmesa;1.5\n", "utf-8", ";", False),
        ("título;precio\nmesa;1.500\n", "utf-8", ";", True),
        ("título;precio\nmesa;1.234,56\n", "cp1252", ";", True),
        ("título\tprecio\nmesa\t1,5\n", "utf-16", "\t", True),
        ("título\tprecio\nmesa\t1,500\n", "utf-8", "\t", False),
        ("título|precio\nmesa|2\n", "utf-8", "|", False),
        ("título,precio\nmesa,2\n", "utf-8", ",", False),
    ],
)
@pytest.mark.parametrize("is_given", [False, True])
def test_the_output_has_the_dialect_of_the_input(
    tmp_path: Path,
    model: Path,
    text: str,
    encoding: str,
    separator: str,
    has_comma: bool,
    is_given: bool,
) -> None:
    suffix = "tsv" if separator == "\t" else "csv"
    source, output = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    source.write_bytes(text.encode(encoding))
    main([str(source)], output, model=model, encoding=encoding if is_given else None)
    answers = output.read_bytes()
    header, _, _ = text.partition("\n")
    assert answers.startswith(f"{header}{separator}predicted".encode(encoding))
    (row,) = csv.DictReader(io.StringIO(answers.decode(encoding)), delimiter=separator)
    assert row["predicted_category"] in CATEGORIES
    assert re.fullmatch(r"0,\d+" if has_comma else r"0\.\d+", row["confidence"])


@pytest.mark.parametrize(
    ("encoding", "start"),
    [("utf-8", b"t\xc3\xadtulo;"), ("utf-8-sig", b"\xef\xbb\xbft"), ("utf-16", b"\xff\xfet\0")],
)
def test_the_encoding_of_the_output_can_be_set(
    tmp_path: Path, model: Path, encoding: str, start: bytes
) -> None:
    (tmp_path / "in.csv").write_bytes("título;id\nlámpara;1\nsilla;2\n".encode("cp1252"))
    options: dict[str, Any] = {"model": model, "output_encoding": encoding, "batch": 1}
    main([str(tmp_path / "in.csv")], tmp_path / "out.csv", **options)
    assert (tmp_path / "out.csv").read_bytes().startswith(start)
    answers = read(tmp_path / "out.csv", sep=";", encoding=encoding)
    assert values(answers, "título") == ["lámpara", "silla"]


def test_characters_that_the_encoding_lacks_are_counted(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = predict("id,title\n1,mesa ❤\n2,taza\n", output_encoding="latin-1")
    assert values(answers, "title") == ["mesa ?", "taza"]
    assert "1 rows" in (message := capsys.readouterr().err) and "--output-encoding" in message


def test_options_of_csv_are_refused_for_other_formats(predict: Predict) -> None:
    for options in ({"output_encoding": "latin-1"}, {"escape_formulas": True}):
        with pytest.raises(DataError, match="csv"):
            predict(MESA, "csv", "jsonl", **options)
    predict(MESA, "csv", "jsonl", output_encoding="utf-8")


@pytest.mark.parametrize("output", ["csv", "tsv"])
def test_formulas_are_escaped_on_request(tmp_path: Path, output: str) -> None:
    formulas = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"]
    harmless = ["mesa", "-5", "+5.411,50", "-1e-5", "1=1", "", " =1"]
    model = write_model(tmp_path / "model", labels=["=HYPERLINK(A1)", "-CHAIRS", "LAMPS", "MUGS"])
    predict = predictor(tmp_path, model)
    content = jsonl(*({"title": f"{n} mesa", "=x": n} for n in [*formulas, *harmless]))
    plain = predict(content, "jsonl", output)
    assert values(plain, "predicted_category") == ["=HYPERLINK(A1)"] * len(plain)
    answers = predict(content, "jsonl", output, escape_formulas=True)
    assert values(answers, "predicted_category") == ["'=HYPERLINK(A1)"] * len(plain)
    assert values(answers, "'=x") == [*(f"'{each}" for each in formulas), *harmless]


# Answers


def test_the_best_categories_are_in_order(predict: Predict) -> None:
    (answer,) = predict([{"title": "mesa y silla"}], top=99)
    places = ["", "_2", "_3", "_4"]
    best = [answer[f"predicted_category{place}"] for place in places]
    confidences = [float(answer[f"confidence{place}"]) for place in places]
    assert best == ["TABLES", "CHAIRS", "LAMPS", "MUGS"]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1, abs=1e-5)


def test_below_the_minimum_confidence_only_a_guess_is_given(predict: Predict) -> None:
    answers = predict([*MESA, {"title": "nada"}], min_confidence=0.8)
    assert values(answers, "predicted_category") == ["TABLES", ""]
    assert values(answers, "best_guess") == ["TABLES", "TABLES"]
    assert float(answers[1]["confidence"]) < 0.8


@pytest.mark.parametrize("batch", [1, 1000])
def test_answers_do_not_depend_on_the_batch_size(predict: Predict, batch: int) -> None:
    answers = predict([{"title": title} for title in TITLES * 3], batch=batch)
    assert values(answers, "predicted_category") == CATEGORIES * 3


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_output_does_not_depend_on_the_number_of_processes(
    tmp_path: Path, predict: Predict, kind: str
) -> None:
    rows = [{"id": n, "title": TITLES[n % 5] if n % 7 else "", "more": "x" * n} for n in range(60)]
    outputs = set()
    for processes in (1, 2, 3):
        predict(rows, "parquet", kind, processes=processes, top=2)
        outputs.add((tmp_path / f"out.{kind}").read_bytes())
    assert len(outputs) == 1


# Output files


def test_a_parquet_output_of_many_batches_has_few_row_groups(
    tmp_path: Path, predict: Predict
) -> None:
    predict(MESA * 3000, "csv", "parquet", batch=100)
    assert pyarrow.parquet.ParquetFile(tmp_path / "out.parquet").num_row_groups == 1


def test_gzip_output_is_reproducible(tmp_path: Path, predict: Predict) -> None:
    predict(MESA, "csv", "csv.gz")
    first = (tmp_path / "out.csv.gz").rename(tmp_path / "first.csv.gz")
    predict(MESA, "csv", "csv.gz")
    assert first.read_bytes() == (tmp_path / "out.csv.gz").read_bytes()


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("csv", "id,title\n"),
        ("tsv", "id\ttitle"),
        ("json", "[]"),
        ("jsonl", ""),
        ("jsonl", "\n"),
        ("jsonl.gz", ""),
        ("txt", ""),
        ("unknown", ""),
    ],
)
def test_an_input_without_rows_gives_an_output_without_rows(
    tmp_path: Path,
    predict: Predict,
    capsys: pytest.CaptureFixture[str],
    source: str,
    content: str,
) -> None:
    for output in ("csv", "jsonl", "parquet"):
        assert predict(content, source, output) == []
        assert f"in.{source}: " in capsys.readouterr().err
    header, end = (tmp_path / "out.csv").read_text().split("\n")
    assert header.endswith("predicted_category,confidence,error")
    assert end == ""


@pytest.mark.parametrize("source", ["csv", "tsv", "json", "csv.gz", "parquet", "xlsx"])
def test_an_empty_file_of_a_format_with_a_header_is_damaged(predict: Predict, source: str) -> None:
    with pytest.raises(DataError, match=rf"in\.{source}"):
        predict("", source)


def test_the_output_keeps_a_symbolic_link_and_permissions(tmp_path: Path, predict: Predict) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "real.csv").chmod(0o600)
    (tmp_path / "out.csv").symlink_to(tmp_path / "real.csv")
    assert predict(MESA)[0]["predicted_category"] == "TABLES"
    assert (tmp_path / "out.csv").is_symlink()
    assert (tmp_path / "real.csv").stat().st_mode & 0o777 == 0o600


def test_the_input_can_be_overwritten(tmp_path: Path, predict: Predict) -> None:
    (tmp_path / "out.csv").symlink_to(tmp_path / "in.csv")
    assert values(predict(MESA * 5), "predicted_category") == ["TABLES"] * 5


def test_a_device_is_not_replaced(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "in.csv", MESA)
    main([str(tmp_path / "in.csv")], Path("/dev/null"), model=model, format="csv")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("output", "facts"),
    [("xls", "out.xls.*--format"), ("x/y.csv", "out.x: "), ("folder.csv", "out.folder.csv: ")],
)
def test_an_unusable_output_gives_one_message(
    tmp_path: Path, predict: Predict, output: str, facts: str
) -> None:
    (tmp_path / "out.folder.csv").mkdir()
    with pytest.raises(DataError, match=facts):
        predict(MESA, "csv", output)


def test_the_format_is_detected_from_the_file_name() -> None:
    names = ["a.csv", "A.CSV.GZ", "a.b.jsonl", "a.parquet", "a.parquet.gz", "csv", "a.txt.gz"]
    kinds = [kind_of(Path(name)) for name in names]
    assert kinds == ["csv", "csv", "jsonl", "parquet", None, None, "txt"]


# Any titles, any columns

UNUSUAL_TITLES = [
    *("", " ", "\0", "=1+1", "@SUM(A1)", '"', '""', "a\nb", "a\rb", "\r\n", ";", ",", "\t"),
    *("\u2028", "\u202eabc", "\ufeffa", "مرحبا", "👩\u200d👧", "\ud800", "\udcff", "\x1b[2J"),
    "mesa ñ" * 150_000,
]
ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=30) | st.sampled_from(
    UNUSUAL_TITLES
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
def test_any_title_has_an_answer_or_an_error_in_its_place(
    predict: Predict, titles: list[str], kind: str
) -> None:
    lines = [
        json.dumps({"id": n, "title": title}, ensure_ascii=not is_unicode(title)) + "\n"
        for n, title in enumerate(titles)
    ]
    answers = predict("".join(lines), "jsonl", kind)
    assert [int(row["id"]) for row in answers] == list(range(len(titles)))
    for title, row in zip(titles, answers, strict=True):
        assert bool(row["predicted_category"]) != bool(row["error"])
        assert bool(row["predicted_category"]) == (is_unicode(title) and bool(title.strip()))
        # pandas ends a field of csv at a NUL.
        if is_unicode(title) and not ("\0" in title and kind == "csv"):
            assert row["title"] == title


@SLOW
@given(st.data())
def test_any_csv_keeps_its_columns(tmp_path: Path, model: Path, data: st.DataObject) -> None:
    """Python's csv reads the same cells before and after, whatever the fields contain."""
    width = data.draw(st.integers(1, 4))
    header = [*data.draw(st.lists(PLAIN_TEXT.filter(_is_name), min_size=width, max_size=width))]
    place = data.draw(st.integers(0, width - 1))
    header[place] = "title"
    rows = data.draw(st.lists(st.lists(PLAIN_TEXT, min_size=width, max_size=width), max_size=6))
    rows = [row for row in rows if any(row)]
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows([header, *rows])
    write(tmp_path / "in.csv", text.getvalue())
    main([str(tmp_path / "in.csv")], tmp_path / "out.csv", model=model, column="title")
    content = (tmp_path / "out.csv").read_bytes().decode()
    delimiter = ";" if ";" in ",".join(header) and width == 1 else ","
    written = list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True))
    assert [row[:width] for row in written] == [header, *rows]
    for row in written[1:]:
        category, _, error = row[width:]
        assert bool(category) != bool(error)
        assert bool(category) == bool(row[place].strip())


def _is_name(name: str) -> bool:
    """Return whether a header can contain the name, apart from title and the new columns."""
    return not set("\n\r") & set(name) and name.strip() not in ["title", *NEW_COLUMNS]


@SLOW
@given(
    st.binary(max_size=200), st.sampled_from(["csv", "tsv", "jsonl", "txt", "parquet", "csv.gz"])
)
def test_any_bytes_are_read_or_rejected(predict: Predict, content: bytes, kind: str) -> None:
    try:
        answers = predict(b"title,id\n" * (kind == "csv") + content, kind, "jsonl")
    except DataError as error:
        assert f"in.{kind}" in str(error)
    else:
        assert all(bool(row["predicted_category"]) != bool(row["error"]) for row in answers)
