"""Measure prediction on one core: titles per second, latency, start-up time and size.

Each model predicts the raw test titles of data/subset, all at once and one at a time. If fastText is
installed, it is trained on the tokens of the training titles and measured in the same way.

    python benchmarks/predict.py --out benchmarks/results/predict.json
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from threadpoolctl import threadpool_limits

from peers import PEERS, FastText
from rubro.base.console import console, reported_errors, say
from rubro.base.errors import DataError, ParamsError
from rubro.base.files import write_json
from rubro.base.text import tokenise
from rubro.data.splits import load_labels, load_split
from rubro.prediction.classifier import Classifier

MODELS = ("ensemble", "mlp", "cnn", "svm")
Predict = Callable[[Sequence[str]], Any]
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = perf_counter()
    work()
    return perf_counter() - started


def rate_on_one_core(prepared: Callable[[], Predict], titles: Sequence[str]) -> int:
    """Return the titles per second that one core predicts, the median of five passes.

    Args:
        prepared: Function that returns the function from titles to predictions. It is called before each
            pass, and its time does not count.
        titles: Raw titles.
    """
    tasks = [int(task.name) for task in Path("/proc/self/task").glob("*")]  # threads
    before = {task: os.sched_getaffinity(task) for task in tasks}
    for task, cores in before.items():
        os.sched_setaffinity(task, {min(cores)})
    try:
        with threadpool_limits(limits=1):
            seconds = [seconds_of(partial(prepared(), titles)) for _ in range(5)]
    finally:
        for task, cores in before.items():
            os.sched_setaffinity(task, cores)
    return round(len(titles) / statistics.median(seconds))


def _rounded(value: float) -> float:
    """Return a number with 4 significant digits."""
    return float(f"{value:.4g}")


def _median(values: Iterable[float]) -> float:
    return _rounded(statistics.median(values))


def speed(predict: Predict, titles: Sequence[str], repeats: int) -> dict[str, float]:
    """Measure how fast titles are predicted.

    Args:
        predict: Function from titles to predictions that has not been called before.
        titles: Raw titles.
        repeats: Number of timed passes after the first.

    Returns:
        Titles per second of the first pass and of later passes, all titles at once. With one title
        at a time, titles per second, and median and 99th percentile of the latency in milliseconds.
    """
    first, *passes = (seconds_of(partial(predict, titles)) for _ in range(1 + repeats))
    singles = np.array([seconds_of(partial(predict, [title])) for title in titles])
    return {
        "first_batch_titles_per_second": _rounded(len(titles) / first),
        "batch_titles_per_second": _median(len(titles) / seconds for seconds in passes),
        "single_titles_per_second": _rounded(len(titles) / singles.sum()),
        "single_ms_p50": _rounded(1000 * np.percentile(singles, 50)),
        "single_ms_p99": _rounded(1000 * np.percentile(singles, 99)),
    }


def _measured_model(folder: Path, titles: Sequence[str], repeats: int) -> dict[str, float]:
    """Measure a model's size, loading time, prediction speed and time of `rubro predict`."""
    size = sum(file.stat().st_size for file in folder.iterdir())
    loads = [seconds_of(lambda: Classifier.load(folder)) for _ in range(repeats)]
    figures = speed(Classifier.load(folder).predict, titles, repeats)
    starts = [_command("predict", "--model", str(folder), titles[0]) for _ in range(repeats)]
    return {
        "megabytes": round(size / 1e6, 1),
        "load_seconds": _median(loads),
        **figures,
        "first_answer_seconds": _median(starts),
    }


def _command(*arguments: str) -> float:
    """Return the seconds that a `rubro` process takes."""
    started = perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("rubro"), *arguments],
        env=os.environ | _ONE_THREAD,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DataError(f"`rubro {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return perf_counter() - started


def _measured_fasttext(subset: Path, titles: Sequence[str], repeats: int) -> dict[str, float]:
    """Train fastText with n-grams on the training titles of a folder and measure its predictions."""
    train, labels = load_split(subset, "train"), load_labels(subset)
    targets = train["category"].map({name: index for index, name in enumerate(labels)})
    setting = next(setting for setting in PEERS["fasttext"].grid if setting["maxn"])
    say(f"training fastText on {len(train)} titles: {setting}")
    peer = FastText(setting, seed=1)
    peer.fit(train["tokens"].to_list(), targets.to_numpy())
    return speed(
        lambda raw: peer.predict([" ".join(tokenise(title)) for title in raw]), titles, repeats
    )


def _table(results: dict[str, dict[str, float]]) -> Table:
    """Return a terminal table with a row for each measured quantity and a column per model."""
    table = Table("", *results)
    for figure in next(iter(results.values())):
        name = figure.replace("_per_second", " / s").replace("_", " ")
        cells = (f"{each[figure]:,.6g}" if figure in each else "-" for each in results.values())
        table.add_row(name, *cells)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command(help=__doc__)
def main(
    models: Annotated[Path, typer.Option(help="Folder that contains the model folders.")] = Path(
        "models"
    ),
    data: Annotated[Path, typer.Option(help="Folder written by the subset stage.")] = Path(
        "data/subset"
    ),
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Number of measurements for a median.")] = 5,
) -> None:
    with reported_errors(), threadpool_limits(limits=1):
        names = [name for name in MODELS if (models / name / "model.json").is_file()]
        if not names:
            raise ParamsError(f"--models {models}: no model folder found; `dvc repro` creates them")
        titles = load_split(data, "test")["title"].to_list()
        results = {}
        for name in names:
            say(f"measuring {models / name} on {len(titles)} titles")
            results[name] = _measured_model(models / name, titles, repeats)
        if find_spec("floret"):
            results["fasttext"] = _measured_fasttext(data, titles, repeats)
        else:
            say("fastText is skipped because floret is not installed: `pip install floret`")
        help_seconds = _median(_command("--help") for _ in range(repeats))
        console().print(_table(results))
        say(f"rubro --help: {help_seconds} s")
        if out:
            content = {
                "titles": len(titles),
                "machine": platform.machine(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "help_seconds": help_seconds,
                "results": results,
            }
            write_json(out, content)


if __name__ == "__main__":
    app()
