"""Whole user journeys: a first session, and a shop that classifies and corrects its catalogue."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pandas as pd
import pytest

from support.tiny_project import ROOT, STAGES, environment, run_in, stages_run, wait_until

pytest_plugins = ["support.tiny_project"]
pytestmark = pytest.mark.slow


def test_first_session(project: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    run_in(tmp_path, "git", "clone", "--quiet", str(project), str(mine))
    run_in(mine, "rubro", "check")
    assert stages_run(run_in(mine, "dvc", "repro")) == list(STAGES)
    run_in(mine, "rubro", "fresh")
    # The same commit gives the same bytes.
    assert run_in(mine, "git", "status", "--porcelain").stdout == ""
    run_in(mine, "git", "switch", "--quiet", "--create", "topic")

    done = run_in(mine, "dvc", "exp", "run", "--name", "dropout", "-S", "train_cnn.dropout=0.2")
    assert stages_run(done) == ["train_cnn", "ensemble", "evaluate"]
    table = run_in(mine, "rubro", "compare").stdout
    assert re.search(r"^dropout\b.*\n +train_cnn.dropout=0.2 *$", table, re.MULTILINE), table
    assert max(map(len, table.splitlines())) <= 80
    run_in(mine, "git", "checkout", "--quiet", ".")
    run_in(mine, "dvc", "checkout", "--quiet")
    run_in(mine, "dvc", "exp", "apply", "dropout")
    run_in(mine, "rubro", "report")
    page = (mine / "report.html").read_text()
    assert "train_cnn.dropout" in page and "<svg" in page
    run_in(mine, "git", "commit", "--quiet", "--all", "--message", "Less dropout")
    assert run_in(mine, "git", "status", "--porcelain").stdout == ""

    gate = run_in(mine, "rubro", "gate", ok=False)
    assert gate.returncode in (0, 1)
    assert (gate.returncode == 1) == ("worse" in gate.stdout)
    for name in ("train_cnn.dropout", "train_cnn", "ensemble", "evaluate"):
        assert name in gate.stdout
    assert "train_mlp" not in gate.stdout.partition("stage")[2]


def answers_requests(port: int) -> bool:
    try:
        urlopen(f"http://127.0.0.1:{port}/health")
    except URLError:
        return False
    return True


@contextmanager
def server(folder: Path, script: str, port: int) -> Iterator[None]:
    """Run the script of a server; stop it at the end."""
    command = ["bash", "-c", f"exec {script}"]
    with subprocess.Popen(command, cwd=folder, env=environment()) as process:
        try:
            assert wait_until(lambda: answers_requests(port))
            yield
        finally:
            process.terminate()
    assert process.returncode == 0


def test_shop_trains_classifies_serves_and_corrects(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the commands of docs/shop.md, in their order."""
    parts = (project / "data/subset").glob("t*.parquet")
    rows = pd.concat(pd.read_parquet(part, columns=["title", "category"]) for part in sorted(parts))
    rows = rows.sample(frac=1, random_state=1).reset_index(drop=True)
    rows.insert(0, "sku", [f"{number:05d}" for number in range(len(rows))])
    catalogue, new = rows[:-50], rows[-50:]
    names = {"title": "nombre", "category": "rubro"}
    to_csv: dict[str, Any] = {"sep": ";", "encoding": "cp1252", "index": False}
    catalogue.rename(columns=names).to_csv(project / "data/catalogue.csv", **to_csv)
    new.drop(columns="category").rename(columns=names).to_csv(project / "data/new.csv", **to_csv)
    monkeypatch.setenv("HOME", str(tmp_path))  # for ~/Downloads
    run_in(project, "git", "config", "user.name", "Shop")
    run_in(project, "git", "config", "user.email", "shop@example.org")

    page = (ROOT / "docs/shop.md").read_text()
    train, keep, decide, serve, ask, retrain = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    assert "semicolon" in run_in(project, "bash", "-ec", train).stderr
    assert (project / "report.html").is_file()
    run_in(project, "bash", "-ec", keep)
    assert "catalogue.csv" not in run_in(project, "git", "ls-files").stdout.split()

    run_in(project, "bash", "-ec", decide)
    with open(project / "answers.csv", newline="", encoding="cp1252") as file:
        answers = list(csv.DictReader(file, delimiter=";"))
    assert [answer["sku"] for answer in answers] == list(new["sku"])
    assert all(answer["best_guess"] for answer in answers)  # the model folder contains thresholds
    named = [answer for answer in answers if answer["predicted_category"]]
    right = dict(zip(new["sku"], new["category"], strict=True))
    assert len(named) >= 20
    hits = sum(answer["predicted_category"] == right[answer["sku"]] for answer in named)
    assert hits / len(named) >= 0.8

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    request = ask.replace("localhost:8000", f"localhost:{port}")

    def response() -> Any:
        return json.loads(run_in(project, "bash", "-ec", request).stdout)

    with server(project, f"{serve.strip()} --port {port}", port):
        first = response()
        assert [len(found["top"]) for found in first["answers"]] == [1, 1]

        (tmp_path / "Downloads").mkdir()
        titles = [f"Artefacto Nunca Visto {number}" for number in range(30)]
        corrections = pd.DataFrame({"title": titles, "category": catalogue["category"].iloc[0]})
        corrections.to_csv(tmp_path / "Downloads/corrections.csv", index=False)
        before = json.loads((project / "metrics/subset.json").read_text())["rows"]["train"]
        run_in(project, "bash", "-ec", retrain)
        after = json.loads((project / "metrics/subset.json").read_text())["rows"]["train"]
        assert after == before + 30
        tracked = run_in(project, "git", "ls-files").stdout.split()
        assert not {"data/new.csv", "answers.csv"} & {*tracked}
        assert wait_until(lambda: response()["model"]["hash"] != first["model"]["hash"])


