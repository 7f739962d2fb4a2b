"""Self-training: models also learn from unlabelled titles, with categories from a teacher.

The teacher is a model that is trained on the labelled titles. Its predictions for unlabelled titles
are the pseudo-labels.

Source: Scudder 1965, Probability of Error of Some Adaptive Pattern-recognition Machines; weights and
thresholds by confidence: Lee 2013, Pseudo-label, and Xie et al. 2020, Self-training with Noisy
Student Improves ImageNet Classification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from rubro.base.files import damaged, read_tensors, write_tensors
from rubro.base.params import SelfTrainingParams
from rubro.features.featurizer import TitleFeatures
from rubro.features.ragged import Ragged, check_ranges
from rubro.features.titles import LabelledTitles, Labels

# Titles with fewer known words are in another language or from another kind of catalogue.
_MIN_KNOWN_SHARE = 0.5


@dataclass(frozen=True)
class PseudoLabels:
    """Unlabelled titles that a teacher is confident of, with their categories.

    Attributes:
        titles: Positions among the unlabelled titles, ascending, int32 (n,).
        targets: Class indices, int32 (n,).
        weights: Weights in the training, above 0 and below 1, float32 (n,).
    """

    titles: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.titles)

    @classmethod
    def chosen(
        cls,
        titles: np.ndarray,
        targets: np.ndarray,
        confidences: np.ndarray,
        known: np.ndarray,
        params: SelfTrainingParams,
    ) -> PseudoLabels:
        """Choose the titles to learn from.

        The weight of a title is its confidence times params.weight, because an uncertain title is
        more often wrong.

        Args:
            titles: Positions among the unlabelled titles, ascending, integers (n,).
            targets: Predicted class of each of these titles, integers (n,).
            confidences: Calibrated confidence of each prediction, float (n,).
            known: Share of known tokens of each title, float (n,); see known_shares.
            params: Minimum confidence, and factor of the weights.
        """
        confident = (confidences >= params.min_confidence) & (confidences > 0)
        chosen = np.flatnonzero(confident & (known >= _MIN_KNOWN_SHARE))
        weights = np.float32(params.weight) * confidences[chosen].astype(np.float32)
        below_one = np.nextafter(np.float32(1), np.float32(0))  # labelled titles have weight 1
        return cls(
            titles[chosen].astype(np.int32),
            targets[chosen].astype(np.int32),
            np.minimum(weights, below_one),
        )

    @classmethod
    def merged(cls, parts: Sequence[PseudoLabels]) -> PseudoLabels:
        """Return the pseudo-labels of several groups of titles, in the order of the titles."""
        order = np.argsort(np.concatenate([part.titles for part in parts]))
        columns = (
            np.concatenate([getattr(part, field.name) for part in parts])[order]
            for field in fields(cls)
        )
        return cls(*columns)

    def among(self, titles: np.ndarray) -> PseudoLabels:
        """Return the pseudo-labels of the titles at some positions, integers (n,)."""
        kept = np.isin(self.titles, titles)
        return PseudoLabels(self.titles[kept], self.targets[kept], self.weights[kept])

    def added_to(self, labelled: LabelledTitles, unlabelled: TitleFeatures) -> LabelledTitles:
        """Return the labelled titles, followed by the titles that have pseudo-labels.

        Args:
            labelled: Labelled titles.
            unlabelled: Features of all unlabelled titles.
        """
        labels = Labels(self.targets, np.ones(len(self), bool), self.weights)
        own = LabelledTitles(unlabelled.take(self.titles), labels)
        return LabelledTitles.concatenated([labelled, own])

    @property
    def summary(self) -> dict[str, float]:
        """Number of titles and, if there are any, their mean weight, for JSON."""
        if not len(self):
            return {"titles": 0}
        return {"titles": len(self), "mean_weight": round(float(self.weights.mean()), 6)}

    def save(self, path: Path) -> None:
        """Write the pseudo-labels to a safetensors file."""
        write_tensors(path, dict(vars(self)))

    @classmethod
    def load(cls, path: Path, titles: int, classes: int) -> PseudoLabels:
        """Read a file that save wrote.

        Args:
            path: Path of the file.
            titles: Number of unlabelled titles.
            classes: Number of categories.

        Raises:
            DataError: The file is missing or damaged, or belongs to other titles or categories.
        """
        types = {"titles": "I32", "targets": "I32", "weights": "F32"}
        arrays = read_tensors(path, {name: (dtype, (None,)) for name, dtype in types.items()})
        check_ranges(path, arrays, {}, {"titles": titles, "targets": classes})
        if len({len(array) for array in arrays.values()}) > 1:
            raise damaged(path, "its tensors differ in the number of titles")
        return cls(**arrays)


def known_shares(labelled: Ragged, unlabelled: Ragged) -> np.ndarray:
    """Return the share of each unlabelled title's tokens that also occur in labelled titles.

    Args:
        labelled: Tokens of the labelled titles, as positions among the distinct tokens.
        unlabelled: Tokens of the unlabelled titles.

    Returns:
        Shares from 0 to 1, float64 (titles,); 0 for a title without tokens.
    """
    size = 1 + max(labelled.values.max(initial=0), unlabelled.values.max(initial=0))
    known = np.zeros(size, dtype=bool)
    known[labelled.values] = True
    owner = np.repeat(np.arange(len(unlabelled)), unlabelled.lengths)
    counts = np.bincount(owner, known[unlabelled.values], minlength=len(unlabelled))
    return np.asarray(counts / np.maximum(unlabelled.lengths, 1))
