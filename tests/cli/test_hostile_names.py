"""No column, category, model, file or option can send control characters to a terminal."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.keyword_model import called, command, in_terminal, write_model

CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# What rich and prompt_toolkit send themselves; no OSC sequence, and no erasing of the screen.
SEQUENCES = re.compile(r"\x1b\[[\d;?]*[A-HKhlmnr]|\x1b\[0?J|\r")
NAME = "\x1b]0;PWN\x07\x1b[2J\x1b]52;c;cHduZWQ=\x1b\\\x9b31m\u202e[red]"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and files whose names and contents are hostile."""
    folder = tmp_path_factory.mktemp("evil")
    labels = [f"{NAME} {number}" for number in range(4)]
    write_model(folder / "model", name=f"svm {NAME}", labels=labels)
    rows = "".join(f"mesa {number},{labels[0]}\n" for number in range(30))
    files = {
        "few.csv": f"{NAME},title\n{NAME},mesa {NAME}\n",
        "many.csv": f"{NAME},title\n" + f"{NAME},mesa {NAME}\n" * 200,
        "header.csv": f"a{NAME},b\n1,2\n",
        "keys.jsonl": '{"a\\u001b]0;PWN\\u0007\\u009b": 1}\n',
        "labelled.csv": f"title,category\n{rows}" + f"mesa,other{NAME}\n" * 5,
        "no_category.csv": f"title,c{NAME}\nx,y\n",
        "damaged.csv": f'title,x\n"a,b\n{NAME}\n',
        f"n{NAME}.csv": "q,w\n1,2\n",
        "params.yaml": f'"x\\e]0;PWN": 1\n"y{NAME[-3:]}\\x9b": 1\n',
    }
    for name, content in files.items():
        (folder / name).write_text(content, newline="")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "header.csv", "-o", "a.csv"],
        ["predict", "keys.jsonl", "-o", "a.jsonl"],
        ["predict", "damaged.csv", "-o", "a.csv"],
        ["predict", f"n{NAME}.csv"],
        ["predict", f"missing{NAME}.csv"],
        ["predict", "few.csv", "--column", f"x{NAME}"],
        ["predict", "few.csv", "--prefix", NAME, "--output", f"{NAME}/a.csv"],
        ["predict", "few.csv", "--output", f"x{NAME}"],
        ["predict", "few.csv", "--top", NAME],
        ["predict", "few.csv", f"--{NAME}"],
        ["predict", "few.csv", "--encoding", NAME],
        ["explain", "mesa", "--against", NAME],
        ["evaluate", "labelled.csv"],
        ["evaluate", "no_category.csv"],
        ["thresholds", "labelled.csv", "--precision", "0.5"],
    ],
)
def test_messages_and_tables_show_control_characters(evil: Path, arguments: Sequence[str]) -> None:
    name, *others = arguments
    done = called(evil, name, "--model", "model", *others)
    assert done.stderr
    assert CONTROLS.findall(done.stderr) == []
    if name in ("evaluate", "thresholds"):
        assert CONTROLS.findall(done.stdout) == []


@pytest.mark.parametrize(
    "arguments",
    [[NAME], [f"--{NAME}"], ["check", "params.yaml"], ["overrides", NAME], ["sample", NAME, NAME]],
)
def test_messages_about_arguments_show_control_characters(
    evil: Path, arguments: Sequence[str]
) -> None:
    done = called(evil, *arguments)
    assert done.returncode == 2
    assert "PWN" in done.stderr
    assert CONTROLS.findall(done.stderr) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("predict", ["few.csv", "--top", "3"]),
        ("predict", ["many.csv"]),
        ("predict", ["many.csv", "--format", "jsonl"]),
        ("predict", ["many.csv", "--output", "answers.csv"]),
        ("predict", []),
        ("explain", [f"mesa {NAME}"]),
        ("evaluate", ["labelled.csv", "--json", "-"]),
    ],
)
def test_terminals_show_control_characters(evil: Path, name: str, arguments: Sequence[str]) -> None:
    keys = [("title:", b"mesa\r"), ("%.*title:", b"q\r")] if not arguments else []
    code, shown = in_terminal(evil, command(evil / "model", arguments, name), keys)
    assert code == 0
    assert "PWN" in shown or "answers.csv" in shown
    shown_keys = shown.replace("\x08", "")  # the prompt moves back to show a key that came early
    assert CONTROLS.findall(SEQUENCES.sub("", shown_keys)) == []
    assert "\x1b[2J" not in shown and "\x1b[31m[" not in shown
    if name != "evaluate":
        # The table may break the name within the brackets.
        assert "ed]" in shown or "answers.csv" in shown


def test_programs_get_the_exact_text(evil: Path) -> None:
    words = command(evil / "model", ["few.csv", "--format", "jsonl"])
    done = subprocess.run(words, cwd=evil, capture_output=True, check=True)
    assert "\x9b31m\u202e[red]" in done.stdout.decode()
