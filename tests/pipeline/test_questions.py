"""Answers of docs/questions.md that run the pipeline, on a tiny catalogue."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support.pages import answer
from support.tiny_project import change_params, commit, run_in, stages_run

pytest_plugins = ["support.tiny_project", "support.toy_pipeline"]
pytestmark = pytest.mark.slow

CATEGORIES = ["CELLPHONE_COVERS", "TABLET_COVERS", "LIGHT_BULBS", "HEADPHONES", "GUITARS", "SOFAS"]


def save_catalogue(file: Path, project: Path, categories: Sequence[str] = CATEGORIES) -> None:
    """Write the titles of some categories of the sample; rows that are not valid are left out."""
    rows = set()
    source = project / "data/sample/spanish.train.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8", errors="ignore") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):
                row = json.loads(line)
                rows.add((row["title"], row["category"]))
    table = pd.DataFrame(sorted(row for row in rows if {*map(type, row)} == {str}))
    table.columns = pd.Index(["title", "category"])
    table = table[table["category"].isin(categories)]
    assert set(table["category"]) == set(categories)
    table.to_csv(file, index=False)


@pytest.fixture
def shop(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project with a catalogue of its own, which has not run yet."""
    monkeypatch.setenv("HOME", str(tmp_path))  # for ~/Downloads
    (tmp_path / "Downloads").mkdir()
    save_catalogue(project / "data/catalogue.csv", project)
    change_params(project, path="data/catalogue.csv", language="null", top_categories=0)
    run_in(project, "dvc", "add", "data/catalogue.csv")
    commit(project, "Catalogue")
    return project


def run_script(project: Path, script: str) -> subprocess.CompletedProcess[str]:
    return run_in(project, "bash", "-ec", script)


def labels(project: Path) -> set[str]:
    """Return the categories of the model."""
    return set(json.loads((project / "models/ensemble/model.json").read_text())["labels"])


def only(stage: str, script: str) -> str:
    """Return a script that runs the pipeline up to a stage, because a later script runs the others."""
    changed, count = re.subn(r"(?m)^dvc (repro|exp run)", rf"\g<0> {stage}", script)
    assert count == 1
    return changed


def test_categories_change_then_the_catalogue_and_the_previous_model_returns(
    shop: Path, tmp_path: Path
) -> None:
    rename, train = answer("How do we rename or merge categories?")
    one = pd.DataFrame({"title": ["Funda Rara"], "category": ["TABLET_COVERS"]})
    one.to_csv(shop / "data/corrections/ana.csv", index=False)
    run_in(shop, "python", "-c", rename)
    run_script(shop, train)
    merged = {"PHONE_CASES", *CATEGORIES[2:]}
    assert labels(shop) == merged

    split, choose, learn = answer("How do we split a category?")
    run_in(shop, "python", "-c", split)
    run_script(shop, choose)
    chosen = pd.read_csv(shop / "labels.csv", dtype=str, keep_default_na=False)
    assert 20 <= len(chosen) <= 50
    assert set(chosen["category"]) == {""}
    chosen["category"] = np.where(chosen["title"].str.contains("(?i)led"), "LEDS", "OTHER_BULBS")
    chosen.to_csv(shop / "labels.csv", index=False)
    run_script(shop, only("subset", learn))
    parted = merged - {"LIGHT_BULBS"} | {"LEDS", "OTHER_BULBS"}
    assert set(json.loads((shop / "data/subset/labels.json").read_text())) == parted

    (add,) = answer("How do we add a category?")
    titles = [f"Violin Modelo {number}" for number in range(20)]
    new = pd.DataFrame({"title": titles, "category": "VIOLINS"})
    new.to_csv(tmp_path / "Downloads/new_category.csv", index=False)
    assert "VIOLINS" in run_script(shop, add).stderr
    assert labels(shop) == parted | {"VIOLINS"}

    (decide,) = answer("What should we do with a low confidence?")
    save_catalogue(shop / "other.csv", shop, ["PRINTERS", "TELEVISIONS"])
    pd.read_csv(shop / "other.csv")[["title"]].to_csv(shop / "catalogue.csv", index=False)
    run_script(shop, decide)
    answers = pd.read_csv(shop / "answers.csv", dtype=str, keep_default_na=False)
    sure = answers["confidence"].astype(float) >= 0.8
    assert ((answers["predicted_category"] != "") == sure).all()
    uncertain = shop / "data/corrections/uncertain.csv"
    assert len(pd.read_csv(uncertain)) == 20
    uncertain.unlink()

    commit(shop, "First model")
    first = (shop / "models/ensemble/model.json").read_bytes()
    catalogue = pd.read_csv(shop / "data/catalogue.csv")
    more = pd.DataFrame({"title": [f"Saxo {n}" for n in range(40)], "category": "SAXOPHONES"})
    pd.concat([catalogue, more]).to_csv(tmp_path / "Downloads/catalogue.csv", index=False)

    (retrain,) = answer("The catalogue has changed, what now?")
    (shop / "retrain.sh").write_text(retrain)
    (line,) = answer("How do we retrain on a schedule?")
    fields = re.fullmatch(r"0 3 \* \* 1  (.*)\n", line)
    assert fields is not None
    run_in(shop, "sh", "-c", fields[1].replace("/srv/catalogue", str(shop)))
    assert labels(shop) == parted | {"VIOLINS", "SAXOPHONES"}
    assert run_in(shop, "git", "log", "-1", "--format=%s").stdout == "New catalogue\n"

    (rollback,) = answer("How do we return to the previous model?")
    run_script(shop, rollback)
    assert (shop / "models/ensemble/model.json").read_bytes() == first
    assert pd.read_csv(shop / "data/catalogue.csv").equals(catalogue)


