"""Print a preset as options for `dvc exp run`.

The preset is first checked against params.yaml. Values that contain spaces, accents or quotes are
quoted for the shell, so pass them through eval.

\b
dvc exp run --name original \\
  $(rubro overrides presets/original.yaml)
eval "dvc exp run $(rubro overrides mine.yaml)"

Requires the training packages: pip install 'rubro[train]'.
"""

from pathlib import Path
from typing import Annotated

import typer


def main(
    preset: Annotated[Path, typer.Argument(help="YAML file with some keys of params.yaml.")],
    params: Annotated[Path, typer.Option(help="Parameters that the preset overrides.")] = Path(
        "params.yaml"
    ),
) -> None:
    import re
    import shlex

    from rubro.base.params_file import load_overrides

    settings = load_overrides(preset, params)
    options = [f"{key}={value}" for key, value in settings.items()]
    plain = re.compile(r"[\w@%+=:,./\[\]-]+", re.ASCII)
    words = [word if plain.fullmatch(word) else shlex.quote(word) for word in options]
    typer.echo(" ".join(f"-S {word}" for word in words))
