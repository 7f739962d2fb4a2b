"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rubro.base.params import Params
from rubro.base.params_file import load_params
from rubro.base.signals import ENDING

ROOT = Path(__file__).resolve().parent.parent

pytest.register_assert_rewrite("support")

# Several processes of tests share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where the tests run in the background of a shell, or under nohup, what they start would ignore
# these, and so would no signal end it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
HANDLERS = {number: signal.getsignal(number) for number in ENDING}

MakeParams = Callable[..., Params]


@pytest.fixture(autouse=True)
def _own_handlers() -> None:
    """Undo what a stage that ran in this process did: at a signal it would end the process."""
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of params.yaml, stages/ and src/."""
    return ROOT


@pytest.fixture(scope="session")
def make_params() -> MakeParams:
    """The project's own params.yaml with some values replaced, checked by the schema.

    >>> make_params({"embed.epochs": 1, "seed": 7})
    """
    params = load_params(ROOT / "params.yaml")

    def make(overrides: dict[str, Any] | None = None) -> Params:
        changed = params.model_dump()
        for key, value in (overrides or {}).items():
            *sections, name = key.split(".")
            section: dict[str, Any] = changed
            for step in sections:
                section = section[step]
            assert name in section, f"params.yaml has no {key}"
            section[name] = value
        return Params.model_validate(changed)

    return make
