"""Fixtures: a model folder that knows one keyword of each category, and `rubro` commands on it.

A test file imports them with `pytest_plugins = ["support.keyword_model"]`.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rubro.base.category_tree import CategoryTree
from rubro.cli import app
from rubro.features.subwords import SubwordParams
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model, ModelColumn, ModelDescription, SvmMember, TextParams
from rubro.prediction.thresholds import (
    AcceptedCounts,
    CategoryThreshold,
    ConfidenceThreshold,
    Thresholds,
)

# The keyword of each category. Other words do not change the prediction.
CATEGORIES = {"mesa": "TABLES", "silla": "CHAIRS", "lampara": "LAMPS", "taza": "MUGS"}
# The categories of a model whose categories are paths, in the same order.
PATHS = ["Muebles > Mesas", "Muebles > Sillas", "Luz > Techo > Lámparas", "Vajilla"]
Command = Callable[..., subprocess.CompletedProcess[bytes]]


def write_model(
    folder: Path,
    title_column: str = "title",
    name: str = "svm",
    labels: Sequence[str] = tuple(CATEGORIES.values()),
    columns: Sequence[ModelColumn] = (),
    tree: CategoryTree | None = None,
) -> Path:
    """Write a linear model that knows one keyword of each category, and return its folder.

    In columns other than the title, each keyword is the keyword of the next category, and counts more.
    """
    words = list(CATEGORIES)
    places = np.arange(len(words))
    inputs = len(words) * (1 + len(columns))
    tensors: dict[str, np.ndarray] = {
        "idf": np.ones(inputs, dtype=np.float32),
        "starts": np.arange(inputs + 1, dtype=np.int32),
        "categories": np.array([*places, *[*np.roll(places, -1)] * len(columns)], dtype=np.int16),
        "weights": np.repeat([4, 6], [len(words), inputs - len(words)]).astype(np.float16),
        "bias": np.array([0.3, 0.2, 0.1, 0.0], dtype=np.float32),
    }
    description = ModelDescription(
        name=name,
        labels=[*labels],
        text=TextParams(
            title_column=title_column,
            category_column="category",
            max_title_length=1000,
            max_tokens=30,
            bigram_buckets=0,
            columns=[*columns],
        ),
        subwords=SubwordParams(min_n=1, max_n=0, buckets=0, titles=10),
        members={"svm": SvmMember(weights=inputs)},
        tree=tree,
    )
    Model(description, dict.fromkeys(words, 1), {"svm": tensors}).save(folder)
    return folder


def write_shop_model(folder: Path) -> Path:
    """Write a model that reads a brand and a price, and whose categories are paths."""
    tree = CategoryTree(
        separator=" > ", order="root_first", paths={path: path.split(" > ") for path in PATHS}
    )
    columns = [
        ModelColumn(name="marca", max_tokens=10),
        ModelColumn(name="precio", max_tokens=10, bounds=[10.0]),
    ]
    return write_model(folder, "nombre", labels=PATHS, columns=columns, tree=tree)


def write_thresholds(file: Path, folder: Path, minimums: Sequence[float | None]) -> None:
    """Write a thresholds file for a model whose categories are not paths.

    Args:
        file: File to write.
        folder: Model folder.
        minimums: Minimum confidence of each category; None = accept no prediction.
    """
    description = Classifier.load(folder).description
    kept: dict[str, Any] = {"titles": 9, "kept": 9, "right": 9, "low": 0.5, "high": 1.0}
    thresholds = Thresholds(
        model=description.name,
        fingerprint=description.fingerprint,
        precision=0.9,
        coverage=0.9,
        least_titles=1,
        single=ConfidenceThreshold(confidence=0.5, **kept),
        together=ConfidenceThreshold(confidence=0.5, **kept),
        categories={
            name: CategoryThreshold(confidence=minimum, basis="own", **kept)
            for name, minimum in zip(description.labels, minimums, strict=True)
        },
        all=AcceptedCounts(**kept),
        unknown=AcceptedCounts(**kept),
    )
    file.write_text(thresholds.model_dump_json())


@pytest.fixture(scope="session")
def shop_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that reads a brand and a price, and whose categories are paths."""
    return write_shop_model(tmp_path_factory.mktemp("models") / "shop")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that knows one keyword of each category."""
    return write_model(tmp_path_factory.mktemp("models") / "svm")


@pytest.fixture
def rubro(tmp_path: Path, model: Path) -> Command:
    """Function that runs `rubro predict --model MODEL` in a new process in tmp_path."""

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command(model, arguments),
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
        )

    return run


def command(model: Path, arguments: Sequence[str], name: str = "predict") -> list[str]:
    """Return the command line of a `rubro` command that uses a model."""
    return [sys.executable, "-m", "rubro.cli", name, "--model", str(model), *arguments]


def environment(**variables: str) -> dict[str, Any]:
    """Return the environment of this process with additional variables."""
    return {**os.environ, **variables}


def called(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call `rubro` in this process, so that packages are imported only once."""
    with chdir(folder):
        result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def assert_refused(done: subprocess.CompletedProcess[str], *facts: str) -> None:
    """Assert that a command ended with exit code 2 and a message with these facts."""
    assert done.returncode == 2, done.stderr
    for fact in facts:
        assert fact in done.stderr


def in_terminal(
    folder: Path,
    command_line: Sequence[str],
    keys: Sequence[tuple[str, bytes]] = (),
    columns: int = 100,
) -> tuple[int, str]:
    """Run a command in a terminal.

    Args:
        folder: Working directory.
        command_line: Command and its arguments.
        keys: Pairs of a pattern and the keys to type when it appears after the previous keys.
        columns: Width of the terminal.

    Returns:
        Exit code, and all output with its escape sequences.
    """
    mine, its = pty.openpty()
    process = subprocess.Popen(
        command_line,
        cwd=folder,
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(COLUMNS=str(columns), TERM="xterm", XDG_STATE_HOME=str(folder / "state")),
        start_new_session=True,
    )
    os.close(its)
    shown, unanswered, waiting = "", "", list(keys)
    try:
        while True:
            assert select.select([mine], [], [], 60)[0], f"no output after {shown}"
            try:
                new = os.read(mine, 2**16).decode(errors="replace")
            except OSError:  # the other side is closed
                break
            if "\x1b[6n" in new:  # the request for the position of the cursor
                os.write(mine, b"\x1b[1;1R")
            shown, unanswered = shown + new, unanswered + new
            if waiting and re.search(waiting[0][0], unanswered, re.DOTALL):
                os.write(mine, waiting.pop(0)[1])
                unanswered = ""
        return process.wait(60), shown
    finally:
        os.close(mine)
        process.kill()
        process.wait()
