"""Confidences from which a model's answers are accepted, in a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from rubro.base.errors import DataError
from rubro.base.files import read_json
from rubro.base.schema import NotNegative, Section
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.folder import ModelDescription, fingerprint

_Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class AcceptedCounts(Section):
    """What was accepted of labelled titles.

    Attributes:
        titles: Number of labelled titles.
        kept: Number of titles with an accepted answer.
        right: Number of right answers among these.
        low: Lower end of the interval of the precision of these.
        high: Upper end of the interval of the precision of these.
    """

    titles: NotNegative
    kept: NotNegative
    right: NotNegative
    low: _Probability
    high: _Probability


class ConfidenceThreshold(AcceptedCounts):
    """A threshold, and what was accepted by it.

    Attributes:
        confidence: Least confidence of an accepted answer; None = none is accepted.
    """

    confidence: _Probability | None


class CategoryThreshold(ConfidenceThreshold):
    """The threshold of a category, and what was accepted of the titles predicted as it.

    Attributes:
        basis: Titles that it was chosen on: those predicted as the category ("own"), or where these
            are too few, those of all such categories ("together").
    """

    basis: Literal["own", "together"]


class Thresholds(Section):
    """Content of a file of thresholds.

    Attributes:
        format: Version of the format.
        model: Name of the model.
        fingerprint: Hash of the model folder; see folder.fingerprint.
        precision: Promised precision of the accepted answers.
        coverage: Probability with which each promise holds.
        least_titles: Number of titles from which a category has a threshold of its own.
        single: ConfidenceThreshold chosen on all titles, for those who want one number.
        together: ConfidenceThreshold chosen on all titles of the categories with too few of them.
        categories: ConfidenceThreshold of each category.
        all: What the thresholds of the categories accepted.
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

    @classmethod
    def load(cls, path: Path, folder: Path) -> Thresholds:
        """Read a file of thresholds.

        Args:
            path: Path of the file.
            folder: Folder of the model that they are for.

        Raises:
            DataError: The file is missing, damaged or of another model.
        """
        remedy = f"`rubro thresholds --model {folder} --output {path}` writes it"
        if not path.is_file():
            raise DataError(f"{path}: no such file; {remedy}")
        try:
            found = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "".join(f"{str(key)[:100]!a}: " for key in first["loc"])
            raise DataError(
                f"{path}: no file of thresholds: {where}{first['msg']}; {remedy}"
            ) from None
        labels = read_json(folder / "model.json", ModelDescription).labels
        if found.fingerprint != fingerprint(folder) or found.categories.keys() != set(labels):
            raise DataError(f"{path}: of another model than the one in {folder}; {remedy}")
        return found

    def accepts(self, category: str, confidence: float, out_of_vocabulary: float) -> bool:
        """Return whether an answer is as precise as promised.

        Args:
            category: Predicted category.
            confidence: Confidence of the prediction, 0 to 1.
            out_of_vocabulary: Share of the tokens of the title that are not in the vocabulary; no
                answer for a foreign title is accepted.
        """
        least = self.categories[category].confidence
        return least is not None and confidence >= least and out_of_vocabulary <= FOREIGN_SHARE
