"""Byte and text streams of title files."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubro.base.errors import DataError
from rubro.tables.streams import GzipStream, Origin, is_unicode, without_surrogates


def test_only_a_file_with_a_size_can_be_a_gzip_bomb() -> None:
    zipped = gzip.compress(b"a" * 2**20 * 300, compresslevel=1)

    def read(size: int | None) -> None:
        stream = GzipStream(Origin(Path("x"), size, "utf-8", "--encoding"), io.BytesIO(zipped))
        while stream.read1(2**20):
            pass

    read(None)
    with pytest.raises(DataError, match="gzip bomb"):
        read(len(zipped))


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
