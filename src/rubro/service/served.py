"""Read the model that the service predicts with, and reload it when its files change."""

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
class Served:
    """A model in memory, and the state of its files when it was read.

    Attributes:
        folder: Model folder.
        thresholds_file: File with minimum confidences; None = accept every prediction.
        stamp: Inode, size and modification time of each file before it was read.
        classifier: Model of the folder.
        thresholds: Content of the thresholds file; None = accept every prediction.
        identity: Name, format, commit and hash of the model folder. The commit is the value of
            RUBRO_COMMIT or of the Git repository that contains the folder; None = unknown.
    """

    folder: Path
    thresholds_file: Path | None
    stamp: Stamp
    classifier: Classifier
    thresholds: Thresholds | None
    identity: dict[str, str | None]


def read_model(folder: Path, thresholds_file: Path | None = None) -> Served:
    """Read a model into memory.

    Args:
        folder: Model folder.
        thresholds_file: File with minimum confidences; None = accept every prediction.

    Raises:
        DataError: A file is missing, damaged or of an unknown format, or the thresholds belong to
            another model.
    """
    stamp = _stamp(folder, thresholds_file)
    model = Model.load(folder)
    # Copied, because overwriting a memory-mapped file would crash this process.
    tensors = {
        name: {key: np.array(tensor) for key, tensor in arrays.items()}
        for name, arrays in model.tensors.items()
    }
    classifier = Classifier(replace(model, tensors=tensors, titles=None))
    thresholds = Thresholds.load(thresholds_file, folder) if thresholds_file else None
    identity = {
        "name": classifier.description.name,
        "format": classifier.description.format,
        "commit": _commit(folder),
        "hash": fingerprint(folder),
    }
    return Served(folder, thresholds_file, stamp, classifier, thresholds, identity)


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


def _stamp(folder: Path, thresholds_file: Path | None) -> Stamp:
    """Return the inode, size and modification time of each file; [] if a file cannot be read."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        files += [thresholds_file] if thresholds_file else []
        stats = [(path.name, path.stat()) for path in files]
    except OSError:
        return []
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


async def watch(served: Served, on_change: Callable[[Served | None], None]) -> None:
    """Reload the model whenever its files have changed and then stayed the same for a second.

    Args:
        served: Model in use at the start.
        on_change: Function that is called with the new model, or with None if it cannot be read.
    """
    files = (served.folder, served.thresholds_file)
    before = read = served.stamp
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        now = await asyncio.to_thread(_stamp, *files)
        is_stable, before = now == before, now  # files that still change may be incomplete
        if now == read or not is_stable:
            continue
        read = now
        try:
            on_change(await asyncio.to_thread(read_model, *files))
        except (RubroError, OSError) as error:
            _LOG.error("the model in use is kept, because the new model cannot be read: %s", error)
            on_change(None)
