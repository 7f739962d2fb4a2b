"""Run the ladder: rows of settings, most of them one change of the default.

Each row of benchmarks/ladder.yaml runs as a DVC experiment in a copy of the repository, once per
seed. Experiments of earlier calls are not repeated. Metrics go into a JSON file.

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

# Models, and the file of metrics that each one's stage writes.
MODELS = {"ensemble": "ensemble", "mlp": "train_mlp", "cnn": "train_cnn", "svm": "train_svm"}
RUN_FROM = ("src", "stages", "dvc.yaml", "params.yaml", "data")
FIGURES = ("balanced_accuracy", "accuracy", "top5_accuracy", "ece")

app = typer.Typer(pretty_exceptions_enable=False)


def settings_of(row: dict[str, Any], common: list[str]) -> list[str]:
    """Return KEY=VALUE of a row: its preset, then the common settings, then its own changes."""
    preset = row.get("preset")
    settings = load_overrides(Path(preset), Path("params.yaml")) if preset else {}
    settings |= dict(setting.split("=", 1) for setting in common)
    settings |= {key: json.dumps(value) for key, value in row.get("set", {}).items()}
    return [f"{key}={value}" for key, value in settings.items()]


def run(name: str, settings: list[str]) -> dict[str, Any]:
    """Run an experiment, unless one with the same settings and code exists on this commit.

    Args:
        name: Start of the name of the experiment.
        settings: All settings, KEY=VALUE.

    Returns:
        Metrics in Git, by file name without suffix.

    Raises:
        TrainingError: A stage failed, or a commit was made meanwhile.
    """
    head, uncommitted = git("rev-parse", "HEAD"), git("diff", "HEAD", "--", *RUN_FROM)
    digest = hashlib.sha256("\n".join([*settings, uncommitted]).encode()).hexdigest()[:8]
    experiment = f"ladder-{name}-{digest}"
    if not _ref_of(experiment, head):
        overrides = [argument for setting in settings for argument in ("-S", setting)]
        say(f"{experiment}: {' '.join(overrides)}")
        command = ["dvc", "exp", "run", "--temp", "--name", experiment, *overrides]
        if subprocess.run(command, check=False).returncode:
            raise TrainingError(f"{experiment} failed; put it right and run the same command again")
    ref = _ref_of(experiment, head)
    if not ref:
        raise TrainingError(f"{experiment} is of another commit: one was made while it ran")
    files = git("ls-tree", "--name-only", ref, "metrics/").split()
    return {
        Path(file).stem: json.loads(git("show", f"{ref}:{file}"))
        for file in files
        if file.endswith(".json")
    }


def summary_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation over seeds of each figure, by split and model.

    Args:
        runs: Metrics from run for each seed.

    Returns:
        Values for JSON; deviation is null for a single seed, and megabytes is the mean size of each
        model folder.
    """
    return {
        **{
            split: {
                model: {
                    figure: mean_and_deviation(
                        [run["evaluate"][split][model][figure] for run in runs]
                    )
                    for figure in FIGURES
                }
                for model in MODELS
            }
            for split in ("validation", "test")
        },
        "megabytes": {
            model: round(statistics.mean(run[file]["model_megabytes"] for run in runs), 1)
            for model, file in MODELS.items()
        },
    }


def _from_anywhere(setting: str) -> str:
    """Return a setting with an absolute data.path where this is outside the repository."""
    key, _, value = setting.partition("=")
    path = Path(value).resolve()
    if key == "data.path" and not path.is_relative_to(Path.cwd()):
        return f"{key}={path}"
    return setting


def _ref_of(experiment: str, head: str) -> str:
    refs = git("for-each-ref", "--format=%(refname)", f"refs/exps/{head[:2]}/{head[2:]}")
    return next((ref for ref in refs.split() if ref.endswith(f"/{experiment}")), "")


@app.command(help=__doc__)
def main(
    out: Annotated[Path, typer.Option(help="The JSON file; rows that do not run stay in it.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="In params.yaml's place, in every row."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ROW", help="Some rows.")] = None,
    ladder: Annotated[Path, typer.Option(help="The rows.")] = Path("benchmarks/ladder.yaml"),
) -> None:
    with reported_errors():
        common = [_from_anywhere(setting) for setting in settings or []]
        with_settings("params.yaml", common)
        if not ladder.exists():
            raise ParamsError(f"{ladder}: no such file")
        plan = YAML(typ="safe").load(ladder)
        rows = {row["name"]: row for table in plan["tables"].values() for row in table}
        if unknown := sorted(set(only or []) - set(rows)):
            raise ParamsError(f"--only {unknown[0]}: no such row; known: {', '.join(rows)}")
        for row in rows.values():  # a mistake in the last row shows before the first has run
            with_settings("params.yaml", settings_of(row, common))
        done = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.exists() else {}
        for name, row in rows.items():
            if only and name not in only:
                continue
            seeds = row.get("seeds", plan["seeds"])
            runs = [run(name, [*settings_of(row, common), f"seed={seed}"]) for seed in seeds]
            done[name] = {"set": row.get("set", {}), "seeds": seeds, **summary_of(runs)}
            shown = {name: done[name] for name in rows if name in done}
            write_json(out, {"seeds": plan["seeds"], "rows": shown})


if __name__ == "__main__":
    app()