def test_shops_have_branches(project: Path) -> None:
    before = run_in(project, "git", "rev-parse", "HEAD").stdout
    (script,) = answer("How do several shops share a repository?")
    # The tests have one environment, which is active.
    script = re.sub(r"^(make setup|source .*)\n", "", script, flags=re.MULTILINE)
    save_catalogue(project.parent / "b.csv", project, CATEGORIES[:3])
    copy = "cd ../shop-b\ncp ../b.csv data/catalogue.csv\n"
    run_script(project, script.replace("cd ../shop-b\n", copy))
    assert labels(project.parent / "shop-b") == set(CATEGORIES[:3])
    assert run_in(project, "git", "rev-parse", "HEAD").stdout == before
    assert run_in(project, "dvc", "status", "--quiet", ok=False).returncode == 0


def test_samples_of_titles_are_compared(toy: Path) -> None:
    (script,) = answer("How many titles are needed?")
    table = run_script(toy, script).stdout
    assert "subset.max_rows=1000" in table
    assert "subset.max_rows=2000" in table


def test_columns_trees_and_vectors(shop: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(shop / "data/catalogue.csv")
    rows = rows.assign(
        category="Todo > " + rows["category"], brand="Acme", price=np.arange(len(rows))
    )
    rows.to_csv(shop / "data/catalogue.csv", index=False)
    run_in(shop, "dvc", "add", "data/catalogue.csv")
    commit(shop, "Columns")

    (columns,) = answer("Can the models read several columns?")
    run_script(shop, only("subset", columns))
    # The settings of an experiment stay in params.yaml, so the next one has columns and a tree.
    (tree,) = answer("Can categories form a tree?")
    shutil.copy(shop / "data/catalogue.csv", shop / "catalogue.csv")
    run_script(shop, tree)
    assert set(pd.read_csv(shop / "roots.csv")["predicted_category"].dropna()) == {"Todo"}
    model = json.loads((shop / "models/ensemble/model.json").read_text())
    assert [column["name"] for column in model["text"]["columns"]] == ["brand", "price"]

    numbers = np.random.default_rng(1).normal(size=(2, 300)).round(3)
    lines = [
        f"{word} {' '.join(map(str, row))}"
        for word, row in zip(["funda", "lampara"], numbers, strict=True)
    ]
    (tmp_path / "Downloads/shop.vec").write_text("2 300\n" + "\n".join(lines) + "\n")
    (vectors,) = answer("Can training start from our own pretrained vectors?")
    done = run_script(shop, only("embed", vectors))
    assert stages_run(done) == ["embed"]
    assert re.search(r"[12] of [\d,]+ words", done.stderr), done.stderr
