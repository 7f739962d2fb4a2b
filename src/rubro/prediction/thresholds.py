"""Files of confidence thresholds, which determine which predictions of a model are accepted."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from rubro.base.errors import remedied_by
from rubro.base.files import damaged, read_json
from rubro.base.schema import NotNegative, Positive, Section
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.folder import ModelDescription

THRESHOLDS_FILE = "thresholds.json"  # in a model folder
_Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class AcceptedCounts(Section):
    """Number and precision of the accepted predictions for labelled titles.

    Attributes:
        titles: Number of labelled titles.
        kept: Number of titles whose prediction is accepted.
        right: Number of right predictions among the accepted ones.
        low: Lower end of the confidence interval of the precision.
        high: Upper end of the confidence interval of the precision.
    """

    titles: NotNegative
    kept: NotNegative
    right: NotNegative
    low: _Probability
    high: _Probability


class ConfidenceThreshold(AcceptedCounts):
    """A threshold, and the predictions that it accepts.

    Attributes:
        confidence: Minimum confidence of an accepted prediction; None = accept no prediction.
    """

    confidence: _Probability | None

    @property
    def minimum(self) -> float:
        """Minimum confidence of an accepted prediction; inf = accept no prediction."""
        return math.inf if self.confidence is None else self.confidence


class CategoryThreshold(ConfidenceThreshold):
    """The threshold of one category, and the predictions of the category that it accepts.

    Attributes:
        basis: Titles that the threshold was chosen on: titles predicted as this category ("own"),
            or titles predicted as any category without a threshold of its own ("together").
    """

    basis: Literal["own", "together"]


class LevelThreshold(ConfidenceThreshold):
    """The threshold of one level of a category tree, and the answers that are given at this level.

    Attributes:
        level: Level, from 1 (the roots), which is the number of names of its nodes.
    """

    level: Positive


class Thresholds(Section):
    """Content of a thresholds file, as `rubro thresholds` writes it.

    Attributes:
        format: Version of the file format.
        model: Name of the model.
        fingerprint: Hash of the model folder; see ModelDescription.fingerprint.
        precision: Promised precision of the accepted predictions.
        coverage: Probability with which each promise holds.
        least_titles: Minimum number of titles for a category to have a threshold of its own.
        single: Threshold chosen on all titles, for users who want the same one for all categories;
            None if the categories are paths.
        together: Threshold shared by the categories without a threshold of their own, chosen on all
            titles predicted as one of these categories; None if the categories are paths.
        categories: Threshold of each category; empty if the categories are paths.
        all: Accepted predictions.
        unknown: Accepted predictions for titles whose category the model does not know. They are
            wrong, and also count in all other figures. If the categories are paths, titles whose node
            at the accepted level is unknown.
        levels: Threshold of each level of the category tree, deepest first; empty if the categories
            are not paths. A title is answered at the deepest level that accepts it.
    """

    format: Literal["rubro-thresholds-1"] = "rubro-thresholds-1"
    model: str
    fingerprint: str
    precision: _Probability
    coverage: _Probability
    least_titles: NotNegative
    single: ConfidenceThreshold | None = None
    together: ConfidenceThreshold | None = None
    categories: dict[str, CategoryThreshold] = Field(default_factory=dict)
    all: AcceptedCounts
    unknown: AcceptedCounts
    levels: list[LevelThreshold] = Field(default_factory=list)

    @property
    def unused(self) -> set[str]:
        """Fields that are not written."""
        return {"single", "together", "categories"} if self.levels else {"levels"}

    @classmethod
    def load(cls, path: Path, folder: Path, description: ModelDescription) -> Thresholds:
        """Read a thresholds file.

        Args:
            path: Path of the file.
            folder: Folder of the model that the thresholds must have been chosen for.
            description: Content of model.json in this folder.

        Raises:
            DataError: The file is missing, damaged or belongs to another model or objective.
        """
        objective = description.objective
        with _remedied(path, folder, description):
            found = read_json(path, cls)
            is_same = found.fingerprint == description.fingerprint
            depth = description.tree.depth if description.tree else 0
            is_same &= [each.level for each in found.levels] == [*range(depth, 0, -1)]
            if not is_same or found.categories.keys() != set([] if depth else description.labels):
                raise damaged(
                    path,
                    f"does not belong to the model in {folder} with the objective {objective}, but to "
                    "another model or objective",
                )
        return found

    @classmethod
    def of_model(
        cls, folder: Path, description: ModelDescription, file: Path | None = None
    ) -> Thresholds | None:
        """Read the thresholds of a model: the given file, or else the file in the model folder.

        Args:
            folder: Model folder, in which the stage ensemble writes thresholds.
            description: Content of its model.json; its objective may be another one than in the
                file in the folder.
            file: Thresholds file to use instead of the file in the folder; None = that file.

        Returns:
            Thresholds; None if no file is given and the folder contains none, or if its thresholds
            were chosen for another objective of the model.

        Raises:
            DataError: The file is damaged or belongs to another model; or a file is given that is
                missing or belongs to another objective.
        """
        if file is not None:
            return cls.load(file, folder, description)
        path = folder / THRESHOLDS_FILE
        if not os.path.lexists(path):
            return None
        with _remedied(path, folder, description):
            found = read_json(path, cls).fingerprint
        for objective in description.decisions.keys() - {description.objective}:
            other = description.model_copy(update={"objective": objective})
            if other.fingerprint == found:
                return None
        return cls.load(path, folder, description)

    def bounds(self, level: int, names: Sequence[str]) -> np.ndarray:
        """Return the minimum confidence of the nodes of a level; inf = accept no prediction.

        Args:
            level: Level of the category tree, from 1 (the roots); 1 if there is no tree.
            names: Names of the nodes, which are the categories if there is no tree.

        Returns:
            Confidences, float64 (nodes,).
        """
        if self.levels:
            return np.full(len(names), self.levels[-level].minimum)
        return np.array([self.categories[name].minimum for name in names])

    def accepts(self, category: str, confidence: float, out_of_vocabulary: float) -> bool:
        """Return whether a prediction is accepted, if the categories are not paths.

        A prediction is rejected if its confidence is below the threshold of its category, or if more
        than half of the title's tokens are out of vocabulary.

        Args:
            category: Predicted category.
            confidence: Confidence of the prediction, 0 to 1.
            out_of_vocabulary: Share of the tokens of the title that are not in the vocabulary, 0 to
                1; see Classifier.out_of_vocabulary.
        """
        minimum = self.categories[category].minimum
        return confidence >= minimum and out_of_vocabulary <= FOREIGN_SHARE


def _remedied(
    path: Path, folder: Path, description: ModelDescription
) -> AbstractContextManager[None]:
    """Return a context that adds a remedy to the message about a damaged thresholds file."""
    options = f"--model {folder} --objective {description.objective} --output {path}"
    delete = "; or delete it, so that every answer is accepted" if path.parent == folder else ""
    return remedied_by(f"Create it with `rubro thresholds {options}`{delete}")
