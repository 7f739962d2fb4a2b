"""The scripts that run the ladder of settings and write tables from its outcome."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from rubro.base.errors import DataError
from rubro.base.params_file import with_settings
from rubro.sample import write_catalogue
from support.tiny_project import STAGES, copy_project, run_in, shrink, stages_run

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PLAN = YAML(typ="safe").load(ROOT / "benchmarks" / "ladder.yaml")
ROWS: list[dict[str, Any]] = [row for table in PLAN["tables"].values() for row in table]
MODELS = ("ensemble", "mlp", "cnn", "svm")
FIGURES = ("balanced_accuracy", "accuracy", "top5_accuracy", "ece")


def script(name: str) -> Any:
    """A script of benchmarks/, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(ROOT)
    return script("ladder")


def metrics(score: float, megabytes: float = 1.0) -> dict[str, Any]:
    """What a run leaves; each figure is another."""
    of_split = {
        model: {
            figure: round(score + 0.01 * position + 0.001 * number, 6)
            for number, figure in enumerate(FIGURES)
        }
        | {"loss": 1.0}
        for position, model in enumerate(MODELS)
    }
    return {
        "evaluate": {"validation": of_split, "test": of_split},
        "ensemble": {"model_megabytes": megabytes * 2},
        "train_mlp": {"model_megabytes": megabytes},
        "train_cnn": {"model_megabytes": megabytes / 2},
        "train_svm": {"model_megabytes": megabytes / 4},
    }


# Rows and their settings


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_row_of_the_ladder_is_valid_and_has_labels(ladder: Any, row: dict[str, Any]) -> None:
    assert set(row) <= {"name", "label", "seeds", "preset", "set"}
    assert set(row["label"]) == {"en", "es"}
    assert all(row["label"].values())
    assert row.get("seeds", PLAN["seeds"])
    settings = ladder.settings_of(row, ["data.path=data/sample", "subset.top_categories=0"])
    params = with_settings("params.yaml", settings)
    for key, value in row.get("set", {}).items():
        assert f"{key}={json.dumps(value)}" in settings
    if row["name"] != "default":
        common = ["subset.top_categories=0"]
        assert params != with_settings("params.yaml", common)


def test_the_names_of_rows_are_unique_and_fit_for_an_experiment() -> None:
    names = Counter(row["name"] for row in ROWS)
    assert names.most_common(1)[0][1] == 1
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


def test_the_row_goes_before_what_is_common_and_that_before_the_preset(
    ladder: Any, tmp_path: Path
) -> None:
    preset = tmp_path / "preset.yaml"
    preset.write_text("embed: {epochs: 1, window: 1, vector_size: 1}\ntrain_cnn: {filters: 1}\n")
    row = {
        "preset": str(preset),
        "set": {"embed.epochs": 3, "subset.language": None, "train_mlp.hidden_sizes": [3, 4]},
    }
    settings = ladder.settings_of(row, ["embed.epochs=2", "embed.window=2", "data.path=a=b"])
    params = with_settings("params.yaml", settings)
    assert (params.embed.epochs, params.embed.window, params.embed.vector_size) == (3, 2, 1)
    assert params.train_cnn.filters == 1
    assert params.train_mlp.hidden_sizes == [3, 4]
    assert params.subset.language is None
    assert params.data.path == "a=b"
    assert len(settings) == len({setting.split("=")[0] for setting in settings})


