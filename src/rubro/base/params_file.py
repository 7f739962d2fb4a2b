"""Read and validate params.yaml, with error messages that name the file and the line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rubro.base.errors import ParamsError
from rubro.base.params import NetworksParams, Params
from rubro.base.yaml_files import check_aliases

_BARE = re.compile(r"[a-z_][\w/.-]*", re.ASCII | re.IGNORECASE)
_NO_TEXT = ("true", "false", "null", "nan", "inf")


class _Constructor(SafeConstructor):
    """YAML constructor that gives the same values as DVC, and errors with a line number."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int):
                str(value)  # Python refuses this for thousands of digits, which messages would show
            return value
        except (ValueError, LookupError, AttributeError, TypeError):  # `!!bool x`, `2020-13-45`
            problem = f"{str(node.value)[:100]!a} is not a valid {node.tag.rpartition(':')[2]}"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark) from None

    def check_mapping_key(
        self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any
    ) -> bool:
        if isinstance(key, str) and key not in mapping:
            return True
        written = key_node.value if isinstance(key_node, ScalarNode) else key
        problem = f"key {written} {'is listed twice' if isinstance(key, str) else 'needs quotes'}"
        raise ConstructorError(problem=problem, problem_mark=key_node.start_mark)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and validate params.yaml.

    Args:
        path: Path of the YAML file.

    Returns:
        Validated, immutable parameters.

    Raises:
        ParamsError: The file is missing or is not YAML, or a key is unknown, missing, of a wrong
            type or out of range. The message names the file, line, key, value and allowed values.
    """
    return with_settings(path, [])


def load_overrides(preset: Path, params: Path) -> dict[str, str]:
    """Read a preset, which is a YAML file with some of the keys of params.yaml.

    Args:
        preset: Path of the preset.
        params: Path of the full params.yaml, which is validated together with the preset.

    Returns:
        Values of the preset by dotted key, in the notation of `dvc exp run --set-param`.

    Raises:
        ParamsError: Either file is missing or invalid; see load_params.
    """
    values, root = _read_yaml(preset)
    full, _ = _read_yaml(params)
    _check(preset, _merged(full, values), root)
    return {key: override_value(value) for key, value in flat(values)}


def override_value(value: Any) -> str:
    """Format a value for `dvc exp run --set-param`, which uses Hydra's notation.

    >>> override_value("categoría de rubro")
    '"categoría de rubro"'

    Args:
        value: Any JSON value except an object.
    """
    if isinstance(value, list):
        return f"[{','.join(map(override_value, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _BARE.fullmatch(value) and value.lower() not in _NO_TEXT:
        return value
    # Backslashes must be doubled before a quote, before `${` and at the end.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    ending = text[len(text.rstrip("\\")) :]
    return f'"{text}{ending}"'


def with_settings(path: str | Path, settings: list[str]) -> Params:
    """Read params.yaml with some values replaced.

    >>> with_settings("params.yaml", ["seed=7", "subset.top_categories=0"])

    Args:
        path: Path of the YAML file, which must be valid before values are replaced.
        settings: Replacements KEY=VALUE with a dotted key and a YAML value; if a key is repeated,
            the last value is used.

    Returns:
        Validated, immutable parameters.

    Raises:
        ParamsError: The file is invalid (see load_params) or a setting is invalid. The message
            names the key.
    """
    path = Path(path)
    values, root = _read_yaml(path)
    _check(path, values, root)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not (key and equals):
            raise ParamsError(f"{setting}: settings have the form KEY=VALUE")
        try:
            change, _ = _parse(text)
        except (YAMLError, ValueError, RecursionError):
            raise ParamsError(f"{key}: not a YAML value (found {text!r})") from None
        for name in reversed(key.split(".")):
            change = {name: change}
        values = _merged(values, change)
    return _check(None, values, None)


def _parse(text: str) -> tuple[Any, Node | None]:
    """Return the content of a YAML document, and its root node, which has line numbers."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    root = yaml.compose(text)
    check_aliases(root)
    return (yaml.constructor.construct_document(root) if root else None), root


def _read_yaml(path: Path) -> tuple[Any, Node | None]:
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file. Run the command in the folder of the project."
        ) from None
    except OSError as error:
        raise ParamsError(f"{path}: not readable: {error.strerror}") from None
    except MarkedYAMLError as error:
        problem = ", ".join(filter(None, (error.context, error.problem)))
        line = (error.problem_mark or error.context_mark).line + 1
        raise ParamsError(f"{path}: not valid YAML: line {line}: {problem}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None


def _check(path: Path | None, values: Any, root: Node | None) -> Params:
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for problem in error.errors():
            problems.setdefault(_keys(problem["loc"]), []).append(dict(problem))
        lines = [_describe(path, root, keys, found) for keys, found in problems.items()]
        raise ParamsError("\n".join(lines)) from None


def _keys(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the keys of a parameter from pydantic's error location, without type names."""
    model: Any = Params
    for depth, key in enumerate(place):
        fields = getattr(model, "model_fields", None)
        if fields is None and not isinstance(key, int):
            return place[:depth]
        model = fields[key].annotation if fields and key in fields else None
    return place


def _merged(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each parameter in nested dictionaries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _describe(
    path: Path | None, root: Node | None, keys: tuple[Any, ...], problems: list[dict[str, Any]]
) -> str:
    first = problems[0]
    places = [".".join(map(str, keys))]
    if path:
        is_of_several = not keys and first["type"] == "value_error"  # several parameters together
        places = [str(path) if is_of_several else f"{path}:{_line_of(root, keys)}", *places]
    where = ": ".join(filter(None, places))
    if first["type"] == "extra_forbidden":
        if keys[0] in ("train_mlp", "train_cnn") and keys[-1] in NetworksParams.model_fields:
            return f"{where}: unknown key. It is now networks.{keys[-1]}, which both networks share"
        model: Any = Params
        for key in keys[:-1]:
            model = model.model_fields[key].annotation
        known = list(model.model_fields)
        close = difflib.get_close_matches(str(keys[-1]), known, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Known keys: {', '.join(known)}"
        return f"{where}: unknown key. {hint}"
    if first["type"] == "missing":
        return f"{where}: missing. Add the key with its value in the default params.yaml."
    message, *others = (problem["msg"].removeprefix("Value error, ") for problem in problems)
    message = message[:1].lower() + message[1:]
    others = [f" or {other.removeprefix('Input should be ')}" for other in others]
    found = "" if isinstance(first["input"], dict) else f" (found {first['input']!r:.200})"
    prefix = f"{where}: " if where else ""
    return f"{prefix}{message}{''.join(others)}{found}"


def _line_of(node: Node | None, keys: tuple[Any, ...]) -> int:
    line = node.start_mark.line if node else 0
    for key in keys:
        if isinstance(node, MappingNode):
            found = [pair for pair in node.value if pair[0].value == str(key)]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, SequenceNode) and isinstance(key, int):
            node = node.value[key]
            line = node.start_mark.line
    return line + 1
