"""`rubro explain` as a process: JSON, colours in a terminal, and messages."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from support.keyword_model import command, environment

pytest_plugins = ["support.keyword_model"]


def explain(model: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(model, arguments, "explain"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_each_title_is_a_line_of_json(model: Path) -> None:
    done = explain(model, "Una Lámpara, silla!", "taza")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["category"], first["other"], second["category"]) == ("CHAIRS", "LAMPS", "MUGS")
    assert (first["out_of_vocabulary"], first["foreign"], second["foreign"]) == (0.6, True, False)
    texts = ["Una", "Lámpara", ",", "silla", "!"]
    assert [word["text"] for word in first["words"]] == texts
    for word in first["words"]:
        assert "Una Lámpara, silla!"[word["start"] : word["end"]] == word["text"]
    # Both words weigh 4 over the root of 2; alone, each weighs 4.
    half = 4 / 2**0.5
    parts = [word["contribution"] for word in first["words"]]
    assert parts == pytest.approx([0, -4, 0, 4, 0], abs=1e-5)
    linear = {each["text"]: each["contribution"] for each in first["linear"]}
    assert linear == pytest.approx({"silla": half, "lampara": -half}, abs=1e-5)
    assert first["linear_bias"] == pytest.approx(0.1, abs=1e-6)
    assert first["nearest"] == []


def test_a_terminal_gets_colours(model: Path) -> None:
    own, its = pty.openpty()
    with subprocess.Popen(
        command(model, ["lámpara silla zzz"], "explain"),
        stdout=its,
        stderr=subprocess.PIPE,
        env=environment(TERM="xterm-256color", LC_ALL="C.UTF-8", COLUMNS="100"),
    ) as process:
        os.close(its)
        shown = b""
        try:
            while content := os.read(own, 4096):
                shown += content
        except OSError:  # the end of a pseudo-terminal
            pass
    os.close(own)
    assert process.returncode == 0
    text = shown.decode()
    title, verdict, *_ = text.splitlines()
    assert "\x1b[1;7;32msilla\x1b[0m" in title
    assert "\x1b[1;7;31mlámpara\x1b[0m" in title
    assert "CHAIRS" in verdict
    assert "LAMPS" in verdict
    assert "unknown" in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mesa", " "], "error: title ' ': the title is empty"),
        (["mesa", "--against", "BOATS"], "category 'BOATS'"),
        (["mesa", "--nearest", "2"], "ensemble.training_titles=true"),
        (["mesa", "--nearest", "-1"], "'--nearest'"),
        ([], "Missing argument"),
    ],
)
def test_what_is_wrong_is_one_message(model: Path, arguments: list[str], message: str) -> None:
    done = explain(model, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
