"""Write the metrics of the last run as one web page.

The page is built from the metrics folder and opens without a network. It shows numbers with intervals,
the models on validation and test side by side, learning curves, reliability, coverage against precision,
every category with its mistakes, confusions, data and parameters, and it names the missing metrics. With
--against, it also shows what changed since another commit. If the categories are paths, it shows the
metrics of each level and the tree of the categories. If rubro audit has checked the labels of the same
data, it shows the estimated number of wrong labels. If MLFLOW_TRACKING_URI is set, the page is attached
to the run of the pipeline in MLflow.

\b
rubro report
rubro report --against HEAD~1
rubro report --split validation \\
  --output validation.html --images pictures

Requires the training packages: pip install 'rubro[train]'.

Exit codes: 0 if the page is written, 2 if no metrics are found or a file is wrong, 130 if interrupted.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rubro.base.console import say
from rubro.base.outputs import output_path, replacing

_METRICS, _AUDIT, _SUBSET = Path("metrics"), Path("audit"), Path("data/subset")
_MODEL, _NOISE = Path("models/ensemble"), Path("benchmarks/results/noise.json")


def main(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Page to write. It appears only when it is complete.",
        ),
    ] = Path("report.html"),
    against: Annotated[
        str | None,
        typer.Option(
            metavar="REV",
            help="Commit, branch or tag to compare with, as `rubro gate` does.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for each chart as svg and png; it is created if it is missing.",
        ),
    ] = None,
    split: Annotated[
        Literal["test", "validation"],
        typer.Option(help="Split that the tables and charts describe in detail."),
    ] = "test",
) -> None:
    from rubro.base.mlflow_server import MlflowServer, attach_report
    from rubro.base.params_file import load_params
    from rubro.gate.comparison import compare_with_revision
    from rubro.report.charts import charts_of
    from rubro.report.content import read_audit, read_content
    from rubro.report.page import render
    from rubro.report.revisions import read_previous, read_run

    target = output_path(output)
    content = read_content(_METRICS, split)
    content.run = read_run(_METRICS, _MODEL)
    comparison = previous = None
    if against is not None:
        comparison = compare_with_revision(against, _NOISE)
        previous = read_previous(against, _METRICS, split)
        if not previous.categories:
            say(
                f"{against}: the report does not compare the categories, because their metrics in "
                "this commit have another format or are not in the cache of DVC"
            )
    if notice := read_audit(content, _AUDIT, _SUBSET):
        say(notice)
    if content.missing:
        first, others = content.missing[0], len(content.missing) - 1
        say(
            f"{first}{f' and {others} more files' if others else ''}: missing, as the report shows. "
            "Run `dvc pull` to fetch them from a DVC remote, or `dvc repro` to make them"
        )
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        charts = charts_of(content)
        page = render(content, charts, comparison, previous)
        partial.write_bytes(page.encode("utf-8", "backslashreplace"))
    MlflowServer().send(lambda mlflow: attach_report(mlflow, load_params(), _SUBSET, target))
    say(f"{output}: {len(page) / 1e6:.1f} MB, opens in a browser without a network")
    if images is not None:
        for name, chart in charts.items():
            for kind, picture in (("svg", chart.svg.encode()), ("png", chart.png())):
                with replacing(output_path(images / f"{name}.{kind}")) as partial:
                    partial.write_bytes(picture)
        say(f"{images}: {len(charts)} charts, each as svg and png")
