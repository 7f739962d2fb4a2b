"""Cards of a model and its data, in the format of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

_LANGUAGES = {"english": "en", "french": "fr", "italian": "it", "portuguese": "pt", "spanish": "es"}
_SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
    100_000_000: "10M<n<100M",
}


@dataclass(frozen=True)
class Facts:
    """What the cards tell.

    Attributes:
        description: Parameters, versions and weights, as in metrics/evaluation/description.json.
        subset: Rows, categories and dropped rows, as in metrics/subset.json.
        models: Metrics of each model on test titles, by its name; "ensemble" is one of them.
        slices: Rows of the ensemble's table of slices.
        automation: Rows of the ensemble's table of automation.
    """

    description: dict[str, Any]
    subset: dict[str, Any]
    models: Mapping[str, Mapping[str, float]]
    slices: list[dict[Any, Any]]
    automation: list[dict[Any, Any]]


def model_card(facts: Facts) -> str:
    """Return the card of the ensemble: a README.md with YAML front matter."""
    data = facts.description["params"]["data"]["path"]
    metrics = facts.models["ensemble"]
    named = {
        "accuracy": ("accuracy", "accuracy"),
        "balanced_accuracy": ("balanced_accuracy", "balanced accuracy"),
        "macro_f1": ("f1", "macro F1"),
        "ece": ("ece", "expected calibration error"),
    }
    result = {
        "task": {"type": "text-classification"},
        "dataset": {"name": data, "type": data, "split": "test"},
        "metrics": [
            {"type": kind, "name": name, "value": metrics[key]}
            for key, (kind, name) in named.items()
        ],
    }
    front = {
        **_language(facts),
        "license": "unknown",
        "library_name": "rubro",
        "pipeline_tag": "text-classification",
        "tags": ["product-titles", "e-commerce"],
        "model-index": [{"name": "rubro-ensemble", "results": [result]}],
    }
    return _card("model.md", front, facts)


def data_card(facts: Facts) -> str:
    """Return the card of the titles: a README.md with YAML front matter."""
    total = facts.subset["rows"]["total"]
    front = {
        **_language(facts),
        "license": "unknown",
        "pretty_name": facts.description["params"]["data"]["path"],
        "task_categories": ["text-classification"],
        "size_categories": [
            next((name for most, name in _SIZES.items() if total < most), "100M<n<1B")
        ],
        "tags": ["product-titles", "e-commerce"],
    }
    return _card("data.md", front, facts)


def _language(facts: Facts) -> dict[str, list[str]]:
    language = facts.description["params"]["subset"]["language"]
    return {"language": [_LANGUAGES[language]]} if language in _LANGUAGES else {}


def _card(template: str, front: dict[str, Any], facts: Facts) -> str:
    environment = Environment(
        loader=PackageLoader("rubro.cards", "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown; no title and no category is in it
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    header = yaml.safe_dump(front, allow_unicode=True, sort_keys=False)
    body = environment.get_template(template).render(
        params=facts.description["params"],
        versions=facts.description["versions"],
        weights=facts.description["weights"],
        subset=facts.subset,
        models=facts.models,
        slices=facts.slices,
        automation=facts.automation,
    )
    return f"---\n{header}---\n\n{body}"
