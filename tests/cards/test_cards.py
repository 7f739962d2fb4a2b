"""Test the front matter and the figures of the cards, and that they contain no titles."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rubro.cards import Facts, data_card, model_card
from rubro.data.splits import load_labels, load_split

pytest_plugins = ["support.tiny_project"]


@pytest.fixture(scope="module")
def facts(first_project: Path) -> Facts:
    """Facts of a real run."""

    def read(name: str) -> Any:
        return json.loads((first_project / "metrics" / name).read_text(encoding="utf-8"))

    models = read("evaluate.json")["test"]
    del models["differences"]
    slices = [{"slice": "all", "titles": 1000, "accuracy": 0.5}]
    automation = [{"goal": 0.95, "coverage": 0.5, "precision": 0.97, "low": 0.96, "high": 0.98}]
    description = read("evaluation/description.json")
    subset = read("subset.json")
    return Facts(description, subset, models, slices, automation, subset["classes"])


def front_of(card: str) -> dict[str, Any]:
    """Return the YAML front matter of a card."""
    empty, front, body = card.split("---\n", 2)
    assert empty == ""
    assert body.startswith("\n# ")
    values = yaml.safe_load(front)
    assert isinstance(values, dict)
    return values


def with_params(facts: Facts, section: str, **values: Any) -> Facts:
    params = facts.description["params"]
    changed = {**params, section: {**params[section], **values}}
    return replace(facts, description={**facts.description, "params": changed})


def test_the_model_card_has_the_metrics_of_the_ensemble_on_test(facts: Facts) -> None:
    card = model_card(facts)
    front = front_of(card)
    assert front["language"] == ["es"]
    assert front["pipeline_tag"] == "text-classification"
    [index] = front["model-index"]
    [result] = index["results"]
    assert result["dataset"] == {"name": "sample", "type": "sample", "split": "test"}
    ensemble = facts.models["ensemble"]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "accuracy": ensemble["accuracy"],
        "balanced_accuracy": ensemble["balanced_accuracy"],
        "f1": ensemble["macro_f1"],
        "ece": ensemble["ece"],
    }
    assert f"| svm | {facts.models['svm']['balanced_accuracy']:.4f} |" in card
    assert "| all | 1,000 | 0.5000 |" in card
    assert "| 0.95 | 50.0 % | 0.9700 | 0.9600 to 0.9800 |" in card
    assert "promised precision" not in model_card(replace(facts, automation=[]))


@pytest.mark.parametrize("objective", ["accuracy", "macro_f1"])
def test_the_objective_comes_first(facts: Facts, objective: str) -> None:
    card = model_card(replace(facts, description={**facts.description, "objective": objective}))
    [result] = front_of(card)["model-index"][0]["results"]
    values = facts.models["svm"]
    assert result["metrics"][0]["value"] == facts.models["ensemble"][objective]
    low, high = values[f"{objective}_low"], values[f"{objective}_high"]
    assert f"| svm | {values[objective]:.4f} | {low:.4f} to {high:.4f} | " in card
    header, rule, row = re.findall(
        r"^\| (?:model|svm) \|.*$|^\| --- \| ---: \| --- \|.*$", card, re.MULTILINE
    )
    assert header.count("|") == rule.count("|") == row.count("|")


def test_the_model_card_shows_models_left_out_and_a_final_fit(facts: Facts) -> None:
    assert facts.description["final_fit"] and not facts.description["left_out"]
    card = model_card(facts)
    assert "trained once more" in card and "Left out" not in card
    changed = facts.description | {"final_fit": False, "left_out": ["cnn"]}
    card = model_card(replace(facts, description=changed))
    assert "trained once more" not in card and "**Left out:** cnn" in card


def test_the_cards_show_how_many_categories_were_measured(facts: Facts) -> None:
    classes = facts.subset["classes"]
    fact = f"Only 2 of the {classes} categories"
    for card in (model_card, data_card):
        assert fact in card(replace(facts, measured_categories=2))
        assert "Only" not in card(facts)


def test_the_data_card_counts_kept_and_skipped_rows(facts: Facts) -> None:
    card = data_card(facts)
    front = front_of(card)
    assert front["task_categories"] == ["text-classification"]
    assert front["size_categories"] == ["1K<n<10K"]
    assert f"| train | {facts.subset['rows']['train']:,} | " in card
    for reason, rows in facts.subset["dropped"].items():
        assert (f"| {reason} | {rows:,} |" in card) == (rows > 0)


def test_the_cards_show_levels_and_text_columns(facts: Facts) -> None:
    for card in (model_card, data_card):
        assert "levels" not in card(facts)
        assert "marca" not in card(facts)
    level = {"accuracy": 0.9, "balanced_accuracy": 0.8, "macro_f1": 0.7, "weighted_f1": 0.6}
    paths = dict.fromkeys(("hierarchical_precision", "hierarchical_recall"), 0.95)
    paths |= {"hierarchical_f1": 0.9512, "mean_weighted_f1": 0.6123}
    ensemble = {**facts.models["ensemble"], **paths, "levels": {"1": level, "2": level}}
    nested = replace(facts, models={**facts.models, "ensemble": ensemble})
    nested = with_params(
        nested,
        "data",
        text_columns=["marca", "precio"],
        number_columns=["precio"],
        category_column=["a", "b"],
    )
    text = model_card(nested)
    assert "| 2 | 0.9000 | 0.8000 | 0.7000 | 0.6000 |" in text
    assert "0.9512" in text and "0.6123" in text
    assert "marca, precio" in text
    text = data_card(nested)
    assert "| `text.marca` | text, " in text and "| `text.precio` | number" in text
    assert "paths in a tree with 2 levels, from columns `a`, `b` |" in text


@pytest.mark.parametrize(
    ("rows", "size"), [(999, "n<1K"), (1_000, "1K<n<10K"), (10**8, "100M<n<1B")]
)
def test_size_categories_match_the_hub(facts: Facts, rows: int, size: str) -> None:
    subset = {**facts.subset, "rows": {**facts.subset["rows"], "total": rows}}
    assert front_of(data_card(replace(facts, subset=subset)))["size_categories"] == [size]


@pytest.mark.parametrize("language", [None, "klingon"])
def test_a_language_without_a_code_is_omitted(facts: Facts, language: str | None) -> None:
    changed = with_params(facts, "subset", language=language)
    assert "language" not in front_of(model_card(changed))
    assert "language" not in front_of(data_card(changed))


def test_yaml_syntax_in_a_name_is_escaped(facts: Facts) -> None:
    changed = with_params(facts, "data", path="a: [b # c")
    assert front_of(data_card(changed))["pretty_name"] == "a: [b # c"


def test_cards_contain_no_titles_categories_or_local_paths(first_project: Path) -> None:
    subset = first_project / "data" / "subset"
    titles = load_split(subset, "test")["title"]
    for name in ("model_card.md", "data_card.md", "description.json"):
        text = (first_project / "metrics" / "evaluation" / name).read_text(encoding="utf-8")
        assert not [title for title in titles if title in text]
        assert not [label for label in load_labels(subset) if label in text]
        assert str(first_project) not in text


def test_the_data_card_names_the_columns_of_the_source(facts: Facts) -> None:
    assert "| `category` | one of 12 names, from column `category` |\n| `label_qu" in data_card(
        facts
    )
    columns = {"text_columns": ["marca", "precio"], "number_columns": ["precio"]}
    card = data_card(with_params(facts, "data", category_column=["uno", "dos"], **columns))
    assert (
        "from columns `uno`, `dos` |\n| `text.marca` | text, from column `marca` |\n"
        "| `text.precio` | number, from column `precio` |\n| `label_quality`" in card
    )
