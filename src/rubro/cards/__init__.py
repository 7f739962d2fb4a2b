"""Write the model card and the data card (README.md files) for the Hugging Face Hub."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from rubro.base.metric_names import CAPTIONS, LEVEL_CAPTIONS

_LANGUAGES = {"english": "en", "french": "fr", "italian": "it", "portuguese": "pt", "spanish": "es"}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_SIZE_LIMITS = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
_METRICS = {  # type and name on the Hub
    "accuracy": ("accuracy", "accuracy"),
    "balanced_accuracy": ("balanced_accuracy", "balanced accuracy"),
    "macro_f1": ("f1", "macro F1"),
    "ece": ("ece", "expected calibration error"),
}

_COLUMNS = ("balanced_accuracy", "accuracy", "macro_f1", "top3_accuracy", "ece", "top3_ece")


@dataclass(frozen=True)
class Facts:
    """Results of a run of the pipeline that the cards show.

    Attributes:
        description: Content of metrics/evaluation/description.json.
        subset: Content of metrics/subset.json: sizes and classes of the splits.
        models: Test metrics of each model by its name, including "ensemble".
        slices: Accuracy of the ensemble on groups of titles: rows of its slices.csv.
        automation: Coverage of the ensemble at promised precisions: rows of its automation.csv.
        measured_categories: Number of categories that have test titles.
        promised_precision: Precision that the thresholds in the folder of the ensemble promise; None =
            it contains no thresholds.
    """

    description: dict[str, Any]
    subset: dict[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    slices: list[dict[Any, Any]]
    automation: list[dict[Any, Any]]
    measured_categories: int
    promised_precision: float | None = None


def model_card(facts: Facts) -> str:
    """Return the model card of the ensemble: Markdown with YAML front matter."""
    data = facts.description["params"]["data"]["path"]
    metrics, objective = facts.models["ensemble"], facts.description["objective"]
    result = {
        "task": {"type": "text-classification"},
        "dataset": {"name": data, "type": data, "split": "test"},
        "metrics": [
            {"type": kind, "name": name, "value": metrics[key]}
            for key, (kind, name) in ({objective: _METRICS[objective]} | _METRICS).items()
        ],
    }
    front = {
        "library_name": "rubro",
        "pipeline_tag": "text-classification",
        "tags": ["product-titles", "e-commerce"],
        "model-index": [{"name": "rubro-ensemble", "results": [result]}],
    }
    return _card("model.md", front, facts)


def data_card(facts: Facts) -> str:
    """Return the data card of the titles: Markdown with YAML front matter."""
    size = _SIZES[bisect(_SIZE_LIMITS, facts.subset["rows"]["total"])]
    front = {
        "pretty_name": facts.description["params"]["data"]["path"],
        "task_categories": ["text-classification"],
        "size_categories": [size],
        "tags": ["product-titles", "e-commerce"],
    }
    return _card("data.md", front, facts)


def _card(template: str, front: dict[str, Any], facts: Facts) -> str:
    language = facts.description["params"]["subset"]["language"]
    known = {"language": [_LANGUAGES[language]]} if language in _LANGUAGES else {}
    header = yaml.safe_dump(
        {**known, "license": "unknown", **front}, allow_unicode=True, sort_keys=False
    )
    environment = Environment(
        loader=PackageLoader("rubro.cards", "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown without titles and categories
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    body = environment.get_template(template).render(
        **vars(facts),
        **facts.description,
        columns={key: CAPTIONS[key] for key in _COLUMNS},
        levels=facts.models["ensemble"].get("levels", {}),
        level_columns=LEVEL_CAPTIONS,
    )
    return f"---\n{header}---\n\n{body}"
