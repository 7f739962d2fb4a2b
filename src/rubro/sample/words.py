"""Hand-written words of the synthetic catalogue: shared word lists and the lexicon.

`shared.yaml` holds what every category uses (attribute kinds, selling noise, abbreviations, stop
words); `lexicon/*.yaml` holds the categories, one file per family of neighbours. Both are validated
when they are read: a misspelt neighbour would otherwise only show as odd data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_NAME = re.compile("[A-Z][A-Z0-9_]*")

Words = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class LexiconError(ValueError):
    """A word list that breaks its format; the message names the file and the entry."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kind(_Strict):
    """A kind of attribute: values, and patterns in which `{}` stands for the value."""

    values: Words
    patterns: Words = ["{}"]
    portuguese: Words | None = None
    portuguese_patterns: Words | None = None

    def spellings(self, portuguese: bool = False) -> list[str]:
        """Return every value in every pattern.

        Args:
            portuguese: Whether Portuguese values and patterns are used where the kind has them.

        Returns:
            Spellings, pattern by pattern.
        """
        values = self.portuguese if portuguese and self.portuguese else self.values
        patterns = self.patterns
        if portuguese:
            patterns = self.portuguese_patterns or [p for p in patterns if p[:2] == "{}"] or ["{}"]
        return [pattern.replace("{}", value) for pattern in patterns for value in values]


class Noise(_Strict):
    """Selling phrases that say nothing about the category."""

    spanish: Words
    portuguese: Words


class Connectors(_Strict):
    """Words that join parts of a title; an empty string joins them without a word."""

    fits: Annotated[list[str], Field(min_length=1)]
    companion: Annotated[list[str], Field(min_length=1)]
    brand: Annotated[list[str], Field(min_length=1)]
    model: Annotated[list[str], Field(min_length=1)]


class Glue(_Strict):
    """The connectors of both languages."""

    spanish: Connectors
    portuguese: Connectors


class Abbreviations(_Strict):
    """Short forms of words, by language."""

    spanish: dict[str, Words]
    portuguese: dict[str, Words]


class Shared(_Strict):
    """The content of `shared.yaml`."""

    kinds: dict[str, Kind]
    noise: Noise
    glue: Glue
    abbreviations: Abbreviations
    stop_words: Words
    translations: dict[str, str]


class Category(_Strict):
    """A category of the lexicon: the words of its titles."""

    nouns: Words
    portuguese: Words | None = None
    fits: str | None = None
    brands: dict[str, list[Annotated[str, Field(min_length=1)]]] = {}
    features: Words
    attributes: list[str] = []
    neighbours: Words


def _plain(node: yaml.Node, where: str) -> object:
    """Return YAML with all scalars as text (`no`, `2019`); a repeated key is an error."""
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise LexiconError(f"{where}: line {key.start_mark.line + 1}: key is not a word")
            name = str(key.value)
            if name in mapping:
                line = key.start_mark.line + 1
                raise LexiconError(f"{where}: {name} is defined twice (line {line})")
            mapping[name] = _plain(value, where)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, where) for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        raise LexiconError(f"{where}: unexpected YAML node {node.tag}")
    return str(node.value)


def _parse(text: str, where: str) -> dict[str, object]:
    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise LexiconError(f"{where}: not YAML: {error}") from error
    content = None if node is None else _plain(node, where)
    if not isinstance(content, dict):
        raise LexiconError(f"{where}: expected a mapping at the top")
    return content


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(step) for step in part['loc'])}: {part['msg']}" for part in error.errors()
    )


def parse_shared(text: str, where: str = "shared.yaml") -> Shared:
    """Read the shared word lists.

    Args:
        text: YAML text.
        where: Name of the file, for error messages.

    Returns:
        Validated word lists.

    Raises:
        LexiconError: The text is not YAML or breaks the format.
    """
    try:
        return Shared.model_validate(_parse(text, where))
    except ValidationError as error:
        raise LexiconError(f"{where}: {_explain(error)}") from error


def parse_lexicon(files: Mapping[str, str], kinds: Iterable[str]) -> dict[str, Category]:
    """Read the families and validate the references between them.

    Args:
        files: YAML text of each family, by file name.
        kinds: Names of the kinds of attributes.

    Returns:
        Categories by name, in alphabetical order.

    Raises:
        LexiconError: A file is not YAML or breaks the format, a category is misnamed or defined
            twice, or an entry names an unknown category or kind of attribute.
    """
    known = frozenset(kinds)
    origin: dict[str, str] = {}
    categories: dict[str, Category] = {}
    for where in sorted(files):
        for name, entry in _parse(files[where], where).items():
            if not _NAME.fullmatch(name):
                raise LexiconError(f"{where}: {name}: a category is named in UPPER_SNAKE")
            if name in origin:
                raise LexiconError(f"{where}: {name} is defined twice (also in {origin[name]})")
            try:
                categories[name] = Category.model_validate(entry)
            except ValidationError as error:
                raise LexiconError(f"{where}: {name}: {_explain(error)}") from error
            origin[name] = where
    problems = [
        f"{origin[name]}: {name}: {problem}"
        for name, category in sorted(categories.items())
        for problem in _problems(name, category, categories, known)
    ]
    if problems:
        raise LexiconError("\n".join(problems))
    return {name: categories[name] for name in sorted(categories)}


def _problems(
    name: str, category: Category, known: Mapping[str, Category], kinds: frozenset[str]
) -> Iterable[str]:
    for neighbour in category.neighbours:
        if neighbour not in known:
            yield f"unknown neighbour {neighbour}"
        if neighbour == name:
            yield "is its own neighbour"
    if category.fits is not None and category.fits not in known:
        yield f"fits unknown category {category.fits}"
    for kind in category.attributes:
        if kind not in kinds:
            yield f"unknown attribute kind {kind}"


def load_words() -> tuple[Shared, dict[str, Category]]:
    """Read the word lists of the package.

    Returns:
        Shared word lists, and categories by name in alphabetical order.

    Raises:
        LexiconError: A file breaks its format.
    """
    here = resources.files(__package__ or "rubro.sample")
    shared = parse_shared((here / "shared.yaml").read_text(encoding="utf-8"))
    files = {
        item.name: item.read_text(encoding="utf-8")
        for item in (here / "lexicon").iterdir()
        if item.name.endswith(".yaml")
    }
    return shared, parse_lexicon(files, shared.kinds)
