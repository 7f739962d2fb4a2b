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

# Several test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# In the background of a shell, or under nohup, the tests' child processes would inherit that these
# signals are ignored, and no signal could end them.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
HANDLERS = {number: signal.getsignal(number) for number in ENDING}

MakeParams = Callable[..., Params]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders of the slowest files, so that processes end at about the same time."""
    items.sort(key=lambda item: item.path.parent.name not in ("pipeline", "training"))


@pytest.fixture(autouse=True)
def _own_handlers() -> None:
    """Restore the signal handlers that a stage installed when it ran in this process."""
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def make_params() -> MakeParams:
    """Function that returns the validated default parameters with overrides by dotted key.

    >>> make_params({"embed.epochs": 1, "seed": 7})
    """
    params = load_params(ROOT / "params.yaml")

    def make(overrides: dict[str, Any] | None = None) -> Params:
        changed = params.model_dump()
        for key, value in (overrides or {}).items():
            section, _, name = key.rpartition(".")
            values = changed[section] if section else changed
            assert name in values, f"params.yaml has no {key}"
            values[name] = value
        return Params.model_validate(changed)

    return make
