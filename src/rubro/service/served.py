"""The model that the service answers with, and its replacement when its folder changes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rubro.base.errors import RubroError
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model

_LOG = logging.getLogger("rubro.service")
_WATCH_SECONDS = 1.0
_GIT_SECONDS = 5.0
Stamp = list[tuple[str, int, int, int]]


@dataclass(frozen=True)
class Served:
    """A model folder as it was when it was read.

    Attributes:
        classifier: Model of the folder.
        hash: SHA-256 of the names and contents of its files, in hexadecimal.
        commit: Commit of the Git repository around the folder, or the value of RUBRO_COMMIT; None =
            unknown.
    """

    classifier: Classifier
    hash: str
    commit: str | None

    @property
    def identity(self) -> dict[str, str | None]:
        """Name, format, commit and hash of the model."""
        description = self.classifier.description
        return {
            "name": description.name,
            "format": description.format,
            "commit": self.commit,
            "hash": self.hash,
        }


def read_model(folder: Path) -> Served:
    """Read a model folder into memory.

    Args:
        folder: Path of a model folder.

    Raises:
        DataError: A file is missing, damaged or of an unknown format.
    """
    model = Model.load(folder)
    # In the mapped file, who writes over it would end this process.
    tensors = {
        name: {key: np.array(tensor) for key, tensor in arrays.items()}
        for name, arrays in model.tensors.items()
    }
    return Served(Classifier(replace(model, tensors=tensors)), _hash(folder), _commit(folder))


def _hash(folder: Path) -> str:
    found = hashlib.sha256()
    for path in _files(folder):
        found.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with open(path, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _commit(folder: Path) -> str | None:
    if given := os.environ.get("RUBRO_COMMIT"):
        return given
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def stamp_of(folder: Path) -> Stamp:
    """Return what tells a changed folder: inode, size and time of change of each file.

    Args:
        folder: Path of a folder; one that cannot be read has no files.
    """
    try:
        stats = [(path.name, path.stat()) for path in _files(folder)]
    except OSError:
        return []
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


async def watch(folder: Path, seen: Stamp, replaced: Callable[[Served | None], None]) -> None:
    """Read a model folder again whenever it has changed and then been left alone for a second.

    Args:
        folder: Path of the model folder.
        seen: Stamp of the folder when it was last read.
        replaced: Function that takes the new model; None = it cannot be read, and the old one stays.
    """
    before = seen
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        now = await asyncio.to_thread(stamp_of, folder)
        if now not in (before, seen):
            before = now  # perhaps half of it is written
            continue
        before = now
        if now == seen:
            continue
        seen = now
        try:
            replaced(await asyncio.to_thread(read_model, folder))
        except (RubroError, OSError) as error:
            _LOG.error("the model in use stays: %s", error)
            replaced(None)
