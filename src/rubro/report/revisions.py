"""Read the commit and the model that a report describes, and the metrics of another commit."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from rubro.base.errors import DataError, remedied_by
from rubro.base.files import read_json
from rubro.experiments.dvc_lock import parse_stages
from rubro.experiments.git import git
from rubro.experiments.run_data import DataCache
from rubro.gate.comparison import find_commit
from rubro.prediction.folder import ModelDescription
from rubro.report.content import Content, ReportedRun, read_content


def read_run(metrics: Path, model: Path) -> ReportedRun:
    """Return the commit that is checked out, and the hash of the model.

    Args:
        metrics: Path of the metrics folder.
        model: Path of the model folder, which may be missing.

    Raises:
        DataError: The description of the model is damaged.
    """
    file, fingerprint = model / "model.json", ""
    if file.is_file():
        with remedied_by("Run `dvc checkout` or `dvc repro`, which write the model"):
            fingerprint = read_json(file, ModelDescription).fingerprint
    try:
        commit, date = git("log", "-1", "--format=%H %cs").split()
    except DataError:  # no repository, no commit, or Git is missing
        return ReportedRun(model=fingerprint)
    paths = (str(metrics), "dvc.lock", "params.yaml")
    is_changed = bool(git("status", "--porcelain", "--", *paths, check=False))
    return ReportedRun(commit, date, is_changed, fingerprint)


def read_previous(revision: str, metrics: Path, split: str) -> Content:
    """Read the metrics of a commit: JSON files from Git, and tables from the cache of DVC.

    Args:
        revision: Name of the commit.
        metrics: Path of the metrics folder.
        split: Split to report: "test" or "validation".

    Returns:
        Metrics of the commit; empty if they are missing or have another format.

    Raises:
        DataError: The commit does not exist.
    """
    commit, _ = find_commit(revision)
    cache = DataCache()
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file in git("ls-tree", "-r", "--name-only", commit, f"{metrics}/").splitlines():
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(git("show", f"{commit}:./{file}"), encoding="utf-8")
        lock = git("show", f"{commit}:./dvc.lock", check=False)
        outs = [out for stage in parse_stages(lock, "dvc.lock").values() for out in stage.outs]
        for out in outs:
            if Path(out.path).is_relative_to(metrics):
                for path, cached in cache.files(out.md5 or "").items():
                    target = folder / out.path / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(cached, target)
        try:
            return read_content(folder / metrics, split)
        except DataError:
            return Content(split)
