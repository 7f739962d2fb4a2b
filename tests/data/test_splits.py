"""Splits are read as tokens and as products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rubro.base.errors import DataError
from rubro.base.text_columns import TextColumn
from rubro.data.splits import (
    UNLABELLED,
    SourceInfo,
    TitleTokens,
    has_unlabelled,
    load_products,
    load_source,
    load_split,
    save_splits,
)

TABLE = pd.DataFrame(
    {
        "title": ["Red apple", "Drill", "Boot"],
        "text.brand": ["Acme & Co", "", "Bora"],
        "text.price": ["20", "5", ""],
        "category": ["FRUIT", "TOOL", "SHOE"],
        "label_quality": ["reliable"] * 3,
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with a split of titles, brands and prices."""
    columns = [TextColumn(name="brand"), TextColumn(name="price", bounds=[10.0])]
    info = SourceInfo(
        title_column="name", category_column="kind", max_title_length=99, text_columns=columns
    )
    save_splits(tmp_path, {"train": TABLE}, sorted(TABLE["category"]), info)
    return tmp_path


def test_the_tokens_of_a_title_are_followed_by_those_of_its_columns(folder: Path) -> None:
    columns = load_source(folder).token_columns
    assert columns == ("tokens", "tokens.brand", "tokens.price")
    tokens = TitleTokens(load_split(folder, "train", columns), columns)
    brands = [["acme", "&", "co"], [], ["bora"]]
    expected = [["red", "apple"], brands[0], ["#1"], ["drill"], brands[1], ["#0"], ["boot"]]
    assert list(tokens) == [*expected, brands[2], []]
    assert len(tokens) == 9
    cut = TitleTokens(load_split(folder, "train", columns), columns, [2, 1])
    assert list(cut)[:3] == [["red", "apple"], ["acme", "&"], ["#1"]]


def test_products_have_the_texts_of_all_columns(folder: Path) -> None:
    products = load_products(folder, "train")
    assert products[0] == {"name": "Red apple", "brand": "Acme & Co", "price": "20"}
    assert products[2] == {"name": "Boot", "brand": "Bora", "price": ""}


def test_the_place_of_each_title_is_stored_in_little_memory(tmp_path: Path) -> None:
    info = SourceInfo(title_column="name", category_column="kind", max_title_length=99)
    lines = np.array([2, 3, 70_000], np.int32)
    table = TABLE.assign(file=pd.Categorical(["a.csv", "b.csv", "a.csv"]), line=lines)
    save_splits(tmp_path, {"train": table}, sorted(TABLE["category"]), info)
    loaded = load_split(tmp_path, "train", ("title", "file", "line"))
    assert list(loaded["file"]) == ["a.csv", "b.csv", "a.csv"]
    assert isinstance(loaded["file"].dtype, pd.CategoricalDtype)
    np.testing.assert_array_equal(loaded["line"], lines, strict=True)
    stored = pd.read_parquet(tmp_path / "train.parquet")
    assert list(stored) == ["title", "tokens", "category", "label_quality", "file", "line"]
    assert list(stored["file"].astype("str")) == ["a.csv", "b.csv", "a.csv"]


def test_unlabelled_titles_have_no_categories(folder: Path) -> None:
    assert not has_unlabelled(folder)
    info, labels = load_source(folder), sorted(TABLE["category"])
    table = TABLE[["title", "text.brand", "text.price"]].assign(file="u.csv", line=1)
    save_splits(folder, {"train": TABLE, UNLABELLED: table}, labels, info)
    assert has_unlabelled(folder)
    tokens = load_split(folder, UNLABELLED, ("title", *info.token_columns))
    assert list(tokens["title"]) == list(TABLE["title"])
    assert list(tokens["tokens.brand"]) == ["acme & co", "", "bora"]
    with pytest.raises(DataError, match="no column 'category'"):
        load_split(folder, UNLABELLED)
    save_splits(folder, {"train": TABLE}, labels, info)
    assert not has_unlabelled(folder)