def test_a_row_without_changes_has_what_is_common_alone(ladder: Any) -> None:
    assert ladder.settings_of({"name": "default"}, []) == []
    assert ladder.settings_of({"name": "default"}, ["seed=4"]) == ["seed=4"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--set", "subset.top_categorie=5"], "subset.top_categorie: unknown key; did you mean"),
        (["--set", "seed=many"], "seed: input should be a valid integer"),
        (["--set", "nonsense"], "nonsense: not of the form KEY=VALUE"),
        (["--only", "nothing"], "--only nothing: no such row; known: default, "),
        (["--ladder", "nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_a_wrong_option_is_answered_with_one_line_before_anything_runs(
    options: list[str], named: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/ladder.py", "--out", str(out), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {named}")
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()


# The summary


def test_the_summary_has_mean_and_deviation_over_the_runs(ladder: Any) -> None:
    runs = [metrics(0.1, 10), metrics(0.2, 20.16), metrics(0.6, 30)]
    summary = ladder.summary_of(runs)
    assert set(summary) == {"validation", "test", "megabytes"}
    for split in ("validation", "test"):
        assert set(summary[split]) == set(MODELS)
        for position, model in enumerate(MODELS):
            assert set(summary[split][model]) == set(FIGURES)
            for number, figure in enumerate(FIGURES):
                more = 0.01 * position + 0.001 * number
                found = summary[split][model][figure]
                # (0.2 ** 2 + 0.1 ** 2 + 0.3 ** 2) / (3 - 1) is the variance.
                assert found["mean"] == pytest.approx(0.3 + more, abs=1e-6)
                assert found["deviation"] == pytest.approx(math.sqrt(0.07), abs=1e-6)
                assert found["values"] == pytest.approx([0.1 + more, 0.2 + more, 0.6 + more])
    assert summary["megabytes"] == {"ensemble": 40.1, "mlp": 20.1, "cnn": 10.0, "svm": 5.0}


def test_a_single_run_has_no_deviation(ladder: Any) -> None:
    assert ladder.summary_of([metrics(0.25)])["test"]["ensemble"]["balanced_accuracy"] == {
        "mean": 0.25,
        "deviation": None,
        "values": [0.25],
    }


# The tables


_MEASURED = {
    "seconds": 2099.6,
    "megabytes": 1234,
    "balanced_accuracy": 0.98765,
    "model_megabytes": 9.6,
    "titles_per_second": 12345,
}
SIZES = {
    "10000": {
        "pipeline": {
            "name": "rubro",
            "stages": {"subset": {"seconds": 1.2, "megabytes": 345}},
            **_MEASURED,
        },
        "peers": {
            "slow": {"name": "Slow", "seconds_over": 600.0, "megabytes": 99},
            "fast": {"name": "Fast", **_MEASURED},
        },
    }
}


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ladder: Any) -> Any:
    """tables.py with outcomes of its own, of all rows but one, and pages to write to."""
    module = script("tables")
    rows = {
        row["name"]: {
            "set": row.get("set", {}),
            "seeds": row.get("seeds", PLAN["seeds"]),
            **ladder.summary_of([metrics(0.5)]),
        }
        for row in ROWS
    }
    rows["default"] |= ladder.summary_of([metrics(0.1), metrics(0.2), metrics(0.6)])
    del rows["no-linear-path"]
    (tmp_path / "ladder.json").write_text(json.dumps({"seeds": [1], "rows": rows}))
    for number, name in enumerate(module.DISTURBANCES, start=1):
        peers = {"best": {"name": "Words", "test": {"balanced_accuracy": number / 7}}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"peers": peers}))
    (tmp_path / "scale.json").write_text(json.dumps({"sizes": SIZES}))
    pages = {tmp_path / f"README.{language}.md": language for language in ("en", "es")}
    for page in pages:
        names = [*PLAN["tables"], "peers", "scale", "scalestages"]
        page.write_text(
            "# Título\n\n"
            + "\n".join(f"before {name}\n<!-- table: {name} -->\n<!-- end -->" for name in names)
            + "\nafter\n",
            encoding="utf-8",
        )
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "PAGES", pages)
    return module


def test_only_what_is_between_the_marks_of_a_table_is_replaced() -> None:
    filled = script("tables").filled
    text = (
        "a | b\n<!-- end -->\n<!-- table: one -->\nold\n\nolder\n<!-- end -->\nbetween\n"
        "<!-- table: two -->\n<!-- end -->\nafter <!-- a comment -->\n"
    )
    once = filled(text, {"one": "| 1 \\1 |", "two": "| 2 |\n| 3 |", "three": "| 4 |"})
    assert once == (
        "a | b\n<!-- end -->\n<!-- table: one -->\n| 1 \\1 |\n<!-- end -->\nbetween\n"
        "<!-- table: two -->\n| 2 |\n| 3 |\n<!-- end -->\nafter <!-- a comment -->\n"
    )
    assert filled(once, {"one": "| 1 \\1 |", "two": "| 2 |\n| 3 |"}) == once
    assert filled("no table\n", {"one": "| 1 |"}) == "no table\n"


