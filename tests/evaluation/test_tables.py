"""Metrics and tables of models, on cases small enough to be checked by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest

from rubro.base.params import EvaluateParams, Params
from rubro.evaluation.metrics import MEASURES, classification_metrics, expected_calibration_error
from rubro.evaluation.significance import metric_interval
from rubro.evaluation.tables import (
    HeldOut,
    automation_table,
    class_table,
    confused_pairs,
    confusion_block,
    coverage_curve,
    detail_tables,
    model_metrics,
    slice_masks,
    unmeasured_categories,
    worst_mistakes,
)
from rubro.evaluation.thresholds import Predictions, labelled_predictions

ABC = ["a", "b", "c"]
#        predicted  true
CASE = [
    ([0.7, 0.2, 0.1], 0),
    ([0.1, 0.8, 0.1], 0),
    ([0.3, 0.6, 0.1], 0),
    ([0.9, 0.1, 0.0], 1),
    ([0.2, 0.7, 0.1], 1),
    ([0.0, 0.5, 0.5], 1),
]
PROBABILITIES = np.array([p for p, _ in CASE])
TARGETS = np.array([t for _, t in CASE])


def held_out_of(
    targets: np.ndarray, titles: list[str] | None = None, train_counts: list[int] | None = None
) -> HeldOut:
    """Return held-out titles of the classes a, b and c."""
    counts = None if train_counts is None else np.array(train_counts)
    texts = titles or [f"title {i}" for i in range(len(targets))]
    return HeldOut(texts, targets, ABC, {"title"}, train_counts=counts)


def test_metrics_are_rounded() -> None:
    rounded = classification_metrics(PROBABILITIES, TARGETS, 5)
    assert rounded == {name: round(value, 6) for name, value in rounded.items()}
    assert rounded["accuracy"] == 0.5  # a tie goes to the first class


@pytest.fixture
def params(make_params: Callable[..., Params]) -> EvaluateParams:
    changes = {"calibration_bins": 5, "confidence": 0.9}
    return make_params({f"evaluate.{key}": value for key, value in changes.items()}).evaluate


def noisy(seed: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and targets of 300 titles of 5 classes."""
    random = np.random.default_rng(seed)
    targets = np.arange(300) % 5
    logits = random.normal(size=(300, 5)) + strength * np.eye(5)[targets]
    return softmax(logits, axis=1), targets


def test_the_metrics_of_a_model_include_its_intervals_and_the_error_before_calibration(
    params: EvaluateParams,
) -> None:
    probabilities, targets = noisy(1, 2.0)
    uncalibrated = softmax(3 * np.log(probabilities), axis=1)
    measured = model_metrics(probabilities, uncalibrated, targets, params)
    predictions = probabilities.argmax(axis=1)
    ends: dict[str, float] = {}
    for name in MEASURES:
        low, high = metric_interval(name, targets, predictions, 0.9)
        ends |= {f"{name}_low": round(low, 6), f"{name}_high": round(high, 6)}
    assert measured == {
        **classification_metrics(probabilities, targets, 5),
        "ece_before_calibration": round(expected_calibration_error(uncalibrated, targets, 5)[0], 6),
        **ends,
    }


def test_categories_without_titles_are_listed_with_most_training_titles_first() -> None:
    table = unmeasured_categories(held_out_of(np.array([1, 1]), train_counts=[3, 5, 9]))
    assert table.to_dict("list") == {"category": ["c", "a"], "train_titles": [9, 3]}
    table = unmeasured_categories(held_out_of(np.array([1, 1])))
    assert table.to_dict("list") == {"category": ["a", "c"]}
    assert unmeasured_categories(held_out_of(np.array([0, 1, 2]))).empty


FOUR_TITLES = ["", "Apple, new drill", "zzz apple red new drill", "apple " * 9]
KNOWN = {"apple", "red", "new", "drill", ","}


def test_tokens_are_counted_and_out_of_vocabulary_words_are_found() -> None:
    targets = np.array([0, 1, 2, 1])
    held_out = HeldOut(FOUR_TITLES, targets, ABC, KNOWN)
    assert held_out.token_counts.tolist() == [0, 4, 5, 9]
    assert held_out.has_unknown_word.tolist() == [False, False, True, False]
    assert held_out.has_unknown_word.dtype == bool
    assert HeldOut([], targets[:0], ABC, KNOWN).token_counts.shape == (0,)


def test_each_slice_contains_the_titles_that_its_name_describes() -> None:
    reliable, counts = np.array([True, False, True, True]), np.array([3, 10, 9, 0])
    held_out = HeldOut(FOUR_TITLES, np.array([0, 1, 2, 1]), ABC, KNOWN, reliable, counts)
    masks = slice_masks(held_out, rare=10)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "label quality: reliable": [True, False, True, True],
        "label quality: unreliable": [False, True, False, False],
        "title length: 1-4 tokens": [True, True, False, False],
        "title length: 5-8 tokens": [False, False, True, False],
        "title length: 9+ tokens": [False, False, False, True],
        "words: all in vocabulary": [True, True, False, True],
        "words: some out of vocabulary": [False, False, True, False],
        "category: rare (< 10 training rows)": [True, False, True, False],
        "category: common": [False, True, False, True],
    }


