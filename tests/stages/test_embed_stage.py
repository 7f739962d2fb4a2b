"""Stage embed with and without pretrained vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from support.tiny_project import change_params, digests, run_here

pytest_plugins = ["support.tiny_project"]
WORDS = ("mesa", "silla", "lampara", "sillon", "cama")
SIZE = 6


@pytest.fixture
def project(tmp_path: Path, make_params: Callable[..., Any]) -> Path:
    """A folder with the outputs of featurize, and with a folder for pretrained vectors."""
    rows = [(f"{word} x", word.upper()) for word in WORDS for _ in range(40)]
    titles = [f"{title} {'abcdefghij'[i % 10]}{'klmn'[i % 4]}" for i, (title, _) in enumerate(rows)]
    table = {"title": titles, "category": [category for _, category in rows]}
    pd.DataFrame(table).to_csv(tmp_path / "x.csv", index=False)
    params = make_params().model_dump()
    (tmp_path / "data/pretrained").mkdir(parents=True)
    (tmp_path / "data/pretrained/README.md").write_text("Put a file here.\n")
    for name in ("corrections", "unlabelled"):
        (tmp_path / "data" / name).mkdir()
    params["data"] |= {"path": "x.csv"}
    params["subset"] |= {"language": None, "top_categories": 0}
    params["featurize"] |= {"ngram_buckets": 200, "bigram_buckets": 50}
    params["embed"] |= {"vector_size": SIZE, "epochs": 1}
    YAML().dump(params, tmp_path / "params.yaml")
    for stage in ("subset", "featurize"):
        code, output = run_here(tmp_path, stage)
        assert code == 0, output
    return tmp_path


def embed(project: Path) -> tuple[dict[str, Any], dict[str, str], str]:
    """Run the stage; return its record of parameters, the digests of its outputs and its messages."""
    code, output = run_here(project, "embed")
    assert code == 0, output
    record: dict[str, Any] = json.loads((project / "metrics/params/embed.json").read_text())
    return record, digests(project, "models/embedding"), output


def test_vectors_in_the_folder_are_used_and_counted(project: Path) -> None:
    record, without, _ = embed(project)
    assert record["pretrained"] is None
    assert "pretrained_words" not in record
    vectors = project / "data/pretrained/x.vec"
    vectors.write_text(f"3 {SIZE}\nMesa{' 0.5' * SIZE}\nsillón{' 1' * SIZE}\nbed{' 1' * SIZE}\n")
    record, used, output = embed(project)
    assert record["pretrained"] == "x.vec"
    assert (record["pretrained_words"], record["pretrained_ngram_buckets"]) == (2, 0)
    assert "x.vec: 2 of " in output
    assert used != without
    assert embed(project)[1] == used
    vectors.rename(project / "elsewhere.vec")
    assert embed(project)[1] == without
    change_params(project, pretrained="elsewhere.vec")
    assert embed(project)[1] == used


def test_another_vector_size_ends_the_stage_with_a_remedy(project: Path) -> None:
    (project / "data/pretrained/x.vec").write_text(f"1 3\nmesa{' 0.5' * 3}\n")
    code, output = run_here(project, "embed")
    assert code == 2
    for part in ("x.vec", "3 numbers", f"embed.vector_size is {SIZE}"):
        assert part in output
    assert not (project / "models").exists()