def test_a_table_is_one_of_markdown() -> None:
    table = script("tables")._markdown(["name", "score"], [["a", "1"], ["b", "2"]])
    assert table == "| name | score |\n| --- | --- |\n| a | 1 |\n| b | 2 |"


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_tables_have_the_rows_that_ran_with_their_figures(tables: Any, language: str) -> None:
    made = tables.tables(language)
    assert set(made) == {*PLAN["tables"], "peers"}
    for name, table in PLAN["tables"].items():
        _, _, *lines = made[name].splitlines()
        labels = [row["label"][language] for row in table if row["name"] != "no-linear-path"]
        assert [line.split(" | ")[0] for line in lines] == [f"| {label}" for label in labels]
        assert {line.count("|") for line in made[name].splitlines()} == {7}
    default = made["ablations"].splitlines()[2]
    # Ensemble, MLP, CNN and SVM on test, and the ensemble on validation.
    figures = ["0.300", "0.310", "0.320", "0.330", "0.300"]
    assert default.endswith(f"| {' | '.join(f'{figure} ± 0.265' for figure in figures)} |")
    assert made["sizes"].splitlines()[2].endswith("| 0.500 | 0.510 | 0.520 | 0.530 | 0.500 |")
    _, _, *peers = made["peers"].splitlines()
    assert peers[0] == "| Words | 0.143 | 0.286 | 0.429 |"
    assert peers[2] == "| **MLP** | 0.310 ± 0.265 | 0.510 | 0.510 |"
    assert len(peers) == 1 + len(MODELS)


@pytest.mark.parametrize(
    ("key", "value"), [("set", {"train_mlp.dropout": 0.5}), ("seeds", [1, 2, 3, 4])]
)
def test_a_row_that_ran_with_other_settings_than_planned_is_no_row(
    tables: Any, key: str, value: Any
) -> None:
    path = tables.RESULTS / "ladder.json"
    results = json.loads(path.read_text())
    results["rows"]["no-idf"][key] = value
    path.write_text(json.dumps(results))
    outcome = CliRunner().invoke(tables.app, [])
    assert outcome.exit_code == 2
    with pytest.raises(DataError, match="row no-idf ran with other settings"):
        tables.tables("en")


def test_sizes_are_told_with_what_took_too_long(tables: Any) -> None:
    made = tables.scale()
    figures = "2,100 | 1,234 | 0.988 | 10 | 12,345 |"
    assert made["scale"].splitlines()[2:] == [
        f"| 10,000 | **rubro** | {figures}",
        "| 10,000 | Slow | over 600 | 99 | - | - | - |",
        f"| 10,000 | Fast | {figures}",
    ]
    assert made["scalestages"].splitlines()[2:] == ["| subset | 1, 345 |"]


def test_every_peer_has_a_spanish_name() -> None:
    peers = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))["peers"]
    assert set(script("tables").PEERS["es"]) == set(peers)


@pytest.mark.slow
def test_check_tells_stale_tables_from_fresh_ones_and_writes_none(tables: Any) -> None:
    def contents() -> list[str]:
        return [page.read_text(encoding="utf-8") for page in tables.PAGES]

    before, runner = contents(), CliRunner()
    assert runner.invoke(tables.app, ["--check"]).exit_code == 1
    assert contents() == before
    assert runner.invoke(tables.app, []).exit_code == 0
    written = contents()
    for old, new, language in zip(before, written, tables.PAGES.values(), strict=True):
        assert new == tables.filled(old, tables.tables(language) | tables.scale()) != old
    assert runner.invoke(tables.app, ["--check"]).exit_code == 0
    assert runner.invoke(tables.app, []).exit_code == 0
    assert contents() == written


def test_every_table_has_its_place_on_a_page() -> None:
    module = script("tables")
    places = {}
    for page in module.PAGES:
        text = page.read_text(encoding="utf-8")
        names = places[page.name] = re.findall(r"<!-- table: (.*?) -->\n", text)
        assert len(set(names)) == len(names)
        emptied = module.filled(text, dict.fromkeys(names, ""))
        filled = module.filled(emptied, dict.fromkeys(names, "?"))
        assert filled.count("\n?\n<!-- end -->") == len(names)
    assert places["README.md"] == places["README.es.md"] == ["peers"]
    assert set(places["results.md"]) == {*PLAN["tables"], "peers", "scale", "scalestages"}
    assert places["pipeline.md"] == ["stages", "graph"]
    assert places["experiments.md"] == ["params"]


