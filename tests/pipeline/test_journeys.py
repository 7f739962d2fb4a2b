"""Whole journeys: a newcomer's first session, and a shop's way from its csv to corrections."""

from __future__ import annotations

import csv
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pandas as pd
import pytest

from support.tiny_project import ROOT, environment, run_in, stages_run

pytest_plugins = ["support.tiny_project"]
pytestmark = pytest.mark.slow


def test_the_first_session_of_a_newcomer(project: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    run_in(tmp_path, "git", "clone", "--quiet", str(project), str(mine))
    run_in(mine, "rubro", "check")
    run_in(mine, "dvc", "repro")
    run_in(mine, "rubro", "fresh")
    assert run_in(mine, "git", "status", "--porcelain").stdout == ""
    run_in(mine, "git", "switch", "--quiet", "--create", "topic")

    done = run_in(mine, "dvc", "exp", "run", "--name", "dropout", "-S", "train_cnn.dropout=0.2")
    assert stages_run(done) == ["train_cnn", "ensemble", "evaluate"]
    table = run_in(mine, "rubro", "compare").stdout
    assert "last commit" in table
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
    assert "train_cnn.dropout" in gate.stdout
    for stage in ("train_cnn", "ensemble", "evaluate"):
        assert stage in gate.stdout
    assert "train_mlp" not in gate.stdout.partition("stage")[2]


def commands_of(page: Path) -> list[str]:
    """The scripts of a page."""
    return re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)


@contextmanager
def started(folder: Path, script: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script that serves; end it at the end."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {script}"], cwd=folder, env=environment()
    ) as process:
        try:
            for _ in range(300):
                try:
                    urlopen(f"http://127.0.0.1:{port}/health")
                    break
                except URLError:
                    time.sleep(0.1)
            yield process
        finally:
            process.terminate()
    assert process.returncode == 0


def test_the_whole_way_of_a_shop(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (project / "data/subset").glob("t*.parquet")
    rows = pd.concat(pd.read_parquet(part, columns=["title", "category"]) for part in sorted(parts))
    rows = rows.sample(frac=1, random_state=1).reset_index(drop=True)
    rows.insert(0, "sku", [f"{number:05d}" for number in range(len(rows))])
    catalogue, new = rows[:-50], rows[-50:]
    names = {"title": "nombre", "category": "rubro"}
    to_csv: dict[str, Any] = {"sep": ";", "encoding": "cp1252", "index": False}
    catalogue.rename(columns=names).to_csv(project / "data/catalogue.csv", **to_csv)
    new.drop(columns="category").rename(columns=names).to_csv(project / "data/new.csv", **to_csv)
    monkeypatch.setenv("HOME", str(tmp_path))  # of ~/Downloads
    run_in(project, "git", "config", "user.name", "Shop")
    run_in(project, "git", "config", "user.email", "shop@example.org")

    train, keep, decide, serve, ask, retrain = commands_of(ROOT / "docs/shop.md")
    done = run_in(project, "bash", "-ec", train)
    assert "separated by semicolon" in done.stderr
    assert (project / "report.html").is_file()
    run_in(project, "bash", "-ec", keep)
    assert "catalogue.csv" not in run_in(project, "git", "ls-files").stdout.split()

    run_in(project, "bash", "-ec", decide)
    with open(project / "answers.csv", newline="", encoding="utf-8") as file:
        answers = list(csv.DictReader(file, delimiter=";"))
    assert [answer["sku"] for answer in answers] == list(new["sku"])
    named = [answer for answer in answers if answer["predicted_category"]]
    right = dict(zip(new["sku"], new["category"], strict=True))
    assert len(named) >= 20
    hits = sum(answer["predicted_category"] == right[answer["sku"]] for answer in named)
    assert hits / len(named) >= 0.8

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with started(project, f"{serve.strip()} --port {port}", port):
        asked = ask.replace("localhost:8000", f"localhost:{port}")
        answer = json.loads(run_in(project, "bash", "-ec", asked).stdout)
        assert [len(found["top"]) for found in answer["answers"]] == [1, 1]
        before = answer["model"]["hash"]

        (tmp_path / "Downloads").mkdir()
        corrections = pd.DataFrame(
            {"title": [f"Artefacto Nunca Visto {number}" for number in range(30)]}
        ).assign(category=catalogue["category"].iloc[0])
        corrections.to_csv(tmp_path / "Downloads/corrections.csv", index=False)
        rows_before = json.loads((project / "metrics/subset.json").read_text())
        run_in(project, "bash", "-ec", retrain)
        rows_now = json.loads((project / "metrics/subset.json").read_text())
        assert rows_now["rows"]["train"] == rows_before["rows"]["train"] + 30
        for _ in range(100):
            again = json.loads(run_in(project, "bash", "-ec", asked).stdout)
            if again["model"]["hash"] != before:
                break
            time.sleep(0.1)
        assert again["model"]["hash"] != before
