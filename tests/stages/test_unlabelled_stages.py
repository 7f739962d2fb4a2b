"""The first stages on a catalogue with unlabelled titles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from rubro.data.splits import UNLABELLED, load_source, load_split
from rubro.features.embedding import Embedding
from rubro.features.titles import load_features, load_unlabelled
from rubro.features.vocabulary import load_subwords
from support.tiny_project import digests, run_here, shrink

pytest_plugins = ["support.tiny_project"]
STAGES = ("subset", "featurize", "embed")
OUTPUTS = ("data/subset", "data/features", "data/vocabulary", "models/embedding")


@pytest.fixture
def project(tmp_path: Path, make_params: Callable[..., Any]) -> Callable[..., Path]:
    """Return a function that runs the stages on a catalogue and further unlabelled titles."""

    def make(name: str, more: pd.DataFrame | None, **data: Any) -> Path:
        folder = tmp_path / name
        (folder / "more").mkdir(parents=True)
        (folder / "corrections").mkdir()
        words = {"SHOES": "bota", "LAMPS": "lampara", "TOOLS": "sierra"}
        rows = [(f"{word} {i:x}a", i, name) for name, word in words.items() for i in range(60)]
        table = pd.DataFrame(rows, columns=["title", "price", "category"])
        table.to_csv(folder / "x.csv", index=False)
        if more is not None:
            more.to_csv(folder / "more" / "more.csv", index=False)
        params = make_params().model_dump()
        YAML().dump(params, folder / "params.yaml")
        shrink(folder / "params.yaml")
        params = YAML().load(folder / "params.yaml")
        paths = {"path": "x.csv", "unlabelled_path": "more", "corrections": "corrections"}
        params["data"] |= {**paths, **data}
        params["subset"] |= {"language": None, "top_categories": 0}
        params["featurize"] |= {"min_count": 1}
        YAML().dump(params, folder / "params.yaml")
        for stage in STAGES:
            code, messages = run_here(folder, stage)
            assert code == 0, messages
        return folder

    return make


MORE = pd.DataFrame(
    {
        "title": [f"hamaca paraguaya {i:x}b" for i in range(40)] * 2,
        "price": [str(i) for i in range(80)],
    }
)


@pytest.mark.parametrize("columns", [[], ["price"]])
def test_words_of_unlabelled_titles_are_learned(
    project: Callable[..., Path], columns: list[str]
) -> None:
    folder = project("used", MORE, text_columns=columns, number_columns=columns)
    subset = folder / "data/subset"
    table = load_split(subset, UNLABELLED, ("title", "file", "line"))
    assert list(table["title"]) == list(MORE["title"][:40])
    assert list(table["line"]) == list(range(2, 42))
    assert set(table["file"]) == {"more.csv"}
    subwords = load_subwords(folder / "data/vocabulary")
    train = load_split(subset, "train", ("title",))
    assert subwords.params.titles == len(train) + 40
    assert subwords.vocabulary["hamaca"] == 40
    width = len(load_source(subset).token_columns)
    features = load_unlabelled(folder / "data/features", columns=width)
    assert features is not None and len(features) == 40
    (labelled,), tokens = load_features(folder / "data/features", "train", columns=width)
    assert features.tokens.values.max() < len(tokens)
    assert not np.isin(features.tokens[0][0], labelled.features.tokens.values)
    embedding = Embedding.load(folder / "models/embedding")
    assert "hamaca" in embedding.subwords.vocabulary
    summary = json.loads((folder / "metrics/featurize.json").read_text())
    assert summary["training_tokens"] == len(labelled.features.tokens.values)


def test_ignored_titles_change_no_output(project: Callable[..., Path]) -> None:
    without = project("without", None)
    ignored = project("ignored", MORE, unlabelled="ignore")
    assert digests(without, *OUTPUTS) == digests(ignored, *OUTPUTS)
    assert load_unlabelled(ignored / "data/features") is None
    names = ("metrics/subset.json", "metrics/featurize.json")
    assert digests(without, *names) == digests(ignored, *names)
