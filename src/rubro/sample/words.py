"""Load the hand-written word lists that the synthetic catalogue is composed of.

`shared.yaml` contains the words that all categories share (attribute kinds, selling noise,
abbreviations, stop words). `lexicon/*.yaml` contains the categories, one file per product family.
"""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

# These loaders read every scalar as text (`no`, `2019`).
_TextLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

Words = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
# An empty connector joins two parts of a title without a word.
_Joints = Annotated[list[str], Field(min_length=1)]
_CategoryName = Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kind(_Strict):
    """A kind of product attribute: values, and patterns in which `{}` stands for a value."""

    values: Words
    patterns: Words = ["{}"]
    portuguese: Words | None = None
    portuguese_patterns: Words | None = None

    def spellings(self, portuguese: bool) -> list[str]:
        """Return each value inserted into each pattern, in Portuguese if requested and available."""
        values = self.portuguese if portuguese and self.portuguese else self.values
        patterns = self.patterns
        if portuguese:
            patterns = self.portuguese_patterns or [p for p in patterns if p[:2] == "{}"] or ["{}"]
        return [pattern.replace("{}", value) for pattern in patterns for value in values]


class Connectors(_Strict):
    """Words that join the parts of a title, such as the noun and the brand."""

    fits: _Joints
    companion: _Joints
    brand: _Joints
    model: _Joints


class Shared(_Strict):
    """Content of `shared.yaml`; the keys of noise, glue and abbreviations are languages."""

    kinds: dict[str, Kind]
    noise: dict[str, Words]
    glue: dict[str, Connectors]
    abbreviations: dict[str, dict[str, Words]]
    stop_words: Words
    translations: dict[str, str]


class LexiconEntry(_Strict):
    """Words of one category, from a file in `lexicon`."""

    nouns: Words
    portuguese: Words | None = None
    fits: str | None = None
    brands: dict[str, list[Annotated[str, Field(min_length=1)]]] = {}
    features: Words
    attributes: list[str] = []
    neighbours: Words


def _read(file: Traversable) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), Loader=_TextLoader)
    return content


def load_words() -> tuple[Shared, dict[str, LexiconEntry]]:
    """Read the word lists that belong to the package.

    Returns:
        Word lists that all categories share, and the words of each category by name, in
        alphabetical order.
    """
    folder = resources.files("rubro.sample")
    categories: dict[str, Any] = {}
    for file in (folder / "lexicon").iterdir():
        categories |= _read(file)
    lexicon = TypeAdapter(dict[_CategoryName, LexiconEntry]).validate_python(categories)
    return Shared.model_validate(_read(folder / "shared.yaml")), dict(sorted(lexicon.items()))
