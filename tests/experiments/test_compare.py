"""Experiments that the real dvc has run, as `rubro compare` shows them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from rubro.base.errors import ParamsError
from rubro.base.yaml_files import load_yaml
from rubro.experiments.compare import expand_metrics
from rubro.experiments.dvc_experiments import METRIC_FILES, experiment_name, setting_in_name
from support.tiny_project import GRAPH, ROOT, run_in
from support.toy_pipeline import compared, names_of

pytest_plugins = ["support.toy_pipeline"]

SCORE = "validation.mlp.balanced_accuracy"


@pytest.fixture(scope="module")
def explored(committed_toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with experiments: one by hand and one with three seeds."""
    folder = tmp_path_factory.mktemp("explored") / "toy"
    shutil.copytree(committed_toy, folder, symlinks=True)
    for seed in (1, 2, 3):
        options = ["-S", f"seed={seed}", "-S", "train_mlp.dropout=0.5"]
        name = f"train_mlp.dropout=0.5,seed={seed}"
        run_in(folder, "dvc", "exp", "run", "--temp", "--name", name, *options)
    options = ["-S", "train_mlp.dropout=0.1", "-S", "train_mlp.hidden_sizes=[7,5]"]
    run_in(folder, "dvc", "exp", "run", "--temp", "--name", "by-hand", *options)
    return folder


@pytest.mark.slow
def test_seeds_are_one_row_with_mean_and_deviation_and_the_best_is_first(explored: Path) -> None:
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
def test_the_table_fits_80_columns_and_says_what_changed_and_what_to_apply(explored: Path) -> None:
    done = run_in(explored, "rubro", "compare")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[-5:] == [
        "train_mlp.dropout=0.5,seed=1       1-3  0.9020 ± 0.0010  0.9020 ± 0.0010",
        "last commit                      20190           0.8000           0.8000",
        "by-hand                          20190           0.7000           0.7000",
        "  train_mlp.hidden_sizes=[7,5],",
        "  train_mlp.dropout=0.1",
    ]
    assert done.stderr.endswith(
        "The best on validation: dvc exp apply train_mlp.dropout=0.5,seed=1\n"
    )


