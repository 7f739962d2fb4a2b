"""Readers that the pipeline and the commands share."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubro.base.errors import DataError
from rubro.tables.readers import MAX_LINE, Record, csv_records, json_records, line_records
from rubro.tables.streams import (
    GzipStream,
    Origin,
    is_unicode,
    open_text,
    read_errors_reported,
    without_surrogates,
)


def origin(encoding: str = "utf-8", size: int | None = None) -> Origin:
    return Origin(Path("x.csv"), size, encoding, "--encoding")


def text(content: str | bytes, encoding: str = "utf-8") -> io.TextIOWrapper:
    content = content.encode(encoding) if isinstance(content, str) else content
    return open_text(origin(encoding), io.BufferedReader(io.BytesIO(content)))


def test_lines_have_numbers_and_no_line_ends() -> None:
    records = list(line_records(text("a\r\n\n b \nlast")))
    assert records == [
        Record(range(n, n + 1), [content], None)
        for n, content in enumerate(["a", "", " b ", "last"], 1)
    ]


def test_undecodable_and_too_long_lines_have_a_reason() -> None:
    content = b"caf\xe9\n" + b"a" * (2 * MAX_LINE) + b"\nb\n"
    reasons = [record.reason for record in line_records(text(content))]
    assert reasons == ["not_utf8", "line_too_long", None]


def test_objects_have_line_numbers() -> None:
    records = list(json_records(text('\n{"a": 1}\nno\n[]\n')))
    assert [(record.lines.start, record.reason) for record in records] == [
        (2, None),
        (3, "not_json"),
        (4, "not_an_object"),
    ]
    assert records[0].content == {"a": 1}


def test_a_bad_row_of_csv_does_not_affect_other_rows() -> None:
    header, rows = csv_records(origin(), text(' a ,b\n1,2\n1,2,3\n"x"y,2\n3,4\n'), ",")
    assert header == [" a ", "b"]
    found = [(row.lines.start, row.reason) for row in rows(())]
    assert found == [(2, None), (3, "wrong_field_count"), (4, "not_csv"), (5, None)]
    _, rows = csv_records(origin(), text("a,b\n1,2,3\n"), ",")
    assert [row.content for row in rows(())] == [["1", "2", "3"]]


def test_an_empty_stream_is_an_error() -> None:
    with pytest.raises(DataError, match=r"x\.csv: the file is empty"):
        text("")


def test_an_encoding_error_names_the_setting() -> None:
    message = r"x\.csv: not utf-16 text \(.*\); set --encoding"
    with pytest.raises(DataError, match=message), read_errors_reported(origin("utf-16")):
        list(line_records(text(b"\xff\xfea", "utf-16")))


@pytest.mark.parametrize("damage", [lambda zipped: zipped[:-9], lambda zipped: b"\x1f\x8bno gzip"])
def test_a_damaged_gzip_stream_is_an_error(damage: object) -> None:
    assert callable(damage)
    zipped = damage(gzip.compress(b"a\n" * 1000))
    message = r"x\.csv: (the gzip stream ends early|not a valid gzip)"
    with pytest.raises(DataError, match=message), read_errors_reported(origin()):
        list(line_records(open_text(origin(), GzipStream(origin(), io.BytesIO(zipped)))))


def test_only_a_file_with_a_size_can_be_a_gzip_bomb() -> None:
    zipped = gzip.compress(b"a" * 2**20 * 300, compresslevel=1)
    for size, refused in ((len(zipped), True), (None, False)):
        stream = GzipStream(origin(size=size), io.BytesIO(zipped))
        try:
            while stream.read1(2**20):
                pass
            assert not refused
        except DataError as error:
            assert refused
            assert "gzip bomb" in str(error)


@given(st.text(st.characters(exclude_categories=[])))
def test_lone_surrogates_are_found_and_replaced(content: str) -> None:
    try:
        content.encode()
        assert is_unicode(content)
        assert without_surrogates(content) == content
    except UnicodeEncodeError:
        assert not is_unicode(content)
        assert is_unicode(without_surrogates(content))
        assert len(without_surrogates(content)) == len(content)


def test_reading_text_files_needs_no_pandas_and_no_pyarrow() -> None:
    program = (
        "import sys, rubro.tables.writers; assert not {'pandas', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
