"""Bins of number columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd

from rubro.base.text_columns import TextColumn
from rubro.data.columns import text_columns

Make = Callable[..., Any]


def described(make_params: Make, texts: list[str]) -> tuple[TextColumn, list[str]]:
    changes = {"data.text_columns": ["brand", "price"], "data.number_columns": ["price"]}
    table = pd.DataFrame({"text.brand": "x", "text.price": texts})
    (brand, price), notices = text_columns(table, make_params(changes).data)
    assert brand == TextColumn(name="brand")
    assert price.name == "price"
    return price, notices


def test_bins_have_about_the_same_number_of_training_rows(make_params: Make) -> None:
    texts = [f"$ {number},5" for number in range(1, 1001)]
    column, notices = described(make_params, texts)
    sizes = Counter(token for text in texts for token in column.tokens(text))
    assert len(sizes) == 16
    assert set(sizes.values()) == {62, 63}
    assert not notices


def test_equal_numbers_share_a_bin(make_params: Make) -> None:
    column, _ = described(make_params, ["0"] * 900 + ["0.0"] * 50 + ["5"] * 30 + ["7"] * 20)
    assert [column.tokens(text) for text in ("0", "0,0", "5", "7")] == [
        ["#0"],
        ["#0"],
        ["#0"],
        ["#0"],
    ]
    column, _ = described(make_params, ["0"] * 500 + ["5"] * 300 + ["7"] * 200)
    assert column.bounds == [5.0, 7.0]


def test_prices_with_points_between_thousands_are_whole_numbers(make_params: Make) -> None:
    column, _ = described(make_params, ["999", "1.299", "12.999", "1.299.000"])
    assert column.decimal_comma
    assert column.bounds == [1299.0, 12_999.0, 1_299_000.0]


def test_cells_without_a_number_are_counted_if_they_are_many(make_params: Make) -> None:
    column, notices = described(make_params, ["1"] * 98 + ["consultar", "", "a 1 b 2"])
    assert column.bounds == []
    assert any("2 of 100" in notice and "consultar" in notice for notice in notices)
    assert described(make_params, ["1"] * 200 + ["consultar"])[1] == []


def test_a_column_without_any_number_is_reported(make_params: Make) -> None:
    column, notices = described(make_params, ["", "a"])
    assert column.bounds == []
    assert any("data.number_columns" in notice for notice in notices)
