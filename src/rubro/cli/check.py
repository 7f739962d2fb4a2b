"""Check params.yaml without running anything.

Unknown keys, wrong types and impossible values are reported with their line number.

Requires the training packages: pip install 'rubro[train]'.
"""

from pathlib import Path
from typing import Annotated

import typer


def main(
    params: Annotated[Path, typer.Argument(help="File to check.")] = Path("params.yaml"),
) -> None:
    from rubro.base.console import say
    from rubro.base.params_file import load_params

    load_params(params)
    say(f"{params}: all keys and values are valid")
