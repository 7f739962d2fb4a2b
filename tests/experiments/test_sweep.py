"""Tests of `rubro sweep` and `rubro search` with DVC, on a pipeline of one quick stage."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rubro.base.errors import ParamsError
from rubro.base.params_file import with_settings
from rubro.experiments.dvc_experiments import format_setting
from rubro.experiments.search import read_space
from rubro.experiments.sweep import make_plans
from support.keyword_model import in_terminal
from support.tiny_project import run_in
from support.toy_pipeline import compared, kill_when

pytest_plugins = ["support.toy_pipeline"]

SPACE = """
train_mlp.dropout: {low: 0.1, high: 0.7}
train_mlp.batch_size: {low: 16, high: 256, log: true}
train_mlp.hidden_sizes: {choices: [[], [64, 32]]}
"""
SCORE = "validation.mlp.balanced_accuracy"
FAILURE = "failed: the loss is NaN or infinite"
FAILED_LOG = Path(".rubro/logs/train_mlp.learning_rate=5.0.log")


@pytest.fixture
def space(toy: Path) -> Path:
    path = toy / "space.yaml"
    path.write_text(SPACE)
    return path


def experiments_in(folder: Path) -> list[str]:
    listed = run_in(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
    return sorted(re.findall(r"^refs/exps/\w\w/.*/(.*)$", listed, re.MULTILINE))


# Sweeps


@pytest.mark.slow
def test_a_grid_runs_each_combination_once_and_prints_the_comparison(toy: Path) -> None:
    command = ["rubro", "sweep", "train_mlp.dropout=0.1,0.5", "seed=1,2"]
    done = run_in(toy, *command)
    names = [
        f"train_mlp.dropout={dropout},seed={seed}" for dropout in (0.1, 0.5) for seed in (1, 2)
    ]
    assert experiments_in(toy) == names
    best, _, worst = compared(toy)
    assert best["changed"] == {"train_mlp.dropout": 0.5}
    assert (best["seeds"], worst["seeds"]) == ([1, 2], [1, 2])
    assert re.search(r"dropout=0.5,seed=1 +1-2  0.9015 ± 0.0007  0.9015 ± 0.0007", done.stdout)
    assert f"4/4 {names[3]}: validation ensemble balanced accuracy 0.9" in done.stderr
    assert done.stderr.endswith(f"dvc exp apply {names[2]}\n")
    again = run_in(toy, *command)
    assert "4 experiments, 0 to run" in again.stderr
    assert again.stdout == done.stdout
    assert experiments_in(toy) == names
    assert run_in(toy, "git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_an_experiment_of_the_user_is_not_repeated_unless_the_code_changed(toy: Path) -> None:
    run_in(toy, "dvc", "exp", "run", "--temp", "--name", "mine", "-S", "seed=3")
    assert "1 experiments, 0 to run" in run_in(toy, "rubro", "sweep", "seed=3").stderr
    assert experiments_in(toy) == ["mine"]
    with open(toy / "stages" / "evaluate.py", "a") as file:
        file.write("# another\n")
    run_in(toy, "rubro", "sweep", "seed=3")
    assert experiments_in(toy) == ["mine", "seed=3"]


@pytest.mark.slow
def test_a_failed_experiment_keeps_its_log_and_the_others_run(toy: Path) -> None:
    command = ["rubro", "sweep", "train_mlp.learning_rate=5.0,0.001"]
    done = run_in(toy, *command, ok=False)
    assert done.returncode == 3
    assert f"1/2 train_mlp.learning_rate=5.0: {FAILURE}; log: {FAILED_LOG}\n" in done.stderr
    assert "the loss is NaN or infinite" in (toy / FAILED_LOG).read_text()
    assert list((toy / FAILED_LOG).parent.iterdir()) == [toy / FAILED_LOG]
    assert experiments_in(toy) == ["train_mlp.learning_rate=0.001"]
    assert "train_mlp.learning_rate=0.001" in done.stdout
    assert "2 experiments, 1 to run" in run_in(toy, *command, ok=False).stderr


@pytest.mark.slow
def test_fixed_settings_apply_to_every_experiment(toy: Path) -> None:
    run_in(toy, "rubro", "sweep", "seed=1", "-S", "train_mlp.hidden_sizes=[8,4]")
    [name] = experiments_in(toy)
    assert name == "seed=1,train_mlp.hidden_sizes=8+4"
    [row] = [row for row in compared(toy) if name in row["experiments"]]
    assert row["changed"] == {"seed": 1, "train_mlp.hidden_sizes": [8, 4]}


@pytest.mark.parametrize(
    ("command", "facts"),
    [
        (["sweep", "seed=1,many"], "seed: .* integer"),
        (["sweep", "seed"], "seed: .* KEY=VALUE,VALUE..."),
        (["sweep", "train_mlp.droput=0.1"], "train_mlp.droput: .* 'dropout'"),
        (["sweep", "seed=[1"], r"seed=\[1: "),
        (["sweep", "seed=1,2", "-S", "seed=3"], "seed=1,2: -S seed=3 .* remove"),
        (
            ["sweep", "train_mlp.dropout=0.1,0.2", "-S", "train_mlp={dropout: 0.3}"],
            "train_mlp.dropout=0.1,0.2: -S train_mlp.dropout=0.3 .* remove",
        ),
        (["sweep", "seed=1", "-S", "subset=2"], "subset: "),
        (["sweep", "seed=1", "-m", "test.mlp.los"], "test.mlp.los: .* test.mlp.loss"),
        (["search", "space.yaml", "-m", "test.mlp.loss"], "--metric test.mlp.loss: .*validation."),
        (["search", "space.yaml", "-m", "validation.mpl.loss"], "validation.mpl.loss: .*.mlp.loss"),
        (["search", "space.yaml", "-S", "seed=many"], "seed: .* integer"),
        (
            ["search", "space.yaml", "-S", "objective=accuracy"],
            "validation.ensemble.accuracy: no such metric",
        ),
        (
            ["sweep", "seed=1", "-S", "objective=macro_f1"],
            "validation.ensemble.macro_f1: no such metric",
        ),
    ],
)
def test_a_wrong_setting_is_an_error_before_anything_runs(
    toy: Path, space: Path, command: list[str], facts: str
) -> None:
    done = run_in(toy, "rubro", *command, ok=False)
    assert done.returncode == 2
    assert re.match(f"error: {facts}", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert experiments_in(toy) == []


@pytest.mark.parametrize(
    ("package", "command", "extras"),
    [
        ("yaml", ["compare"], "train"),
        ("dvc", ["sweep", "seed=1"], "train"),
        ("optuna", ["search", "space.yaml"], "train,search"),
        ("pandas", ["evaluate", "titles.csv"], "train"),
        ("matplotlib", ["report"], "train"),
    ],
)
def test_a_missing_package_is_an_error(
    toy: Path, space: Path, package: str, command: list[str], extras: str
) -> None:
    # Python cannot import a module that is None in sys.modules.
    script = f"import sys; sys.modules[{package!r}] = None; from rubro.cli import app; app()"
    done = run_in(toy, sys.executable, "-c", script, *command, ok=False)
    assert done.returncode == 2
    assert re.match(f"error: rubro {command[0]} .*{package}", done.stderr)
    assert f"pip install 'rubro[{extras}]'" in done.stderr


def test_the_settings_that_vary_come_first_in_a_plan(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy)
    plans = make_plans(["seed=1", "train_mlp.dropout=0.1,0.2"], ["subset.top_categories=3"])
    for plan in plans:
        assert plan.varied == ["train_mlp.dropout"]
        assert list(plan.settings) == ["train_mlp.dropout", "seed", "subset.top_categories"]


@pytest.mark.slow
def test_the_progress_line_shows_the_settings_that_vary(toy: Path) -> None:
    fixed = ["subset.top_categories=3", "networks.embedding_learning_rate=0.02"]
    settings = [*("-S", fixed[0]), *("-S", fixed[1]), "train_mlp.dropout=0.1,0.2"]
    command = [sys.executable, "-m", "rubro.cli", "sweep", *settings]
    code, shown = in_terminal(toy, command, columns=60)
    assert code == 0
    assert "1/2 evaluate: train_mlp.dropout=0.1" in shown
    assert "2/2 evaluate: train_mlp.dropout=0.2" in shown


@pytest.mark.slow
def test_experiments_with_null_are_not_repeated(toy: Path) -> None:
    command = ["rubro", "sweep", "subset.language=null,spanish", "-S", "train_mlp.dropout=0.4"]
    run_in(toy, *command)
    names = [f"subset.language={value},train_mlp.dropout=0.4" for value in ("null", "spanish")]
    assert experiments_in(toy) == names
    row, *_ = compared(toy, names[0], "-m", SCORE)
    assert row["changed"] == {"subset.language": None, "train_mlp.dropout": 0.4}
    assert row["metrics"][SCORE]["mean"] == 0.85
    assert "2 experiments, 0 to run" in run_in(toy, *command).stderr
    # The same as the setting of a last commit, which DVC wrote.
    run_in(toy, "dvc", "exp", "run", "-S", "subset.language=null")
    run_in(toy, "git", "commit", "--all", "--quiet", "--message", "every language")
    [row] = compared(toy, "-m", SCORE)
    assert row["metrics"][SCORE]["mean"] == 0.8
    (toy / "space.yaml").write_text(
        "subset.language: {choices: [null, spanish]}\ntrain_mlp.dropout: {choices: [0.4]}\n"
    )
    done = run_in(toy, "rubro", "search", "space.yaml", "--trials", "3", "-m", SCORE)
    assert done.stdout.count("subset.language=") >= 1
    assert "not every stage has run" not in done.stderr


@pytest.mark.slow
def test_a_setting_of_a_whole_block_is_a_setting_of_its_keys(toy: Path) -> None:
    run_in(toy, "rubro", "sweep", "seed=1", "-S", "subset={language: ~, max_rows: 5}")
    [name] = experiments_in(toy)
    [row] = [row for row in compared(toy) if name in row["experiments"]]
    assert row["changed"] == {"seed": 1, "subset.language": None, "subset.max_rows": 5}


@pytest.mark.slow
def test_experiments_run_in_a_folder_with_accents(committed_toy: Path, tmp_path: Path) -> None:
    toy = Path(shutil.copytree(committed_toy, tmp_path / "Catálogo Año 2025 ☕", symlinks=True))
    run_in(toy, "git", "config", "user.name", "José Ñandú")
    with open(toy / "stages" / "evaluate.py", "a") as file:
        file.write("sys.stdout.buffer.write(b'a\\xf1o in Latin-1\\n')\n")
    run_in(toy, "rubro", "sweep", "seed=1")
    assert experiments_in(toy) == ["seed=1"]


@pytest.mark.parametrize("name", ["toy#1", "toy%20s", "toy?", "{toy}", "toy\t1", "toy\udce9"])
def test_a_path_with_which_dvc_fails_is_an_error(
    name: str, committed_toy: Path, tmp_path: Path
) -> None:
    toy = Path(shutil.copytree(committed_toy, tmp_path / name, symlinks=True))
    done = run_in(toy, "rubro", "sweep", "seed=1", ok=False)
    assert done.returncode == 2
    assert re.search("error: .*toy.*rename", done.stderr)
    assert experiments_in(toy) == []


# Searches


@pytest.mark.slow
def test_the_printed_command_applies_the_best_trial(toy: Path, space: Path) -> None:
    done = run_in(toy, "rubro", "search", space.name, "--trials", "4")
    assert len(experiments_in(toy)) == 4
    *_, command = done.stderr.splitlines()
    best, *_ = compared(toy, "--each")
    assert command == f"  dvc exp apply {best['experiments'][0]}"
    assert best["changed"].keys() <= {line.partition(":")[0] for line in SPACE.splitlines()}
    run_in(toy, *command.split())
    [row] = [row for row in compared(toy) if row["experiments"] == best["experiments"]]
    assert row["metrics"] == best["metrics"]


@pytest.mark.slow
def test_a_killed_search_resumes_with_the_same_trials(
    toy: Path, space: Path, committed_toy: Path, tmp_path: Path
) -> None:
    command = ["rubro", "search", space.name, "--trials", "3"]
    kill_when(lambda: bool(experiments_in(toy)), toy, command)
    done = run_in(toy, *command)
    with sqlite3.connect(toy / ".rubro" / "search.db") as database:
        states = [state for (state,) in database.execute("SELECT state FROM trials")]
    assert states == ["COMPLETE"] * 3
    assert "3/3" in done.stderr
    # An uninterrupted search has the same trials, also if some of them were requested later.
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
def test_a_trial_that_was_killed_before_it_had_parameters_is_left_out(
    toy: Path, space: Path
) -> None:
    command = ["rubro", "search", space.name, "--trials", "1"]
    run_in(toy, *command)
    with closing(sqlite3.connect(toy / ".rubro" / "search.db")) as database, database:
        database.execute("UPDATE trials SET state = 'RUNNING'")
        database.execute("DELETE FROM trial_params WHERE param_name = 'train_mlp.dropout'")
    assert "0 trials done, 1 to run" in run_in(toy, *command).stderr
    assert len(experiments_in(toy)) == 2


@pytest.mark.slow
def test_a_search_continues_after_a_failed_trial(toy: Path) -> None:
    (toy / "rates.yaml").write_text("train_mlp.learning_rate: {choices: [0.001, 5.0]}\n")
    done = run_in(toy, "rubro", "search", "rates.yaml", "--trials", "6", ok=False)
    assert done.returncode == 3
    assert experiments_in(toy) == ["train_mlp.learning_rate=0.001"]
    assert FAILURE in done.stderr
    assert (toy / FAILED_LOG).is_file()


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("train_mlp.dropout: {low: 0.5, high: 0.1}", "train_mlp.dropout: low .* high"),
        ("train_mlp.dropout: {low: 0, high: 0.1, log: true}", "train_mlp.dropout: low .* log"),
        ("train_mlp.dropout: {low: 0.5}", "train_mlp.dropout: .* low and high"),
        ("train_mlp.dropout: {low: 0.5, choices: [1]}", "train_mlp.dropout: choices .* low"),
        ("train_mlp.dropout: {low: null, high: 1}", "train_mlp.dropout: "),
        ("train_mlp.dropout: {low: 0.5, high: 1.5}", "train_mlp.dropout: .* 1"),
        ("train_mlp.dropout: 0.5", "train_mlp.dropout: .* low and high"),
        ("train_mlp.dropout: {choices: []}", "train_mlp.dropout: .* at least 1 item"),
        ("{", "not valid YAML"),
        ("{}", "no keys"),
    ],
)
def test_a_file_that_is_not_a_space_is_an_error(
    content: str, facts: str, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(ParamsError, match=f"^{re.escape(str(path))}: {facts}"):
        read_space(path)


@pytest.mark.parametrize("text", ["categoría de rubro", "a, b", 'the "best"', "null", "plain"])
def test_dvc_and_the_project_read_the_same_value_from_a_setting(
    text: str, project_root: Path
) -> None:
    setting = format_setting("data.title_column", text)
    assert with_settings(project_root / "params.yaml", [setting]).data.title_column == text
    (override,) = OverridesParser.create().parse_overrides([setting])
    assert override.value() == text


def test_the_spaces_of_the_project_are_valid(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    spaces = list(Path("spaces").glob("*.yaml"))
    assert spaces
    for path in spaces:
        assert read_space(path)


def damage(path: Path) -> None:
    path.write_bytes(b"This is not a database, " * 100)


def empty_tables(path: Path) -> None:
    with sqlite3.connect(path) as database:
        for table in ("studies", "version_info", "trials"):
            database.execute(f"CREATE TABLE {table} (other)")


def of_a_newer_version(path: Path) -> None:
    optuna.create_study(storage=f"sqlite:///{path}")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")


@pytest.mark.parametrize("change", [damage, empty_tables, of_a_newer_version, Path.mkdir])
def test_an_unusable_database_of_a_search_is_an_error(
    toy: Path, space: Path, change: Callable[[Path], None]
) -> None:
    path = toy / ".rubro" / "search.db"
    path.parent.mkdir()
    change(path)
    done = run_in(toy, "rubro", "search", space.name, ok=False)
    assert done.returncode == 2
    assert re.match(r"error: \.rubro/search\.db: ", done.stderr)
    assert experiments_in(toy) == []


@pytest.mark.slow
def test_a_locked_database_of_a_search_is_an_error(toy: Path, space: Path) -> None:
    path = toy / ".rubro" / "search.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        done = run_in(toy, "rubro", "search", space.name, ok=False)
    assert done.returncode == 2
    assert re.match(r"error: \.rubro/search\.db: .*locked", done.stderr)
