"""Convert the values of table cells to text."""

from __future__ import annotations

import math
import unicodedata
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any


def text_of(value: Any) -> str | None:
    """Convert a cell to text, so that a number has the same text in every file format.

    Args:
        value: Value of a cell in JSON, parquet or csv. Some programs store text in parquet as bytes.

    Returns:
        Text that a csv file would contain; None if the value is null or NaN.

    Raises:
        TypeError: The value is a list, an object or bytes that are not UTF-8 text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal, date)):
        return str(value)
    raise TypeError(type(value).__name__)


def text_or_empty(value: Any) -> str:
    """Return the text of a cell; a list, an object and undecodable bytes have none."""
    try:
        return text_of(value) or ""
    except TypeError:
        return ""


def category_name(text: str) -> str:
    """Normalise a category name: Unicode form NFC, single spaces, no space at either end."""
    return " ".join(_composed(text).split())


def column_name(text: str) -> str:
    """Normalise a column name: Unicode form NFC, no space at either end."""
    return _composed(text).strip()


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
