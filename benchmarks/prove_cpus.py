"""Prove that the pipeline gives the same bytes on other x86-64 CPUs, emulated by QEMU.

`dvc repro` with presets/tiny.yaml runs in copies of the last commit: once on this machine and once on each
CPU model, with every stage under qemu-x86_64. Exits with 1 if a hash in dvc.lock differs. QEMU does not
emulate AVX-512, which the stages do not use.

    python benchmarks/prove_cpus.py
    python benchmarks/prove_cpus.py --cpu Skylake-Client --cpu EPYC
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from prove import Copy, tiny_settings
from rich.table import Table

from rubro.base.console import EXIT_BAD_INPUT, console, say

CPUS = ("Haswell", "Skylake-Client", "EPYC-Rome", "EPYC-Milan")
app = typer.Typer(pretty_exceptions_enable=False)


def emulated(folder: Path, qemu: str, cpu: str) -> str:
    """Create a folder with a `python` that runs on an emulated CPU, and return its path."""
    folder.mkdir(parents=True)
    python = folder / "python"
    command = shlex.join([qemu, "-cpu", cpu, sys.executable])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o755)
    return str(folder)


@app.command(help=__doc__)
def main(
    cpus: Annotated[
        list[str] | None,
        typer.Option(
            "--cpu", help=f"CPU that `qemu-x86_64 -cpu help` lists; default: {', '.join(CPUS)}."
        ),
    ] = None,
) -> None:
    cpus = cpus or [*CPUS]
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        say("error: qemu-x86_64 not found; install it, for example the package qemu-user of Debian")
        raise typer.Exit(EXIT_BAD_INPUT)
    tiny = tiny_settings()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        native = Copy(folder / "native", tiny).repro("--force")

        def has_other_bytes(model: str) -> bool:
            copy = Copy(folder / model, tiny)
            path = emulated(folder / f"{model}-bin", qemu, model)
            lock = copy.wait(copy.start("--force", path=path))
            say(f"{model}: {'different' if lock != native else 'the same'} bytes")
            return lock != native

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = dict(zip(cpus, pool.map(has_other_bytes, cpus), strict=True))
    table = Table("CPU", "hashes of dvc.lock")
    for model, differs in found.items():
        table.add_row(model, "different" if differs else "the same as on this machine")
    console().print(table)
    if any(found.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
