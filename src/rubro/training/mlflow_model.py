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
    """MLflow model that predicts the categories of the products in a table.

    Args:
        classifier: Trained classifier.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def predict(self, table: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the most probable category of each product.

        Args:
            table: Titles, in a column with the same name as the column of training titles, and the
                text columns that the model reads. A text column that is missing counts as empty.
            params: Ignored; MLflow requires it.

        Returns:
            Columns predicted_category and confidence, 0 to 1. They are "" and 0 for a missing or
            blank title, because JSON has no NaN.
        """
        names = [self._classifier.title_column, *self._classifier.text_columns]
        products = table[[name for name in names if name == names[0] or name in table]]
        products = products.astype(object).where(products.notna(), "").astype(str)
        known = (products[names[0]].str.strip() != "").to_numpy()
        answers = pd.DataFrame({"predicted_category": "", "confidence": 0.0}, index=table.index)
        rows: list[Any] = products[known].to_dict("records")
        best = [pairs[0] for pairs in self._classifier.top(rows, k=1)]
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
    from mlflow.types.schema import AnyType

    classifier = Classifier.load(folder)
    inputs = [ColSpec("string", classifier.title_column)]
    example = {classifier.title_column: "Lampara De Techo Philips"}
    for column in classifier.description.text.columns:
        is_text = column.bounds is None
        # Any type, because a number may also be the text of a cell, such as "$ 1.299".
        kind = "string" if is_text else AnyType()
        inputs.append(ColSpec(kind, column.name, required=False))
        example[column.name] = "Philips" if is_text else "1299"
    answers = [ColSpec("string", "predicted_category"), ColSpec("double", "confidence")]
    mlflow.pyfunc.log_model(
        name="model",
        step=step,
        loader_module=__name__,
        data_path=str(folder),
        signature=ModelSignature(Schema(inputs), Schema(answers)),
        input_example=pd.DataFrame([example]),
        pip_requirements=[f"rubro=={rubro.__version__}", "pandas"],
    )
