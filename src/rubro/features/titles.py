"""Features and labels of titles, and the files that contain them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rubro.base.errors import DataError
from rubro.base.files import damaged, read_tensors, write_tensors
from rubro.features.featurizer import TitleFeatures, Tokens
from rubro.features.ragged import Ragged, check_ranges

_ANY_INT32 = 2**31
_UNLABELLED_FILE = "unlabelled.safetensors"
# Tensors of the features of titles, with their type and shape.
_LAYOUT = {
    f"{part}.{name}": (dtype, (None,))
    for part in ("tokens", "bigrams")
    for name, dtype in (("values", "I32"), ("offsets", "I64"))
}


@dataclass(frozen=True)
class Labels:
    """Category and label quality of each title, as arrays.

    Attributes:
        targets: Class indices, int32 (titles,).
        reliable: Whether the label quality is "reliable", bool (titles,).
        weights: Weight of each title in the training, float32 (titles,); None = 1 for all titles.
    """

    targets: np.ndarray
    reliable: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, titles: np.ndarray) -> Labels:
        """Return the labels of the titles at the given positions, integers (n,)."""
        weights = None if self.weights is None else self.weights[titles]
        return Labels(self.targets[titles], self.reliable[titles], weights)

    @classmethod
    def concatenated(cls, parts: Sequence[Labels]) -> Labels:
        """Concatenate the labels of several groups of titles."""
        weights = None
        if any(part.weights is not None for part in parts):
            weights = np.concatenate(
                [
                    np.ones(len(part), np.float32) if part.weights is None else part.weights
                    for part in parts
                ]
            )
        return cls(
            np.concatenate([part.targets for part in parts]),
            np.concatenate([part.reliable for part in parts]),
            weights,
        )


def class_shares(totals: np.ndarray) -> np.ndarray:
    """Return the share of each category in a sum, float64 (classes,).

    Args:
        totals: Number or total weight of the titles of each category, at least one of them positive,
            (classes,). A category with 0 gets half of the smallest share.
    """
    totals = np.maximum(totals, totals[totals > 0].min() / 2)
    return np.asarray(totals / totals.sum())


def labels_of(categories: Iterable[str], qualities: Iterable[str], classes: list[str]) -> Labels:
    """Encode categories and label qualities as arrays.

    Args:
        categories: Category of each title.
        qualities: Label quality of each title.
        classes: All categories, in the order of the class indices.

    Raises:
        DataError: A category is not among the classes.
    """
    import pyarrow as pa  # imported late because reading features does not need it
    from pyarrow import compute

    names, judged = (pa.array(texts, pa.large_string()) for texts in (categories, qualities))
    targets = compute.index_in(names, pa.array(classes, pa.large_string()))
    if targets.null_count:
        unknown = compute.min(names.filter(compute.is_null(targets))).as_py()
        raise DataError(
            f"category {unknown!a} is not among the labels; recreate both with `dvc repro`"
        )
    return Labels(
        targets=targets.to_numpy().astype(np.int32),
        reliable=compute.equal(judged, "reliable").to_numpy(zero_copy_only=False),
    )


@dataclass(frozen=True)
class LabelledTitles:
    """Features and labels of titles.

    Attributes:
        features: Tokens and bigrams of each title, as integers.
        labels: Category and label quality of each title.
    """

    features: TitleFeatures
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def concatenated(cls, parts: Sequence[LabelledTitles]) -> LabelledTitles:
        """Concatenate several groups of titles with the same distinct tokens."""
        labels = Labels.concatenated([part.labels for part in parts])
        return cls(TitleFeatures.concatenated([part.features for part in parts]), labels)

    def take(self, titles: np.ndarray) -> LabelledTitles:
        """Return the titles at the given positions, integers (n,)."""
        return LabelledTitles(self.features.take(titles), self.labels.take(titles))


def save_features(
    folder: Path,
    splits: dict[str, LabelledTitles],
    tokens: Tokens,
    unlabelled: TitleFeatures | None = None,
) -> None:
    """Write the features of titles to tokens.safetensors and a file for each split.

    Args:
        folder: Path of the folder, created if missing.
        splits: Titles of each split, by the split's name.
        tokens: Distinct tokens of all titles.
        unlabelled: Titles without categories, written to unlabelled.safetensors; None = there are
            none, and the file is deleted.
    """
    arrays = {"values": tokens.values, "offsets": tokens.offsets, "weights": tokens.weights}
    if any(split.features.columns > 1 for split in splits.values()):
        arrays["columns"] = tokens.columns
    write_tensors(folder / "tokens.safetensors", arrays)
    for name, split in splits.items():
        labels = {"targets": split.labels.targets, "reliable": split.labels.reliable}
        arrays = labels | _arrays(split.features)
        write_tensors(folder / f"{name}.safetensors", arrays)
    if unlabelled is None:
        (folder / _UNLABELLED_FILE).unlink(missing_ok=True)
    else:
        write_tensors(folder / _UNLABELLED_FILE, _arrays(unlabelled))


def _arrays(features: TitleFeatures) -> dict[str, np.ndarray]:
    """Return the tensors of a file with features, by name."""
    return {
        f"{part}.{name}": getattr(ragged, name)
        for part, ragged in (("tokens", features.tokens), ("bigrams", features.bigrams))
        for name in ("values", "offsets")
    }


def load_features(
    folder: Path, *splits: str, columns: int = 1
) -> tuple[list[LabelledTitles], Tokens]:
    """Load memory-mapped features from the files that save_features writes.

    Args:
        folder: Path of the folder.
        splits: Names of the splits to read.
        columns: Number of columns of each title, including the title.

    Returns:
        Splits in the order of the arguments, and the distinct tokens of all splits.

    Raises:
        DataError: A file is missing or damaged.
    """
    path = folder / "tokens.safetensors"
    layout = {"values": ("I32", (None,)), "offsets": ("I64", (None,)), "weights": ("F32", (None,))}
    limits = {"values": _ANY_INT32}
    if columns > 1:
        layout["columns"], limits["columns"] = ("I32", (None,)), columns
    arrays = read_tensors(path, layout)
    check_ranges(path, arrays, {"offsets": "values"}, limits)
    arrays.setdefault("columns", np.zeros(len(arrays["weights"]), np.int32))
    tokens = Tokens(**arrays)
    if len({len(each) for each in (tokens, tokens.weights, tokens.columns)}) > 1:
        raise damaged(path, "its tensors differ in the number of tokens")
    files = [folder / f"{name}.safetensors" for name in splits]
    return [_load_split(file, len(tokens), columns) for file in files], tokens


def load_unlabelled(folder: Path, columns: int = 1) -> TitleFeatures | None:
    """Load the memory-mapped features of the titles without categories.

    Args:
        folder: Path of the folder that save_features writes.
        columns: Number of columns of each title, including the title.

    Returns:
        Features, whose tokens are positions among the distinct tokens of load_features; None if
        there are no such titles.

    Raises:
        DataError: A file is damaged.
    """
    path = folder / _UNLABELLED_FILE
    if not path.exists():
        return None
    _, tokens = load_features(folder, columns=columns)
    return _features(path, read_tensors(path, _LAYOUT), len(tokens), columns)


def _load_split(path: Path, distinct_tokens: int, columns: int) -> LabelledTitles:
    layout = {"targets": ("I32", (None,)), "reliable": ("BOOL", (None,))}
    arrays = read_tensors(path, layout | _LAYOUT)
    features = _features(path, arrays, distinct_tokens, columns)
    check_ranges(path, arrays, {}, {"targets": _ANY_INT32})
    targets, reliable = arrays["targets"], arrays["reliable"]
    if not len(features) == len(targets) == len(reliable):
        raise damaged(path, "its tensors differ in the number of titles")
    return LabelledTitles(features, Labels(targets, reliable))


def _features(
    path: Path, arrays: dict[str, np.ndarray], distinct_tokens: int, columns: int
) -> TitleFeatures:
    """Return the features in the tensors of a file; raise DataError if they are damaged."""
    offsets = {"tokens.offsets": "tokens.values", "bigrams.offsets": "bigrams.values"}
    check_ranges(path, arrays, offsets, dict.fromkeys(offsets.values(), _ANY_INT32))
    tokens = Ragged(arrays["tokens.values"], arrays["tokens.offsets"])
    bigrams = Ragged(arrays["bigrams.values"], arrays["bigrams.offsets"])
    if len(tokens) != len(bigrams) or len(tokens) % columns:
        raise damaged(path, "its tensors differ in the number of titles")
    if tokens.values.max(initial=-1) >= distinct_tokens:
        raise damaged(path, "a token is not in tokens.safetensors")
    return TitleFeatures(tokens, bigrams, columns)
