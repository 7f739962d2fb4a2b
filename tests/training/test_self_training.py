"""Pseudo-labels: which unlabelled titles are chosen, their weights and their file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rubro.base.errors import DataError
from rubro.base.files import write_tensors
from rubro.features.featurizer import TitleFeatures
from rubro.features.ragged import Ragged
from rubro.features.titles import LabelledTitles, Labels
from rubro.training.self_training import PseudoLabels, known_shares
from rubro.training.title_weights import title_weights

pytest_plugins = ["support.tiny_models"]


def features(*titles: list[int]) -> TitleFeatures:
    """Return titles with the given tokens and without bigrams."""
    return TitleFeatures(Ragged.from_lists(titles), Ragged.from_lists([[] for _ in titles]))


def pseudo_labels(titles: list[int], targets: list[int], weights: list[float]) -> PseudoLabels:
    return PseudoLabels(
        np.array(titles, np.int32), np.array(targets, np.int32), np.array(weights, np.float32)
    )


def test_only_confident_titles_with_known_words_are_chosen(
    make_params: Callable[..., Any],
) -> None:
    params = make_params(
        {"self_training.min_confidence": 0.6, "self_training.weight": 0.5}
    ).self_training
    chosen = PseudoLabels.chosen(
        titles=np.array([3, 5, 8, 9]),
        targets=np.array([2, 0, 1, 1]),
        confidences=np.array([0.6, 0.59, 1.0, 0.9]),
        known=np.array([1.0, 1.0, 0.5, 0.4]),
        params=params,
    )
    assert chosen.titles.tolist() == [3, 8]
    assert chosen.targets.tolist() == [2, 1]
    assert chosen.weights.tolist() == pytest.approx([0.3, 0.5])


def test_pseudo_labels_weigh_less_than_labels(make_params: Callable[..., Any]) -> None:
    params = make_params({"self_training.weight": 1.0}).self_training
    one = np.ones(1)
    chosen = PseudoLabels.chosen(np.array([0]), np.array([0]), one, one, params)
    assert 0.99 < chosen.weights[0] < 1


def test_known_words_are_those_of_labelled_titles() -> None:
    labelled, unlabelled = features([0, 1], [2]), features([0, 2], [0, 7, 8, 9], [], [7])
    assert known_shares(labelled.tokens, unlabelled.tokens).tolist() == [1.0, 0.25, 0.0, 0.0]


def test_chosen_titles_follow_the_labelled_titles(make_params: Callable[..., Any]) -> None:
    labels = Labels(np.array([1, 0], np.int32), np.array([True, False]))
    labelled = LabelledTitles(features([0], [1]), labels)
    unlabelled = features([2], [3], [4, 5])
    together = pseudo_labels([0, 2], [0, 1], [0.5, 0.25]).added_to(labelled, unlabelled)
    assert [together.features.tokens[title].tolist() for title in range(4)] == [
        [0], [1], [2], [4, 5]
    ]  # fmt: skip
    assert together.labels.targets.tolist() == [1, 0, 0, 1]
    params = make_params({"train_svm.unreliable_weight": 0.75}).train_svm
    assert title_weights(together.labels, 2, params).tolist() == [1, 0.75, 0.5, 0.25]
    assert title_weights(together.take(np.array([3, 1])).labels, 2, params).tolist() == [0.25, 0.75]


def test_halves_are_merged_in_the_order_of_the_titles() -> None:
    even, odd = pseudo_labels([0, 4], [1, 2], [0.1, 0.2]), pseudo_labels([1], [3], [0.3])
    merged = PseudoLabels.merged([odd, even])
    assert merged.titles.tolist() == [0, 1, 4]
    assert merged.targets.tolist() == [1, 3, 2]
    assert merged.weights.tolist() == pytest.approx([0.1, 0.3, 0.2])
    assert merged.among(np.array([1, 2, 4])).titles.tolist() == [1, 4]


def test_pseudo_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    for labels in (pseudo_labels([1, 2], [0, 3], [0.5, 0.25]), pseudo_labels([], [], [])):
        labels.save(tmp_path / "x.safetensors")
        loaded = PseudoLabels.load(tmp_path / "x.safetensors", titles=3, classes=4)
        for name, values in vars(labels).items():
            assert getattr(loaded, name).tolist() == values.tolist()


@pytest.mark.parametrize(
    "changed",
    [
        {"titles": np.array([0, 3], np.int32)},  # there are 3 titles
        {"targets": np.array([0, 4], np.int32)},  # there are 4 categories
        {"weights": np.array([0.5], np.float32)},
        {"weights": np.array([0.5, np.nan], np.float32)},
    ],
)
def test_a_damaged_file_is_an_error(changed: dict[str, np.ndarray], tmp_path: Path) -> None:
    tensors = vars(pseudo_labels([1, 2], [0, 3], [0.5, 0.25])) | changed
    write_tensors(tmp_path / "x.safetensors", tensors)
    with pytest.raises(DataError, match=r"x\.safetensors"):
        PseudoLabels.load(tmp_path / "x.safetensors", titles=3, classes=4)
