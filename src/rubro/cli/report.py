"""The `rubro report` command: the metrics of a run as one web page, and its charts as pictures."""

from __future__ import annotations

from pathlib import Path

from rubro.base.console import say
from rubro.cli.common import needed_packages
from rubro.tables.writers import appearing

_METRICS = Path("metrics")


def report(output: Path, images: Path | None, split: str) -> None:
    """Write the report.

    Args:
        output: Path of the page.
        images: Folder for the charts, created if missing; None = none are written.
        split: Split to report: "test" or "validation".

    Raises:
        DataError: There are no metrics, one of their files is damaged, or the page cannot be
            written there.
        RubroError: A package is missing.
    """
    with needed_packages("rubro report"):
        from rubro.report.charts import charts_of
        from rubro.report.content import read_content
        from rubro.report.page import render

    content = read_content(_METRICS, split)
    if content.missing:
        first, more = content.missing[0], len(content.missing) - 1
        say(
            f"{first}{f' and {more} more files' if more else ''}: missing; the report says where. "
            "`dvc pull` fetches them where a remote has them, `dvc repro` makes them"
        )
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
    with appearing(output) as file:
        charts = charts_of(content)
        page = render(content, charts)
        file.write(page.encode("utf-8", "backslashreplace"))
    say(f"{output}: {len(page) / 1e6:.1f} MB, opens in a browser without a network")
    if images is not None:
        for name, chart in charts.items():
            for kind, picture in (("svg", chart.svg.encode()), ("png", chart.png())):
                with appearing(images / f"{name}.{kind}") as file:
                    file.write(picture)
        say(f"{images}: {len(charts)} charts, each as svg and png")