@pytest.mark.slow
def test_the_named_experiment_can_be_applied(explored: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(explored, tmp_path / "copy", symlinks=True)
    *_, command = run_in(folder, "rubro", "compare").stderr.splitlines()
    run_in(folder, *command.partition(": ")[2].split())
    params = load_yaml(folder / "params.yaml")
    assert (params["train_mlp"]["dropout"], params["seed"]) == (0.5, 1)


@pytest.mark.slow
def test_seeds_stay_apart_where_that_is_asked_for(explored: Path) -> None:
    rows = compared(explored, "--each", "train_mlp.*")
    names = names_of(rows)
    assert names[:3] == [f"train_mlp.dropout=0.5,seed={seed}" for seed in (3, 2, 1)]
    assert "by-hand" not in names
    assert rows[0]["changed"] == {"seed": 3, "train_mlp.dropout": 0.5}


@pytest.mark.slow
def test_a_loss_is_sorted_the_other_way_round(explored: Path) -> None:
    rows = compared(explored, "-m", "test.*.loss")
    assert list(rows[0]["metrics"]) == ["test.mlp.loss", "test.ensemble.loss"]
    means = [row["metrics"]["test.mlp.loss"]["mean"] for row in rows]
    assert means == sorted(means)


@pytest.mark.slow
def test_csv_has_the_numbers_of_json(explored: Path) -> None:
    text = run_in(explored, "rubro", "compare", "--format", "csv", "-m", SCORE).stdout
    first, *_ = csv.DictReader(io.StringIO(text))
    assert first["changed"] == "train_mlp.dropout=0.5"
    assert (first[SCORE], first[f"{SCORE}.deviation"]) == ("0.902", "0.001")
    assert first["seeds"].split() == ["1", "2", "3"]


@pytest.mark.slow
def test_other_code_is_another_row(explored: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(explored, tmp_path / "copy", symlinks=True))
    with open(folder / "stages" / "evaluate.py", "a") as file:
        file.write("# another\n")
    options = ["-S", "seed=4", "-S", "train_mlp.dropout=0.5"]
    run_in(folder, "dvc", "exp", "run", "--temp", "--name", "other-code", *options)
    [row] = [row for row in compared(folder) if "other-code" in row["experiments"]]
    assert row["experiments"] == ["other-code"]
    assert row["changed_files"] == ["stages/evaluate.py"]
    assert "stages/evaluate.py edited" in run_in(folder, "rubro", "compare").stdout


@pytest.mark.slow
def test_experiments_of_other_commits_are_shown_on_request(explored: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(explored, tmp_path / "copy", symlinks=True))
    run_in(folder, "git", "commit", "--quiet", "--allow-empty", "--message", "next")
    done = run_in(folder, "rubro", "compare")
    assert done.stderr.startswith(
        "No experiment of the last commit yet (--all-commits shows others)"
    )
    assert names_of(compared(folder, "--all-commits")) == names_of(compared(explored))


@pytest.mark.slow
def test_metrics_of_other_settings_are_not_shown(explored: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(explored, tmp_path / "copy", symlinks=True))
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("seed: 20190", "seed: 5"))
    run_in(folder, "git", "commit", "--all", "--quiet", "--message", "params without a run")
    done = run_in(folder, "rubro", "compare", "--all-commits")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("last commit")]
    assert line.split() == ["last", "commit", "5", "-", "-"]
    assert "-: not every stage has run with these settings" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "test.mlp.balanced_acuracy"], "did you mean test.mlp.balanced_accuracy"),
        (["--sort", "nothing"], "nothing: no such metric; known: validation.mlp.balanced_"),
        (["by-hnad"], "by-hnad: no such experiment; did you mean by-hand?"),
    ],
)
def test_what_is_not_there_is_one_message(explored: Path, options: list[str], message: str) -> None:
    done = run_in(explored, "rubro", "compare", *options, ok=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_a_folder_without_a_repository_is_one_message(tmp_path: Path) -> None:
    done = run_in(tmp_path, "rubro", "compare", ok=False)
    assert done.returncode == 2
    assert "run in the folder of a clone of the project" in done.stderr


def test_every_file_of_metrics_in_the_graph_is_read() -> None:
    written = [name for stage in GRAPH["stages"].values() for name in stage.get("metrics", [])]
    files = [next(iter(entry)) for entry in written]
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
def test_a_setting_in_a_name_is_legal_for_git(key: str, value: object, name: str) -> None:
    assert setting_in_name(key, value) == name
    run_in(ROOT, "git", "check-ref-format", f"refs/exps/{name}")


def test_names_are_short_and_unique() -> None:
    assert experiment_name([("seed", 1)], ["seed=1", "seed=1,run=2"]) == "seed=1,run=3"
    long = experiment_name([(f"train_mlp.knob_{number}", number) for number in range(20)])
    assert len(long) <= 110
    assert long.startswith("train_mlp.knob_0=0,train_mlp.knob_1=1,")
    assert long.endswith(",+15")


def test_a_wildcard_stands_for_a_part_of_a_name() -> None:
    known = ["test.mlp.ece", "test.cnn.ece", "test.differences.a_minus_b.ece"]
    assert expand_metrics(["test.*.ece"], known) == known[:2]
    with pytest.raises(ParamsError, match="known: test"):
        expand_metrics(["*"], known)


def test_json_is_valid_where_there_is_no_metric(toy: Path) -> None:
    run_in(toy, "git", "rm", "--quiet", "metrics/evaluate.json")
    run_in(toy, "git", "commit", "--quiet", "--message", "no metrics")
    [row] = json.loads(run_in(toy, "rubro", "compare", "--format", "json").stdout)
    assert set(row["metrics"].values()) == {None}
