"""Tests of `rubro compare` on experiments that were run with DVC."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import get_args

import pytest
from dvc.utils.hydra import apply_overrides

from rubro.base.errors import ParamsError
from rubro.base.params import Params
from rubro.base.params_file import flat, with_settings
from rubro.base.yaml_files import load_yaml
from rubro.experiments.compare import expand_metrics
from rubro.experiments.dvc_experiments import (
    METRIC_FILES,
    experiment_name,
    format_setting,
    numbers_in,
    setting_in_name,
)
from support.keyword_model import in_terminal
from support.tiny_project import GRAPH, ROOT, outputs_of, run_in
from support.toy_pipeline import add_experiment, compared, names_of

pytest_plugins = ["support.toy_pipeline"]

SCORE = "validation.mlp.balanced_accuracy"
SPLITS = "validation", "test"


@pytest.fixture(scope="module")
def explored(committed_toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with an experiment with three seeds, and one with a name of its own."""
    folder = tmp_path_factory.mktemp("explored") / "toy"
    shutil.copytree(committed_toy, folder, symlinks=True)
    for seed in (1, 2, 3):
        name = f"train_mlp.dropout=0.5,seed={seed}"
        run_experiment(folder, name, f"seed={seed}", "train_mlp.dropout=0.5")
    run_experiment(folder, "by-hand", "train_mlp.dropout=0.1", "train_mlp.hidden_sizes=[7,5]")
    return folder


@pytest.fixture
def explored_copy(explored: Path, tmp_path: Path) -> Path:
    """A copy of the repository with experiments, for one test."""
    return Path(shutil.copytree(explored, tmp_path / "copy", symlinks=True))


def run_experiment(folder: Path, name: str, *settings: str) -> None:
    options = [argument for setting in settings for argument in ("-S", setting)]
    run_in(folder, "dvc", "exp", "run", "--temp", "--name", name, *options)


@pytest.mark.slow
def test_seeds_share_a_row_and_the_best_row_is_first(explored: Path) -> None:
    best, last, worst = compared(explored)
    assert best["experiments"] == [f"train_mlp.dropout=0.5,seed={seed}" for seed in (1, 2, 3)]
    assert best["seeds"] == [1, 2, 3]
    assert best["changed"] == {"train_mlp.dropout": 0.5}
    assert best["metrics"]["validation.ensemble.balanced_accuracy"] == {
        "mean": 0.902,
        "deviation": 0.001,
        "values": [0.901, 0.902, 0.903],
    }
    assert last["experiments"] == ["last commit"]
    assert worst["changed"] == {"train_mlp.hidden_sizes": [7, 5], "train_mlp.dropout": 0.1}
    assert worst["metrics"]["test.ensemble.balanced_accuracy"]["deviation"] is None