def test_empty_and_unknown_slices_are_omitted() -> None:
    targets, both = np.array([0, 0]), np.array([True, True])
    held_out = HeldOut(["apple", "drill"], targets, ABC, KNOWN, both, np.array([100, 0, 0]))
    names = ["title length: 1-4 tokens", "words: all in vocabulary"]
    found = list(slice_masks(held_out, rare=10))
    assert found == ["label quality: reliable", *names, "category: common"]
    assert list(slice_masks(HeldOut(["apple", "drill"], targets, ABC, KNOWN), rare=10)) == names


def test_the_class_table_matches_values_computed_by_hand() -> None:
    table = class_table(PROBABILITIES, held_out_of(TARGETS, train_counts=[30, 20, 10]))
    expected = {
        "category": ["a", "b"],
        "titles": [3, 3],
        "train_titles": [30, 20],
        "precision": [0.5, 0.5],
        "recall": [0.333333, 0.666667],
        "f1": [0.4, 0.571429],
    }
    assert table.to_dict("list") == expected
    assert list(table) == list(expected)
    del expected["train_titles"]
    assert class_table(PROBABILITIES, held_out_of(TARGETS)).to_dict("list") == expected


def test_a_class_that_is_never_predicted_has_precision_zero() -> None:
    table = class_table(np.array([[0.9, 0.1], [0.9, 0.1]]), held_out_of(np.array([0, 1])))
    assert table["precision"].tolist() == [0.5, 0.0]
    assert table["f1"].tolist() == [0.666667, 0.0]


def test_the_most_frequent_confused_pairs_come_first() -> None:
    table = confused_pairs(PROBABILITIES, TARGETS, ABC, 10)
    assert table.to_dict("list") == {
        "category": ["a", "b"],
        "predicted": ["b", "a"],
        "pair": ["a → b", "b → a"],
        "titles": [2, 1],
        "share": [0.666667, 0.333333],
    }
    assert confused_pairs(PROBABILITIES, TARGETS, ABC, 1)["pair"].tolist() == ["a → b"]


def test_equally_frequent_pairs_are_ordered_by_share_then_by_name() -> None:
    predictions = np.array([1, 2, 0, 0, 2, 2])
    targets = np.array([0, 0, 1, 2, 2, 2])
    table = confused_pairs(np.eye(3)[predictions], targets, ABC, 10)
    assert table["pair"].tolist() == ["b → a", "a → b", "a → c", "c → a"]


def test_the_confusion_block_counts_titles_of_the_confused_categories() -> None:
    pairs = confused_pairs(PROBABILITIES, TARGETS, ABC, 10)
    table = confusion_block(PROBABILITIES, TARGETS, ABC, pairs)
    assert table.to_dict("list") == {
        "category": ["a", "a", "b", "b"],
        "predicted": ["a", "b", "a", "b"],
        "titles": [1, 2, 1, 2],
    }


def test_the_confusion_block_is_limited_to_the_most_frequent_pairs() -> None:
    labels = [f"{index:02}" for index in range(60)]
    targets = np.repeat(np.arange(30), 2)
    targets = np.append(targets, [29, 29])  # the pair of 29 is the most frequent
    wrong = np.eye(60)[targets + 30]
    table = confusion_block(wrong, targets, labels, confused_pairs(wrong, targets, labels, 30))
    assert len(table) == 20 * 20
    assert table["category"].drop_duplicates().tolist()[:4] == ["29", "59", "00", "30"]
    assert table["titles"].sum() == 4 + 9 * 2
    assert table["titles"][1] == 4


def predictions(probabilities: np.ndarray, targets: np.ndarray) -> Predictions:
    return labelled_predictions(probabilities, targets, targets < -1, targets >= -1)


