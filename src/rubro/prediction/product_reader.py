"""Check products, and read their texts and tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from numbers import Real
from typing import Any

from rubro.base.text import tokenise, tokenise_with_spans
from rubro.base.text_columns import Product, TextColumn
from rubro.prediction.explanation import SpannedToken
from rubro.prediction.folder import ModelColumn, TextParams


class ProductReader:
    """Reads the texts of the columns of products, the title first.

    Args:
        params: Names, lengths and numbers of tokens of the columns.

    Attributes:
        limits: Number of tokens after which a text is cut off, for each column.
    """

    def __init__(self, params: TextParams) -> None:
        self._params = params
        # Columns that the model reads, by name; None stands for the title.
        columns = {column.name: column for column in params.columns}
        self._columns: dict[str, ModelColumn | None] = {params.title_column: None, **columns}
        self.limits = [params.max_tokens, *(column.max_tokens for column in params.columns)]

    def texts(self, products: Iterable[Product]) -> list[str]:
        """Return the text of each column of each product, product by product.

        Raises:
            TypeError: The products are not a sequence, or a product contains a value that is not text.
        """
        further = [""] * (len(self._columns) - 1)
        texts = []
        for place, product in enumerate(_as_list(products)):
            if isinstance(product, str):
                texts.append(product)
                texts += further
            elif isinstance(product, Mapping):
                texts += [_text_of(product, *column, place) for column in self._columns.items()]
            else:
                raise TypeError(
                    f"the title at position {place} is {product!r:.50}, not a string; replace missing "
                    'titles by "", and other values by their text'
                )
        return texts

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the tokens of the result of `texts`, or of a part of it that begins with a title."""
        columns = cycle(self._columns.values())
        limit = self._params.max_title_length
        return [
            tokenise(text[:limit]) if column is None else column.tokens(text)
            for text, column in zip(texts, columns, strict=False)
        ]

    def spanned_tokens(self, texts: Sequence[str]) -> dict[str, list[SpannedToken]]:
        """Return the tokens that the model reads of each text of a product, by name of the column."""
        params = self._params
        title = tokenise_with_spans(texts[0][: params.max_title_length])[: params.max_tokens]
        return {params.title_column: title} | {
            column.name: column.tokens_with_spans(own)[: column.max_tokens]
            for column, own in zip(params.columns, texts[1:], strict=True)
        }


def _as_list(products: Iterable[Product]) -> list[Product]:
    """Return products as a list, after checking that they are a sequence."""
    if isinstance(products, str | bytes):
        raise TypeError("titles must be a sequence of strings, not a single string; pass [title]")
    unordered = Mapping | set | frozenset
    is_ordered = isinstance(products, Iterable) and not isinstance(products, unordered)
    if not is_ordered or len(getattr(products, "shape", (0,))) != 1:
        raise TypeError(
            "products must be a sequence of strings or dictionaries, not a "
            f"{type(products).__name__}; pass a list such as [product], a single column of a table, "
            'such as table["title"], or table.to_dict("records")'
        )
    to_list = getattr(products, "tolist", None) or getattr(products, "to_pylist", None)
    listed: list[Product] = list(products) if to_list is None else to_list()
    return listed


def _text_of(product: Mapping[str, Any], name: str, column: TextColumn | None, place: int) -> str:
    """Return the text of a product in a column; None stands for the column with the title."""
    cell = product.get(name)
    if isinstance(cell, str):
        return cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if column is not None and column.bounds is not None and isinstance(cell, Real):
        with suppress(OverflowError):  # integers beyond the range of floats
            return f"{float(cell):.6f}"  # six decimals, because 1.299 as text may be 1,299
        return ""
    raise TypeError(
        f"{name!r} of the product at position {place} is {cell!r:.50}, not a string; replace missing "
        "texts by None, and other values by their text"
    )
