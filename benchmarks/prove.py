"""Prove that the pipeline repeats to the byte and loses nothing, on data/sample.

In copies of the last commit, in temporary folders: forced reruns, other numbers of threads and a
busy machine give the same dvc.lock, every hash of it; a run that was killed at a random moment
goes on to the same dvc.lock; every mutated input is read, quarantined or refused. Exits with 1
where one of this does not hold.

    python benchmarks/prove.py            # the whole proof
    python benchmarks/prove.py --short    # on presets/tiny.yaml, few kills and inputs
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.table import Table
from ruamel.yaml import YAML

from rubro.base.console import console, say
from rubro.base.settings import flat

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("subset", "embed", "featurize", "train_svm", "train_mlp", "train_cnn", "evaluate")
THREADS = (1, 2, 4)
# A stage imports for some 5 seconds: kills shall reach the epochs that follow.
LONGER_TRAININGS = {"train_mlp.max_epochs": 30, "train_cnn.max_epochs": 30}
MOST_SECONDS = 12

app = typer.Typer(pretty_exceptions_enable=False)


class Copy:
    """The last commit in a folder of its own, with its own DVC cache.

    Args:
        folder: to be made.
        settings: KEY=VALUE in params.yaml's place.
    """

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        file = folder / "params.yaml"
        params = YAML().load(file)
        for key, value in settings.items():
            *sections, name = key.split(".")
            section = params
            for each in sections:
                section = section[each]
            section[name] = value
        YAML().dump(params, file)

    def start(self, *options: str, threads: int | None = None) -> subprocess.Popen[bytes]:
        """`dvc repro` in a process group of its own, its output in a file."""
        libraries = ("OMP", "MKL", "OPENBLAS") if threads else ()
        environment = {
            "RUBRO_CHECKPOINT_SECONDS": "0",
            "DVC_NO_ANALYTICS": "1",
            **{f"{library}_NUM_THREADS": str(threads) for library in libraries},
        }
        with open(self.folder.with_suffix(".log"), "wb") as log:
            return subprocess.Popen(
                ["dvc", "repro", *options],
                cwd=self.folder,
                env=os.environ | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """Of the last `dvc repro`."""
        return self.folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace")

    def repro(self, *options: str, threads: int | None = None) -> str:
        """Run to the end; what is in dvc.lock then, without the params."""
        if self.start(*options, threads=threads).wait() != 0:
            sys.exit(f"dvc repro failed in {self.folder}:\n{self.output()}")
        lock = YAML(typ="safe").load(self.folder / "dvc.lock")
        return json.dumps(
            {
                stage: {"deps": of["deps"], "outs": of["outs"]}
                for stage, of in lock["stages"].items()
            },
            sort_keys=True,
        )


def killed(copy: Copy, stage: str, seconds: float) -> bool:
    """Force a rerun and kill it, with all its processes, so many seconds into a stage.

    Args:
        copy: after a first run.
        stage: to be killed in.
        seconds: after its start.

    Returns:
        Whether it was still running.
    """
    shutil.rmtree(copy.folder / ".dvc" / "cache")
    process = copy.start("--force")
    while f"Running stage '{stage}'" not in copy.output() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(seconds)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


@contextmanager
def busy_machine() -> Iterator[None]:
    """Keep every core busy meanwhile."""
    workers = [
        multiprocessing.Process(target=_burn, daemon=True) for _ in range(os.cpu_count() or 1)
    ]
    for worker in workers:
        worker.start()
    yield
    for worker in workers:
        worker.kill()


def _burn() -> None:
    while True:
        pass


def _rerun(copy: Copy, threads: int) -> str:
    """Force a rerun with another number of threads, in params.yaml and in the environment."""
    file = copy.folder / "params.yaml"
    before = file.read_text(encoding="utf-8")
    settings = YAML().load(before)
    settings["threads"] = threads
    YAML().dump(settings, file)
    lock = copy.repro("--force", threads=threads)
    file.write_text(before, encoding="utf-8")
    return lock


@app.command(help=__doc__)
def main(
    short: Annotated[bool, typer.Option(help="A few minutes on presets/tiny.yaml.")] = False,
    seed: Annotated[int, typer.Option(help="Of the moments of the kills and of the inputs.")] = 0,
) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from fuzzing import fuzz

    tiny = YAML(typ="safe").load(ROOT / "presets" / "tiny.yaml")
    kills, inputs = (len(STAGES), 500) if short else (4 * len(STAGES), 10_000)
    table = Table("what", "times", "how it ended", "differences")
    wrong = 0

    def note(what: str, times: int, ended: str, differences: int) -> None:
        nonlocal wrong
        wrong += differences
        table.add_row(what, str(times), ended, str(differences))
        say(f"{what}: {ended}; {differences} differences")

    with TemporaryDirectory() as temporary:
        here, elsewhere = Path(temporary) / "here", Path(temporary) / "some" / "where" / "else"
        elsewhere.parent.mkdir(parents=True)
        small = dict(flat(tiny))
        settings = small if short else {}
        copy = Copy(here, settings)
        first = copy.repro("--force")
        others = [copy.repro("--force"), Copy(elsewhere, settings).repro("--force")]
        note(
            "forced reruns, one in another folder",
            len(others),
            "every hash compared",
            sum(lock != first for lock in others),
        )
        locks = [_rerun(copy, threads) for threads in THREADS]
        note("threads 1, 2 and 4", len(locks), "every hash compared", len(set(locks)) - 1)
        with busy_machine():
            busy = copy.repro("--force")
        note("all cores busy with other work", 1, "every hash compared", int(busy != first))

        copy = Copy(Path(temporary) / "killed", small | LONGER_TRAININGS)
        whole = copy.repro("--force")
        moments = random.Random(seed)
        ended = {"killed": 0, "over before the kill": 0, "went on from a checkpoint": 0}
        differences = 0
        for number in range(kills):
            hit = killed(copy, STAGES[number % len(STAGES)], moments.uniform(0, MOST_SECONDS))
            ended["killed" if hit else "over before the kill"] += 1
            differences += copy.repro() != whole
            ended["went on from a checkpoint"] += "going on after epoch" in copy.output()
        shown = ", ".join(f"{count} {how}" for how, count in ended.items())
        note("kill -9 in each stage in turn, then dvc repro", kills, shown, differences)

        outcomes = fuzz(inputs, seed, Path(temporary) / "inputs")  # raises on any other outcome
        for mutation in sorted({mutation for mutation, _ in outcomes}):
            of = {how: count for (name, how), count in outcomes.items() if name == mutation}
            shown = ", ".join(f"{count} {how}" for how, count in sorted(of.items()))
            note(f"inputs: {mutation}", sum(of.values()), shown, 0)
    console.print(table)
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