def test_the_coverage_curve_shows_coverage_and_precision_of_each_threshold() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    table = coverage_curve(predictions(probabilities, np.array([0, 1, 0, 0])))
    assert table.to_dict("list") == {
        "confidence": [0.9, 0.8, 0.6],
        "coverage": [0.25, 0.75, 1.0],
        "precision": pytest.approx([1.0, 2 / 3, 0.75], abs=1e-6),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_thresholds_of_the_coverage_curve_are_rounded_down(dtype: type[np.floating]) -> None:
    probabilities = np.array([[1 - 4e-7, 4e-7], [0.7777777, 0.2222223]], dtype=dtype)
    table = coverage_curve(predictions(probabilities, np.array([0, 0])))
    assert table["confidence"].tolist() == [0.999999, 0.777777]
    assert table["coverage"].tolist() == [0.5, 1.0]


def test_foreign_titles_are_not_covered_and_unreliable_titles_are_left_out() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    foreign, reliable = np.arange(4) == 0, np.arange(4) != 3
    table = coverage_curve(labelled_predictions(probabilities, np.zeros(4), foreign, reliable))
    assert table["confidence"].tolist() == [0.8]
    assert table["coverage"].tolist() == [0.666667]
    none = labelled_predictions(probabilities, np.zeros(4), foreign, np.zeros(4, dtype=bool))
    assert coverage_curve(none).empty
    assert automation_table([none]).empty


def test_the_automation_table_has_the_coverage_at_each_promised_precision() -> None:
    confidence = np.repeat([0.99, 0.9, 0.8, 0.6], 100)
    right = np.repeat([100, 97, 85, 40], 100) > np.tile(np.arange(100), 4)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = predictions(probabilities, np.where(right, 0, 1))
    intervals = [
        binomtest(*counts).proportion_ci(0.95, method="exact")
        for counts in ((282, 300), (197, 200))
    ]
    assert automation_table([found]).to_dict("list") == {
        "goal": [0.9, 0.95],
        "coverage": [0.75, 0.5],
        "precision": [0.94, 0.985],
        "low": pytest.approx([low for low, _ in intervals], abs=1e-6),
        "high": pytest.approx([high for _, high in intervals], abs=1e-6),
    }


def test_thresholds_of_automation_can_be_chosen_on_other_titles() -> None:
    confidence = np.repeat([0.99, 0.9], 100)
    right = np.repeat([100, 97], 100) > np.tile(np.arange(100), 2)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    chosen_on = predictions(probabilities, np.where(right, 0, 1))
    measured = predictions(probabilities[50:150], np.where(np.arange(100) < 80, 0, 1))
    table = automation_table([measured], [chosen_on], [0.95, 0.999])
    assert table[["goal", "coverage", "precision"]].to_numpy().tolist() == [[0.95, 1.0, 0.8]]


def test_the_worst_mistakes_come_first() -> None:
    table = worst_mistakes(PROBABILITIES, held_out_of(TARGETS), 10)
    assert table.to_dict("list") == {
        "title": ["title 1", "title 3", "title 2"],
        "category": ["a", "b", "a"],
        "probability": [0.1, 0.1, 0.3],
        "predicted": ["b", "a", "b"],
        "predicted_probability": [0.8, 0.9, 0.6],
    }


def test_the_worst_mistakes_of_each_category_are_listed_beyond_the_limit() -> None:
    targets = np.array([0] * 5 + [1] * 5)
    right = np.concatenate([np.linspace(0.1, 0.18, 5), np.linspace(0.2, 0.28, 5)])
    probabilities = np.stack([right, 1 - right], axis=1)
    probabilities[5:] = probabilities[5:, ::-1]
    table = worst_mistakes(probabilities, held_out_of(targets), 4)
    assert table["category"].tolist() == ["a"] * 4 + ["b"] * 3
    assert table["probability"].tolist() == [0.1, 0.12, 0.14, 0.16, 0.2, 0.22, 0.24]


def test_tables_of_mistakes_are_empty_if_all_predictions_are_right() -> None:
    perfect, targets = np.eye(3), np.arange(3)
    pairs = confused_pairs(perfect, targets, ABC, 5)
    mistakes = worst_mistakes(perfect, held_out_of(targets), 5)
    assert len(pairs) == len(mistakes) == 0
    assert confusion_block(perfect, targets, ABC, pairs).empty
    assert list(pairs) == ["category", "predicted", "pair", "titles", "share"]
    assert list(mistakes) == list(worst_mistakes(PROBABILITIES, held_out_of(TARGETS), 5))


def test_the_detail_tables_cover_all_titles_and_respect_the_limits(
    make_params: Callable[..., Params],
) -> None:
    titles = ["title", "drill zzz", "boot", "saw", "", "red"]
    params = make_params({"evaluate.mistakes": 1, "evaluate.confused_pairs": 1}).evaluate
    held_out = held_out_of(TARGETS, titles, [9, 9, 9])
    predictions = labelled_predictions(PROBABILITIES, TARGETS, TARGETS < 0, TARGETS >= 0)
    uncalibrated = np.full((6, 3), 1 / 3)
    tables = detail_tables(
        PROBABILITIES, uncalibrated, held_out, predictions, [predictions], params
    )
    assert tables["reliability_before"].to_dict("list") == {
        "confidence": [0.333333],
        "accuracy": [0.5],
        "titles": [6],
    }
    assert len(tables["confused_pairs"]) == 1
    for name in ("classes", "reliability"):
        assert tables[name]["titles"].sum() == 6
    slices = tables["slices"].set_index("slice")
    assert slices["titles"][slices.index.str.startswith("title length")].sum() == 6
    known = [title in ("title", "") for title in titles]
    expected = classification_metrics(PROBABILITIES[known], TARGETS[known], params.calibration_bins)
    assert slices.loc["words: all in vocabulary", list(expected)].to_dict() == expected
