"""Read the products in requests: titles, or objects with the columns that the model reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from rubro.base.text_columns import MAX_TEXT_CHARACTERS
from rubro.prediction.classifier import Classifier
from rubro.tables.cells import text_of

_TITLE = "title"  # key of the title, whatever the name of the title column is
_CATEGORY = "category"  # key of the category in a correction


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
            products.append(product_texts(keys, item) if isinstance(item, dict) else item)
        except ValueError as error:
            raise HTTPException(422, f"body.{field}.{place}: {error}") from None
    return products


def product_texts(keys: Mapping[str, str], item: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts in an object by the name of their column.

    Args:
        keys: Column of each key that the object may have.
        item: Object in a request.

    Raises:
        ValueError: The object has an unknown key, two titles, or a value that is not text.
    """
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


def read_correction(classifier: Classifier, item: Mapping[str, Any]) -> dict[str, str]:
    """Convert an object in a request to a row of a corrections file.

    The columns have the names that they had in the training file. If it had a column for each level
    of the category paths, the column of the row is called category and contains the whole path.

    Args:
        classifier: Model in use.
        item: Texts by key: the keys of a product, and category.

    Raises:
        HTTPException: A text is missing, unknown, not text or too long (422).
    """
    names = classifier.description.text.category_column
    category_column = names if isinstance(names, str) else _CATEGORY
    keys = product_keys(classifier)
    keys.pop(_CATEGORY, None)
    item = {
        key: value.replace("\0", " ") if isinstance(value, str) else value
        for key, value in item.items()
    }
    try:
        texts = product_texts(keys, {key: item[key] for key in item if key != _CATEGORY})
        if error := product_error(classifier, texts):
            raise ValueError(error)
        category = item.get(_CATEGORY)
        if not isinstance(category, str) or not category.strip():
            raise ValueError("the category is missing, empty or not text")
        if any("\ud800" <= character <= "\udfff" for character in category):
            raise ValueError("the category contains an unpaired surrogate")
        if max(map(len, (category, *texts.values()))) > MAX_TEXT_CHARACTERS:
            raise ValueError(f"a text has more than {MAX_TEXT_CHARACTERS:,} characters")
    except ValueError as error:
        raise HTTPException(422, f"body: {error}") from None
    columns = [classifier.title_column, *classifier.text_columns]
    row = {name: texts.get(name, "") for name in columns if name != category_column}
    return {**row, category_column: category}


def document_products(classifier: Classifier, schemas: dict[str, Any]) -> None:
    """Describe products, corrections and levels of a model in the schemas of an OpenAPI description.

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
    category = {"type": "string", "description": "Right category.", "minLength": 1}
    schemas["Correction"] = {
        **schemas["Product"],
        "title": "Correction",
        "description": "A product by its columns, and its right category.",
        "properties": {**properties, _CATEGORY: category},
        "required": [_CATEGORY],
    }
    for request in ("PredictRequest", "ExplainRequest"):
        level = schemas[request]["properties"]
        if classifier.tree is None:
            del level["level"]
        else:
            level["level"]["anyOf"][0]["maximum"] = classifier.tree.depth
