"""Test how complete, missing and damaged files of the folder metrics are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rubro.base.errors import DataError
from rubro.report.content import read_content
from support.report_metrics import HOSTILE_NAMES, MODELS

pytest_plugins = ["support.report_metrics"]


def test_every_file_is_read(original_metrics: Path) -> None:
    content = read_content(original_metrics, "test")
    assert tuple(content.models) == MODELS
    assert list(content.differences) == [("mlp", "cnn")]
    assert content.subset and content.subset.dropped["not_json"] == 3
    assert content.description and content.description.params["seed"] == 1
    assert content.curves["mlp"]["loss"]["validation"][1].value == 0.75
    for bins in (*content.reliability.values(), *content.reliability_before.values()):
        assert sum(row.titles for row in bins) == 200
    assert all(points[-1].coverage == 1.0 for points in content.coverage.values())
    assert {row.category for row in content.categories} == set(HOSTILE_NAMES)
    assert len(content.mistakes) and len(content.pairs) == 10
    assert content.confusions[0].category == content.pairs[0].category
    assert content.missing == []


def test_only_the_requested_split_is_read(original_metrics: Path) -> None:
    test, validation = (read_content(original_metrics, name) for name in ("test", "validation"))
    assert test.models["mlp"] != validation.models["mlp"]
    assert test.coverage["mlp"] != validation.coverage["mlp"]


def test_missing_files_are_listed_and_the_others_are_read(metrics: Path) -> None:
    shutil.rmtree(metrics / "evaluation")
    shutil.rmtree(metrics / "curves" / "cnn")
    content = read_content(metrics, "test")
    assert content.models["ensemble"].accuracy > 0
    assert list(content.curves) == ["mlp"]
    assert content.categories == [] and content.description is None
    missing = {path.relative_to(metrics).as_posix() for path in content.missing}
    assert "evaluation/test/ensemble/classes.csv" in missing
    assert "curves/cnn/plots/metrics/train/loss.tsv" in missing
    assert len(missing) == 1 + 8 + 4 * 3 + 1 + 7


def test_a_table_without_rows_is_valid(metrics: Path) -> None:
    path = metrics / "evaluation/test/ensemble/mistakes.csv"
    path.write_text(path.read_text(encoding="utf-8").partition("\n")[0], encoding="utf-8")
    content = read_content(metrics, "test")
    assert content.mistakes == []
    assert content.missing == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("evaluate.json", '"accuracy": 0', '"accuracy": 7', "evaluate.json: ensemble: accuracy"),
        ("evaluate.json", '"macro_f1"', '"macro"', "evaluate.json: ensemble: macro_f1"),
        ("train_mlp.json", '"epoch": 1', '"epoch": "last"', "train_mlp.json: best: epoch"),
        ("evaluate.json", "{", "", "evaluate.json: Invalid JSON"),
        ("subset.json", '"classes": 8', '"classes": "8"', "subset.json: classes"),
        ("evaluation/test/ensemble/classes.csv", "recall", "x", "classes.csv: 0: recall"),
        ("evaluation/test/svm/coverage.csv", ",1.0,", ",nan,", "coverage.csv: "),
        ("curves/mlp/plots/metrics/train/loss.tsv", "0.75", "x", "loss.tsv: 1: loss"),
        ("evaluation/test/svm/coverage.csv", "confidence", "\udcff", "coverage.csv: 'utf-8'"),
    ],
)
def test_a_damaged_file_is_reported_with_its_name_and_a_remedy(
    metrics: Path, file: str, old: str, new: str, message: str
) -> None:
    path = metrics / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match="`dvc repro`") as error:
        read_content(metrics, "test")
    assert message in str(error.value)


def test_a_folder_without_metrics_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics: .*`dvc repro`"):
        read_content(tmp_path / "metrics", "test")
