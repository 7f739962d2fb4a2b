"""Read the model that the service predicts with, and reload it when its files change."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rubro.base.category_tree import CategoryTree
from rubro.base.errors import RubroError
from rubro.base.metric_names import Objective
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model
from rubro.prediction.thresholds import Thresholds
from rubro.service.logs import log_event

_WATCH_SECONDS = 1.0
_MAX_RETRY_SECONDS = 60.0
_GIT_SECONDS = 5.0
_EXAMPLES = 3
_TRIED_EXAMPLES = 20
Stamp = list[tuple[str, int, int, int, int, int]]


@dataclass(frozen=True)
class Served:
    """A model in memory, and the state of its files when it was read.

    Attributes:
        folder: Model folder.
        thresholds_file: File with minimum confidences; None = the file in the model folder, if any.
        no_thresholds: Whether every prediction is accepted, even if the folder contains thresholds.
        objective: Metric for which the model must answer; None = the one it was trained for.
        stamp: Device, inode, size and times of each file before it was read.
        classifier: Model of the folder.
        thresholds: Minimum confidences; None = accept every prediction.
        paths: Names from the root of each node of the category tree, by the name of the node; empty if
            the model has no tree.
        identity: Name, format, objective, commit and hash of the model. The commit is the value of
            RUBRO_COMMIT or of the Git repository that contains the folder; None = unknown.
        date: UTC date on which model.json was written, as YYYY-MM-DD.
        examples: Up to three training titles that the model sorts correctly; empty if the folder
            contains no training titles.
    """

    folder: Path
    thresholds_file: Path | None
    no_thresholds: bool
    objective: Objective | None
    stamp: Stamp
    classifier: Classifier
    thresholds: Thresholds | None
    identity: dict[str, str | None]
    paths: dict[str, list[str]]
    date: str
    examples: list[str]

    @property
    def summary(self) -> str:
        """Name of the model, number of its categories, and precision that its thresholds promise."""
        text = f"{self.classifier.name}, {len(self.classifier.classes_)} categories"
        if self.thresholds is None:
            return text
        return f"{text}, thresholds for a precision of {self.thresholds.precision:.4g}"


def read_model(
    folder: Path,
    thresholds_file: Path | None = None,
    no_thresholds: bool = False,
    objective: Objective | None = None,
) -> Served:
    """Read a model into memory.

    Args:
        folder: Model folder.
        thresholds_file: File with minimum confidences; None = the file in the model folder, if any.
        no_thresholds: Whether to accept every prediction, even if the folder contains thresholds.
        objective: Metric for which the model must answer; None = the one it was trained for.

    Raises:
        DataError: A file is missing, damaged or of an unknown format, the model cannot serve the
            objective, or the thresholds belong to another model or objective.
    """
    # If the folder is a link, it may be switched meanwhile. All files are read from one folder.
    opened = folder.resolve()
    stamp = _stamp(opened, thresholds_file)
    model = Model.load(opened)
    classifier = Classifier(replace(model, titles=None).serving(objective))
    description = classifier.description
    classifier.predict([" ".join(classifier.vocabulary)])  # raises DataError if weights overflow
    thresholds = None
    if not no_thresholds:
        thresholds = Thresholds.of_model(opened, description, thresholds_file)
    identity = {
        "name": description.name,
        "format": description.format,
        "objective": description.objective,
        "commit": _commit(folder),
        "hash": description.fingerprint,
    }
    source = folder, thresholds_file, no_thresholds, objective, stamp
    written = datetime.fromtimestamp((opened / "model.json").stat().st_mtime, UTC)
    facts = _paths(description.tree), written.date().isoformat(), _examples(model, classifier)
    return Served(*source, classifier, thresholds, identity, *facts)


def _examples(model: Model, classifier: Classifier) -> list[str]:
    """Return training titles of the most common categories that the model sorts correctly."""
    if model.titles is None:
        return []
    present, first, counts = np.unique(
        model.titles["categories"], return_index=True, return_counts=True
    )
    common = np.argsort(-counts, kind="stable")[:_TRIED_EXAMPLES]
    text, starts = model.titles["text"], model.titles["text_starts"]
    titles = [
        text[starts[row] : starts[row + 1]].tobytes().decode("utf-8", "replace")
        for row in first[common]
    ]
    categories = [classifier.classes_[category] for category in present[common]]
    answered = zip(titles, categories, classifier.predict(titles), strict=True)
    return [title for title, category, predicted in answered if category == predicted][:_EXAMPLES]


def _paths(tree: CategoryTree | None) -> dict[str, list[str]]:
    """Return the names from the root of each node of a tree, by the name of the node."""
    paths: dict[str, list[str]] = {}
    if tree is None:
        return paths
    for level in tree.levels:
        for path, node in zip(tree.paths.values(), level.node_of.tolist(), strict=True):
            paths.setdefault(level.nodes[node], path[: level.lengths[node]])
    return paths


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
    """Return the device, inode, size and times of each file; [] if a file cannot be found."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        files += [thresholds_file] if thresholds_file else []
        stats = [(path.name, path.stat()) for path in files]
    except OSError:
        return []
    # The status change time also shows new permissions, and new content of the same size whose
    # modification time was set to the old one.
    return [
        (name, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        for name, stat in stats
    ]


async def watch(served: Served, on_change: Callable[[Served | None], None]) -> None:
    """Reload the model whenever its files have changed and then stayed the same for a second.

    A model that cannot be read is read again after 1, 2, 4, ... seconds, at most a minute, because
    the cause may disappear without a change of its files, such as a lack of memory.

    Args:
        served: Model in use at the start.
        on_change: Function that is called with the new model, or with None if changed files cannot
            be read.
    """
    files = served.folder, served.thresholds_file
    model_hash = served.identity["hash"]
    before = read = served.stamp
    wait, retry_at = 0.0, math.inf
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        now = await asyncio.to_thread(_stamp, *files)
        is_stable, before = now == before, now  # files that still change may be incomplete
        is_new = now != read
        if not is_stable or not (is_new or time.monotonic() >= retry_at):
            continue
        read = now
        try:
            new = await asyncio.to_thread(
                read_model, *files, served.no_thresholds, served.objective
            )
        except Exception as error:  # noqa: BLE001 (also a MemoryError must not end this loop)
            wait = _WATCH_SECONDS if is_new else min(2 * wait, _MAX_RETRY_SECONDS)
            retry_at = time.monotonic() + wait
            if is_new:
                reason = str(error) or type(error).__name__
                log_event(
                    "refuse_model",
                    f"the model in use is kept, because the new model cannot be read: {reason}",
                    logging.ERROR,
                    model_hash=model_hash,
                    exc_info=not isinstance(error, RubroError | OSError | MemoryError),
                )
                on_change(None)
        else:
            read, retry_at = new.stamp, math.inf
            before_hash, model_hash = model_hash, new.identity["hash"]
            message = f"loaded the new model {new.summary}"
            log_event("reload_model", message, model_hash=model_hash, previous_hash=before_hash)
            on_change(new)
