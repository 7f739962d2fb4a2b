"""Prove that the pipeline repeats to the byte and loses nothing, on data/sample.

In copies of the last commit, in temporary folders: forced reruns, other numbers of threads and a
busy machine give the same dvc.lock, every hash of it; a stage that was killed at a random moment
ends in the same dvc.lock when it runs again, and trainings resume from their checkpoints; every
mutated input is read, quarantined or refused. Exits with 1 where one of this does not hold.

    python benchmarks/prove.py            # the whole proof
    python benchmarks/prove.py --short    # on presets/tiny.yaml, few runs, kills and inputs
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rubro.base.console import console, say
from rubro.base.params_file import flat

ROOT = Path(__file__).resolve().parent.parent
STAGES = (
    "subset",
    "featurize",
    "embed",
    "train_svm",
    "train_mlp",
    "train_cnn",
    "ensemble",
    "evaluate",
)
TRAININGS = ("train_mlp", "train_cnn")
# Enough epochs to be killed between two of them.
EPOCHS = 8
# Most of a stage on presets/tiny.yaml.
MOST_SECONDS = 4.0
MOST_KILLS_FOR_A_RESUMPTION = 5
# One stage, though DVC has its outputs in the cache.
_AGAIN = ("--force", "--single-item")

Note = Callable[[str, int, str, int], None]
app = typer.Typer(pretty_exceptions_enable=False)


class Copy:
    """The last commit in a folder of its own, with its own DVC cache.

    Args:
        folder: Folder to create.
        settings: Values in the place of those of params.yaml, by dotted key.
    """

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
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

    def start(
        self, *options: str, threads: int | None = None, path: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start `dvc repro` in a process group of its own, its output in a file.

        Args:
            options: Options and stages of `dvc repro`.
            threads: Number of threads in the environment; None = as it is.
            path: Folder in front of PATH.
        """
        libraries = ("OMP", "MKL", "OPENBLAS") if threads else ()
        environment = {
            "RUBRO_CHECKPOINT_SECONDS": "0",
            "DVC_NO_ANALYTICS": "1",
            "PATH": os.pathsep.join(filter(None, [path, os.environ["PATH"]])),
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
        """Return the output of the last `dvc repro`."""
        return self.folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace")

    def wait(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for a `dvc repro` and return what is in dvc.lock then, without the params."""
        if process.wait() != 0:
            sys.exit(f"dvc repro failed in {self.folder}:\n{self.output()}")
        lock = YAML(typ="safe").load(self.folder / "dvc.lock")
        return json.dumps(
            {
                stage: {"deps": of["deps"], "outs": of["outs"]}
                for stage, of in lock["stages"].items()
            },
            sort_keys=True,
        )

    def stages_in_lock(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of inputs and outputs of each stage; none of a damaged dvc.lock."""
        with suppress(YAMLError, TypeError, KeyError):
            stages = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]
            return {name: (len(of["deps"]), len(of["outs"])) for name, of in stages.items()}
        return {}

    def repro(self, *options: str, threads: int | None = None) -> str:
        """Run `dvc repro` to its end and return what is in dvc.lock then, without the params."""
        return self.wait(self.start(*options, threads=threads))


def tiny_settings() -> dict[str, object]:
    """Return the settings of presets/tiny.yaml on few rows, by dotted key."""
    preset = YAML(typ="safe").load(ROOT / "presets" / "tiny.yaml")
    return dict(flat(preset)) | {"subset.max_rows": 1500}


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
        worker.join()


def _burn() -> None:
    while True:
        pass


def prove_reruns(folder: Path, note: Note) -> None:
    """Run the pipeline of params.yaml again in the same folder, in another, and disturbed."""
    copy, other = Copy(folder / "here", {}), Copy(folder / "some" / "where" / "else", {})
    first = copy.repro("--force")
    others = [copy.repro("--force"), other.repro("--force")]
    differences = sum(lock != first for lock in others)
    note("forced reruns, one in another folder", 2, "every hash compared", differences)
    locks = [copy.repro("--force", threads=threads) for threads in (1, 2, 4)]
    note("threads 1, 2 and 4", 3, "every hash compared", sum(lock != first for lock in locks))
    with busy_machine():
        busy = copy.repro("--force")
    note("all cores busy with other work", 1, "every hash compared", int(busy != first))


def prove_reruns_at_once(copy: Copy, other: Copy, note: Note) -> str:
    """Run a pipeline in two folders at the same time, on 1 and 4 threads, and once more.

    Returns:
        What is in dvc.lock of the first copy.
    """
    one, four = copy.start("--force", threads=1), other.start("--force", threads=4)
    locks = [copy.wait(one), other.wait(four)]
    what = "two runs at once, in two folders, on 1 and 4 threads"
    note(what, 2, "every hash compared", len(set(locks)) - 1)
    with busy_machine():
        busy = copy.repro("--force", threads=2)
    what = "a forced rerun on 2 threads, all cores busy with other work"
    note(what, 1, "every hash compared", int(busy != locks[0]))
    return locks[0]


def killed(copy: Copy, stage: str, after: str, seconds: float) -> str:
    """Run a stage again and kill it with all its processes.

    DVC does not write dvc.lock in one step: where the kill meets it, the file before is put back, as
    `git checkout dvc.lock` does.

    Args:
        copy: Copy in which every stage has run.
        stage: Stage to run.
        after: Text of the output from which the time counts.
        seconds: Time after this text.

    Returns:
        How it ended.
    """
    lock, stages = copy.folder / "dvc.lock", copy.stages_in_lock()
    before = lock.read_bytes()
    process = copy.start(*_AGAIN, stage)
    while after not in copy.output() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(seconds)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if copy.stages_in_lock() != stages:
        lock.write_bytes(before)
        return "killed while DVC wrote dvc.lock"
    return "killed" if running else "over before the kill"


def prove_kills(copy: Copy, whole: str, rounds: int, seed: int, note: Note) -> None:
    """Kill every stage at random moments, trainings between epochs too, and run it again.

    Trainings are killed until one of each network has resumed from a checkpoint.

    Args:
        copy: Copy in which every stage has run, its trainings over EPOCHS epochs.
        whole: What is in its dvc.lock.
        rounds: Number of kills of each stage.
        seed: Seed of the moments.
        note: Function that takes the outcomes.
    """
    moments = random.Random(seed)
    resumed: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    differences = 0

    def kill(stage: str, after: str, seconds: float) -> None:
        nonlocal differences
        ended[killed(copy, stage, after, seconds)] += 1
        differences += copy.repro(*_AGAIN, stage) != whole
        resumed[stage] += "resuming after epoch" in copy.output()

    for stage in STAGES * rounds:
        kill(stage, f"Running stage '{stage}'", moments.uniform(0, MOST_SECONDS))
    for stage in TRAININGS:
        for kills in count():
            if kills >= rounds and (resumed[stage] or kills >= MOST_KILLS_FOR_A_RESUMPTION):
                break
            epoch = moments.randrange(1, EPOCHS)
            kill(stage, f"epoch {epoch}/{EPOCHS}: ", moments.uniform(0, 0.5))
    shown = ", ".join(f"{times} {how}" for how, times in ended.items())
    note("kill -9 of a stage, then its rerun", ended.total(), shown, differences)
    for stage in TRAININGS:
        times = resumed[stage]
        note(f"{stage} resumed from a checkpoint", times, "at least 1 needed", int(not times))


def prove_inputs(inputs: int, seed: int, folder: Path, note: Note) -> None:
    """Read mutated files; tests/support/fuzzing.py raises on any outcome that is not right."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.fuzzing import fuzz

    outcomes = fuzz(inputs, seed, folder)
    for mutation in sorted({mutation for mutation, _ in outcomes}):
        of = {how: count for (name, how), count in outcomes.items() if name == mutation}
        shown = ", ".join(f"{count} {how}" for how, count in sorted(of.items()))
        note(f"inputs: {mutation}", sum(of.values()), shown, 0)


@app.command(help=__doc__)
def main(
    short: Annotated[bool, typer.Option(help="A few minutes on presets/tiny.yaml.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the moments of kills and of the inputs.")] = 0,
) -> None:
    table = Table("what", "times", "how it ended", "differences")
    wrong = 0

    def note(what: str, times: int, ended: str, differences: int) -> None:
        nonlocal wrong
        wrong += differences
        table.add_row(what, str(times), ended, str(differences))
        say(f"{what}: {ended}; {differences} differences")

    tiny = tiny_settings() | {f"{stage}.max_epochs": EPOCHS for stage in TRAININGS}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy = Copy(folder / "tiny", tiny)
        if short:
            other = Copy(folder / "an" / "other" / "tiny", tiny)
            whole = prove_reruns_at_once(copy, other, note)
        else:
            prove_reruns(folder, note)
            whole = copy.repro("--force")
        prove_kills(copy, whole, 1 if short else 4, seed, note)
        prove_inputs(500 if short else 10_000, seed, folder / "inputs", note)
    console().print(table)
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
