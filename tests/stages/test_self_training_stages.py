"""Stages on a catalogue with few labelled and many unlabelled titles."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from rubro.base.params_file import load_params
from rubro.data.splits import UNLABELLED, load_products, load_split
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model
from rubro.training.self_training import PseudoLabels
from support.tiny_project import GRAPH, ReadParams, digests, in_this_process, run_here, shrink

pytest_plugins = ["support.tiny_project"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")

CATEGORIES = ("LAMPS", "TOYS", "TOOLS", "SHOES", "BOOKS", "PHONES")
# Words of each category, without common n-grams.
WORDS = np.random.default_rng(0).choice(
    list("abcdefghijklmnopqrstuvwxyz"), (len(CATEGORIES), 24, 7)
)
Prepared = Callable[..., Path]


def catalogue(**rows: int) -> pd.DataFrame:
    """Return titles of three words of their category, with the given number in each split.

    The category of titles in the split "unlabelled" is missing, and they are in no split.
    """
    random = np.random.default_rng(1)
    tables = []
    for split, count in rows.items():
        numbers = random.permutation(np.arange(count) % len(CATEGORIES))
        titles = [
            " ".join("".join(word) for word in random.choice(WORDS[number], 3, replace=False))
            for number in numbers
        ]
        categories = [CATEGORIES[number] for number in numbers]
        known = split != UNLABELLED
        tables.append(
            pd.DataFrame(
                {
                    "title": titles,
                    "category": categories if known else "",
                    "split": split if known else "",
                }
            )
        )
    return pd.concat(tables)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, make_params: Callable[..., Any]) -> Prepared:
    """Function that writes a catalogue, and runs stages on it in a new folder."""

    def run(table: pd.DataFrame, foreign: list[str], **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("few")
        table.to_csv(folder / "x.csv", index=False)
        for name in ("further", "data/corrections", "data/pretrained"):
            (folder / name).mkdir(parents=True)
        if foreign:
            pd.DataFrame({"title": foreign}).to_csv(folder / "further/foreign.csv", index=False)
        params = make_params({"final_fit": True, **settings}).model_dump()
        params["data"] |= {"path": "x.csv", "unlabelled_path": "further"}
        params["subset"] |= {"language": None}
        YAML().dump(params, folder / "params.yaml")
        shrink(folder / "params.yaml")
        for stage in ("subset", "featurize", "pseudo_label", "train_svm"):
            code, messages = run_here(folder, stage)
            assert code == 0, messages
        return folder

    return run


@pytest.fixture(scope="module")
def few(prepared: Prepared) -> Path:
    """Outputs for 36 labelled training titles, 600 unlabelled ones and 90 foreign ones."""
    table = catalogue(train=36, validation=60, test=300, unlabelled=600)
    known = table["title"].iloc[0].split()[0]
    foreign = [f"foreign{number} other{number % 7} {known}" for number in range(90)]
    return prepared(table, foreign, **{"self_training.rounds": 2, "final_fit": False})


def accuracy(folder: Path) -> float:
    """Return the accuracy of the SVM on test titles."""
    subset = folder / "data/subset"
    predicted = Classifier.load(folder / "models/svm").predict(load_products(subset, "test"))
    return float(np.mean(load_split(subset, "test")["category"] == predicted))


def test_unlabelled_titles_raise_the_accuracy(few: Path, prepared: Prepared) -> None:
    table = catalogue(train=36, validation=60, test=300, unlabelled=600)
    without = prepared(table, [], **{"data.unlabelled": "ignore", "final_fit": False})
    assert accuracy(few) > accuracy(without) + 0.05
    assert (
        "pseudo_labelled_titles"
        not in Model.load(without / "models/svm").description.members["svm"].training
    )


def test_networks_learn_from_unlabelled_titles(few: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(few, tmp_path / "copy")
    for stage in ("embed", "train_mlp"):
        code, messages = run_here(folder, stage)
        assert code == 0, messages
    used = json.loads((few / "metrics/pseudo_label.json").read_text())["selection"]["titles"]
    training = Model.load(folder / "models/mlp").description.members["mlp"].training
    assert training["pseudo_labelled_titles"] == used
    assert f"learning also from {used} of" in messages


def test_the_stage_declares_the_params_it_reads(few: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(few, tmp_path / "copy")
    params = ReadParams(load_params(folder / "params.yaml"))
    with in_this_process(folder) as script:
        runpy.run_path(script("pseudo_label"))["main"](params)
    assert set(GRAPH["stages"]["pseudo_label"]["params"]) == params.names


def test_the_teacher_does_not_depend_on_the_number_of_threads(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(few, tmp_path / "copy")
    shutil.rmtree(folder / "data/pseudo_labels")
    monkeypatch.setenv("RUBRO_THREADS", "3")
    code, messages = run_here(folder, "pseudo_label")
    assert code == 0, messages
    assert digests(folder, "data/pseudo_labels") == digests(few, "data/pseudo_labels")


def test_foreign_titles_are_not_used(few: Path) -> None:
    rows = load_split(few / "data/subset", UNLABELLED, ("title",))["title"]
    labels = PseudoLabels.load(
        few / "data/pseudo_labels/selection.safetensors", len(rows), len(CATEGORIES)
    )
    used = rows.iloc[labels.titles]
    assert rows.str.startswith("foreign").sum() == 90
    assert len(used) > 300
    assert not used.str.startswith("foreign").any()


def test_metrics_report_what_the_teacher_labelled(few: Path) -> None:
    summary = json.loads((few / "metrics/pseudo_label.json").read_text())
    rows = load_split(few / "data/subset", UNLABELLED, ("title",))
    assert summary["unlabelled_titles"] == len(rows)
    assert 0 < summary["selection"]["titles"] < len(rows)
    assert 0 < summary["selection"]["mean_weight"] < 1
    assert 0 < summary["validation"]["confident_precision"] <= 1
    training = Model.load(few / "models/svm").description.members["svm"].training
    assert training["pseudo_labelled_titles"] == summary["selection"]["titles"]


def test_the_final_teacher_also_learns_from_validation_titles(prepared: Prepared) -> None:
    table = catalogue(train=36, validation=120, test=60, unlabelled=300)
    folder = prepared(table, [])
    summary = json.loads((folder / "metrics/pseudo_label.json").read_text())
    assert summary["final"]["titles"] > summary["selection"]["titles"]
    description = Model.load(folder / "models/svm").description
    assert description.final_fit
    assert sum(description.category_titles) == 36


def test_a_single_unlabelled_title_is_enough(prepared: Prepared) -> None:
    folder = prepared(catalogue(train=36, validation=60, test=60, unlabelled=1), [])
    summary = json.loads((folder / "metrics/pseudo_label.json").read_text())
    assert summary["unlabelled_titles"] == 1
    assert summary["final"]["titles"] in (0, 1)


def test_ignored_unlabelled_titles_change_no_byte(prepared: Prepared) -> None:
    table = catalogue(train=60, validation=60, test=60, unlabelled=100)
    labelled = table[table["category"] != ""]
    outputs = ("models", "data/validation_logits", "data/features", "data/vocabulary")
    ignored = digests(prepared(table, [], **{"data.unlabelled": "ignore"}), *outputs)
    assert ignored == digests(prepared(labelled, []), *outputs)


def test_pseudo_labels_of_other_titles_are_an_error(few: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(few, tmp_path / "copy")
    file = folder / "data/pseudo_labels/selection.safetensors"
    labels = PseudoLabels(
        *(
            values.copy()
            for values in vars(PseudoLabels.load(file, 10**6, len(CATEGORIES))).values()
        )
    )
    labels.titles[-1] = 10**5
    labels.save(file)
    code, messages = run_here(folder, "train_svm")
    assert code == 2
    assert "selection.safetensors" in messages and "dvc repro" in messages
