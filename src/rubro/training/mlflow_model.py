"""MLflow flavour of a model folder, for `mlflow.pyfunc.load_model` and `mlflow models serve`.

MLflow stores the name of this module in each logged model and calls _load_pyfunc, so neither name
may change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

import rubro
from rubro.prediction.classifier import Classifier


class TitleModel:
    """MLflow model that predicts the categories of the titles in a table.

    Args:
        classifier: Trained classifier.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def predict(self, table: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the most probable category of each title.

        Args:
            table: Titles, in a column with the same name as the column of training titles.
            params: Ignored; MLflow requires it.

        Returns:
            Columns predicted_category and confidence, 0 to 1. They are "" and 0 for a missing or
            blank title, because JSON has no NaN.
        """
        titles = table[self._classifier.title_column].fillna("").astype(str)
        answers = pd.DataFrame({"predicted_category": "", "confidence": 0.0}, index=table.index)
        known = (titles.str.strip() != "").to_numpy()
        best = [pairs[0] for pairs in self._classifier.top(titles[known].to_list(), k=1)]
        answers.loc[known, "predicted_category"] = [category for category, _ in best]
        answers.loc[known, "confidence"] = [confidence for _, confidence in best]
        return answers


def _load_pyfunc(path: str) -> TitleModel:
    """Load a model folder as an MLflow model."""
    return TitleModel(Classifier.load(path))


def log_model(mlflow: Any, folder: Path, step: int) -> None:
    """Log a model folder to the active MLflow run.

    Args:
        mlflow: The mlflow module.
        folder: Path of a model folder.
        step: Step of the metrics that MLflow should show with the model.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    column = Classifier.load(folder).title_column
    answers = [ColSpec("string", "predicted_category"), ColSpec("double", "confidence")]
    mlflow.pyfunc.log_model(
        name="model",
        step=step,
        loader_module=__name__,
        data_path=str(folder),
        signature=ModelSignature(Schema([ColSpec("string", column)]), Schema(answers)),
        input_example=pd.DataFrame({column: ["Lampara De Techo Philips"]}),
        pip_requirements=[f"rubro=={rubro.__version__}", "pandas"],
    )
