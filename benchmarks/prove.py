"""Prove on data/sample that the pipeline is reproducible and loses no data.

The proof runs in temporary copies of the last commit. Forced reruns, other thread counts and a busy
machine must give the same hashes in dvc.lock. A stage killed at a random moment must give the same
hashes when it runs again, and training must resume from its checkpoints. Every mutated input must
be read, quarantined or refused. The exit code is 1 if any check fails.

    python benchmarks/prove.py            # the whole proof
    python benchmarks/prove.py --short    # presets/tiny.yaml; few runs, kills and inputs
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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rubro.base.console import console, say
from rubro.base.params_file import flat, with_settings

ROOT = Path(__file__).resolve().parent.parent
STAGES = tuple(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])
TRAININGS = ("train_mlp", "train_cnn")
EPOCHS = 8  # enough that training can be killed between two epochs
MAX_SECONDS = 4.0  # time within which a stage of presets/tiny.yaml is killed
MAX_KILLS = 5  # kills of a stage until its training must have resumed
FORCED = ("--force", "--single-item")  # run one stage even if its outputs are in the cache

Note = Callable[[str, int, str, int], None]
app = typer.Typer(pretty_exceptions_enable=False)


class Copy:
    """A clone of the last commit, with its own DVC cache.

    Args:
        folder: Folder to create.
        settings: Values that replace values of params.yaml, by dotted key.
    """

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        params = with_settings(folder / "params.yaml", given)
        YAML().dump(params.model_dump(), folder / "params.yaml")

    def start(
        self, *options: str, threads: int | None = None, path: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start `dvc repro` in its own process group, with its output in a file.

        Args:
            options: Options and stages of `dvc repro`.
            threads: Number of threads set in the environment; None = unchanged.
            path: Folder to put first in PATH.
        """
        environment = {"RUBRO_CHECKPOINT_SECONDS": "0", "DVC_NO_ANALYTICS": "1"}
        environment["PATH"] = os.pathsep.join(filter(None, [path, os.environ["PATH"]]))
        for library in ("OMP", "MKL", "OPENBLAS") if threads else ():
            environment[f"{library}_NUM_THREADS"] = str(threads)
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
        """Wait until `dvc repro` ends; return the hashes of dvc.lock as text without params."""
        if process.wait() != 0:
            sys.exit(f"dvc repro failed in {self.folder}:\n{self.output()}")
        stages = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]
        hashes = {name: [stage["deps"], stage["outs"]] for name, stage in stages.items()}
        return json.dumps(hashes, sort_keys=True)

    def stages_in_lock(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of inputs and outputs of each stage in dvc.lock; empty if damaged."""
        with suppress(YAMLError, TypeError, KeyError):
            stages = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]
            return {name: (len(each["deps"]), len(each["outs"])) for name, each in stages.items()}
        return {}

    def repro(self, *options: str, threads: int | None = None) -> str:
        """Run `dvc repro` and return the hashes of dvc.lock, as text without the params."""
        return self.wait(self.start(*options, threads=threads))


def tiny_settings() -> dict[str, object]:
    """Return the settings of presets/tiny.yaml with fewer rows, by dotted key."""
    preset = YAML(typ="safe").load(ROOT / "presets" / "tiny.yaml")
    return dict(flat(preset)) | {"subset.max_rows": 1500}


@contextmanager
def busy_machine() -> Iterator[None]:
    """Keep every core busy until the end of the block."""
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
    """Check that reruns give the same hashes in two folders, on any threads and if disturbed."""
    copy, other = Copy(folder / "here", {}), Copy(folder / "some" / "where" / "else", {})
    first = copy.repro("--force")

    def compare(runs: str, locks: list[str]) -> None:
        note(runs, len(locks), "every hash compared", sum(lock != first for lock in locks))

    repeated = [copy.repro("--force"), other.repro("--force")]
    compare("forced reruns, one in another folder", repeated)
    compare("threads 1, 2 and 4", [copy.repro("--force", threads=n) for n in (1, 2, 4)])
    with busy_machine():
        compare("all cores busy with other work", [copy.repro("--force")])


def prove_simultaneous_reruns(copy: Copy, other: Copy, note: Note) -> str:
    """Check that simultaneous runs in two folders, and a later run, give the same hashes.

    Returns:
        Hashes in dvc.lock of the first copy.
    """
    one, four = copy.start("--force", threads=1), other.start("--force", threads=4)
    locks = [copy.wait(one), other.wait(four)]
    runs = "two runs at once, in two folders, on 1 and 4 threads"
    note(runs, 2, "every hash compared", len(set(locks)) - 1)
    with busy_machine():
        busy = copy.repro("--force", threads=2)
    runs = "a forced rerun on 2 threads, all cores busy with other work"
    note(runs, 1, "every hash compared", int(busy != locks[0]))
    return locks[0]


def killed(copy: Copy, stage: str, after: str, seconds: float) -> str:
    """Run a stage again and kill all its processes.

    DVC does not write dvc.lock atomically. If the kill damages the file, its previous content is
    restored, as by `git checkout dvc.lock`.

    Args:
        copy: Copy in which every stage has run.
        stage: Stage to run.
        after: Text to wait for in the output.
        seconds: Time between this text and the kill.

    Returns:
        Description of how the stage ended.
    """
    lock, stages = copy.folder / "dvc.lock", copy.stages_in_lock()
    before = lock.read_bytes()
    process = copy.start(*FORCED, stage)
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


def prove_kills(copy: Copy, expected: str, rounds: int, seed: int, note: Note) -> None:
    """Check that stages killed at random moments give the same hashes when they run again.

    Stages that train networks are also killed between epochs, until they have resumed from a
    checkpoint.

    Args:
        copy: Copy in which every stage has run, with EPOCHS epochs for each network.
        expected: Hashes in dvc.lock of the copy.
        rounds: Number of kills of each stage.
        seed: Seed of the random moments.
        note: Function that records an outcome.
    """
    moments = random.Random(seed)
    resumed: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    differences = 0

    def kill(stage: str, after: str, seconds: float) -> None:
        nonlocal differences
        ended[killed(copy, stage, after, seconds)] += 1
        differences += copy.repro(*FORCED, stage) != expected
        resumed[stage] += "resuming after epoch" in copy.output()

    for stage in STAGES * rounds:
        kill(stage, f"Running stage '{stage}'", moments.uniform(0, MAX_SECONDS))
    for stage in TRAININGS:
        kills = 0
        while kills < rounds or (kills < MAX_KILLS and not resumed[stage]):
            epoch = moments.randrange(1, EPOCHS)
            kill(stage, f"epoch {epoch}/{EPOCHS}: ", moments.uniform(0, 0.5))
            kills += 1
    shown = ", ".join(f"{times} {how}" for how, times in ended.items())
    note("kill -9 of a stage, then its rerun", ended.total(), shown, differences)
    for stage in TRAININGS:
        times = resumed[stage]
        note(f"{stage} resumed from a checkpoint", times, "at least 1 needed", int(not times))


def prove_inputs(inputs: int, seed: int, folder: Path, note: Note) -> None:
    """Check with tests/support/fuzzing.py that no mutated input file is read wrongly."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.fuzzing import fuzz

    outcomes = fuzz(inputs, seed, folder)
    for mutation in sorted({mutation for mutation, _ in outcomes}):
        counts = {how: count for (name, how), count in outcomes.items() if name == mutation}
        shown = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
        note(f"inputs: {mutation}", sum(counts.values()), shown, 0)


@app.command(help=__doc__)
def main(
    short: Annotated[
        bool, typer.Option(help="Run a proof of a few minutes on presets/tiny.yaml.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of the moments of kills and of the mutated inputs.")
    ] = 0,
) -> None:
    table = Table("check", "times", "outcome", "differences")
    wrong = 0

    def note(check: str, times: int, outcome: str, differences: int) -> None:
        nonlocal wrong
        wrong += differences
        table.add_row(check, str(times), outcome, str(differences))
        say(f"{check}: {outcome}; {differences} differences")

    tiny = tiny_settings() | {f"{stage}.max_epochs": EPOCHS for stage in TRAININGS}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy = Copy(folder / "tiny", tiny)
        if short:
            other = Copy(folder / "an" / "other" / "tiny", tiny)
            expected = prove_simultaneous_reruns(copy, other, note)
        else:
            prove_reruns(folder, note)
            expected = copy.repro("--force")
        prove_kills(copy, expected, 1 if short else 4, seed, note)
        prove_inputs(500 if short else 10_000, seed, folder / "inputs", note)
    console().print(table)
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
