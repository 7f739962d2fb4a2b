"""Read YAML files quickly, with the same values that DVC reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml.resolver import implicit_resolvers

from rubro.base.errors import ParamsError


class _Loader(yaml.CSafeLoader):
    """PyYAML's fast loader with the YAML 1.2 rules of ruamel.yaml, which DVC uses.

    It reads `off` as text and 1e-3 as a number, unlike the YAML 1.1 rules of PyYAML.
    """

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Return the integer in a YAML node; leading zeros do not make it octal."""
        digits = node.value.replace("_", "")
        has_prefix = digits.lstrip("+-")[1:2] in ("b", "o", "x")
        return int(digits, 0 if has_prefix else 10)


_Loader.yaml_implicit_resolvers = {}
for _versions, _tag, _pattern, _first_characters in implicit_resolvers:
    if (1, 2) in _versions:
        _Loader.add_implicit_resolver(_tag, _pattern, _first_characters)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


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