@pytest.mark.slow
def test_the_table_fits_80_columns_and_shows_changes(explored: Path) -> None:
    lines = [line.rstrip() for line in run_in(explored, "rubro", "compare").stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[-5:] == [
        "train_mlp.dropout=0.5,seed=1       1-3  0.9020 ± 0.0010  0.9020 ± 0.0010",
        "last commit                      20190           0.8000           0.8000",
        "by-hand                          20190           0.7000           0.7000",
        "  train_mlp.hidden_sizes=[7,5],",
        "  train_mlp.dropout=0.1",
    ]


@pytest.mark.slow
def test_the_printed_command_applies_the_best_experiment(explored_copy: Path) -> None:
    *_, command = run_in(explored_copy, "rubro", "compare").stderr.splitlines()
    run_in(explored_copy, *command.split())
    params = load_yaml(explored_copy / "params.yaml")
    assert (params["train_mlp"]["dropout"], params["seed"]) == (0.5, 1)


@pytest.mark.slow
def test_the_printed_command_keeps_uncommitted_changes(explored_copy: Path) -> None:
    code = explored_copy / "stages" / "evaluate.py"
    code.write_text(edited := code.read_text() + "# edited\n")
    *_, advice, command = run_in(explored_copy, "rubro", "compare").stderr.splitlines()
    assert "stages/evaluate.py" in advice
    run_in(explored_copy, *command.split())
    assert code.read_text() == edited
    assert load_yaml(explored_copy / "params.yaml")["train_mlp"]["dropout"] == 0.5


def test_settings_of_all_experiments_are_listed_once_and_the_others_in_each_row(toy: Path) -> None:
    shared = ["subset.top_categories=9", "networks.embedding_learning_rate=0.02"]
    hidden = ["networks.label_smoothing=0.05", "networks.row_dropout=0.35"]
    for dropout in (0.1, 0.2):
        settings = [f"train_mlp.dropout={dropout}", *shared, *hidden]
        params = with_settings(toy / "params.yaml", settings).model_dump(mode="json")
        parts = [setting.partition("=") for setting in settings]
        name = experiment_name((key, value) for key, _, value in parts)
        add_experiment(toy, name, {"params.yaml": json.dumps(params).encode()})
    done = run_in(toy, "rubro", "compare")
    table, _, note = done.stdout.partition("\n\n")
    for dropout in (0.1, 0.2):
        assert re.search(rf"^train_mlp\.dropout={dropout},…  ", table, re.MULTILINE)
    for setting in (*shared, *hidden):
        assert setting not in table
        assert setting in note
    for width in (60, 80):
        _, shown = in_terminal(toy, [sys.executable, "-m", "rubro.cli", "compare"], columns=width)
        assert "train_mlp.dropout=0.1,…" in shown
        lines = re.sub(r"\x1b\[[\d;?]*[a-z]", "", shown).splitlines()
        assert all(len(line) <= width for line in lines if "dvc exp apply" not in line)


@pytest.mark.slow
def test_each_seed_has_a_row_on_request(explored: Path) -> None:
    rows = compared(explored, "--each", "train_mlp.*")
    names = names_of(rows)
    assert names[:3] == [f"train_mlp.dropout=0.5,seed={seed}" for seed in (3, 2, 1)]
    assert "by-hand" not in names
    assert rows[0]["changed"] == {"seed": 3, "train_mlp.dropout": 0.5}


@pytest.mark.slow
def test_the_lowest_loss_is_first(explored: Path) -> None:
    rows = compared(explored, "-m", "test.*.loss")
    assert list(rows[0]["metrics"]) == ["test.mlp.loss", "test.ensemble.loss"]
    means = [row["metrics"]["test.mlp.loss"]["mean"] for row in rows]
    assert means == sorted(means)


@pytest.mark.slow
def test_csv_has_the_same_numbers_as_json(explored: Path) -> None:
    text = run_in(explored, "rubro", "compare", "--format", "csv", "-m", SCORE).stdout
    first, *_ = csv.DictReader(io.StringIO(text))
    assert first["changed"] == "train_mlp.dropout=0.5"
    assert (first[SCORE], first[f"{SCORE}.deviation"]) == ("0.902", "0.001")
    assert first["seeds"].split() == ["1", "2", "3"]


@pytest.mark.slow
def test_experiments_with_other_code_are_not_averaged(explored_copy: Path) -> None:
    with open(explored_copy / "stages" / "evaluate.py", "a") as file:
        file.write("# another\n")
    run_experiment(explored_copy, "other-code", "seed=4", "train_mlp.dropout=0.5")
    [row] = [row for row in compared(explored_copy) if "other-code" in row["experiments"]]
    assert row["experiments"] == ["other-code"]
    assert row["changed_files"] == ["stages/evaluate.py"]
    assert "stages/evaluate.py edited" in run_in(explored_copy, "rubro", "compare").stdout


@pytest.mark.slow
def test_experiments_of_other_commits_are_shown_on_request(
    explored: Path, explored_copy: Path
) -> None:
    # The new commit has parameters that no stage has run with.
    params = explored_copy / "params.yaml"
    params.write_text(params.read_text().replace("seed: 20190", "seed: 5"))
    run_in(explored_copy, "git", "commit", "--all", "--quiet", "--message", "next")
    assert "--all-commits" in run_in(explored_copy, "rubro", "compare").stderr
    rows = compared(explored_copy, "--all-commits")
    assert sorted(names_of(rows)) == sorted(names_of(compared(explored)))
    done = run_in(explored_copy, "rubro", "compare", "--all-commits")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("last commit")]
    assert line.split() == ["last", "commit", "5", "-", "-"]
    assert "-: not every stage has run" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "test.mlp.balanced_acuracy"], "did you mean test.mlp.balanced_accuracy"),
        (["--sort", "nothing"], "nothing: no such metric; known: validation.mlp.balanced_"),
        (["by-hnad"], "by-hnad: no such experiment; did you mean by-hand?"),
    ],
)
def test_unknown_names_are_errors(explored: Path, options: list[str], message: str) -> None:
    done = run_in(explored, "rubro", "compare", *options, ok=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_a_folder_without_a_repository_is_an_error(tmp_path: Path) -> None:
    done = run_in(tmp_path, "rubro", "compare", ok=False)
    assert done.returncode == 2
    assert "not a git repository" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_all_metrics_files_of_the_pipeline_are_read() -> None:
    files = [
        name for name in outputs_of(*GRAPH["stages"]) if re.fullmatch(r"metrics/\w+\.json", name)
    ]
    assert sorted(files) == sorted(f"metrics/{name}.json" for name in METRIC_FILES)


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("seed", 2, "seed=2"),
        ("train_mlp.hidden_sizes", [64, 32], "train_mlp.hidden_sizes=64+32"),
        ("train_mlp.hidden_sizes", [], "train_mlp.hidden_sizes=none"),
        ("subset.language", None, "subset.language=null"),
        ("ensemble.members", ["mlp", "svm"], "ensemble.members=mlp+svm"),
        ("data.path", "/a b/c..d:e.lock", "data.path=_ab_c_.d_e_lock"),
    ],
)
def test_git_allows_the_settings_in_names(key: str, value: object, name: str) -> None:
    assert setting_in_name(key, value) == name
    run_in(ROOT, "git", "check-ref-format", f"refs/exps/{name}")


