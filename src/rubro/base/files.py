"""Files that stages hand on: bytes that depend on content alone, and nothing read unchecked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rubro.base.errors import DataError

T = TypeVar("T")


def write_json(path: Path, content: Any) -> None:
    """Write JSON, replacing the file in one step.

    Args:
        path: where; its folder is made if missing.
        content: plain values; NaN and infinity, which JSON does not have, are an error.

    Raises:
        ValueError: content holds NaN or infinity.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file, replacing it in one step; the same bytes each time.

    Args:
        path: Path of the file; its folder exists.
        tensors: Arrays by name.
    """
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save({name: np.ascontiguousarray(t) for name, t in tensors.items()}))
    partial.replace(path)


def damaged(path: Path, problem: str) -> DataError:
    """The error for a file that is not as a stage wrote it."""
    return DataError(
        f"{path}: {problem}; it is not as its stage wrote it: `dvc repro` makes it again"
    )


def require_file(path: Path) -> None:
    """Stop with a DataError where a file that a stage should have written is missing."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; `dvc repro` makes what a stage reads")


def read_json(path: Path, kind: type[T]) -> T:
    """Read JSON of a known schema.

    Args:
        path: the file.
        kind: what pydantic can check: a model, list[str] ...

    Returns:
        The checked content.

    Raises:
        DataError: the file is missing, not JSON, not of the schema, or has a key twice.
    """

    def without_repeats(pairs: list[tuple[str, Any]]) -> None:
        keys = Counter(key for key, _ in pairs)
        for key, count in keys.most_common(1):
            if count > 1:
                raise damaged(path, f"{key[:100]!a} is there twice")

    require_file(path)
    content = path.read_bytes()
    try:
        checked = TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{key}: " for key in first["loc"])
        raise damaged(path, f"{where}{first['msg']}") from None
    json.loads(content, object_pairs_hook=without_repeats)
    return checked


def read_tensors(
    path: Path, layout: Mapping[str, tuple[str, tuple[int | None, ...]]]
) -> dict[str, np.ndarray]:
    """Read a safetensors file of a known layout. No code in it is run, as a pickle's would be.

    Nothing is allocated before the header agrees with the layout and with the file's size.

    Args:
        path: the file.
        layout: by name, each tensor's safetensors dtype and shape; None = any size.

    Returns:
        The tensors by name.

    Raises:
        DataError: the file is missing, damaged, of another layout, or holds NaN or infinity.
    """
    require_file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            _check_names(path, set(file.keys()), set(layout))
            for name, (dtype, shape) in layout.items():
                stored = file.get_slice(name)
                _check_layout(path, name, stored.get_dtype(), stored.get_shape(), dtype, shape)
            tensors = {name: file.get_tensor(name) for name in layout}
    except SafetensorError as error:
        raise damaged(path, f"not a whole safetensors file ({error})") from None
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise damaged(path, f"tensor {name} holds NaN or infinity")
        if tensor.dtype.kind == "b" and (tensor.view(np.uint8) > 1).any():
            raise damaged(path, f"tensor {name} holds bytes that are no booleans")
    return tensors


def _check_names(path: Path, found: set[str], wanted: set[str]) -> None:
    for problem, names in (("no tensor", wanted - found), ("unknown tensor", found - wanted)):
        if names:
            raise damaged(path, f"{problem} {min(names)[:100]!a}")


def _check_layout(
    path: Path,
    name: str,
    found_dtype: str,
    found_shape: list[int],
    dtype: str,
    shape: tuple[int | None, ...],
) -> None:
    same = len(found_shape) == len(shape) and all(
        size in (None, found) for size, found in zip(shape, found_shape, strict=True)
    )
    if found_dtype != dtype or not same:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise damaged(
            path,
            f"tensor {name} is {found_dtype} {found_shape}, and {dtype} [{sizes}] is needed",
        )
