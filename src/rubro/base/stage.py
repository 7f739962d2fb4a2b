"""Run a stage of the pipeline with the parameters in params.yaml."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rubro.base.console import reported_errors, show_control_characters
from rubro.base.errors import remedied_by
from rubro.base.params import Params
from rubro.base.params_file import load_params


def run_stage(stage: Callable[[Params], None]) -> None:
    """Read params.yaml, and run a stage of the pipeline with it.

    Exit codes: 0 for success; 2 for a wrong file or parameter, with a message instead of a
    traceback; 128 + N if signal N ended the stage (130 for Ctrl-C); 1 for a bug, with a traceback.

    Args:
        stage: Function that runs the stage with the validated parameters.
    """
    show_control_characters()
    name = Path(sys.argv[0]).stem
    argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        epilog=f"Parameters are in params.yaml. `dvc repro {name}` also runs the stages that it needs.",
    ).parse_args()
    remedy = "Run `dvc repro`, which writes the inputs of each stage"
    with reported_errors(), remedied_by(remedy):
        stage(load_params())
