"""Every benchmark script runs on tiny data and writes the result file that it promises."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rubro.base.params_file import flat, load_overrides, with_settings
from rubro.sample import write_catalogue
from support.tiny_project import ROOT, STAGES, run_in, stages_run

pytest_plugins = ["support.tiny_project", "support.toy_pipeline"]

BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py") if path.stem != "xr_linear")
MODELS = ["ensemble", "mlp", "cnn", "svm"]
PLAN = YAML(typ="safe").load(BENCHMARKS / "ladder.yaml")
ROWS: list[dict[str, Any]] = [row for table in PLAN["tables"].values() for row in table]
WITH_FLORET = ["fasttext"] if find_spec("floret") else []
# All scripts run in one process because imports take most of the time.
HELP = """
import runpy, sys
for script in sys.argv[1:]:
    sys.argv[:] = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, script
    print("\\f")
"""

TINY_LADDER = """
seeds: [20190]
tables:
  ablations:
    - name: default
      label: {en: default, es: por defecto}
    - name: random-start
      label: {en: random, es: azar}
      set: {networks.initial_embedding: random}
"""


def run_script(name: str, *arguments: str, folder: Path = ROOT) -> Any:
    return run_in(folder, sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments)


@pytest.mark.slow
def test_help_shows_options() -> None:
    pages = run_in(BENCHMARKS, sys.executable, "-c", HELP, *SCRIPTS).stdout.split("\f")
    for script, page in zip(SCRIPTS, pages[:-1], strict=True):
        assert "--help" in page, script


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_ladder_rows_are_valid_settings(row: dict[str, Any]) -> None:
    assert set(row) <= {"name", "label", "seeds", "preset", "set"}
    assert set(row["label"]) == {"en", "es"}
    params = ROOT / "params.yaml"
    preset = load_overrides(ROOT / row["preset"], params) if "preset" in row else {}
    settings = preset | {key: json.dumps(value) for key, value in row.get("set", {}).items()}
    with_settings(params, [f"{key}={value}" for key, value in settings.items()])
    assert settings or row["name"] == "default"


def test_ladder_row_names_are_unique() -> None:
    names = [row["name"] for row in ROWS]
    assert len(set(names)) == len(names)


def test_tables_in_documentation_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "tables.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_ladder_writes_metrics_of_each_row_and_skips_finished_rows(
    project: Path, tmp_path: Path
) -> None:
    plan, out = tmp_path / "tiny.yaml", tmp_path / "out.json"
    plan.write_text(TINY_LADDER)
    command = ("python", "benchmarks/ladder.py", f"--ladder={plan}", f"--out={out}")
    trained = stages_run(run_in(project, *command))
    assert {"train_mlp", "ensemble", "evaluate"} <= set(trained)
    rows = json.loads(out.read_text())["rows"]
    assert list(rows) == ["default", "random-start"]
    evaluated = json.loads((project / "metrics" / "evaluate.json").read_text())
    for row in rows.values():
        assert row["seeds"] == [20190]
        assert list(row["megabytes"]) == list(row["test"]) == list(row["validation"]) == MODELS
    for figure, summary in rows["default"]["test"]["mlp"].items():
        value = evaluated["test"]["mlp"][figure]
        assert summary == {"mean": value, "deviation": None, "values": [value]}
    assert rows["default"]["test"]["mlp"] != rows["random-start"]["test"]["mlp"]
    written = out.read_bytes()
    assert stages_run(run_in(project, *command)) == []
    assert out.read_bytes() == written
    assert run_in(project, "git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_gate_uses_measured_noise(toy: Path) -> None:
    out = "benchmarks/results/noise.json"
    run_script("noise", "--seeds=2", f"--out={out}", folder=toy)
    noise = json.loads((toy / out).read_text())
    assert (noise["seeds"], noise["data"]) == (2, "data/sample")
    # The 0.995 quantile of Student's t distribution with one degree of freedom is 63.657.
    assert noise["factor"] == pytest.approx(math.sqrt(2) * 63.657, abs=1e-3)
    # The losses of the seeds differ by 0.001.
    deviations = noise["deviations"]
    assert deviations["evaluate.test.mlp.loss"] == pytest.approx(0.001 / math.sqrt(2), abs=1e-6)
    done = run_in(toy, "rubro", "gate")
    assert "pass" in done.stdout
    assert "note" not in done.stdout


@pytest.mark.slow
def test_peers_writes_the_best_setting_of_each_peer(tmp_path: Path) -> None:
    out, names = tmp_path / "results" / "peers.json", ["word_svc", *WITH_FLORET]
    settings = ["--set=subset.top_categories=12", "--set=subset.max_rows=1000"]
    run_script("peers", f"--out={out}", *settings, *(f"--only={name}" for name in names))
    content = json.loads(out.read_text())
    assert content["settings"]["data"]["path"] == "sample"
    assert content["classes"] == 12
    assert 0 < content["rows"]["train"] <= 1000
    assert list(content["peers"]) == names
    for peer in content["peers"].values():
        best = max(row["validation_balanced_accuracy"] for row in peer["tried"])
        assert {"setting": peer["setting"], "validation_balanced_accuracy": best} in peer["tried"]
        assert peer["validation"]["balanced_accuracy"] == best
        assert peer["test"]["balanced_accuracy"] > 5 / 12
        assert peer["fit_seconds"] >= 0


@pytest.mark.slow
def test_audit_measures_rankings_and_models_on_corrected_labels(tmp_path: Path) -> None:
    out = tmp_path / "audit.json"
    settings = ["--set=subset.top_categories=12", "--set=subset.max_rows=1000"]
    run_script("audit", "uniform", "similar", "--seeds=2", f"--out={out}", *settings)
    run_script("audit", "retrain", f"--out={out}", *settings)
    content = json.loads(out.read_text())
    for kind in ("uniform", "similar"):
        assert list(content[kind]) == ["seed 0", "seed 1"]
        for run in content[kind].values():
            assert run["flipped_share"] == pytest.approx(0.2, abs=0.02)
            assert run["rubro"]["precision_at_recall_0.6"] > 0.6
    runs = content["retrain"]["runs"]
    accepted = [runs[name]["accepted"] for name in ("0.3", "0.5", "0.7", "flipped")]
    assert accepted == sorted(accepted, reverse=True) and accepted[-1] == 0
    before, after = (runs[name]["svm"]["test"]["accuracy"] for name in ("flipped", "0.3"))
    assert after > before
    assert content["retrain"]["chosen_on_validation"] in runs


@pytest.mark.slow
def test_predict_writes_the_speed_of_each_model(first_project: Path, tmp_path: Path) -> None:
    out = tmp_path / "predict.json"
    run_script("predict", "--repeats=1", f"--out={out}", folder=first_project)
    content = json.loads(out.read_text())
    assert content["titles"] > 0
    assert content["help_seconds"] > 0
    assert list(content["results"]) == [*MODELS, *WITH_FLORET]
    for name, figures in content["results"].items():
        assert figures["single_ms_p50"] <= figures["single_ms_p99"]
        assert figures["batch_titles_per_second"] > 0
        assert ("megabytes" in figures) == (name in MODELS)


@pytest.mark.slow
def test_front_measures_models_presets_and_peer_and_draws_them(tmp_path: Path) -> None:
    out, picture, titles = tmp_path / "front.json", tmp_path / "front.svg", tmp_path / "titles"
    write_catalogue(titles, 1500)
    tiny = flat(YAML(typ="safe").load(ROOT / "presets" / "tiny.yaml"))
    options = [f"--set={key}={json.dumps(value)}" for key, value in tiny]
    peer, setting = "TF-IDF of words + LinearSVC", {"C": 0.3, "class_weight": "balanced"}
    earlier = {"titles": titles.name, "rows": [{"name": peer, "setting": setting}]}
    out.write_text(json.dumps(earlier))
    run_script("front", "run", str(titles), *options, "--only=word_svc", f"--out={out}")
    rows = json.loads(out.read_text())["rows"]
    ours = ("ensemble", "mlp", "cnn", "svm", "preset fast", "preset small")
    names = [f"rubro, {name}" for name in ours]
    assert [row["name"] for row in rows] == [*names, peer]
    assert rows[-1]["setting"] == setting
    for row in rows:
        assert 0.2 < row["accuracy"] <= 1
        assert min(row["titles_per_second"], row["model_megabytes"]) > 0
        assert row["seconds"] >= 0  # 0.0 for a peer, rounded
    run_script("front", "picture", f"--results={out}", f"--out={picture}")
    assert "preset fast" in picture.read_text()

    command = [sys.executable, str(BENCHMARKS / "front.py"), "run", str(titles), *options]
    for option, fact in (("--limit=0.1", "subset"), ("--only=nobody", "word_svc")):
        refused = run_in(ROOT, *command, option, f"--out={out}", ok=False)
        assert refused.returncode == 2
        assert option.partition("=")[0] in refused.stderr
        assert fact in refused.stderr
        assert "Traceback" not in refused.stderr
    assert json.loads(out.read_text())["rows"] == rows


@pytest.mark.slow
def test_scale_measures_pipeline_and_peer_and_draws_them(tmp_path: Path) -> None:
    out, picture = tmp_path / "scale.json", tmp_path / "scale.svg"
    tiny = flat(YAML(typ="safe").load(ROOT / "presets" / "tiny.yaml"))
    settings = [f"--set={key}={json.dumps(value)}" for key, value in tiny]
    options = (*settings, "--only=word_char_sgd", f"--out={out}")
    run_script("scale", "run", "--rows=1500", *options)
    entry = json.loads(out.read_text())["sizes"]["1500"]
    peer = entry["peers"]["word_char_sgd"]
    assert list(entry["pipeline"]["stages"]) == list(STAGES)
    for measured in (entry["pipeline"], entry["svm"], peer):
        assert measured["seconds"] > 0
        assert 20 < measured["megabytes"] < 4000
        assert measured["balanced_accuracy"] > 0.3
        assert measured["titles_per_second"] > 0

    run_script("scale", "run", "--rows=1200", "--limit=0.1", *options)
    sizes = json.loads(out.read_text())["sizes"]
    assert sizes["1500"] == entry
    assert sizes["1200"]["pipeline"]["seconds_over"] == 0.1

    run_script("scale", "picture", f"--results={out}", f"--out={picture}")
    assert "<svg" in picture.read_text()


@pytest.mark.slow
def test_self_training_compares_catalogues_with_more_labels(
    first_project: Path, tmp_path: Path
) -> None:
    out = tmp_path / "self_training.json"
    options = ("tiny", "--labels=100", "--seeds=1", f"--out={out}")
    run_script("self_training", *options, folder=first_project)
    content = json.loads(out.read_text())["tiny"]
    few, more, most = (
        content["runs"][f"{name}, seed 0"]
        for name in ("100 labelled, labelled only", "100 labelled, with unlabelled", "all labelled")
    )
    assert "selection" not in few["teacher"] | most["teacher"]
    assert more["teacher"]["unlabelled_titles"] > 1000
    assert few["svm"]["accuracy"] < most["svm"]["accuracy"]
    assert content["means"]["100 labelled, with unlabelled"]["svm"] == more["svm"]

    before = out.stat().st_mtime_ns
    run_script("self_training", *options, folder=first_project)  # skips all runs
    assert out.stat().st_mtime_ns == before


@pytest.mark.slow
def test_active_learning_adds_curves_of_each_method(tmp_path: Path) -> None:
    write_catalogue(tmp_path / "sample", rows=1_500)
    out = tmp_path / "active_learning.json"
    options = ["tiny", "--start=200", "--batch=100", "--end=500", f"--out={out}"]
    options += ["--set", f"data.path={tmp_path / 'sample'}"]
    run_script("active_learning", *options, "--seeds=1")
    curves = json.loads(out.read_text())["tiny"]["curves"]
    assert list(curves) == ["random", "margin", "rubro next"]
    labels = [list(curve) for (curve,) in curves.values()]
    assert labels == [["200", "300", "400", "500"], *[["200", "300", "400"]] * 2]
    assert len({curve["200"]["test_accuracy"] for (curve,) in curves.values()}) == 1

    run_script("active_learning", *options, "--seeds=2")
    more = json.loads(out.read_text())["tiny"]["curves"]
    assert {method: found[:1] for method, found in more.items()} == curves
    assert all(len(found) == 2 for found in more.values())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_step_prints_the_time_of_a_step(first_project: Path, model: str) -> None:
    assert model in run_script("step", model, "--steps=3", folder=first_project).stdout


@pytest.mark.slow
def test_serve_measures_a_server(first_project: Path, tmp_path: Path) -> None:
    out = tmp_path / "serve.json"
    run_script("serve", "--rates=20", "--seconds=1", f"--out={out}", folder=first_project)
    content = json.loads(out.read_text())
    assert content["steady"][0]["statuses"] == {"200": 20}
    assert content["batch_seconds"]
