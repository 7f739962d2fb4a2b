"""Read the products in requests: titles, or objects with the columns that the model reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from rubro.prediction.classifier import Classifier
from rubro.tables.cells import text_of

_TITLE = "title"  # key of the title, whatever the name of the title column is


def product_keys(classifier: Classifier) -> dict[str, str]:
    """Return the column of each key that an object in a request may have.

    The key of a column is its name. The title may also have the key "title", unless another column
    has this name.
    """
    title = classifier.title_column
    return {_TITLE: title, title: title, **{name: name for name in classifier.text_columns}}


def read_products(classifier: Classifier, field: str, items: list[Any]) -> list[Any]:
    """Convert the objects in a request to products that a model reads.

    Args:
        classifier: Model that will classify the products.
        field: Name of the field with the products, for error messages.
        items: Titles and objects; an item that is neither stays as it is.

    Raises:
        HTTPException: An object has an unknown key, two titles, or a value that is not text (422).
    """
    if not any(isinstance(item, dict) for item in items):
        return items
    keys = product_keys(classifier)
    products = []
    for place, item in enumerate(items):
        try:
            products.append(_texts(keys, item) if isinstance(item, dict) else item)
        except ValueError as error:
            raise HTTPException(422, f"body.{field}.{place}: {error}") from None
    return products


def _texts(keys: Mapping[str, str], item: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts in an object by the name of their column."""
    texts: dict[str, str] = {}
    for key, value in item.items():
        column = keys.get(key)
        if column is None:
            raise ValueError(f"unknown key {key[:100]!r}; the model reads {', '.join(keys)}")
        if column in texts:
            raise ValueError(f"{_TITLE} and {column} are the same column; use only one of them")
        try:
            texts[column] = text_of(value) or ""
        except TypeError:
            raise ValueError(f"{key} is not text; write text, a number or null") from None
    return texts


def product_error(classifier: Classifier, product: Any) -> str | None:
    """Return why a product cannot be classified; None if it can."""
    texts = product if isinstance(product, Mapping) else {classifier.title_column: product}
    title = texts.get(classifier.title_column, "")
    if not isinstance(title, str):
        return "the title is not text"
    if not title.strip():
        return "the title is empty"
    for name, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            column = "title" if name == classifier.title_column else f"column {name}"
            return f"the {column} contains an unpaired surrogate"
    return None


def document_products(classifier: Classifier, schemas: dict[str, Any]) -> None:
    """Describe the products and levels of a model in the schemas of an OpenAPI description.

    Args:
        classifier: Model.
        schemas: Schemas of the requests and answers by name, changed in place.
    """
    columns = {column.name: column for column in classifier.description.text.columns}
    title, properties = classifier.title_column, {}
    for key, name in product_keys(classifier).items():
        column = columns.get(name)
        description = "Number." if column and column.bounds is not None else "Text."
        properties[key] = {
            "type": ["string", "number", "boolean", "null"],
            "description": "Title." if name == title else description,
        }
    schemas["Product"] = {
        "title": "Product",
        "description": "A product by its columns; a missing column or null is an empty text.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if title != _TITLE and _TITLE not in columns:  # the title has two keys
        schemas["Product"]["not"] = {"required": [_TITLE, title]}
    for request in ("PredictRequest", "ExplainRequest"):
        level = schemas[request]["properties"]
        if classifier.tree is None:
            del level["level"]
        else:
            level["level"]["anyOf"][0]["maximum"] = classifier.tree.depth
