"""Run the ladder: each row changes a few settings of params.yaml.

Each row of benchmarks/ladder.yaml runs as a DVC experiment in a copy of the repository, once per seed.
Experiments that have already run on this commit are skipped. Metrics are written to a JSON file.

    python benchmarks/ladder.py --set data.path=data/sample --out benchmarks/results/ladder.json
"""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from rubro.base.console import reported_errors, say
from rubro.base.errors import ParamsError, TrainingError
from rubro.base.files import write_json
from rubro.base.params_file import load_overrides, with_settings
from rubro.experiments.compare import mean_and_deviation
from rubro.experiments.git import git

# The metrics file of each model, without suffix.
MODELS = {"ensemble": "ensemble", "mlp": "train_mlp", "cnn": "train_cnn", "svm": "train_svm"}
INPUTS = ("src", "stages", "dvc.yaml", "params.yaml", "data")
FIGURES = ("balanced_accuracy", "accuracy", "macro_f1", "top5_accuracy", "ece")

app = typer.Typer(pretty_exceptions_enable=False)


def settings_of(row: dict[str, Any], common: list[str]) -> list[str]:
    """Return KEY=VALUE settings of a ladder row, which override common and preset settings."""
    preset = row.get("preset")
    settings = load_overrides(Path(preset), Path("params.yaml")) if preset else {}
    settings |= dict(setting.split("=", 1) for setting in common)
    settings |= {key: json.dumps(value) for key, value in row.get("set", {}).items()}
    return [f"{key}={value}" for key, value in settings.items()]


def run(name: str, settings: list[str]) -> dict[str, Any]:
    """Run an experiment unless the same one exists on this commit, and return its metrics.

    Args:
        name: Start of the experiment's name.
        settings: All changed settings of params.yaml, each as KEY=VALUE.

    Returns:
        Metrics that Git tracks, by file name without suffix.

    Raises:
        TrainingError: A stage failed, or a commit was made during the run.
    """
    head, uncommitted = git("rev-parse", "HEAD"), git("diff", "HEAD", "--", *INPUTS)
    digest = hashlib.sha256("\n".join([*settings, uncommitted]).encode()).hexdigest()[:8]
    experiment = f"ladder-{name}-{digest}"
    ref = _ref_of(experiment, head)
    if not ref:
        overrides = [argument for setting in settings for argument in ("-S", setting)]
        say(f"{experiment}: {' '.join(overrides)}")
        command = ["dvc", "exp", "run", "--temp", "--name", experiment, *overrides]
        if subprocess.run(command, check=False).returncode:
            raise TrainingError(
                f"Experiment {experiment} failed. Fix the error above and run the same command again."
            )
        ref = _ref_of(experiment, head)
    if not ref:
        raise TrainingError(
            f"Experiment {experiment} belongs to another commit because a commit was made while it "
            "was running. Run the same command again."
        )
    files = git("ls-tree", "--name-only", ref, "metrics/").split()
    return {
        Path(file).stem: json.loads(git("show", f"{ref}:{file}"))
        for file in files
        if file.endswith(".json")
    }


def summary_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise the metrics of several seeds.

    Args:
        runs: Metrics of each seed, from run.

    Returns:
        Mean, standard deviation and values of each figure, by split and model; and the mean size of
        each model folder in megabytes. The deviation of a single seed is None.
    """
    summary: dict[str, Any] = {
        split: {
            model: {
                figure: mean_and_deviation([run["evaluate"][split][model][figure] for run in runs])
                for figure in FIGURES
            }
            for model in MODELS
        }
        for split in ("validation", "test")
    }
    summary["megabytes"] = {
        model: round(statistics.mean(run[file]["model_megabytes"] for run in runs), 1)
        for model, file in MODELS.items()
    }
    return summary


def _from_anywhere(setting: str) -> str:
    """Return a setting with an absolute data.path if the path is outside the repository."""
    key, _, value = setting.partition("=")
    path = Path(value).resolve()
    if key == "data.path" and not path.is_relative_to(Path.cwd()):
        return f"{key}={path}"
    return setting


def _ref_of(experiment: str, head: str) -> str:
    """Return the Git reference of an experiment on a commit, or "" if there is none."""
    refs = git("for-each-ref", "--format=%(refname)", f"refs/exps/{head[:2]}/{head[2:]}")
    return next((ref for ref in refs.split() if ref.endswith(f"/{experiment}")), "")


@app.command(help=__doc__)
def main(
    out: Annotated[Path, typer.Option(help="JSON file to update; it keeps rows that do not run.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Setting of params.yaml for every row."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ROW", help="Row to run; default: all rows.")
    ] = None,
    ladder: Annotated[Path, typer.Option(help="YAML file of rows.")] = Path(
        "benchmarks/ladder.yaml"
    ),
) -> None:
    with reported_errors():
        common = [_from_anywhere(setting) for setting in settings or []]
        with_settings("params.yaml", common)
        if not ladder.exists():
            raise ParamsError(f"{ladder}: no such file; give an existing file with --ladder")
        plan = YAML(typ="safe").load(ladder)
        rows = {row["name"]: row for table in plan["tables"].values() for row in table}
        if unknown := sorted(set(only or []) - set(rows)):
            raise ParamsError(f"--only {unknown[0]}: no such row; known rows: {', '.join(rows)}")
        for row in rows.values():  # report a wrong setting before the first experiment runs
            with_settings("params.yaml", settings_of(row, common))
        done = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.exists() else {}
        for name in only or rows:
            row = rows[name]
            seeds = row.get("seeds", plan["seeds"])
            runs = [run(name, [*settings_of(row, common), f"seed={seed}"]) for seed in seeds]
            done[name] = {"set": row.get("set", {}), "seeds": seeds, **summary_of(runs)}
            write_json(
                out,
                {"seeds": plan["seeds"], "rows": {key: done[key] for key in rows if key in done}},
            )


if __name__ == "__main__":
    app()
