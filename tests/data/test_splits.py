"""Splits are read as tokens and as products."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rubro.base.text_columns import TextColumn
from rubro.data.splits import (
    SourceInfo,
    TitleTokens,
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
