"""Measure the pipeline and other classifiers, its peers, on increasing numbers of titles.

The results are time, memory, accuracy, model size and prediction rate.
Titles come from `rubro sample` or from your own file. Each stage and each peer runs in its own process, on
the same splits. The time of a peer is from the tables of `subset` to a trained model; the time of the
pipeline is the sum of all later stages. A process that takes longer than --limit is stopped and marked.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Annotated, Any

import numpy as np
import typer
from predict import rate_on_one_core, seconds_of
from prove import STAGES
from ruamel.yaml import YAML

import xr_linear
from peers import PEERS, Overrides, choose
from rubro.base.console import reported_errors, say
from rubro.base.files import read_json, write_json
from rubro.base.outputs import replacing
from rubro.base.parallel import cores
from rubro.base.params_file import with_settings
from rubro.base.text import tokenise
from rubro.data.splits import SPLITS, load_labels, load_split
from rubro.evaluation.metrics import accuracy, balanced_accuracy
from rubro.features.titles import labels_of
from rubro.sample import write_catalogue

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
PICTURE = ROOT / "docs" / "scale.svg"
# With more training titles, a peer uses the setting that was best with fewer synthetic titles.
_MAX_TITLES_TO_CHOOSE = 100_000
_RATED = 10_000  # titles whose prediction is timed
_POLL_SECONDS = 0.05
ALL_PEERS = PEERS | {"xr_linear": xr_linear.PEER}
KEYS = ("fasttext", "word_char_sgd", "word_char_svc", "xr_linear")
SVM_STAGES = (
    "featurize",
    "pseudo_label",
    "train_svm",
)  # what `dvc repro train_svm` runs after subset
# Many titles need fewer passes than the grid of peers.py has.
GRIDS = {
    "fasttext": [
        {"epoch": 5, "lr": 0.5, "minn": 0, "maxn": 0},
        {"epoch": 25, "lr": 0.5, "minn": 0, "maxn": 0},
        {"epoch": 25, "lr": 0.5, "minn": 3, "maxn": 5},
    ]
}


def measured(command: list[str], folder: Path, limit: float) -> dict[str, Any]:
    """Run a command in a folder and measure it.

    Args:
        command: Program and its arguments.
        folder: Working folder; its src is imported, and log.txt gets the output.
        limit: Seconds after which the process is killed.

    Returns:
        Seconds from start to end, None if the process was killed; and its peak memory in megabytes.
    """
    code = os.pathsep.join(filter(None, [str(folder / "src"), os.environ.get("PYTHONPATH")]))
    started = perf_counter()
    megabytes, over = 0, False
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": code}, stdout=log, stderr=log
        )
    while process.poll() is None:
        # getrusage would include the memory of this process before it was replaced by the command.
        with suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            if peak := re.search(r"VmHWM:\s+(\d+) kB", status):
                megabytes = int(peak[1]) // 2**10
        if perf_counter() - started > limit:
            process.kill()
            over = True
        sleep(_POLL_SECONDS)
    if process.returncode and not over:
        sys.exit(f"{command}:\n{(folder / 'log.txt').read_text(errors='replace')[-3000:]}")
    seconds = None if over else round(perf_counter() - started, 1)
    return {"seconds": seconds, "megabytes": megabytes}


def machine() -> dict[str, Any]:
    """Measure the speed of this machine at float32 matrix products and memory copies."""
    random = np.random.default_rng(0)
    matrix = random.standard_normal((1000, 1000), dtype=np.float32)
    words = np.ones(2**26, dtype=np.float32)  # zeros would not be allocated until written
    copy = np.empty_like(words)

    def best(work: Callable[[], object]) -> float:
        return min(seconds_of(work) for _ in range(7))

    copied = 2 * words.nbytes / best(lambda: np.copyto(copy, words))
    return {
        "architecture": platform.machine(),
        "cores": cores(),
        "matmul_gflops": round(2 * 1000**3 / best(lambda: matrix @ matrix) / 1e9),
        "copy_gigabytes_per_second": round(copied / 1e9, 1),
    }


def project(folder: Path, data: Path, settings: list[str]) -> None:
    """Copy the pipeline to a folder, with a params.yaml that reads the given data."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name)  # with the compiled kernels
    for name in ("corrections", "unlabelled", "pretrained"):
        (folder / "data" / name).mkdir(parents=True)
    params = with_settings("params.yaml", [f"data.path={data.resolve()}", *settings])
    YAML().dump(params.model_dump(), folder / "params.yaml")


def pipeline(folder: Path, limit: float) -> dict[str, dict[str, Any]]:
    """Run the stages one after the other, until one takes too long.

    Returns:
        Measurements of each stage that has run; the seconds of a stage that took too long are None.
    """
    stages = {}
    for stage in STAGES:
        stages[stage] = measured([sys.executable, f"stages/{stage}.py"], folder, limit)
        say(f"  {stage}: {stages[stage]['seconds']} s, {stages[stage]['megabytes']} MB")
        if stages[stage]["seconds"] is None:
            break
    return stages


