"""Read YAML files quickly, with the same values that DVC reads."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml.resolver import implicit_resolvers

from rubro.base.errors import ParamsError


class _Loader(yaml.CSafeLoader):
    """PyYAML's fast loader with the YAML 1.2 rules of ruamel.yaml, which DVC uses.

    It reads `off` as text and 1e-3 as a number, unlike the YAML 1.1 rules of PyYAML.
    """

    def get_single_node(self) -> yaml.Node | None:
        """Return the root node of the document, after checking its aliases."""
        root = super().get_single_node()
        check_aliases(root)
        return root

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Return the integer in a YAML node; leading zeros do not make it octal."""
        digits = node.value.replace("_", "")
        has_prefix = digits.lstrip("+-")[1:2] in ("b", "o", "x")
        return int(digits, 0 if has_prefix else 10)


_MAX_VALUES = 10**6

_Loader.yaml_implicit_resolvers = {}
for _versions, _tag, _pattern, _first_characters in implicit_resolvers:
    if (1, 2) in _versions:
        _Loader.add_implicit_resolver(_tag, _pattern, _first_characters)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


def check_aliases(root: Any) -> None:
    """Check that a YAML document stays small if each alias is replaced by a copy of its anchor.

    Args:
        root: Root node from ruamel.yaml or PyYAML, or None for an empty document.

    Raises:
        ValueError: It would have more than a million values, or an anchor contains its own alias.
    """
    if root is not None and _expanded_size(root, {}) > _MAX_VALUES:
        raise ValueError(f"its aliases stand for more than {_MAX_VALUES:,} values")


def _expanded_size(node: Any, sizes: dict[int, float]) -> float:
    """Return the number of values in a node, and remember the sizes of all nodes by their id."""
    if id(node) not in sizes:
        sizes[id(node)] = math.inf  # if the node contains itself
        items = node.value if isinstance(node.value, list) else []
        pairs = (item if isinstance(item, tuple) else (item,) for item in items)
        children = chain.from_iterable(pairs)
        sizes[id(node)] = 1 + sum(_expanded_size(child, sizes) for child in children)
    return sizes[id(node)]


def parse_yaml(text: str, source: str | Path) -> Any:
    """Return the content of a YAML document.

    Args:
        text: YAML document.
        source: Name of the file that the text comes from, for error messages.

    Raises:
        ParamsError: The text is not valid YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).replace('in "<unicode string>",', "at").split())
        raise ParamsError(f"{source}: not valid YAML: {problem}") from None


def load_yaml(path: Path) -> Any:
    """Read a YAML file.

    Args:
        path: Path of the file.

    Raises:
        ParamsError: The file is missing, unreadable or not valid YAML.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise ParamsError(f"{path}: not readable: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not valid UTF-8: {error}") from None
