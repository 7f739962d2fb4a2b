"""Write a catalogue of synthetic titles.

Requires the training packages: pip install 'rubro[train]'.
"""

from pathlib import Path
from typing import Annotated

import typer


def main(
    folder: Annotated[
        Path, typer.Argument(help="Folder for the files; it is created if it is missing.")
    ],
    rows: Annotated[
        int, typer.Option(min=1_000, help="Number of Spanish titles; Portuguese adds 7.5 %.")
    ] = 20_000,
    seed: Annotated[
        int, typer.Option(help="Random seed; each seed gives different titles.")
    ] = 20_190,
) -> None:
    from rubro.base.console import say
    from rubro.sample import write_catalogue

    for name, count in write_catalogue(folder, rows, seed).items():
        say(f"{folder / name}: {count} rows")