def is_complete(stages: dict[str, dict[str, Any]]) -> bool:
    """Return whether all stages ran, and none took too long, given the result of pipeline."""
    return len(stages) == len(STAGES) and stages[STAGES[-1]]["seconds"] is not None


def outcome(folder: Path, stages: list[Any], model: str) -> dict[str, Any]:
    """Return the measurements of a model.

    Args:
        folder: Folder in which the pipeline has run.
        stages: Measurements of the stages that the model needs.
        model: Name of the model.

    Returns:
        Seconds and peak memory of the stages; accuracy on test titles; size in megabytes; and rate
        of prediction on one core. Before it is measured, the model answers the validation titles,
        because a new process answers its first titles more slowly.
    """
    from rubro.prediction.classifier import Classifier

    metrics = model if model == "ensemble" else f"train_{model}"
    scores = read_json(folder / "metrics" / "evaluate.json", dict[str, Any])["test"]
    written = read_json(folder / "metrics" / f"{metrics}.json", dict[str, Any])
    earlier, titles = (
        load_split(folder / "data" / "subset", split, ("title",))["title"].tolist()[:_RATED]
        for split in ("validation", "test")
    )

    def warmed() -> Any:
        classifier = Classifier.load(folder / "models" / model)
        classifier.predict(earlier)
        return classifier.predict

    return {
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "megabytes": max(stage["megabytes"] for stage in stages),
        **{name: scores[model][name] for name in ("accuracy", "balanced_accuracy")},
        "model_megabytes": written["model_megabytes"],
        "titles_per_second": rate_on_one_core(warmed, titles),
    }


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def run(
    rows: Annotated[
        str, typer.Option(help="Numbers of synthetic titles, separated by commas.")
    ] = "10000,100000,1000000",
    data: Annotated[
        Path | None, typer.Option(help="Your own titles instead, as in data.path.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of your titles in tables; default: the file's name.")
    ] = None,
    settings: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"pipeline, {', '.join(KEYS)}; default: all."),
    ] = None,
    limit: Annotated[float, typer.Option(help="Time limit of a process, in seconds.")] = 1800.0,
    pecos: Annotated[
        Path | None,
        typer.Option(help="Python with libpecos, see benchmarks/xr_linear.py."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="JSON file to update; it keeps the results of other sizes.")
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
            stages = pipeline(folder, limit)
            entry["pipeline"] = {"name": "rubro", "stages": stages}
            if not is_complete(stages):
                entry["pipeline"] |= {"seconds_over": limit, "megabytes": 0}
            else:
                needed = [stages[stage] for stage in STAGES[1:]]
                entry["pipeline"] |= outcome(folder, needed, "ensemble")
                needed = [stages[stage] for stage in SVM_STAGES]
                entry["svm"] = {"name": "rubro, only the SVM", **outcome(folder, needed, "svm")}
            write_json(out, found)
            if stages["subset"]["seconds"] is None:
                continue
            train = len(load_split(folder / "data" / "subset", "train", ("category",)))
            settings_of = _settings(found) if train > _MAX_TITLES_TO_CHOOSE else {}
            for key, python in installed_peers(only or KEYS, pecos):
                entry["peers"][key] = measured_peer(
                    python, folder, key, settings_of.get(key), limit
                )
                say(f"{size}: {key}: {entry['peers'][key]}")
                write_json(out, found)


def installed_peers(keys: Sequence[str], pecos: Path | None) -> Iterator[tuple[str, str]]:
    """Yield the keys of the peers that can be measured here, with the Python that runs each.

    Args:
        keys: Keys of the peers to measure; others are ignored.
        pecos: Python with libpecos, or None.
    """
    for key in ALL_PEERS:
        if key not in keys:
            continue
        if key == "fasttext" and find_spec("floret") is None:
            say("fasttext is skipped because floret is not installed: `pip install floret`")
        elif key == "xr_linear" and pecos is None:
            say("xr_linear is skipped; choose a Python with libpecos by --pecos")
        else:
            yield key, str(pecos.absolute()) if pecos and key == "xr_linear" else sys.executable


def _settings(found: dict[str, Any]) -> dict[str, Any]:
    """Return the setting of each peer that was best with the most titles among earlier choices."""
    return {
        key: peer["setting"]
        for name, size in found["sizes"].items()
        if name.isdecimal() and int(name) <= _MAX_TITLES_TO_CHOOSE
        for key, peer in size["peers"].items()
        if "setting" in peer
    }


def measured_peer(
    python: str, folder: Path, key: str, setting: dict[str, Any] | None, limit: float
) -> dict[str, Any]:
    """Train a peer in its own process and return its measurements.

    Args:
        python: Python that has the library of the peer.
        folder: Folder in which the stage subset has run.
        key: Key of the peer.
        setting: Setting from the peer's grid; None = choose the best one on validation.
        limit: Time limit in seconds.
    """
    command = [python, str(Path(__file__).resolve()), "peer", key]
    if setting in _grid(key):
        command += ["--setting", str(_grid(key).index(setting))]
    took = measured(command, folder, limit)
    memory = {"megabytes": took["megabytes"]}
    if took["seconds"] is None:
        return {"name": ALL_PEERS[key].name, "seconds_over": limit, **memory}
    return read_json(folder / f"{key}.json", dict[str, Any]) | memory


def _grid(key: str) -> list[dict[str, Any]]:
    return GRIDS.get(key, ALL_PEERS[key].grid)


@app.command(hidden=True)
def peer(key: str, setting: int = -1) -> None:
    """Train a peer on data/subset of the current folder and write KEY.json."""
    params = with_settings("params.yaml", [])
    subset = Path("data/subset")
    classes = load_labels(subset)
    started = perf_counter()
    splits = {}
    for name in SPLITS:
        table = load_split(subset, name, ("tokens", "category", "label_quality"))
        targets = labels_of(table["category"], table["label_quality"], classes).targets
        splits[name] = table["tokens"].tolist(), targets
    read = perf_counter() - started
    grid = _grid(key) if setting < 0 else [_grid(key)[setting]]
    chosen = choose(key, ALL_PEERS[key], grid, splits, params)
    titles, targets = splits["test"]
    rated = load_split(subset, "test", ("title",))["title"].tolist()[:_RATED]

    def predict(raw: Sequence[str]) -> np.ndarray:
        return chosen.predict([" ".join(tokenise(title)) for title in raw])

    predicted = chosen.predict(titles)
    result = {
        "name": ALL_PEERS[key].name,
        "setting": chosen.setting,
        "seconds": round(read + chosen.seconds, 1),
        "accuracy": round(accuracy(targets, predicted), 6),
        "balanced_accuracy": round(balanced_accuracy(targets, predicted), 6),
        "model_megabytes": round(_size(chosen.vectoriser, chosen.classifier) / 1e6, 1),
        "titles_per_second": rate_on_one_core(lambda: predict, rated),
    }
    write_json(Path(f"{key}.json"), result)


def _size(vectoriser: Any, classifier: Any) -> int:
    """Return the size of a stored vectoriser and classifier, in bytes."""
    if not hasattr(classifier, "save"):
        return len(pickle.dumps((vectoriser, classifier)))
    with TemporaryDirectory() as folder:
        classifier.save(Path(folder))
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        return len(pickle.dumps(vectoriser)) + sum(file.stat().st_size for file in files)


@contextmanager
def chart(out: Path, width: float, height: float) -> Iterator[Any]:
    """Yield an empty figure, and write it with a legend below it, with the same bytes in each run.

    Args:
        out: SVG or PNG file to write.
        width: Width in inches.
        height: Height in inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "rubro", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.legend(
            *figure.axes[-1].get_legend_handles_labels(),
            fontsize=8,
            frameon=False,
            loc="outside lower center",
            ncols=3,
        )
        metadata = {"Date": None} if out.suffix == ".svg" else None
        with replacing(out) as partial:
            figure.savefig(partial, format=out.suffix[1:], metadata=metadata)


@app.command()
def picture(
    results: Annotated[Path, typer.Option(help="JSON file written by `run`.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="SVG or PNG file to write.")] = PICTURE,
) -> None:
    """Plot time and memory against the number of titles."""
    from matplotlib.ticker import NullFormatter

    from rubro.report.charts import SERIES

    sizes = read_json(results, dict[str, Any])["sizes"]
    lines: dict[str, dict[int, dict[str, Any]]] = {}
    for size in sorted((size for size in sizes if size.isdecimal()), key=int):
        ours = [sizes[size][key] for key in ("pipeline", "svm") if key in sizes[size]]
        for entry in [*ours, *sizes[size]["peers"].values()]:
            if "seconds" in entry:
                lines.setdefault(entry["name"], {})[int(size)] = entry
    styles = list(zip([*SERIES, "#5d6670", "#9a6a00"], "osD^vP", strict=False))
    with chart(out, 9, 4) as figure:
        axes = figure.subplots(1, 2)
        wanted = (("seconds", "seconds to a model"), ("megabytes", "megabytes of memory"))
        for axis, (value, title) in zip(axes, wanted, strict=True):
            for (name, points), (colour, marker) in zip(lines.items(), styles, strict=False):
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


if __name__ == "__main__":
    app()
