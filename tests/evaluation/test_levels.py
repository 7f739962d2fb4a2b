"""Metrics of the levels of a tree, against hand-computed values and scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from rubro.base.category_tree import CategoryTree
from rubro.base.params import EvaluateParams
from rubro.evaluation.levels import level_metrics, node_table, shared_names
from rubro.evaluation.metrics import weighted_f1
from rubro.evaluation.tables import HeldOut, confused_pairs, detail_tables, model_metrics
from rubro.evaluation.thresholds import labelled_predictions

SHOP = CategoryTree(
    separator=" > ",
    order="root_first",
    paths={
        name: name.split(" > ")
        for name in ("Drinks > Wine > Red", "Drinks > Wine > White", "Drinks > Water", "Pets")
    },
)
RED, WHITE, WATER, PETS = range(4)
# The two wines together are more probable than water in the third row.
PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0, 0.0], [0.2, 0.5, 0.3, 0.0], [0.3, 0.3, 0.4, 0.0], [0.0, 0.1, 0.3, 0.6]]
)
TARGETS = np.array([RED, RED, WHITE, WATER])


def random_case(seed: int = 3) -> tuple[np.ndarray, np.ndarray, CategoryTree]:
    """Return probabilities and targets of 300 titles in a tree with paths of 1 to 4 names."""
    random = np.random.default_rng(seed)
    paths = sorted(
        {tuple(str(n) for n in random.integers(3, size=1 + random.integers(4))) for _ in range(25)}
    )
    tree = CategoryTree(
        separator="/",
        order="leaf_first",
        paths={"/".join(path[::-1]): list(path) for path in paths},
    )
    targets = random.integers(len(paths), size=300)
    logits = random.normal(size=(300, len(paths))) + 2 * np.eye(len(paths))[targets]
    return softmax(logits, axis=1), targets, tree


def held_out_of(targets: np.ndarray, tree: CategoryTree | None, classes: int) -> HeldOut:
    titles = [f"title {number}" for number in range(len(targets))]
    labels = list(tree.paths) if tree else [f"{number}" for number in range(classes)]
    return HeldOut(titles, targets, labels, {"title"}, None, np.full(classes, 7), tree)


def test_hand_computed_metrics_of_a_small_tree() -> None:
    metrics = level_metrics(PROBABILITIES, TARGETS, SHOP)
    # Predicted categories: red, white, water, pets.
    assert metrics["hierarchical_precision"] == round((3 + 2 + 1 + 0) / (3 + 3 + 2 + 1), 6)
    assert metrics["hierarchical_recall"] == round(6 / (3 + 3 + 3 + 2), 6)
    assert metrics["hierarchical_f1"] == round(2 * 6 / (9 + 11), 6)
    levels = metrics["levels"]
    assert [level["accuracy"] for level in levels.values()] == [0.75, 0.75, 0.25]
    # Nodes of level 2: wine is right for the first three titles, and water for none.
    assert levels["2"]["balanced_accuracy"] == 0.5
    assert (levels["2"]["macro_f1"], levels["2"]["weighted_f1"]) == (0.5, 0.75)
    weighted = [level["weighted_f1"] for level in levels.values()]
    assert metrics["mean_weighted_f1"] == pytest.approx(np.mean(weighted), abs=1e-6)


def test_each_level_agrees_with_scikit_learn() -> None:
    probabilities, targets, tree = random_case()
    levels = level_metrics(probabilities, targets, tree)["levels"]
    assert list(levels) == ["1", "2", "3", "4"]
    for number, metrics in levels.items():
        names = [tuple(path[: int(number)]) for path in tree.paths.values()]
        nodes = list(dict.fromkeys(names))
        node_of = np.array([nodes.index(name) for name in names])
        summed = np.array(
            [probabilities[:, node_of == node].sum(axis=1) for node in range(len(nodes))]
        )
        right, predicted = node_of[targets], summed.argmax(axis=0)
        present = np.unique(right)
        f1 = {
            average: f1_score(right, predicted, labels=present, average=average, zero_division=0)
            for average in ("macro", "weighted")
        }
        expected = {
            "accuracy": accuracy_score(right, predicted),
            "balanced_accuracy": balanced_accuracy_score(right, predicted),
            "macro_f1": f1["macro"],
            "weighted_f1": f1["weighted"],
        }
        assert metrics == pytest.approx(expected, abs=1e-6)


def test_the_last_level_has_the_metrics_of_the_categories() -> None:
    probabilities, targets, tree = random_case()
    params = EvaluateParams(calibration_bins=5)
    flat, nested = (
        model_metrics(probabilities, probabilities, targets, params, each) for each in (None, tree)
    )
    assert nested.items() > flat.items()
    assert "levels" not in flat
    last = nested["levels"][str(tree.depth)]
    assert {name: last[name] for name in ("accuracy", "macro_f1", "balanced_accuracy")} == {
        name: flat[name] for name in ("accuracy", "macro_f1", "balanced_accuracy")
    }
    predictions = probabilities.argmax(axis=1)
    assert last["weighted_f1"] == round(weighted_f1(targets, predictions), 6)


def test_shared_names_are_the_common_prefix_of_two_paths() -> None:
    _, _, tree = random_case()
    paths = list(tree.paths.values())
    one, other = (each.ravel() for each in np.indices((len(paths), len(paths))))
    expected = [
        next((n for n, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), min(len(x), len(y)))
        for x, y in ((paths[a], paths[b]) for a, b in zip(one, other, strict=True))
    ]
    assert shared_names(tree, one, other).tolist() == expected


def test_each_node_is_measured_at_its_own_level_below_its_parent() -> None:
    table = node_table(PROBABILITIES, TARGETS, SHOP, np.array([5, 6, 7, 8]))
    rows = {row.pop("node"): row for row in table.to_dict("records")}
    assert list(rows) == [
        *("Drinks", "Drinks > Wine", "Drinks > Wine > Red", "Drinks > Wine > White"),
        *("Drinks > Water", "Pets"),
    ]
    assert rows["Drinks"] == {
        "name": "Drinks",
        "parent": "",
        "level": 1,
        "titles": 4,
        "train_titles": 18,
        "recall": 0.75,
        "precision": 1.0,
        "f1": round(6 / 7, 6),
    }
    wine = rows["Drinks > Wine"]
    assert (wine["name"], wine["parent"], wine["train_titles"]) == ("Wine", "Drinks", 11)
    assert (wine["recall"], wine["precision"]) == (1.0, 1.0)
    assert (rows["Drinks > Water"]["level"], rows["Drinks > Water"]["recall"]) == (2, 0.0)
    assert rows["Drinks > Wine > Red"]["parent"] == "Drinks > Wine"
    assert np.isnan([rows["Pets"][name] for name in ("recall", "precision", "f1")]).all()


def test_a_category_above_other_categories_has_one_row() -> None:
    tree = CategoryTree(separator="/", order="root_first", paths={"a": ["a"], "a/b": ["a", "b"]})
    table = node_table(np.array([[0.6, 0.4], [0.2, 0.8]]), np.array([0, 1]), tree)
    assert table["node"].to_list() == ["a", "a/b"]
    assert table["titles"].to_list() == [2, 1]


def test_the_notation_of_the_categories_is_kept() -> None:
    probabilities, targets, tree = random_case()
    table = node_table(probabilities, targets, tree)
    assert table["node"].is_unique
    assert "train_titles" not in table
    children = table[table["level"] > 1]
    assert (children["node"] == children["name"] + "/" + children["parent"]).all()
    titles = table.groupby("level")["titles"].sum()
    assert titles[1] == len(targets)


def test_confusions_that_cross_the_top_level_come_first() -> None:
    targets = np.array([RED, RED, RED, WHITE, WATER, WATER])
    predictions = np.array([WHITE, WHITE, WATER, PETS, PETS, RED])
    labels = list(SHOP.paths)
    table = confused_pairs(np.eye(4)[predictions], targets, labels, 5, SHOP)
    assert table["level"].to_list() == [0, 0, 1, 1, 2]
    assert table["titles"].to_list()[-1] == 2
    assert table["category"].to_list()[0] == labels[WHITE]
    assert table["predicted"].to_list()[:2] == [labels[PETS]] * 2
    assert "level" not in confused_pairs(np.eye(4)[predictions], targets, labels, 5)


def test_only_a_tree_adds_tables_and_columns() -> None:
    probabilities, targets, tree = random_case()
    labelled = labelled_predictions(probabilities, targets, targets < 0, targets >= 0)
    flat, nested = (
        detail_tables(
            probabilities,
            probabilities,
            held_out_of(targets, each, len(tree.paths)),
            labelled,
            [labelled],
            EvaluateParams(calibration_bins=5),
        )
        for each in (None, tree)
    )
    assert set(nested) - set(flat) == {"nodes"}
    assert set(nested["confused_pairs"]) - set(flat["confused_pairs"]) == {"level"}
    assert nested["nodes"]["train_titles"].max() > 7
    for name in ("slices", "coverage", "automation", "reliability"):
        pd.testing.assert_frame_equal(nested[name], flat[name])
