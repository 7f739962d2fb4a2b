"""Entry point of stage scripts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rubro.base.console import reported_errors
from rubro.base.params import Params
from rubro.base.params_file import load_params


def run_stage(stage: Callable[[Params], None]) -> None:
    """Read params.yaml and call a stage.

    Exit codes: 0 on success; 2 for a wrong file or parameter, with one message and no traceback;
    130 for Ctrl-C, and 128 + its number for a scheduler's signal; 1 for a bug, with a traceback.

    Args:
        stage: Function of the validated parameters.
    """
    name = Path(sys.argv[0]).stem
    argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        epilog=f"Parameters: params.yaml. `dvc repro {name}` runs it with what it needs.",
    ).parse_args()
    with reported_errors():
        stage(load_params())
