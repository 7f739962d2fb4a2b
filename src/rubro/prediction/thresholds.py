"""Files of confidence thresholds, which determine which predictions of a model are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rubro.base.errors import remedied_by
from rubro.base.files import damaged, read_json
from rubro.base.schema import NotNegative, Positive, Section
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.folder import ModelDescription

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


class CategoryThreshold(ConfidenceThreshold):
    """The threshold of one category, and the predictions of the category that it accepts.

    Attributes:
        basis: Titles that the threshold was chosen on: titles predicted as this category ("own"),
            or titles predicted as any category without a threshold of its own ("together").
    """

    basis: Literal["own", "together"]


class LevelThresholds(Section):
    """Thresholds of the nodes at one level of a category tree.

    They are chosen on the titles that the thresholds of all deeper levels reject.

    Attributes:
        level: Level, from 1 (the roots), which is the number of names of the nodes.
        single: Threshold chosen on all these titles, for users who want the same one for all nodes.
        together: Threshold shared by the nodes without a threshold of their own, chosen on all of
            these titles that are predicted as one of these nodes.
        categories: Threshold of each node.
        all: Predictions accepted by the thresholds of the nodes.
        unknown: Accepted predictions for titles whose node the model does not know. They are wrong,
            and also count in all other figures.
    """

    level: Positive
    single: ConfidenceThreshold
    together: ConfidenceThreshold
    categories: dict[str, CategoryThreshold]
    all: AcceptedCounts
    unknown: AcceptedCounts


class Thresholds(Section):
    """Content of a thresholds file, as `rubro thresholds` writes it.

    Attributes:
        format: Version of the file format.
        model: Name of the model.
        fingerprint: Hash of the model folder; see ModelDescription.fingerprint.
        precision: Promised precision of the accepted predictions.
        coverage: Probability with which each promise holds.
        least_titles: Minimum number of titles for a category to have a threshold of its own.
        single: Threshold chosen on all titles, for users who want the same one for all categories.
        together: Threshold shared by the categories without a threshold of their own, chosen on all
            titles predicted as one of these categories.
        categories: Threshold of each category.
        all: Predictions accepted by the thresholds of the categories.
        unknown: Accepted predictions for titles whose category the model does not know. They are
            wrong, and also count in all other figures.
        levels: Thresholds of the upper levels of a category tree, deepest first. The fields above
            describe the deepest level, which contains the categories with the most names.
        any_level: Predictions accepted at some level; None if the model has no tree.
    """

    format: Literal["rubro-thresholds-1"] = "rubro-thresholds-1"
    model: str
    fingerprint: str
    precision: _Probability
    coverage: _Probability
    least_titles: NotNegative
    single: ConfidenceThreshold
    together: ConfidenceThreshold
    categories: dict[str, CategoryThreshold]
    all: AcceptedCounts
    unknown: AcceptedCounts
    levels: list[LevelThresholds] = Field(default_factory=list)
    any_level: AcceptedCounts | None = None

    @property
    def unused(self) -> set[str]:
        """Fields that are not written if the model has no tree."""
        return set() if self.any_level else {"levels", "any_level"}

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
        options = f"--model {folder} --objective {objective} --output {path}"
        with remedied_by(f"Create it with `rubro thresholds {options}`"):
            found = read_json(path, cls)
            is_same = found.fingerprint == description.fingerprint
            names = [found.categories.keys(), *(each.categories.keys() for each in found.levels)]
            numbers = [each.level for each in found.levels]
            expected = [set(description.labels)]
            if tree := description.tree:
                expected = [tree.own_names(level) for level in range(tree.depth, 0, -1)]
            is_same &= numbers == [*range(len(expected) - 1, 0, -1)]
            if not is_same or names != expected:
                raise damaged(
                    path,
                    f"does not belong to the model in {folder} with the objective {objective}, but to "
                    "another model or objective",
                )
        return found

    def accepts(
        self, category: str, confidence: float, out_of_vocabulary: float, level: int | None = None
    ) -> bool:
        """Return whether a prediction is accepted.

        A prediction is rejected if its confidence is below the threshold of its category, or if more
        than half of the title's tokens are out of vocabulary. A level only accepts nodes with as many
        names as the level.

        Args:
            category: Predicted category, or node of the category tree.
            confidence: Confidence of the prediction, 0 to 1.
            out_of_vocabulary: Share of the tokens of the title that are not in the vocabulary, 0 to
                1; see Classifier.out_of_vocabulary.
            level: Level of the node in the category tree; None = the deepest one.
        """
        by_level = {each.level: each.categories for each in self.levels}
        found = by_level.get(level or 0, self.categories).get(category)
        return (
            found is not None
            and found.confidence is not None
            and confidence >= found.confidence
            and out_of_vocabulary <= FOREIGN_SHARE
        )
