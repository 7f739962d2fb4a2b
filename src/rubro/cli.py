"""The `rubro` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rubro.base.console import reported_errors, say

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Helpers around the pipeline; the pipeline itself runs with `dvc repro`.",
)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where the files go; made if missing.")],
    rows: Annotated[
        int, typer.Option(min=1_000, help="Spanish titles; Portuguese adds 7.5 %.")
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="Another seed, other titles.")] = 20_190,
) -> None:
    """Write a synthetic catalogue of titles in the course's layout."""
    from rubro.sample import write_catalogue

    with reported_errors():
        for name, count in write_catalogue(folder, rows, seed).items():
            say(f"{folder / name}: {count} rows")


@app.command()
def check(
    params: Annotated[Path, typer.Argument(help="The file to check.")] = Path("params.yaml"),
) -> None:
    """Check params.yaml: unknown keys, wrong types, impossible values."""
    from rubro.base.settings import load_params

    with reported_errors():
        load_params(params)


@app.command()
def overrides(
    preset: Annotated[Path, typer.Argument(help="A YAML file with some keys of params.yaml.")],
    params: Annotated[Path, typer.Option(help="What the preset changes.")] = Path("params.yaml"),
) -> None:
    """Print a preset as options for `dvc exp run`, after checking it against params.yaml.

    Example: dvc exp run --name original $(rubro overrides presets/original.yaml)
    """
    from rubro.base.settings import load_overrides

    with reported_errors():
        settings = load_overrides(preset, params)
        typer.echo(" ".join(f"-S {key}={value}" for key, value in settings.items()))


if __name__ == "__main__":
    app()
