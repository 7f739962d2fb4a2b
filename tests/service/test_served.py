"""Test that a changed model folder is read again, and that no answer mixes two models."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rubro.base.errors import DataError
from rubro.prediction.folder import Decision, Model
from rubro.service import served as module
from rubro.service.served import Served, read_model, watch
from support.keyword_model import write_model, write_thresholds

SECONDS = 30.0


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WATCH_SECONDS", 0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A model with other categories and weights, whose files have the same sizes."""
    folder = write_model(tmp_path / "other")
    model = Model.load(folder)
    labels = {"labels": [label[::-1] for label in model.description.labels]}
    tensors = {name: tensor.copy() for name, tensor in model.tensors["svm"].items()}
    tensors["weights"] += np.float16(1)
    description = model.description.model_copy(update=labels)
    Model(description, model.vocabulary, {"svm": tensors}).save(folder)
    return folder


def outcomes(served: Served, *steps: Callable[[], Any]) -> list[Served | None]:
    """Watch a folder, take each step after an outcome of the previous one, and return them."""
    found: list[Served | None] = []

    async def run() -> None:
        watching = asyncio.create_task(watch(served, found.append))
        for number, step in enumerate(steps, 1):
            step()
            async with asyncio.timeout(SECONDS):
                while len(found) < number:
                    assert not watching.done(), watching
                    await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(run())
    return found


def categories(served: Served | None) -> list[str]:
    assert served is not None
    return served.classifier.classes_


def test_new_content_with_the_old_sizes_and_times_is_read(folder: Path, other: Path) -> None:
    def overwrite() -> None:
        for source in other.iterdir():
            path = folder / source.name
            before = path.stat()
            path.write_bytes(source.read_bytes())
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert path.stat().st_size == before.st_size

    (new,) = outcomes(read_model(folder), overwrite)
    assert categories(new) == read_model(other).classifier.classes_


def test_a_reloaded_model_keeps_the_objective_of_the_service(folder: Path, other: Path) -> None:
    for each in (folder, other):
        model = Model.load(each)
        changes = {"decisions": {"macro_f1": Decision()}}
        replace(model, description=model.description.model_copy(update=changes)).save(each)
    served = read_model(folder, objective="macro_f1")
    (new,) = outcomes(served, lambda: shutil.copytree(other, folder, dirs_exist_ok=True))
    assert categories(new) == read_model(other).classifier.classes_
    assert new is not None
    assert new.identity["objective"] == new.classifier.description.objective == "macro_f1"


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(13, "denied"), ValueError("x")])
def test_a_model_is_read_again_after_an_error_that_changes_no_file(
    folder: Path, other: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors, load = [error] * 3, Model.load

    def fail_at_first(folder: Path) -> Model:
        if errors:
            raise errors.pop()
        return load(folder)

    served = read_model(folder)
    monkeypatch.setattr(Model, "load", fail_at_first)
    replace_all = lambda: shutil.copytree(other, folder, dirs_exist_ok=True)
    failed, new = outcomes(served, replace_all, lambda: None)
    assert failed is None
    assert categories(new) == read_model(other).classifier.classes_


@pytest.mark.parametrize("name", ["model.json", "svm.safetensors"])
def test_a_mixed_folder_is_refused_until_it_is_complete(
    folder: Path, other: Path, name: str
) -> None:
    def copy(names: Iterable[str]) -> None:
        for each in names:
            shutil.copy(other / each, folder / each)

    others = [path.name for path in other.iterdir() if path.name != name]
    refused, new = outcomes(read_model(folder), lambda: copy([name]), lambda: copy(others))
    assert refused is None
    assert categories(new) == read_model(other).classifier.classes_


def test_all_files_are_read_from_one_folder_if_a_link_is_switched_meanwhile(
    folder: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, load = tmp_path / "link", Model.load
    link.symlink_to(folder)

    def switch_first(opened: Path) -> Model:
        link.unlink()
        link.symlink_to(other)
        return load(opened)

    monkeypatch.setattr(Model, "load", switch_first)
    served = read_model(link)
    assert served.classifier.classes_ == load(folder).description.labels
    monkeypatch.setattr(Model, "load", load)
    (new,) = outcomes(served, lambda: None)
    assert categories(new) == load(other).description.labels


def test_thresholds_in_the_model_folder_are_used_and_reloaded(folder: Path, other: Path) -> None:
    path = folder / "thresholds.json"
    write_thresholds(path, folder, [0.25] * 4)
    write_thresholds(other / path.name, other, [0.75] * 4)
    served = read_model(folder)
    assert read_model(folder, no_thresholds=True).thresholds is None
    old = path.read_bytes()
    steps: list[Callable[[], Any]] = [
        lambda: path.write_text("{"),
        lambda: path.write_bytes(old),
        lambda: shutil.copy(other / path.name, path),
        lambda: shutil.copytree(other, folder, dirs_exist_ok=True),
        path.unlink,
    ]
    found = outcomes(served, *steps)
    assert [each is None for each in found] == [True, False, True, False, False]
    thresholds = [each.thresholds for each in (served, *found) if each]
    minimums = [each and {c.confidence for c in each.categories.values()} for each in thresholds]
    assert minimums == [{0.25}, {0.25}, {0.75}, None]


def test_a_service_without_thresholds_stays_without_them(folder: Path, other: Path) -> None:
    write_thresholds(other / "thresholds.json", other, [0.75] * 4)
    served = read_model(folder, no_thresholds=True)
    (new,) = outcomes(served, lambda: shutil.copytree(other, folder, dirs_exist_ok=True))
    assert new is not None
    assert new.thresholds is None


def test_a_model_whose_sums_overflow_is_refused(folder: Path) -> None:
    model = Model.load(folder)
    tensors = {**model.tensors["svm"], "bias": np.full(4, 3e38, np.float32)}
    Model(model.description, model.vocabulary, {"svm": tensors}).save(folder)
    with pytest.raises(DataError, match="overflow"):
        read_model(folder)
