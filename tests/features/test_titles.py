"""Labels are encoded as class indices, and features are saved and loaded unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rubro.base.errors import DataError
from rubro.features.titles import (
    class_shares,
    labels_of,
    load_features,
    load_unlabelled,
    save_features,
)
from support.tiny_models import MakeTitles

pytest_plugins = ["support.tiny_models"]


def test_labels_are_encoded_as_class_index_and_label_quality() -> None:
    labels = labels_of(["b", "a", "b"], ["reliable", "unreliable", "reliable"], ["a", "b", "c"])
    assert labels.targets.tolist() == [1, 0, 1]
    assert labels.targets.dtype == np.int32
    assert labels.reliable.tolist() == [True, False, True]
    assert labels.reliable.dtype == bool
    assert len(labels) == 3
    taken = labels.take(np.array([1, 1]))
    assert (taken.targets.tolist(), taken.reliable.tolist()) == ([0, 0], [False, False])


def test_an_unknown_category_is_an_error() -> None:
    with pytest.raises(DataError, match=r"'FRUIT'.*`dvc repro`"):
        labels_of(["TOOL", "FRUIT"], ["reliable"] * 2, ["TOOL"])


@pytest.mark.parametrize("titles", [["apple red", "", "zzz drill saw"], [""], []])
def test_saved_features_are_loaded_and_saved_again_in_the_same_bytes(
    titles: list[str], make_titles: MakeTitles, tmp_path: Path
) -> None:
    split, tokens = make_titles(titles)
    for ragged in (tokens, split.features.tokens, split.features.bigrams):
        _ = ragged.lengths, ragged.by_position  # cached properties, which must not be saved
    save_features(tmp_path / "deep" / "once", {"train": split}, tokens)
    (loaded,), loaded_tokens = load_features(tmp_path / "deep" / "once", "train")
    save_features(tmp_path / "twice", {"train": loaded}, loaded_tokens)
    pairs = [(tokens, loaded_tokens)]
    pairs += [
        (getattr(split.features, n), getattr(loaded.features, n)) for n in ("tokens", "bigrams")
    ]
    for before, after in pairs:
        np.testing.assert_array_equal(before.values, after.values, strict=True)
        np.testing.assert_array_equal(before.offsets, after.offsets, strict=True)
    np.testing.assert_array_equal(tokens.weights, loaded_tokens.weights, strict=True)
    for name in ("targets", "reliable"):
        before, after = getattr(split.labels, name), getattr(loaded.labels, name)
        np.testing.assert_array_equal(before, after, strict=True)
    for name in ("train.safetensors", "tokens.safetensors"):
        once, twice = tmp_path / "deep" / "once" / name, tmp_path / "twice" / name
        assert once.read_bytes() == twice.read_bytes()


def test_features_of_several_columns_are_loaded_as_they_were_saved(
    make_titles: MakeTitles, tmp_path: Path
) -> None:
    split, tokens = make_titles(["apple red", "red", "", "zzz", "drill", ""], columns=2)
    save_features(tmp_path, {"train": split}, tokens)
    (loaded,), loaded_tokens = load_features(tmp_path, "train", columns=2)
    np.testing.assert_array_equal(loaded_tokens.columns, tokens.columns, strict=True)
    assert loaded_tokens.columns.tolist() == [0, 0, 0, 1, 1]
    assert len(loaded) == 3
    taken, expected = (each.features.take(np.array([1])) for each in (loaded, split))
    np.testing.assert_array_equal(taken.tokens.values, expected.tokens.values)
    for columns in (1, 3):
        with pytest.raises(DataError, match="safetensors"):
            load_features(tmp_path, "train", columns=columns)


def test_splits_are_returned_in_the_requested_order(
    make_titles: MakeTitles, tmp_path: Path
) -> None:
    one, tokens = make_titles(["apple"])
    two, _ = make_titles(["apple", "apple"])
    save_features(tmp_path, {"train": one, "test": two}, tokens)
    splits, _ = load_features(tmp_path, "test", "train")
    assert [len(split) for split in splits] == [2, 1]


def test_features_of_unlabelled_titles_are_loaded_as_they_were_saved(
    make_titles: MakeTitles, tmp_path: Path
) -> None:
    split, tokens = make_titles(["apple red", "red", "", "zzz", "drill", ""], columns=2)
    features = split.features
    save_features(tmp_path, {"train": split}, tokens, features.take(np.array([2, 0])))
    loaded = load_unlabelled(tmp_path, columns=2)
    assert loaded is not None and len(loaded) == 2
    taken = features.take(np.array([2, 0]))
    for name in ("tokens", "bigrams"):
        before, after = getattr(taken, name), getattr(loaded, name)
        np.testing.assert_array_equal(before.values, after.values, strict=True)
        np.testing.assert_array_equal(before.offsets, after.offsets, strict=True)
    save_features(tmp_path, {"train": split}, tokens)
    assert load_unlabelled(tmp_path, columns=2) is None


def test_damaged_features_of_unlabelled_titles_are_refused(
    make_titles: MakeTitles, tmp_path: Path
) -> None:
    split, tokens = make_titles(["apple red", "drill", "saw"])
    save_features(tmp_path, {"train": split}, tokens, split.features)
    with pytest.raises(DataError, match="no tensor 'columns'"):
        load_unlabelled(tmp_path, columns=2)
    few, few_tokens = make_titles(["apple"])
    save_features(tmp_path, {"train": few}, few_tokens, split.features)
    with pytest.raises(DataError, match=r"unlabelled\.safetensors: a token is not in"):
        load_unlabelled(tmp_path)


def test_classes_without_titles_get_half_of_the_smallest_share() -> None:
    shares = class_shares(np.array([2, 0.5, 0, 0]))
    assert shares.tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 12, 1 / 12])
    assert class_shares(np.array([2, 2, 0, 2, 0])) == pytest.approx(np.array([2, 2, 1, 2, 1]) / 8)
