"""Compare rubro's models and other classifiers, its peers, in three trade-offs on the same titles.

The trade-offs are accuracy against training time, against prediction rate and against model size. A
peer is ahead in one of these measures if no model of rubro is both at least as accurate and at least
as good in it. Training uses all cores, and prediction of raw titles one core.

    python benchmarks/front.py run path/to/titles --set subset.top_categories=0
    python benchmarks/front.py picture
"""

from __future__ import annotations

import operator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from scale import (
    ALL_PEERS,
    ROOT,
    SVM_STAGES,
    chart,
    installed_peers,
    is_complete,
    machine,
    measured_peer,
    outcome,
    pipeline,
    project,
)

from peers import Overrides, chosen_peers
from rubro.base.console import reported_errors, say
from rubro.base.errors import ParamsError
from rubro.base.files import read_json, write_json
from rubro.base.params_file import load_overrides

RESULTS = ROOT / "benchmarks" / "results" / "front.json"
PICTURE = ROOT / "docs" / "front.svg"
PRESETS = ("fast", "small")  # settings of a model that contains only the SVM
# Stages of each model after subset, without the evaluation.
_FOR_NETWORKS = ("featurize", "embed", "pseudo_label")
STAGES_OF = {
    "ensemble": (*_FOR_NETWORKS, "train_svm", "train_mlp", "train_cnn", "ensemble"),
    "mlp": (*_FOR_NETWORKS, "train_mlp"),
    "cnn": (*_FOR_NETWORKS, "train_cnn"),
    "svm": SVM_STAGES,
}
# Measures: caption, and whether the first of two values is at least as good as the second.
MEASURES = {
    "seconds": ("training, seconds", operator.le),
    "titles_per_second": ("prediction, titles/s", operator.ge),
    "model_megabytes": ("model, MB", operator.le),
}
Row = dict[str, Any]


def measures_ahead(row: Row, ours: list[Row]) -> list[str]:
    """Return the measures in which a peer is ahead of all models of rubro.

    Args:
        row: Row of the peer.
        ours: Rows of the models of rubro.
    """
    return [
        measure
        for measure, (_, at_least_as_good) in MEASURES.items()
        if not any(
            own["accuracy"] >= row["accuracy"] and at_least_as_good(own[measure], row[measure])
            for own in ours
        )
    ]


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, help=__doc__)


@app.command()
def run(
    data: Annotated[Path, typer.Argument(help="Your titles, as in data.path.")],
    settings: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PEER", help=f"{', '.join(ALL_PEERS)}; default: all."),
    ] = None,
    choose: Annotated[
        bool,
        typer.Option(
            help="Choose the settings of the peers even if --out contains them for these titles."
        ),
    ] = False,
    limit: Annotated[float, typer.Option(help="Time limit of a process, in seconds.")] = 1800.0,
    pecos: Annotated[
        Path | None,
        typer.Option(help="Python with libpecos, see benchmarks/xr_linear.py."),
    ] = None,
    out: Annotated[Path, typer.Option(help="JSON file to replace.")] = RESULTS,
) -> None:
    """Train and measure all models and peers."""
    with reported_errors(), TemporaryDirectory() as scratch:
        keys = chosen_peers(only, ALL_PEERS)
        earlier = read_json(out, dict[str, Any]) if out.exists() and not choose else {"rows": []}
        is_same = earlier.get("titles") == data.name
        setting_of = {row["name"]: row.get("setting") for row in earlier["rows"] if is_same}
        content: dict[str, Any] = {"titles": data.name, "machine": machine(), "rows": []}
        ours: list[Row] = []
        for preset in ("default", *PRESETS):
            folder = Path(scratch) / preset
            folder.mkdir()
            changes: dict[str, str] = {}
            if preset != "default":
                changes = load_overrides(ROOT / f"presets/{preset}.yaml", ROOT / "params.yaml")
            preset_settings = [f"{key}={value}" for key, value in changes.items()]
            project(folder, data, [*(settings or []), *preset_settings])
            say(f"rubro, {preset} settings")
            stages = pipeline(folder, limit)
            if not is_complete(stages):
                raise ParamsError(
                    f"--limit {limit:g}: stage {[*stages][-1]} takes longer; choose a larger limit"
                )
            for model in STAGES_OF if preset == "default" else ["svm"]:
                name = model if preset == "default" else f"preset {preset}"
                needed = [stages[stage] for stage in STAGES_OF[model]]
                ours.append({"name": f"rubro, {name}", **outcome(folder, needed, model)})
        content["rows"] += [{**row, "ahead": []} for row in ours]
        write_json(out, content)
        for key, python in installed_peers(keys, pecos):
            setting = setting_of.get(ALL_PEERS[key].name)
            row = measured_peer(python, Path(scratch) / "default", key, setting, limit)
            say(f"{key}: {row}")
            if "seconds" in row:
                content["rows"].append({**row, "ahead": measures_ahead(row, ours)})
                write_json(out, content)


@app.command()
def picture(
    results: Annotated[Path, typer.Option(help="JSON file written by `run`.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="SVG or PNG file to write.")] = PICTURE,
) -> None:
    """Plot accuracy against each measure."""
    from matplotlib.ticker import LogLocator, NullFormatter

    from rubro.report.charts import SERIES

    rows = read_json(results, dict[str, Any])["rows"]
    with chart(out, 10, 4.5) as figure:
        for axis, (measure, (caption, _)) in zip(
            figure.subplots(1, len(MEASURES), sharey=True), MEASURES.items(), strict=True
        ):
            for row, marker in zip(rows, "osD^vP*Xhdp<>8", strict=False):
                axis.plot(
                    row[measure],
                    row["accuracy"],
                    marker,
                    color=SERIES[0] if row["name"].startswith("rubro") else "#5d6670",
                    label=row["name"],
                )
            axis.set(xlabel=caption, xscale="log")
            axis.grid(alpha=0.3)
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.xaxis.set_major_formatter("{x:,.0f}")
            axis.xaxis.set_minor_formatter(NullFormatter())
        figure.axes[0].set_ylabel("accuracy")


if __name__ == "__main__":
    app()