def test_names_are_short_and_unique() -> None:
    assert experiment_name([("seed", 1)], ["seed=1", "seed=1,run=2"]) == "seed=1,run=3"
    long = experiment_name([(f"train_mlp.knob_{number}", number) for number in range(20)])
    assert len(long) <= 110
    assert long.startswith("train_mlp.knob_0=0,train_mlp.knob_1=1,")
    assert long.endswith(",+15")


def test_a_wildcard_matches_one_part_of_a_name() -> None:
    known = ["test.mlp.ece", "test.cnn.ece", "test.differences.a_minus_b.ece"]
    assert expand_metrics(["test.*.ece"], known) == known[:2]
    with pytest.raises(ParamsError, match="known: test"):
        expand_metrics(["*"], known)


def test_json_has_null_for_missing_metrics(toy: Path) -> None:
    run_in(toy, "git", "rm", "--quiet", "metrics/evaluate.json")
    run_in(toy, "git", "commit", "--quiet", "--message", "no metrics")
    [row] = json.loads(run_in(toy, "rubro", "compare", "--format", "json").stdout)
    assert set(row["metrics"].values()) == {None}


# Experiments that cannot be read

EVALUATED = "metrics/evaluate.json"
DAMAGED: dict[str, tuple[str, bytes | None]] = {
    "conflict": (EVALUATED, b"<<<<<<< HEAD\n{}"),
    "cut": (EVALUATED, b'{"test": {"mlp"'),
    "bytes": (EVALUATED, b"\xff\xfe\x00"),
    "numbers": (EVALUATED, b"[1, 2]"),
    "nested": (EVALUATED, b"[" * 100_000),
    "lock-conflict": ("dvc.lock", b"<<<<<<< HEAD\nstages: {}\n"),
    "lock-list": ("dvc.lock", b"stages: [evaluate]\n"),
    "lock-stage": ("dvc.lock", b"stages:\n  evaluate:\n"),
    "lock-files": ("dvc.lock", b"stages:\n  evaluate: {outs: [a]}\n"),
}
FOREIGN: dict[str, tuple[str, bytes | None]] = {
    "other-project": ("params.yaml", b"x: 1\n"),
    "list-project": ("params.yaml", b"- 1\n"),
    "broken-project": ("params.yaml", b"seed: [\n"),
    "no-params": ("params.yaml", None),
    "date-key": ("params.yaml", b"seed: 1\n2020-01-01: 2\n"),
    "cyclic": ("params.yaml", b"seed: 1\na: &a {b: *a}\n"),
}


