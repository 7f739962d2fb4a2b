"""Measure the pipeline and its peers on more and more titles: time, memory, accuracy, size, rate.

Titles are those of `rubro sample`, or your own. Each stage and each peer runs in a process of its own;
all take the same splits. The time of a peer counts from the tables of `subset` to the fitted model, that
of the pipeline through all stages after `subset`. What takes longer than --limit is ended and marked.

    python benchmarks/scale.py run --rows 10000,100000,1000000
    python benchmarks/scale.py run --data path/to/titles --name "real titles" --set subset.top_categories=0
    python benchmarks/scale.py picture
"""

from __future__ import annotations

import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Annotated, Any

import numpy as np
import typer
from predict import seconds_of
from prove import STAGES
from ruamel.yaml import YAML

import xr_linear
from peers import PEERS
from rubro.base.console import reported_errors, say
from rubro.base.files import read_json, replacing, write_json
from rubro.base.parallel import cores
from rubro.base.params_file import with_settings
from rubro.data.splits import SPLITS, load_labels, load_split
from rubro.evaluation.metrics import balanced_accuracy
from rubro.features.titles import labels_of
from rubro.sample import write_catalogue

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
PICTURE = ROOT / "docs" / "scale.svg"
# With more training titles, a peer takes the setting that was the best with fewer synthetic ones.
_MOST_TO_CHOOSE = 100_000
_RATED = 10_000
_POLL = 0.05  # seconds
ALL_PEERS = PEERS | {"xr_linear": xr_linear.PEER}
KEYS = ("fasttext", "word_char_sgd", "word_char_svc", "xr_linear")
# Many titles need fewer passes than those of peers.py.
GRIDS = {
    "fasttext": [
        {"epoch": 5, "lr": 0.5, "minn": 0, "maxn": 0},
        {"epoch": 25, "lr": 0.5, "minn": 0, "maxn": 0},
        {"epoch": 25, "lr": 0.5, "minn": 3, "maxn": 5},
    ]
}


@dataclass
class Measured:
    """What a process took.

    Attributes:
        seconds: Time from start to end; None = it was ended, for it took too long.
        megabytes: Most memory that it held.
    """

    seconds: float | None
    megabytes: int


