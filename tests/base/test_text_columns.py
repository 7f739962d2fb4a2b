"""Tokens of text columns, and numbers in their cells."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubro.base.text_columns import TextColumn, has_decimal_commas, parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1299.5", 1299.5),
        ("1.299,50", 1299.5),
        ("$ 1,299.00", 1299),
        ("AR$1.299.000", 1_299_000),
        ("1,29,900", 129_900),
        ("1 299,5 €", 1299.5),
        ("1'299.50", 1299.5),
        ("12 kg", 12),
        ("12 m2", 12),
        ("12m2", 12),
        ("-0,125", -0.125),
        ("\u22125", -5),
        (".5", 0.5),
        ("Rs. 500", 500),
        ("1e+16", 1e16),
        ("12.", 12),
        ("\uff11\uff12", 12),
    ],
)
def test_a_number_may_have_separators_a_currency_and_a_unit(text: str, number: float) -> None:
    assert parse_number(text, decimal_comma=False) == number
    assert parse_number(text, decimal_comma=True) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "consultar", "nan", "inf", "-", "true", "A4", "²"),
        *("10-20", "10 x 20 cm", "2020-01-31", "1/2", "1.2.3", "1.2,3.4", "12,,5", "1.2,3.4"),
        *("1e999", "9" * 400, "12 unidades por caja cerrada"),
    ],
)
def test_other_texts_contain_no_number(text: str) -> None:
    assert parse_number(text, decimal_comma=False) is None
    assert TextColumn(name="price", bounds=[1.0]).tokens(text) == []


@pytest.mark.parametrize(
    ("texts", "decimal_comma"),
    [
        (["1.299", "2.500"], True),
        (["1,299", "2,500"], False),
        (["1.299", "2.500", "3.5"], False),
        (["1.299", "2,500", "3,5"], True),
        (["1.299.000", "1,299"], True),
        (["12", "consultar", ""], False),
        (["1.299,00"], True),
        (["1,299.00"], False),
    ],
)
def test_clear_numbers_decide_how_a_separator_before_three_digits_is_read(
    texts: list[str], decimal_comma: bool
) -> None:
    assert has_decimal_commas(texts) == decimal_comma
    assert parse_number("1.299", decimal_comma) == (1299 if decimal_comma else 1.299)
    assert parse_number("1,299", decimal_comma) == (1.299 if decimal_comma else 1299)


def test_the_token_of_a_number_is_its_bin() -> None:
    column = TextColumn(name="price", bounds=[10.0, 20.0])
    assert [column.tokens(text) for text in ("-3", "9.99", "10", "$ 19,99", "20", "1e9")] == [
        ["#0"],
        ["#0"],
        ["#1"],
        ["#1"],
        ["#2"],
        ["#2"],
    ]
    assert TextColumn(name="price", bounds=[]).tokens("5") == ["#0"]
    assert TextColumn(name="brand").tokens("Ñandú 5") == ["nandu", "0"]


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_the_text_of_any_float_is_the_same_number(number: float) -> None:
    assert parse_number(str(number), decimal_comma=False) == number


@given(st.text(st.sampled_from("0123456789.,-+eE $'\xa0\u2212km²½٣")))
def test_any_text_is_a_finite_number_or_none(text: str) -> None:
    for decimal_comma in (False, True):
        number = parse_number(text, decimal_comma)
        assert number is None or math.isfinite(number)
    assert has_decimal_commas([text]) in (True, False)