def test_unlabelled_catalogue_becomes_categories(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the commands of docs/afternoon.md, in their order, and label titles as a user would."""
    parts = (project / "data/subset").glob("t*.parquet")
    rows = pd.concat(pd.read_parquet(part, columns=["title", "category"]) for part in sorted(parts))
    categories = rows["category"].value_counts().index[:12]  # few, so that few titles are enough
    rows = rows[rows["category"].isin(categories)].drop_duplicates("title")
    right = dict(zip(rows["title"], rows["category"], strict=True))
    (tmp_path / "Downloads").mkdir()
    rows[["title"]].to_csv(tmp_path / "Downloads/catalogue.csv", index=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("models", "data/subset"):  # a fresh clone has no outputs
        shutil.rmtree(project / folder)

    def label(file: Path) -> pd.DataFrame:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        assert set(table["category"]) == {""}
        table["category"] = table["title"].map(right)
        table.to_csv(file, index=False)
        return table

    def training_rows() -> int:
        summary = json.loads((project / "metrics/subset.json").read_text())
        return int(summary["rows"]["train"])

    page = (ROOT / "docs/afternoon.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    choose, train, again, learn, audit, correct, use = blocks
    assert "no model" in run_in(project, "bash", "-ec", choose).stderr
    first = label(project / "data/labelled.csv")
    assert len(first) == 300
    assert set(first["category"]) == set(categories)

    assert "pseudo_label" in stages_run(run_in(project, "bash", "-ec", train))
    before = training_rows()
    run_in(project, "bash", "-ec", again)
    second = label(project / "next.csv")
    assert len(second) == 100
    assert not set(second["title"]) & set(first["title"])
    assert second["suggestion_1"].isin(categories).all()
    # The commands of the next step run the other stages.
    run_in(project, "bash", "-ec", learn.replace("dvc repro", "dvc repro subset"))
    assert training_rows() == before + 100

    run_in(project, "bash", "-ec", audit)
    suspects = pd.read_csv(project / "audit/suspects.csv", dtype=str, keep_default_na=False)
    suspects["accept"] = [
        "no" if right[title] == category else "yes"
        for title, category in zip(suspects["title"], suspects["label"], strict=True)
    ]
    suspects.to_csv(project / "audit/suspects.csv", index=False)
    run_in(project, "bash", "-ec", correct)
    third = pd.read_csv(project / "next.csv")
    assert not set(third["title"]) & {*first["title"], *second["title"]}

    run_in(project, "bash", "-ec", use)
    answers = pd.read_csv(project / "categories.csv", dtype=str, keep_default_na=False)
    assert len(answers) == len(rows)
    named = answers[answers["predicted_category"] != ""]
    assert len(named) >= len(rows) / 2
    assert (named["predicted_category"] == named["title"].map(right)).mean() >= 0.8
