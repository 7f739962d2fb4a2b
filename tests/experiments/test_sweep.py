"""Sweeps and searches that run by the real dvc, on a pipeline of one quick stage."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rubro.base.errors import ParamsError
from rubro.base.params_file import with_settings
from rubro.experiments.dvc_experiments import format_setting
from rubro.experiments.search import read_space
from support.tiny_project import environment, run_in
from support.toy_pipeline import compared

pytest_plugins = ["support.toy_pipeline"]

SPACE = """
train_mlp.dropout: {low: 0.1, high: 0.7}
train_mlp.batch_size: {low: 16, high: 256, log: true}
train_mlp.hidden_sizes: {choices: [[], [64, 32]]}
"""


@pytest.fixture
def space(toy: Path) -> Path:
    path = toy / "space.yaml"
    path.write_text(SPACE)
    return path


def experiments_in(folder: Path) -> list[str]:
    listed = run_in(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
    names = [
        name.rpartition("/")[2] for name in listed.split() if re.match(r"refs/exps/\w\w/", name)
    ]
    return sorted(names)


# Sweeps


@pytest.mark.slow
def test_a_grid_runs_each_combination_once_and_ends_with_the_comparison(toy: Path) -> None:
    command = ["rubro", "sweep", "train_mlp.dropout=0.1,0.5", "seed=1,2"]
    done = run_in(toy, *command)
    names = [
        f"train_mlp.dropout={dropout},seed={seed}" for dropout in (0.1, 0.5) for seed in (1, 2)
    ]
    assert experiments_in(toy) == names
    best, _, worst = compared(toy)
    assert best["changed"] == {"train_mlp.dropout": 0.5}
    assert (best["seeds"], worst["seeds"]) == ([1, 2], [1, 2])
    assert "train_mlp.dropout=0.5,seed=1    1-2  0.9015 ± 0.0007  0.9015 ± 0.0007" in re.sub(
        " {4,}", "    ", done.stdout
    )
    assert (
        "4/4 train_mlp.dropout=0.5,seed=2: validation ensemble balanced accuracy 0.9" in done.stderr
    )
    assert done.stderr.endswith("dvc exp apply train_mlp.dropout=0.5,seed=1\n")
    again = run_in(toy, *command)
    assert "4 experiments, 0 to run" in again.stderr
    assert again.stdout == done.stdout
    assert experiments_in(toy) == names
    assert run_in(toy, "git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_what_has_run_by_hand_is_not_run_again_but_other_code_is(toy: Path) -> None:
    run_in(toy, "dvc", "exp", "run", "--temp", "--name", "mine", "-S", "seed=3")
    assert "1/1 mine: has run" in run_in(toy, "rubro", "sweep", "seed=3").stderr
    with open(toy / "stages" / "evaluate.py", "a") as file:
        file.write("# another\n")
    run_in(toy, "rubro", "sweep", "seed=3")
    assert experiments_in(toy) == ["mine", "seed=3"]


@pytest.mark.slow
def test_an_experiment_that_fails_keeps_its_log_and_the_others_run(toy: Path) -> None:
    command = ["rubro", "sweep", "train_mlp.learning_rate=5.0,0.001"]
    done = run_in(toy, *command, ok=False)
    assert done.returncode == 3
    log = Path(".rubro/logs/train_mlp.learning_rate=5.0.log")
    assert (
        f"1/2 train_mlp.learning_rate=5.0: failed: the loss is NaN or infinite; log: {log}\n"
        in done.stderr
    )
    assert "the loss is NaN or infinite" in (toy / log).read_text()
    assert [path.name for path in (toy / log).parent.iterdir()] == [log.name]
    assert experiments_in(toy) == ["train_mlp.learning_rate=0.001"]
    assert "train_mlp.learning_rate=0.001" in done.stdout
    assert "2 experiments, 1 to run" in run_in(toy, *command, ok=False).stderr


@pytest.mark.slow
def test_fixed_settings_are_in_every_experiment(toy: Path) -> None:
    run_in(toy, "rubro", "sweep", "seed=1", "-S", "train_mlp.hidden_sizes=[8,4]")
    [name] = experiments_in(toy)
    assert name == "seed=1,train_mlp.hidden_sizes=8+4"
    [row] = [row for row in compared(toy) if name in row["experiments"]]
    assert row["changed"] == {"seed": 1, "train_mlp.hidden_sizes": [8, 4]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["seed=1,many"], "seed: input should be a valid integer"),
        (["seed"], "seed: not of the form KEY=VALUE,VALUE..."),
        (["train_mlp.droput=0.1"], "train_mlp.droput: unknown key; did you mean 'dropout'?"),
        (["seed=[1"], "seed=[1: "),
        (["seed=1", "-S", "subset=2"], "subset: "),
        (["seed=1", "-m", "test.mlp.los"], "test.mlp.los: no such metric; did you mean"),
    ],
)
def test_a_wrong_setting_is_one_message_before_anything_runs(
    toy: Path, settings: list[str], message: str
) -> None:
    done = run_in(toy, "rubro", "sweep", *settings, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert experiments_in(toy) == []


def test_a_missing_package_is_one_message(toy: Path) -> None:
    # None in sys.modules is how Python itself marks a module that cannot be imported.
    script = "import sys; sys.modules[{!r}] = None; from rubro.cli import app; app()"
    (toy / "space.yaml").write_text(SPACE)
    for package, command, extras in (
        ("yaml", ["compare"], "train"),
        ("dvc", ["sweep", "seed=1"], "train"),
        ("optuna", ["search", "space.yaml"], "train,search"),
    ):
        done = run_in(toy, sys.executable, "-c", script.format(package), *command, ok=False)
        assert done.returncode == 2
        needs = f"error: rubro {command[0]} needs {package}, which is not installed: "
        assert done.stderr.startswith(needs)
        assert done.stderr.endswith(f"pip install 'rubro[{extras}]'\n")


# Searches


@pytest.mark.slow
def test_a_search_finds_a_better_setting_that_one_command_applies(toy: Path, space: Path) -> None:
    done = run_in(toy, "rubro", "search", space.name, "--trials", "4")
    assert len(experiments_in(toy)) == 4
    *_, command = done.stderr.splitlines()
    best, *_ = compared(toy, "--each")
    assert command == f"The best on validation: dvc exp apply {best['experiments'][0]}"
    assert set(best["changed"]) <= {
        "train_mlp.dropout",
        "train_mlp.batch_size",
        "train_mlp.hidden_sizes",
    }
    run_in(toy, *command.partition(": ")[2].split())
    [row] = [row for row in compared(toy) if row["experiments"] == best["experiments"]]
    assert row["metrics"] == best["metrics"]


@pytest.mark.slow
def test_a_search_that_is_killed_ends_as_one_that_is_not(
    toy: Path, space: Path, committed_toy: Path, tmp_path: Path
) -> None:
    command = ["rubro", "search", space.name, "--trials", "3"]
    with subprocess.Popen(
        command,
        cwd=toy,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while len(experiments_in(toy)) < 1:
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    done = run_in(toy, *command)
    with sqlite3.connect(toy / ".rubro" / "search.db") as database:
        states = [state for (state,) in database.execute("SELECT state FROM trials")]
    assert states == ["COMPLETE"] * 3
    assert "3/3" in done.stderr
    # The same trials as without the interruption, and as with a later wish for more.
    whole = tmp_path / "whole"
    run_in(tmp_path, "cp", "-r", str(committed_toy), str(whole))
    (whole / space.name).write_text(SPACE)
    run_in(whole, *command[:-1], "2")
    run_in(whole, *command)
    assert experiments_in(whole) == experiments_in(toy)
    again = run_in(toy, *command)
    assert "3 trials done, 0 to run" in again.stderr
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_a_trial_that_fails_is_no_end_of_the_search(toy: Path) -> None:
    (toy / "rates.yaml").write_text("train_mlp.learning_rate: {choices: [0.001, 5.0]}\n")
    done = run_in(toy, "rubro", "search", "rates.yaml", "--trials", "6", ok=False)
    assert done.returncode == 3
    assert experiments_in(toy) == ["train_mlp.learning_rate=0.001"]
    assert "failed: the loss is NaN or infinite" in done.stderr
    assert (toy / ".rubro/logs/train_mlp.learning_rate=5.0.log").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "test.mlp.balanced_accuracy"], "a search chooses, so it needs a metric on valid"),
        (["-m", "validation.mpl.loss"], "no such metric; did you mean validation.mlp.loss"),
        (["-S", "seed=many"], "seed: input should be a valid integer"),
    ],
)
def test_a_wrong_option_is_one_message(
    toy: Path, space: Path, options: list[str], message: str
) -> None:
    done = run_in(toy, "rubro", "search", space.name, *options, ok=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert experiments_in(toy) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train_mlp.dropout: {low: 0.5, high: 0.1}", "train_mlp.dropout: low must be below high"),
        ("train_mlp.dropout: {low: 0.5}", "each key needs low and high"),
        ("train_mlp.dropout: 0.5", "each key needs low and high"),
        ("train_mlp.dropout: {choices: []}", "at least 1 item"),
        ("{", "not valid YAML"),
        ("{}", "no keys to search over"),
    ],
)
def test_a_wrong_space_is_one_message(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(ParamsError) as error:
        read_space(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_space_that_params_yaml_does_not_allow_runs_nothing(toy: Path) -> None:
    (toy / "wrong.yaml").write_text("train_mlp.dropout: {low: 0.5, high: 1.5}\n")
    done = run_in(toy, "rubro", "search", "wrong.yaml", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: wrong.yaml: train_mlp.dropout: input should be less than 1"
    )


@pytest.mark.parametrize("text", ["categoría de rubro", "a, b", 'the "best"', "null", "plain"])
def test_a_setting_of_a_trial_is_the_same_for_dvc_and_for_the_project(
    text: str, project_root: Path
) -> None:
    setting = format_setting("data.title_column", text)
    assert with_settings(project_root / "params.yaml", [setting]).data.title_column == text
    (override,) = OverridesParser.create().parse_overrides([setting])
    assert override.value() == text


def test_the_spaces_of_the_project_are_valid(project_root: Path) -> None:
    spaces = list((project_root / "spaces").glob("*.yaml"))
    assert spaces
    for path in spaces:
        for key, values in read_space(path).items():
            for value in values.ends:
                with_settings(project_root / "params.yaml", [format_setting(key, value)])
