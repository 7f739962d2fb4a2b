"""The model that the service answers with, and its replacement when its folder changes."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rubro.base.errors import RubroError
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model, fingerprint
from rubro.prediction.thresholds import Thresholds

_LOG = logging.getLogger("rubro.service")
_WATCH_SECONDS = 1.0
_GIT_SECONDS = 5.0
Stamp = list[tuple[str, int, int, int]]


@dataclass(frozen=True)
class Source:
    """Files of a model.

    Attributes:
        folder: Model folder.
        thresholds: File of thresholds of the model; None = any answer is accepted.
    """

    folder: Path
    thresholds: Path | None = None


@dataclass(frozen=True)
class Served:
    """A model folder as it was when it was read.

    Attributes:
        classifier: Model of the folder.
        thresholds: Thresholds of the model; None = any answer is accepted.
        hash: Hash of the folder; see folder.fingerprint.
        commit: Commit of the Git repository around the folder, or the value of RUBRO_COMMIT; None =
            unknown.
    """

    classifier: Classifier
    thresholds: Thresholds | None
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


def read_model(source: Source) -> Served:
    """Read a model into memory.

    Args:
        source: Files of the model.

    Raises:
        DataError: A file is missing, damaged, of an unknown format or of another model.
    """
    folder = source.folder
    model = Model.load(folder)
    # In the mapped file, who writes over it would end this process.
    tensors = {
        name: {key: np.array(tensor) for key, tensor in arrays.items()}
        for name, arrays in model.tensors.items()
    }
    classifier = Classifier(replace(model, tensors=tensors, titles=None))
    path = source.thresholds
    thresholds = None if path is None else Thresholds.load(path, folder)
    return Served(classifier, thresholds, fingerprint(folder), _commit(folder))


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


def stamp_of(source: Source) -> Stamp:
    """Return what tells changed files: inode, size and time of change of each.

    Args:
        source: Files of a model; a folder that cannot be read has none.
    """
    try:
        files = sorted(path for path in source.folder.iterdir() if path.is_file())
        files += [source.thresholds] if source.thresholds else []
        stats = [(path.name, path.stat()) for path in files]
    except OSError:
        return []
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


async def watch(source: Source, seen: Stamp, replaced: Callable[[Served | None], None]) -> None:
    """Read a model again whenever its files have changed and then been left alone for a second.

    Args:
        source: Files of the model.
        seen: Stamp of these files when they were last read.
        replaced: Function that takes the new model; None = it cannot be read, and the old one stays.
    """
    before = seen
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        now = await asyncio.to_thread(stamp_of, source)
        if now not in (before, seen):
            before = now  # perhaps half of it is written
            continue
        before = now
        if now == seen:
            continue
        seen = now
        try:
            replaced(await asyncio.to_thread(read_model, source))
        except (RubroError, OSError) as error:
            _LOG.error("the model in use stays: %s", error)
            replaced(None)