@pytest.mark.slow
def test_the_pipeline_is_described_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  one: {desc: First, cmd: 'true', params: [a], outs: [x]}\n"
        "  two: {desc: Second, cmd: 'true', deps: [x], metrics: [m.json: {cache: false}], outs: [y]}\n"
    )
    (tmp_path / "params.yaml").write_text(
        "a: yes   # one | another\nb:\n  c:     # a list\n    - 1\n    - 2\n  d: null  # none\n"
    )
    run_in(tmp_path, "dvc", "init", "--quiet", "--no-scm")
    module = script("tables")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    made = module.pipeline()
    assert made["stages"].splitlines()[2:] == [
        "| one | First | `x` |",
        "| two | Second | `y`, `m.json` |",
    ]
    assert made["params"].splitlines()[2:] == [
        r"| `a` | `yes` | one \| another |",
        "| `b.c` | `[1, 2]` | a list |",
        "| `b.d` | `null` | none |",
    ]
    assert made["graph"].startswith("```mermaid\nflowchart TD\n")
    assert "node1-->node2" in made["graph"]
    one_output = "{desc: First, cmd: 'true', outs: [x]}"
    (tmp_path / "dvc.yaml").write_text(f"stages: {{one: {one_output}, two: {one_output}}}\n")
    with pytest.raises(DataError, match="`dvc dag` failed: "):
        module.pipeline()


@pytest.mark.skipif(not (RESULTS / "ladder.json").exists(), reason="the ladder has not run yet")
def test_the_tables_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/tables.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# A ladder that runs

TINY = """
seeds: [20190]
tables:
  ablations:
    - name: default
      label: {en: default, es: por defecto}
    - name: random-start
      label: {en: random, es: azar}
      set:
        networks.initial_embedding: random
        train_cnn.filter_sizes: [1, 2]
    - name: svm-alone
      label: {en: SVM alone, es: SVM sola}
      set:
        ensemble.members: [svm]
"""


@pytest.mark.slow
def test_the_ladder_gathers_the_metrics_of_its_experiments_and_runs_none_twice(
    tmp_path: Path,
) -> None:
    project, plan, out = tmp_path / "project", tmp_path / "tiny.yaml", tmp_path / "out.json"
    project.mkdir()
    plan.write_text(TINY)
    copy_project(project)
    shrink(project / "params.yaml")
    write_catalogue(project / "data" / "sample", rows=6_000)
    run_in(project, "git", "init", "--quiet", "--initial-branch", "main")
    run_in(project, "git", "add", "--all")
    run_in(project, "git", "commit", "--quiet", "--message", "tiny")

    def climb(*options: str) -> list[str]:
        files = "--ladder", str(plan), "--out", str(out)
        command = "python", "benchmarks/ladder.py", *files, *options
        return stages_run(run_in(project, *command))

    common = "--set", "train_cnn.filters=8"
    training = ["train_mlp", "train_cnn", "ensemble", "evaluate"]
    assert climb(*common) == [*STAGES, *training, "ensemble", "evaluate"]
    assert run_in(project, "git", "status", "--porcelain").stdout == ""
    refs = run_in(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps")
    written = json.loads(out.read_text())
    assert list(written["rows"]) == ["default", "random-start", "svm-alone"]
    for name, row in written["rows"].items():
        assert row["seeds"] == [20190]
        (ref,) = (ref for ref in refs.stdout.split() if f"/ladder-{name}-" in ref)

        def left(file: str, ref: str = ref) -> Any:
            return YAML(typ="safe").load(run_in(project, "git", "show", f"{ref}:{file}").stdout)

        evaluated = left("metrics/evaluate.json")
        for split in ("validation", "test"):
            for model in MODELS:
                for figure in FIGURES:
                    value = evaluated[split][model][figure]
                    expected = {"mean": value, "deviation": None, "values": [value]}
                    assert row[split][model][figure] == expected
        for model in MODELS:
            file = "ensemble" if model == "ensemble" else f"train_{model}"
            size = left(f"metrics/{file}.json")["model_megabytes"]
            assert row["megabytes"][model] == size
        params = left("params.yaml")
        assert params["train_cnn"]["filters"] == 8
        start = params["train_mlp"]["initial_embedding"], params["train_cnn"]["filter_sizes"]
        assert start == (("random", [1, 2]) if name == "random-start" else ("fasttext", [1, 2, 3]))

    before = out.read_bytes()
    (project / "README.md").write_text("another text\n")  # as tables.py does
    assert climb(*common) == []
    assert out.read_bytes() == before
    assert climb(*common, "--only", "random-start") == []
    assert out.read_bytes() == before
