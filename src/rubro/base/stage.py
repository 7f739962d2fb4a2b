"""How a stage script runs."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rubro.base.console import reported_errors
from rubro.base.params import Params
from rubro.base.settings import load_params


def run_stage(stage: Callable[[Params], None]) -> None:
    """Run a stage script: read params.yaml, call the stage, exit with a code scripts can rely on.

    Exit codes: 0 done; 2 a data file or a parameter is wrong (one message, no traceback); 130
    interrupted; 1 anything else, which is a bug and shows its traceback.

    Args:
        stage: called with the checked parameters.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # until here it was the workspace's
    name = Path(sys.argv[0]).stem
    argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        epilog=f"Parameters: params.yaml. `dvc repro {name}` runs it with what it needs.",
    ).parse_args()
    with reported_errors():
        stage(load_params())