def measured(command: list[str], folder: Path, limit: float) -> Measured:
    """Run a command in a folder and measure it; it is ended after limit seconds."""
    code = os.pathsep.join(filter(None, [str(folder / "src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": code}
    started = perf_counter()
    megabytes, over = 0, False
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    while process.poll() is None:
        # getrusage counts the memory of this process too, from before the command was loaded.
        with suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            if most := re.search(r"VmHWM:\s+(\d+) kB", status):
                megabytes = int(most[1]) // 2**10
        if perf_counter() - started > limit:
            process.kill()
            over = True
        sleep(_POLL)
    if process.returncode and not over:
        sys.exit(f"{command}:\n{(folder / 'log.txt').read_text(errors='replace')[-3000:]}")
    return Measured(None if over else round(perf_counter() - started, 1), megabytes)


def machine() -> dict[str, Any]:
    """Return the rates of this machine: products of float32 matrices, and copies of memory."""
    random = np.random.default_rng(0)
    matrix = random.standard_normal((1000, 1000), dtype=np.float32)
    words = np.ones(2**26, dtype=np.float32)  # zeros would not be in memory before they are written
    copy = np.empty_like(words)

    def best(work: Callable[[], object]) -> float:
        return min(seconds_of(work) for _ in range(7))

    return {
        "architecture": platform.machine(),
        "cores": cores(),
        "matmul_gflops": round(2 * 1000**3 / best(lambda: matrix @ matrix) / 1e9),
        "copy_gigabytes_per_second": round(
            2 * words.nbytes / best(lambda: np.copyto(copy, words)) / 1e9, 1
        ),
    }


def project(folder: Path, data: Path, settings: list[str]) -> None:
    """Make a copy of the pipeline that reads the data."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "corrections.csv", folder / "data")
    params = with_settings("params.yaml", [f"data.path={data.resolve()}", *settings])
    YAML().dump(params.model_dump(), folder / "params.yaml")


def pipeline(folder: Path, limit: float) -> dict[str, Any]:
    """Run every stage and return what each took, and the outcome."""
    stages = {}
    for stage in STAGES:
        took = measured([sys.executable, f"stages/{stage}.py"], folder, limit)
        stages[stage] = vars(took)
        say(f"  {stage}: {took.seconds} s, {took.megabytes} MB")
        if took.seconds is None:
            return {"name": "rubro", "stages": stages, "seconds_over": limit, "megabytes": 0}
    scores = read_json(folder / "metrics" / "evaluate.json", dict[str, Any])["test"]
    outcome = read_json(folder / "metrics" / "ensemble.json", dict[str, Any])
    return {
        "name": "rubro",
        "stages": stages,
        "seconds": round(sum(stages[stage]["seconds"] for stage in STAGES[1:]), 1),
        "megabytes": max(stages[stage]["megabytes"] for stage in STAGES[1:]),
        "balanced_accuracy": scores["ensemble"]["balanced_accuracy"],
        "model_megabytes": outcome["model_megabytes"],
        "titles_per_second": _rate_of_model(folder),
    }


def svm_alone(folder: Path, stages: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome of the stages that the SVM needs, `dvc repro train_svm`."""
    needed = [stages[name] for name in ("featurize", "train_svm")]
    scores = read_json(folder / "metrics" / "evaluate.json", dict[str, Any])["test"]
    outcome = read_json(folder / "metrics" / "train_svm.json", dict[str, Any])
    return {
        "name": "rubro, only the SVM",
        "seconds": round(sum(stage["seconds"] for stage in needed), 1),
        "megabytes": max(stage["megabytes"] for stage in needed),
        "balanced_accuracy": scores["svm"]["balanced_accuracy"],
        "model_megabytes": outcome["model_megabytes"],
        "titles_per_second": _rate_of_model(folder, "svm"),
    }


def _rate_of_model(folder: Path, name: str = "ensemble") -> int:
    from rubro.prediction.classifier import Classifier

    titles = load_split(folder / "data" / "subset", "test", ("title",))["title"].tolist()[:_RATED]
    classifier = Classifier.load(folder / "models" / name)
    classifier.predict(titles[:100])
    return round(len(titles) / seconds_of(lambda: classifier.predict(titles)))


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def run(
    rows: Annotated[
        str, typer.Option(help="Numbers of synthetic titles.")
    ] = "10000,100000,1000000",
    data: Annotated[Path | None, typer.Option(help="Your titles instead, as data.path.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of your titles in the tables; that of the file.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replaces a value of params.yaml."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"pipeline, {', '.join(KEYS)}; all by default."),
    ] = None,
    limit: Annotated[float, typer.Option(help="Seconds of a process.")] = 1800.0,
    pecos: Annotated[
        Path | None,
        typer.Option(help="Python of an environment with libpecos, see benchmarks/xr_linear.py."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="JSON file; what it has of other sizes stays.")
    ] = RESULTS,
) -> None:
    """Measure the pipeline and the peers."""
    with reported_errors(), TemporaryDirectory() as scratch:
        found = read_json(out, dict[str, Any]) if out.exists() else {"sizes": {}}
        for size in [name or data.name] if data else rows.split(","):
            folder = Path(scratch) / size
            source = data or folder / "titles"
            folder.mkdir()
            if data is None:
                write_catalogue(source, int(size))
            project(folder, source, settings or [])
            say(f"{size}: pipeline")
            entry = found["sizes"].setdefault(size, {"peers": {}})
            entry["machine"] = machine()
            ours = pipeline(folder, limit)
            entry["pipeline"] = ours
            if "seconds" in ours:
                entry["svm"] = svm_alone(folder, ours["stages"])
            write_json(out, found)
            for key in KEYS:
                if (only and key not in only) or ours["stages"]["subset"]["seconds"] is None:
                    continue
                if key == "fasttext" and find_spec("floret") is None:
                    say(f"{size}: fasttext left out: it needs `pip install floret`")
                    continue
                if key == "xr_linear" and pecos is None:
                    say(f"{size}: xr_linear left out: it needs --pecos")
                    continue
                python = str(pecos.absolute()) if pecos and key == "xr_linear" else sys.executable
                entry["peers"][key] = _peer(python, folder, key, found, limit)
                say(f"{size}: {key}: {entry['peers'][key]}")
                write_json(out, found)


def _peer(
    python: str, folder: Path, key: str, found: dict[str, Any], limit: float
) -> dict[str, Any]:
    command = [python, str(Path(__file__).resolve()), "peer", key]
    known = [
        size["peers"][key]["setting"]
        for name, size in found["sizes"].items()
        if name.isdecimal() and int(name) <= _MOST_TO_CHOOSE
        if "setting" in size["peers"].get(key, {})
    ]
    train = len(load_split(folder / "data" / "subset", "train", ("category",)))
    if train > _MOST_TO_CHOOSE and known:
        command += ["--setting", str(_grid(key).index(known[-1]))]
    took = measured(command, folder, limit)
    if took.seconds is None:
        return {"name": ALL_PEERS[key].name, "seconds_over": limit, "megabytes": took.megabytes}
    return read_json(folder / f"{key}.json", dict[str, Any]) | {"megabytes": took.megabytes}


def _grid(key: str) -> list[dict[str, Any]]:
    return GRIDS.get(key, ALL_PEERS[key].grid)


@app.command(hidden=True)
def peer(key: str, setting: int = -1) -> None:
    """Fit a peer to data/subset of this folder and write KEY.json."""
    chosen = ALL_PEERS[key]
    params = with_settings("params.yaml", [])
    subset = Path("data/subset")
    classes = load_labels(subset)
    started = perf_counter()
    splits = {}
    for name in SPLITS:
        table = load_split(subset, name, ("tokens", "category", "label_quality"))
        targets = labels_of(table["category"], table["label_quality"], classes).targets
        splits[name] = table["tokens"].tolist(), targets
    vectoriser = chosen.vectoriser()
    train = vectoriser.fit_transform(splits["train"][0])
    prepared = perf_counter() - started
    best: tuple[float, Any] = (-1.0, None)
    grid = _grid(key)
    for option in grid if setting < 0 else [grid[setting]]:
        started = perf_counter()
        classifier = chosen.classifier(params, option)
        classifier.fit(train, splits["train"][1])
        seconds = prepared + perf_counter() - started
        predicted = classifier.predict(vectoriser.transform(splits["validation"][0]))
        score = balanced_accuracy(splits["validation"][1], predicted)
        if score > best[0]:
            best = score, (option, classifier, seconds)
    option, classifier, seconds = best[1]
    titles, targets = splits["test"]
    predicted = classifier.predict(vectoriser.transform(titles))
    rated = titles[:_RATED]
    rate = len(rated) / seconds_of(lambda: classifier.predict(vectoriser.transform(rated)))
    result = {
        "name": chosen.name,
        "setting": option,
        "seconds": round(seconds, 1),
        "balanced_accuracy": round(balanced_accuracy(targets, predicted), 6),
        "model_megabytes": round(_size(vectoriser, classifier) / 1e6, 1),
        "titles_per_second": round(rate),
    }
    write_json(Path(f"{key}.json"), result)


def _size(vectoriser: Any, classifier: Any) -> int:
    if not hasattr(classifier, "save"):
        return len(pickle.dumps((vectoriser, classifier)))
    with TemporaryDirectory() as folder:
        classifier.save(Path(folder))
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        return len(pickle.dumps(vectoriser)) + sum(file.stat().st_size for file in files)


@app.command()
def picture(
    results: Annotated[Path, typer.Option(help="JSON file of `run`.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="SVG or PNG file to write.")] = PICTURE,
) -> None:
    """Draw time and memory by the number of titles."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    from rubro.report.charts import SERIES

    sizes = read_json(results, dict[str, Any])["sizes"]
    numbers = sorted((size for size in sizes if size.isdecimal()), key=int)
    lines: dict[str, dict[int, dict[str, Any]]] = {}
    for size in numbers:
        of_size = sizes[size]
        ours = [of_size[key] for key in ("pipeline", "svm") if key in of_size]
        for entry in [*ours, *of_size["peers"].values()]:
            if "seconds" in entry:
                lines.setdefault(entry["name"], {})[int(size)] = entry
    with mpl.rc_context({"svg.hashsalt": "rubro", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 4), layout="constrained")
        axes = figure.subplots(1, 2)
        wanted = (("seconds", "seconds to a model"), ("megabytes", "megabytes of memory"))
        colours = [*SERIES, "#5d6670", "#9a6a00"]
        for axis, (value, title) in zip(axes, wanted, strict=True):
            for (name, points), colour, marker in zip(
                lines.items(), colours, "osD^vP", strict=False
            ):
                axis.loglog(
                    list(points),
                    [point[value] for point in points.values()],
                    color=colour,
                    marker=marker,
                    linewidth=2.2 if name.startswith("rubro") else 1.2,
                    label=name,
                )
            axis.set(xlabel="titles", title=title)
            axis.grid(alpha=0.3)
            for scale in (axis.xaxis, axis.yaxis):
                scale.set_major_formatter("{x:,.0f}")
                scale.set_minor_formatter(NullFormatter())
        axes[1].set_yticks([300, 1000, 3000])
        figure.legend(
            *axes[1].get_legend_handles_labels(),
            fontsize=8,
            frameon=False,
            loc="outside lower center",
            ncols=3,
        )
        with replacing(out) as partial:
            figure.savefig(
                partial,
                format=out.suffix[1:],
                metadata={"Date": None} if out.suffix == ".svg" else None,
            )


if __name__ == "__main__":
    app()
