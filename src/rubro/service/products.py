"""Read the products in requests: titles, or objects with the columns that the model reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from rubro.base.text_columns import Product
from rubro.prediction.classifier import Classifier
from rubro.tables.cells import text_of

_TITLE = "title"  # key of the title, whatever the name of the title column is


def product_keys(classifier: Classifier) -> dict[str, str]:
    """Return the column of each key that an object in a request may have.

    The key of a column is its name. The title may also have the key "title", unless another column
    has this name.
    """
    title = classifier.title_column
    names = [title, *(column.name for column in classifier.description.text.columns)]
    return {_TITLE: title, **{name: name for name in names}}


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
        product = item
        if isinstance(item, dict):
            problem, product = _product(keys, item)
            if problem:
                raise HTTPException(422, f"body.{field}.{place}: {problem}")
        products.append(product)
    return products


def _product(keys: Mapping[str, str], item: Mapping[str, Any]) -> tuple[str | None, Product]:
    """Return what is wrong with an object, and the texts that it contains, by column."""
    texts: dict[str, str] = {}
    for key, value in item.items():
        column = keys.get(key)
        if column is None:
            return f"unknown key {key[:100]!r}; the model reads {', '.join(keys)}", {}
        if column in texts:
            return f"the keys {_TITLE!r} and {column!r} are the same column; use one of them", {}
        try:
            texts[column] = text_of(value) or ""
        except TypeError:
            return f"the value of {key!r} is not text; write text, a number or null", {}
    return None, texts


def product_error(product: Any) -> str | None:
    """Return why a product cannot be classified; None if it can."""
    if isinstance(product, str):
        texts = [product]
    elif isinstance(product, Mapping):
        texts = list(product.values())
    else:
        return "the title is not text"
    if not any(text.strip() for text in texts):
        return "the title is empty"
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return "the title contains an unpaired surrogate"
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
        description = "Number." if column and column.bounds else "Text."
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