def test_damaged_and_foreign_experiments_do_not_hide_the_others(toy: Path) -> None:
    add_experiment(toy, "sound", {"stages/evaluate.py": b""})
    for name, (path, content) in (DAMAGED | FOREIGN).items():
        add_experiment(toy, name, {path: content})
    done = run_in(toy, "rubro", "compare", "--all-commits", "--each", "--format", "json")
    metrics = {row["experiments"][0]: row["metrics"] for row in json.loads(done.stdout)}
    assert metrics.keys() == {"last commit", "sound", *DAMAGED}
    assert metrics["sound"] == metrics["last commit"]
    for name in DAMAGED:
        assert set(metrics[name].values()) == {None}
    for name, (path, _) in (DAMAGED | FOREIGN).items():
        assert re.search(rf"^(.*, )?{name}(,.*)?: {path}: ", done.stderr, re.MULTILINE), name


@pytest.mark.parametrize("objective", ["accuracy", "macro_f1"])
def test_the_objective_in_params_yaml_is_shown_and_sorts(toy: Path, objective: str) -> None:
    values = {"good": 0.9, "medium": 0.6, "bad": 0.3}
    for name, value in values.items():
        metrics = {"ensemble": {objective: value, "balanced_accuracy": 1 - value}}
        content = json.dumps({"validation": metrics, "test": metrics})
        add_experiment(toy, name, {"metrics/evaluate.json": content.encode()})
    params = toy / "params.yaml"
    params.write_text(re.sub("(?m)^objective: .*", f"objective: {objective}", params.read_text()))
    compared_rows = compared(toy, "--each")
    assert names_of(compared_rows) == [*values, "last commit"]
    for row in compared_rows:
        assert list(row["metrics"]) == [f"{split}.ensemble.{objective}" for split in SPLITS]


def test_an_experiment_with_another_objective_shows_it(toy: Path) -> None:
    text = (toy / "params.yaml").read_text()
    text = re.sub("(?m)^objective: .*", "objective: accuracy", text)
    add_experiment(toy, "other", {"params.yaml": text.encode()})
    [row] = [row for row in compared(toy) if row["experiments"] == ["other"]]
    assert row["changed"] == {"objective": "accuracy"}
    assert "objective=accuracy" in run_in(toy, "rubro", "compare").stdout


def test_a_last_commit_of_another_project_is_an_error(toy: Path) -> None:
    (toy / "params.yaml").write_text("x: 1\n")
    run_in(toy, "git", "commit", "--all", "--quiet", "--message", "another project")
    done = run_in(toy, "rubro", "compare", ok=False)
    assert done.returncode == 2
    assert re.match(r"error: last commit: params\.yaml: ", done.stderr)


def test_numbers_that_are_not_finite_are_missing_metrics() -> None:
    text = '{"a": NaN, "b": 1e999, "c": -Infinity, "d": 1%s, "e": 2}' % ("0" * 400)
    assert numbers_in(json.loads(text)) == {"e": 2}


def test_changed_files_have_their_own_names(toy: Path) -> None:
    name = "data/catálogo nuevo.csv.dvc"
    add_experiment(toy, "own-titles", {name: b"outs: []\n"})
    [row] = compared(toy, "own-titles", "--each")[1:]
    assert row["changed_files"] == [name]


# Parameters that are null


def test_every_null_parameter_that_dvc_writes_is_null(tmp_path: Path) -> None:
    keys = [
        f"{section}.{key}"
        for section, block in Params.model_fields.items()
        for key, field in getattr(block.annotation, "model_fields", {}).items()
        if type(None) in get_args(field.annotation)
    ]
    assert {"subset.language", "networks.embedding_scale", "data.split_column"} <= set(keys)
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(str(path), [format_setting(key, None) for key in keys])
    values = dict(flat(load_yaml(path)))
    assert [values[key] for key in keys] == [None] * len(keys)
    assert values == dict(flat(with_settings(path, []).model_dump(mode="json")))
