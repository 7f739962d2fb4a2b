"""MLflow models of model folders: columns, signature and input example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rubro.prediction.classifier import Classifier
from rubro.training.mlflow_model import log_model
from support.keyword_model import PATHS

pytest_plugins = ["support.curves", "support.keyword_model"]


@pytest.fixture
def logged(shop_model: Path, mlflow_client: Any) -> Any:
    """MLflow model of a model that reads a brand and a price."""
    import mlflow

    mlflow.set_experiment("models")
    with mlflow.start_run() as run:
        log_model(mlflow, shop_model, step=0)
    return mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")


def test_an_mlflow_model_reads_the_columns_of_its_model(logged: Any, shop_model: Path) -> None:
    products: list[Any] = [
        {"nombre": "mesa", "marca": "silla", "precio": 12.5},
        {"nombre": "taza", "marca": None, "precio": np.nan},
        {"nombre": " ", "marca": "silla", "precio": 3},
    ]
    answers = logged.predict(pd.DataFrame(products, index=[3, 3, 9]))
    assert answers["predicted_category"].to_list() == [PATHS[2], PATHS[3], ""]
    expected = Classifier.load(shop_model).predict_proba(products[:2]).max(axis=1)
    np.testing.assert_allclose(answers["confidence"], [*expected, 0], atol=1e-6)
    assert answers.index.to_list() == [3, 3, 9]


def test_an_mlflow_model_answers_without_the_further_columns(logged: Any) -> None:
    answers = logged.predict(pd.DataFrame({"nombre": ["mesa"]}))
    assert answers["predicted_category"].to_list() == [PATHS[0]]
    answers = logged.predict(pd.DataFrame({"nombre": ["mesa"], "precio": ["$ 12,50"]}))
    assert answers["predicted_category"].to_list() == [PATHS[0]]


def test_the_signature_and_the_input_example_name_the_columns(logged: Any) -> None:
    inputs = logged.metadata.get_input_schema().to_dict()
    assert [(each["name"], each["required"]) for each in inputs] == [
        ("nombre", True),
        ("marca", False),
        ("precio", False),
    ]
    assert [*logged.input_example.columns] == ["nombre", "marca", "precio"]
