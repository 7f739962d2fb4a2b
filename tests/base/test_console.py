"""Messages: control characters, narrow terminals, old encodings and names that look like markup."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.progress import BarColumn, TaskProgressColumn
from rich.table import Table

from rubro.base.console import console, output_console, printable, progress_columns, say, visible
from rubro.base.rich_console import line_starts

# Window title, clipboard, clear screen, 8-bit control sequence, text direction, deletion, links.
ESCAPES = (
    "\x1b]0;PWN\x07\x1b[2J\x1b]52;c;cHduZWQ=\x1b\\\x9b31m\u202eabc\u2066\x7f\x08\r\x85\u2028\ufeff"
    "\x1b]8;;http://localhost/\x1b\\link\x1b]8;;\x1b\\"
)
CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
# Escape sequences of rich for colours and progress bars.
COLOURS = re.compile(r"\x1b\[(\d+(;\d+)*)?m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r(?=\n|\x1b|$)")
PRINT = f"""
import logging, sys, threading, warnings
from rubro.base.console import console, output_console, say, show_control_characters
from rich.progress import Progress
from rich.progress import BarColumn, TaskProgressColumn
from rich.table import Table
from rich.text import Text
text = {ESCAPES!r}
show_control_characters()
say("said " + text)
warnings.warn("warned " + text)
logging.error("logged " + text)
print("printed " + text, file=sys.stderr)
sys.stderr.writelines(["written " + text, "\\n"])
sys.stderr.buffer.write(("bytes " + text + "\\n").encode())
sys.stderr.buffer.flush()
table = Table(title="title " + text)
table.add_column("column " + text)
table.add_row(Text("cell " + text))
table.add_row("[red]" + text)
output_console().print(table)
console().print(table)
with Progress(console=console()) as progress:
    progress.add_task("task [red]" + text)
    print("during " + text.replace("\\r", ""), file=sys.stderr)
    say("also " + text)
thread = threading.Thread(target=lambda: 1 / 0, name="thread " + text)
thread.start()
thread.join()
raise RuntimeError("raised " + text)
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, **variables},
        timeout=120,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("force", ["", "1"])
def test_no_control_character_is_printed(encoding: str, force: str) -> None:
    done = run(PRINT, PYTHONIOENCODING=encoding, FORCE_COLOR=force, COLUMNS="300")
    assert done.returncode == 1
    shown = (done.stdout + done.stderr).decode(encoding, "replace")
    for word in ("said", "warned", "logged", "printed", "written", "during", "also", "raised"):
        assert f"{word} " in shown
    for word in ("title", "column", "cell", "task", "thread", "bytes"):
        assert word in shown
    assert "[red]" in shown
    assert CONTROLS.findall(COLOURS.sub("", shown)) == []


@pytest.mark.parametrize("columns", ["0", "1", "", "abc", "-5", "²", "9" * 30])
def test_messages_and_tables_are_shown_on_terminals_of_an_odd_width(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    console.cache_clear()
    say("a message")
    table = Table()
    table.add_row("a table")
    output_console().print(table)
    shown = capsys.readouterr()
    assert "a message" in shown.err
    assert "a table" in shown.out
    assert len(shown.out) < 10_000


def test_a_line_break_in_a_name_does_not_begin_a_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("name\nerror: other")
    shown = capsys.readouterr().err
    assert "error: other" in shown
    assert not any(line.startswith("error") for line in shown.splitlines())


def test_a_terminal_breaks_messages_and_cells_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.cache_clear()
    command = "  " + "dvc exp apply a-name " * 3
    say(f"one message of several words, which is long\n{command}")
    table = Table(box=None, show_header=False)
    table.add_row("pseudo_label.unlabelled_titles.train_mlp")
    output_console().print(table)
    console.cache_clear()
    shown = capsys.readouterr()
    lines = COLOURS.sub("", shown.err).splitlines()
    assert lines == ["one message of several words,", "  which is long", command]
    cell = [line.strip() for line in COLOURS.sub("", shown.out).splitlines()]
    assert cell == ["pseudo_label.unlabelled_", "titles.train_mlp"]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("two words", 5, ["two ", "words"]),
        ("seed=1,train_mlp.dropout=0.3", 20, ["seed=1,train_mlp.", "dropout=0.3"]),
        ("CAT_LITTER_BOXES", 12, ["CAT_LITTER_", "BOXES"]),
        ("漢字漢字漢", 5, ["漢字", "漢字", "漢"]),
        ("fits", 4, ["fits"]),
        ("", 4, [""]),
    ],
)
def test_lines_end_between_words_or_after_punctuation(
    text: str, width: int, lines: list[str]
) -> None:
    starts = line_starts(text, width)
    assert [text[slice(*ends)] for ends in zip([0, *starts], [*starts, None], strict=True)] == lines


def test_the_percentage_comes_before_the_bar() -> None:
    kinds = [type(column) for column in progress_columns()]
    assert kinds.index(TaskProgressColumn) < kinds.index(BarColumn)


def test_visible_keeps_the_length_and_ordinary_text() -> None:
    kept = "Lámpara 漢字 👩\u200d👧 10\u00a0kg\n\t🩷"
    assert visible(kept) == kept
    shown = visible(ESCAPES)
    assert len(shown) == len(ESCAPES)
    assert CONTROLS.findall(shown) == []
    assert printable("a\nb\tc\x1b" + "d" * 400) == "a·b·c·" + "d" * 294 + "…"


def test_a_file_name_is_not_markup(tmp_path: Path) -> None:
    path = tmp_path / "[red]a[ [bold]:smile:.csv"
    path.write_bytes(b"content")
    code = (
        "import sys, pathlib; from rubro.base.console import file_progress\n"
        "with file_progress(pathlib.Path(sys.argv[1])) as file: assert file.read() == b'content'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        check=False,
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    assert path.name.encode() in done.stderr
