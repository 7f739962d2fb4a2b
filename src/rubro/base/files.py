"""Write the files that pipeline stages exchange reproducibly, and check them when reading."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rubro.base.errors import FileError
from rubro.base.outputs import replacing

T = TypeVar("T")
_HASHED_BYTES = 2**18
_MAX_JSON_BYTES = 2**29  # larger files would fill the memory before their content is checked
_Layout = Mapping[str, tuple[str, tuple[int | None, ...]]]
_NUMPY_TYPES = {
    "BOOL": "?",
    "F32": "<f4",
    "F16": "<f2",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
}


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically.

    Args:
        path: Path of the file; its folder is created if missing.
        content: Values that JSON can represent.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file atomically, so that equal tensors give identical bytes.

    Args:
        path: Path of the file; its folder is created if missing.
        tensors: Arrays by name.
    """
    with replacing(path) as partial:
        partial.write_bytes(save({name: np.ascontiguousarray(t) for name, t in tensors.items()}))


def damaged(path: Path, problem: str) -> FileError:
    """Return the error for a file that was changed after rubro wrote it."""
    return FileError(f"{path}: {problem}")


def require_file(path: Path) -> None:
    """Check that a file exists and can be read.

    Raises:
        FileError: The file is missing.
        OSError: The file cannot be opened.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    with open(path, "rb"):  # libraries report a file without permission as missing
        pass


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 digest of each file in a folder, by name of the file.

    Raises:
        FileError: A file is missing.
    """
    digests = {}
    for name in names:
        require_file(folder / name)
        with open(folder / name, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _read_hashed(path: Path, sha256: str) -> np.ndarray:
    """Return the bytes of a file, uint8 (size,), after comparing their SHA-256 with a given one."""
    digest, done = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        content = np.empty(os.fstat(file.fileno()).st_size, dtype=np.uint8)
        # Each part is hashed while it is in the cache of the processor.
        while count := file.readinto(content.data[done : done + _HASHED_BYTES]):
            digest.update(content.data[done : done + count])
            done += count
    if digest.hexdigest() != sha256:
        raise damaged(
            path,
            "its SHA-256 differs from the one in model.json, because the folder mixes files of two "
            "models or the file is damaged",
        )
    content.flags.writeable = False
    return content[:done]


def read_json(path: Path, kind: type[T], sha256: str | None = None) -> T:
    """Read and validate a JSON file.

    Args:
        path: Path of the file.
        kind: Type that pydantic validates the content against, such as a model or list[str].
        sha256: Expected SHA-256 of the file, in hexadecimal digits; None = do not check it.

    Returns:
        Validated content.

    Raises:
        FileError: The file is missing, is too large, has another SHA-256, is not JSON, does not
            match the type or repeats a key.
    """

    def without_repeats(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
            raise damaged(path, f"key {key[:100]!a} is listed twice")

    require_file(path)
    if (size := path.stat().st_size) > _MAX_JSON_BYTES:
        raise damaged(path, f"it has {size:,} bytes, but may have at most {_MAX_JSON_BYTES:,}")
    content = path.read_bytes() if sha256 is None else _read_hashed(path, sha256).tobytes()
    try:
        checked = TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        raise damaged(path, first_problem(error)) from None
    json.loads(content, object_pairs_hook=without_repeats)
    return checked


def first_problem(error: ValidationError) -> str:
    """Return the location and the message of the first problem that pydantic found."""
    first = error.errors(include_url=False)[0]
    keys = [str(key)[:100] for key in first["loc"]]
    return ": ".join([*(key if key.isprintable() else ascii(key) for key in keys), first["msg"]])


def read_tensors(path: Path, layout: _Layout, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Read the tensors of a safetensors file and check them.

    With a hash, the file is read into memory, so that later changes of the file have no effect.
    Without a hash, it is mapped into memory.

    Args:
        path: Path of the file.
        layout: Data type (in safetensors notation) and shape of each tensor by name; None in a
            shape allows any size.
        sha256: Expected SHA-256 of the file, in hexadecimal digits; None = do not check it.

    Returns:
        Read-only tensors by name.

    Raises:
        FileError: The file is missing or damaged, has another layout or SHA-256, or contains NaN or
            infinity.
    """
    require_file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            stored = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (each.get_dtype(), each.get_shape()) for name, each in stored.items()}
    except SafetensorError as error:
        raise damaged(path, f"not a complete safetensors file ({error})") from None
    _check_layout(path, found, layout)
    if sha256 is None:
        content = np.asarray(np.memmap(path, mode="r"))
    else:
        content = _read_hashed(path, sha256)
    tensors = _tensors_in(content)
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise damaged(path, f"tensor {name} contains NaN or infinity")
        if tensor.dtype.kind == "b" and (tensor.view(np.uint8) > 1).any():
            raise damaged(path, f"tensor {name} contains bytes other than 0 and 1")
    return tensors


def _tensors_in(content: np.ndarray) -> dict[str, np.ndarray]:
    """Return views of the tensors in the bytes of a safetensors file with a valid header."""
    size = int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8 : 8 + size].tobytes())
    tensors = {}
    for name in header.keys() - {"__metadata__"}:
        begin, end = (8 + size + offset for offset in header[name]["data_offsets"])
        dtype = _NUMPY_TYPES[header[name]["dtype"]]
        tensors[name] = content[begin:end].view(dtype).reshape(header[name]["shape"])
    return tensors


def _check_layout(path: Path, found: dict[str, tuple[str, list[int]]], layout: _Layout) -> None:
    missing, unknown = layout.keys() - found.keys(), found.keys() - layout.keys()
    for problem, names in (("no tensor", missing), ("unknown tensor", unknown)):
        if names:
            raise damaged(path, f"{problem} {min(names)[:100]!a}")
    for name, (dtype, shape) in layout.items():
        found_dtype, found_shape = found[name]
        same = len(found_shape) == len(shape) and all(
            size in (None, found) for size, found in zip(shape, found_shape, strict=True)
        )
        if found_dtype != dtype or not same:
            sizes = ", ".join("any" if size is None else str(size) for size in shape)
            problem = f"is {found_dtype} {found_shape}, but must be {dtype} [{sizes}]"
            raise damaged(path, f"tensor {name} {problem}")
