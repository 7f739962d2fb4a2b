"""Find out whether runs were measured on the same categories and the same titles.

dvc.lock records a hash of data/subset for each run. Its files are read from the cache of DVC.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

from rubro.base.category_tree import CategoryTree
from rubro.experiments.dvc_lock import Stages

SUBSET = "data/subset"
# What differs; "data" means that the data differ but are not in the cache.
DataDifference = Literal["categories", "data", "titles", "labels", ""]  # most important first
_LEVEL_METRIC = re.compile(r"\.levels\.(\d+)\.\w+")
_LABELS, _TREE, _SPLITS = "labels.json", "tree.json", ("validation.parquet", "test.parquet")


@dataclass(frozen=True)
class RunData:
    """Data that a run was trained and measured on.

    Attributes:
        subset: Hash of data/subset in the dvc.lock of the run, or "" if there is none.
        classes: Number of categories in metrics/subset.json, or None if it is unknown.
    """

    subset: str = ""
    classes: float | None = None


@dataclass(frozen=True)
class _Categories:
    labels: frozenset[str | tuple[str, ...]]
    tree: CategoryTree | None

    def nodes(self, level: int | None) -> frozenset[str | tuple[str, ...]]:
        """Return the categories, or the paths of the nodes at a level of the tree."""
        if level is None:
            return self.labels
        if self.tree is None or level > self.tree.depth:
            return frozenset()
        return frozenset(tuple(path[:level]) for path in self.tree.paths.values())


@dataclass(frozen=True)
class _HeldOut:
    """Hashes of the validation and test titles, without and with their categories."""

    titles: str
    labels: str


def subset_hash(stages: Stages) -> str:
    """Return the hash of the titles that the models were trained and measured on, or "".

    Args:
        stages: Stages of a dvc.lock, by name.
    """
    outs = stages["subset"].outs if "subset" in stages else []
    return next((out.md5 or "" for out in outs if out.path == SUBSET), "")


def level_of(metric: str) -> int | None:
    """Return the level of the category tree that a metric describes; None = the categories.

    >>> level_of("test.ensemble.levels.2.accuracy")
    2

    Args:
        metric: Dotted name of a metric.
    """
    found = _LEVEL_METRIC.search(metric)
    return int(found[1]) if found else None


class DataCache:
    """Compare the data of runs. Their files are read only if the hashes differ."""

    def difference(self, run: RunData, base: RunData, level: int | None = None) -> DataDifference:
        """Return what differs between the data of two runs.

        Args:
            run: Data of a run.
            base: Data of the run to compare it with.
            level: Level of the category tree whose nodes are compared; None = the categories.

        Returns:
            "categories" if the categories (or the nodes) differ, "titles" if only the validation or test
            titles differ, "labels" if only the categories of these titles differ (because some were
            corrected), "data" if the data differ but are not in the cache, and "" if nothing differs or
            the data of a run are unknown.
        """
        if not run.subset or not base.subset or run.subset == base.subset:
            return ""
        one, other = (_categories(self._folder, data.subset) for data in (run, base))
        if one is None or other is None:
            is_counted = level is None and run.classes and base.classes
            return "categories" if is_counted and run.classes != base.classes else "data"
        if one.nodes(level) != other.nodes(level):
            return "categories"
        rows, base_rows = (_held_out(self._folder, data.subset) for data in (run, base))
        if rows is None or base_rows is None:
            return "data"
        if rows.titles != base_rows.titles:
            return "titles"
        # At a level, labels differ anyway if the categories differ.
        has_same_labels = one.labels != other.labels or rows.labels == base_rows.labels
        return "" if has_same_labels else "labels"

    def shared_level(self, run: RunData, base: RunData) -> int | None:
        """Return the deepest level at which the trees of two runs have the same nodes, or None."""
        one, other = (_categories(self._folder, data.subset) for data in (run, base))
        if one and other and one.tree and other.tree:
            for level in range(min(one.tree.depth, other.tree.depth), 0, -1):
                if one.nodes(level) == other.nodes(level):
                    return level
        return None

    def files(self, digest: str) -> dict[str, Path]:
        """Return the path in the cache of each file of a folder, by its name; {} if it is missing.

        Args:
            digest: Hash of the folder in dvc.lock.
        """
        return _files(self._folder, digest)

    @cached_property
    def _folder(self) -> Path | None:
        """Folder of files by their MD5 in the cache, or None if there is no cache."""
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with Repo() as repo:
                return Path(repo.cache.local.path)
        except DvcException:
            return None


@cache
def _categories(folder: Path | None, subset: str) -> _Categories | None:
    """Return the categories of a run and their tree; None if they are not in the cache."""
    files = _files(folder, subset)
    try:
        labels = json.loads(files[_LABELS].read_bytes())
        tree = None
        if _TREE in files:
            tree = CategoryTree.model_validate_json(files[_TREE].read_bytes())
        return _Categories(frozenset(labels), tree)
    except (OSError, ValueError, LookupError, TypeError):
        return None


@cache
def _held_out(folder: Path | None, subset: str) -> _HeldOut | None:
    """Return hashes of the validation and test rows; None if they are not in the cache."""
    from pyarrow.lib import ArrowException
    from pyarrow.parquet import ParquetFile

    files, titles, labels = _files(folder, subset), hashlib.sha256(), hashlib.sha256()
    try:
        for name in _SPLITS:
            with ParquetFile(files[name]) as file:
                table = file.read(["title", "category"], use_threads=False)
            rows = sorted(
                zip(*(table[column].to_pylist() for column in table.column_names), strict=True)
            )
            titles.update(json.dumps([name, [title for title, _ in rows]]).encode())
            labels.update(json.dumps([name, rows]).encode())
    except (OSError, LookupError, TypeError, ArrowException):
        return None
    return _HeldOut(titles.hexdigest(), labels.hexdigest())


@cache
def _files(folder: Path | None, digest: str) -> dict[str, Path]:
    """Return the path in the cache of each file of a folder, by its name."""
    if folder is None:
        return {}
    try:
        listed = json.loads((folder / digest[:2] / digest[2:]).read_bytes())
        return {file["relpath"]: folder / file["md5"][:2] / file["md5"][2:] for file in listed}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
