"""Hand-written word lists of the synthetic catalogue.

`shared.yaml` contains the words that all categories share (attribute kinds, selling noise,
abbreviations, stop words). `lexicon/*.yaml` contains the categories, one file per product family.
Both are validated when they are read, because a misspelt neighbour would otherwise only show up as
strange data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Annotated, Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
_CATEGORY_NAME = re.compile("[A-Z][A-Z0-9_]*")
_BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

Words = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
# An empty connector joins two parts of a title without a word.
_Joints = Annotated[list[str], Field(min_length=1)]


class LexiconError(ValueError):
    """An invalid word list; the message names the file and the entry."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ByLanguage(_Strict, Generic[T]):
    """The same kind of words in both languages."""

    spanish: T
    portuguese: T


class Kind(_Strict):
    """A kind of attribute: its values, and patterns in which `{}` stands for a value."""

    values: Words
    patterns: Words = ["{}"]
    portuguese: Words | None = None
    portuguese_patterns: Words | None = None

    def spellings(self, portuguese: bool = False) -> list[str]:
        """Return every value in every pattern.

        Args:
            portuguese: Whether to use the Portuguese values and patterns, if there are any.

        Returns:
            Spellings, pattern by pattern.
        """
        values = self.portuguese if portuguese and self.portuguese else self.values
        patterns = self.patterns
        if portuguese:
            patterns = self.portuguese_patterns or [p for p in patterns if p[:2] == "{}"] or ["{}"]
        return [pattern.replace("{}", value) for pattern in patterns for value in values]


class Connectors(_Strict):
    """Words that join the parts of a title."""

    fits: _Joints
    companion: _Joints
    brand: _Joints
    model: _Joints


class Shared(_Strict):
    """The content of `shared.yaml`."""

    kinds: dict[str, Kind]
    noise: ByLanguage[Words]
    glue: ByLanguage[Connectors]
    abbreviations: ByLanguage[dict[str, Words]]
    stop_words: Words
    translations: dict[str, str]


class LexiconEntry(_Strict):
    """A category of the lexicon, with the words of its titles."""

    nouns: Words
    portuguese: Words | None = None
    fits: str | None = None
    brands: dict[str, list[Annotated[str, Field(min_length=1)]]] = {}
    features: Words
    attributes: list[str] = []
    neighbours: Words


class _TextLoader(_BaseLoader):  # type: ignore[misc]
    """Loader that reads every scalar as text (`no`, `2019`) and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        found = super().construct_mapping(node, deep)
        names = [key.value for key, _ in node.value]
        for at, (key, _) in enumerate(node.value):
            if key.value in names[:at]:
                raise LexiconError(f"{key.value} is defined twice (line {key.start_mark.line + 1})")
        return found


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, Loader=_TextLoader)
    except LexiconError as error:
        raise LexiconError(f"{file}: {error}") from None
    except yaml.YAMLError as error:
        raise LexiconError(f"{file}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise LexiconError(f"{file}: expected a mapping at the top level")
    return content


def _validated(model: type[M], content: Any, entry: str) -> M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()
        )
        raise LexiconError(f"{entry}: {problems}") from error


def parse_shared(text: str) -> Shared:
    """Parse and validate the text of `shared.yaml`.

    Raises:
        LexiconError: The text is not YAML or breaks the format.
    """
    return _validated(Shared, _parse(text, "shared.yaml"), "shared.yaml")


def parse_lexicon(files: Mapping[str, str], kinds: Iterable[str]) -> dict[str, LexiconEntry]:
    """Parse the files of the lexicon and validate the references between their categories.

    Args:
        files: YAML text of each product family, by file name.
        kinds: Names of the attribute kinds.

    Returns:
        Categories by name, in alphabetical order.

    Raises:
        LexiconError: A file is not YAML or breaks the format, a category is misnamed or defined
            twice, or an entry names an unknown category or attribute kind.
    """
    file_of: dict[str, str] = {}
    lexicon: dict[str, LexiconEntry] = {}
    for file in sorted(files):
        for name, content in _parse(files[file], file).items():
            if not _CATEGORY_NAME.fullmatch(name):
                raise LexiconError(f"{file}: {name}: category names are written in UPPER_SNAKE")
            if name in file_of:
                raise LexiconError(f"{file}: {name} is defined twice (also in {file_of[name]})")
            lexicon[name] = _validated(LexiconEntry, content, f"{file}: {name}")
            file_of[name] = file
    problems = [
        f"{file_of[name]}: {name}: {problem}"
        for name in sorted(lexicon)
        for problem in _wrong_references(name, lexicon, frozenset(kinds))
    ]
    if problems:
        raise LexiconError("\n".join(problems))
    return dict(sorted(lexicon.items()))


def _wrong_references(
    name: str, lexicon: Mapping[str, LexiconEntry], kinds: frozenset[str]
) -> Iterator[str]:
    entry = lexicon[name]
    for neighbour in entry.neighbours:
        if neighbour not in lexicon:
            yield f"unknown neighbour {neighbour}"
        if neighbour == name:
            yield "is its own neighbour"
    if entry.fits is not None and entry.fits not in lexicon:
        yield f"fits unknown category {entry.fits}"
    for kind in entry.attributes:
        if kind not in kinds:
            yield f"unknown attribute kind {kind}"


def load_words() -> tuple[Shared, dict[str, LexiconEntry]]:
    """Read the word lists of the package.

    Returns:
        Shared word lists, and categories by name in alphabetical order.

    Raises:
        LexiconError: A file breaks its format.
    """
    folder = resources.files("rubro.sample")
    shared = parse_shared((folder / "shared.yaml").read_text(encoding="utf-8"))
    files = {
        item.name: item.read_text(encoding="utf-8")
        for item in (folder / "lexicon").iterdir()
        if item.name.endswith(".yaml")
    }
    return shared, parse_lexicon(files, shared.kinds)
