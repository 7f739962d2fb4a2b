"""`rubro predict` as a process: what it reads, says, leaves behind and ends with."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest

from support.keyword_model import Command, called, command, environment

pytest_plugins = ["support.keyword_model"]

TABLE = b"id,title\n1,mesa\n2,silla\n"


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def categories(content: bytes) -> list[str]:
    return [row["predicted_category"] for row in rows(content)]


def test_titles_of_the_command_line_become_csv_where_no_terminal_is(rubro: Command) -> None:
    done = rubro("Mesa ratona", "Silla, azul", "--top", "2")
    assert done.returncode == 0
    assert done.stderr == b""
    names = ["predicted_category", "confidence", "predicted_category_2", "confidence_2"]
    assert list(rows(done.stdout)[0]) == ["title", *names, "error"]
    assert categories(done.stdout) == ["TABLES", "CHAIRS"]


def test_a_title_without_text_or_in_another_encoding_is_reported(rubro: Command) -> None:
    done = rubro("mesa", "", os.fsdecode(b"caf\xe9"))
    assert done.returncode == 3
    errors = [row["error"] for row in rows(done.stdout)]
    assert errors[:2] == ["", "the title is empty"]
    assert "not text in the encoding of the terminal" in errors[2]
    assert b"2 of 3 rows have no answer; column 'error' says why" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TABLE, "csv, titles from column 'title'"),
        (gzip.compress(TABLE, mtime=0), "csv, titles from column 'title'"),
        (TABLE.replace(b",", b"\t"), "tsv, titles from column 'title'"),
        (TABLE.replace(b",", b";"), "csv, separated by semicolon, titles from column 'title'"),
        (b'[{"title": "mesa"},\n{"title": "silla"}]', "a JSON array, titles from column 'title'"),
        (b'{"title": "mesa"}\n{"title": "silla"}\n', "jsonl, titles from column 'title'"),
        (b"mesa\nsilla\n", "text, one title a line; set --input-format if it is not"),
        (b"[oferta] mesa\n{silla}\n", "text, one title a line; set --input-format if it is not"),
        (b"mesa, roja\nsilla\n", "text, one title a line; set --input-format if it is not"),
        ("título\nmesa\nsilla\n".encode("utf-16"), "csv, utf-16 text, titles from column 'título'"),
    ],
)
def test_standard_input_tells_its_kind(rubro: Command, content: bytes, said: str) -> None:
    done = rubro("--format", "jsonl", stdin=content)
    assert done.returncode == 0
    assert done.stderr.decode().strip() == f"standard input: {said}"
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["predicted_category"] for answer in answers] == ["TABLES", "CHAIRS"]


def test_the_kind_of_standard_input_may_be_named(rubro: Command) -> None:
    done = rubro("-", "--input-format", "txt", stdin=b"title\n{mesa}\n")
    assert done.stderr == b""
    assert [row["title"] for row in rows(done.stdout)] == ["title", "{mesa}"]
    done = rubro("--column", "what", "--input-format", "csv", stdin=b"what\nmesa\n")
    assert categories(done.stdout) == ["TABLES"]


def test_empty_standard_input_is_one_message(rubro: Command) -> None:
    done = rubro("-")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: standard input: the file is empty")


def test_a_file_without_a_known_name_tells_its_kind(rubro: Command, tmp_path: Path) -> None:
    (tmp_path / "titles").write_bytes(TABLE)
    done = rubro("titles")
    assert categories(done.stdout) == ["TABLES", "CHAIRS"]
    assert b"titles: csv, titles from column 'title'" in done.stderr


def test_parquet_comes_and_goes_through_pipes(rubro: Command) -> None:
    content = io.BytesIO()
    pd.DataFrame({"id": [1, 2], "title": ["mesa", "silla"]}).to_parquet(content)
    done = rubro("--format", "parquet", stdin=content.getvalue())
    assert done.returncode == 0
    table = pyarrow.parquet.read_table(io.BytesIO(done.stdout))
    assert table["predicted_category"].to_pylist() == ["TABLES", "CHAIRS"]
    assert table["id"].to_pylist() == [1, 2]


def test_a_pipe_that_begins_slowly_is_understood(tmp_path: Path, model: Path) -> None:
    with started(tmp_path, model) as process:
        assert process.stdin is not None
        for piece in (b"ti", b"tle,id\nme", b"sa,1\n"):
            process.stdin.write(piece)
            process.stdin.flush()
            time.sleep(0.2)
        output, _ = process.communicate(timeout=60)
    assert categories(output) == ["TABLES"]


def test_rows_are_answered_while_the_pipe_is_open(tmp_path: Path, model: Path) -> None:
    with started(tmp_path, model, "--batch", "1", "--input-format", "txt") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"mesa\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"title,")
        assert process.stdout.readline().startswith(b"mesa,TABLES,")
        process.communicate(timeout=60)


# Messages


def test_a_missing_model_is_one_message_that_says_where_to_get_one(
    rubro: Command, tmp_path: Path
) -> None:
    done = rubro("--model", "models/none", "mesa")
    assert done.returncode == 2
    message = done.stderr.decode()
    assert message.startswith("error: models/none: no model there")
    for remedy in ("--model", "`make repro`", "`dvc pull`", "`dvc artifacts get"):
        assert remedy in message


def test_the_default_model_is_the_ensemble(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rubro.cli", "predict", "mesa"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"models/ensemble: no model there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "none.csv: no such file"),
        (["a.csv", "mesa"], "a.csv: a file stands alone"),
        (["folder"], "folder: a folder; name a file in it"),
        (["a.csv", "-o", "out.xls"], "out.xls: unknown kind of file"),
        (["a.csv", "--column", "x"], "a.csv: no column 'x' (found: id, title)"),
        (["a.csv", "--encoding", "klingon"], "--encoding klingon: unknown encoding"),
        (["empty.csv"], "empty.csv: the file is empty"),
        (["a.csv", "--top", "0"], "'--top'"),
        (["a.csv", "--min-confidence", "1.5"], "'--min-confidence'"),
        (["a.csv", "--input-format", "xls"], "'--input-format'"),
        (["bad.gz"], "bad.gz: the gzip stream ends early"),
        (["named.csv.gz"], "named.csv.gz: not a valid gzip file"),
        (["named.parquet"], "named.parquet: not a readable parquet file"),
    ],
)
def test_wrong_input_is_one_message(
    model: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.csv").write_bytes(TABLE)
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "bad.gz").write_bytes(gzip.compress(TABLE, mtime=0)[:-12])
    (tmp_path / "named.csv.gz").write_bytes(TABLE)
    (tmp_path / "named.parquet").write_bytes(TABLE)
    done = called(tmp_path, "predict", "--model", str(model), *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_guessed_column_is_said(rubro: Command, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,Nombre\n1,mesa\n")
    assert b"a.csv: titles from column 'Nombre'" in rubro("a.csv").stderr


# Ends


@contextmanager
def started(folder: Path, model: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `rubro predict` that waits for its standard input."""
    process = subprocess.Popen(
        command(model, arguments),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def write_into(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Send rows until some of them are on the disk."""
    assert process.stdin is not None
    process.stdin.write(TABLE)
    process.stdin.flush()
    wait_for(lambda: any(path.stat().st_size for path in folder.glob(".rubro-*")))


def test_the_output_appears_when_it_is_whole(tmp_path: Path, model: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    with started(tmp_path, model, "-", "-o", "out.csv", "--batch", "1") as process:
        write_into(tmp_path, process)
        assert (tmp_path / "out.csv").read_text() == "old"
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert categories((tmp_path / "out.csv").read_bytes()) == ["TABLES", "CHAIRS"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl.gz", "out.parquet"])
def test_an_interrupted_run_leaves_nothing_behind(
    tmp_path: Path, model: Path, number: signal.Signals, name: str
) -> None:
    with started(tmp_path, model, "-", "-o", name, "--batch", "1") as process:
        if name == "out.csv":
            write_into(tmp_path, process)
        else:  # what they write may still wait for more
            assert process.stdin is not None
            process.stdin.write(TABLE)
            process.stdin.flush()
            wait_for(lambda: any(tmp_path.glob(".rubro-*")))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    _, *said = errors.decode().splitlines()  # after what was recognised
    assert said == ([] if number == signal.SIGINT else [f"ended by {number.name}"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_an_error_on_the_way_leaves_nothing_behind(
    rubro: Command, tmp_path: Path, name: str
) -> None:
    done = rubro("-", "-o", name, "--batch", "1", stdin=TABLE + b'3,"open\n')
    assert done.returncode == 2
    _, message = done.stderr.decode().strip().split("\n")
    assert message.startswith("error: standard input:4: a quote opens here and is not closed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_pipe_that_nobody_reads_ends_quietly(tmp_path: Path, model: Path, kind: str) -> None:
    (tmp_path / "a.txt").write_text("mesa\n" * 100_000)
    with started(tmp_path, model, "a.txt", "--format", kind) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 141
    assert errors == b""


# Terminals


def in_terminal(
    folder: Path, model: Path, arguments: list[str], keys: Sequence[tuple[str, bytes]] = ()
) -> tuple[int, str]:
    """Run in a terminal of 100 columns.

    Args:
        folder: Where it runs.
        model: Folder of the model.
        arguments: What follows `rubro predict`.
        keys: What to type once a pattern is on the screen, since the last was typed.

    Returns:
        The exit code and all that was shown, without colours.
    """
    mine, its = pty.openpty()
    process = subprocess.Popen(
        command(model, arguments),
        cwd=folder,
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(COLUMNS="100", TERM="xterm", XDG_STATE_HOME=str(folder / "state")),
        start_new_session=True,
    )
    os.close(its)
    shown, news, waiting = "", "", list(keys)
    try:
        while True:
            assert select.select([mine], [], [], 60)[0], f"nothing more after {shown}"
            try:
                new = os.read(mine, 2**16).decode(errors="replace")
            except OSError:  # the other side is closed
                break
            if "\x1b[6n" in new:  # where is the cursor?
                os.write(mine, b"\x1b[1;1R")
            shown, news = shown + new, news + new
            if waiting and re.search(waiting[0][0], news, re.DOTALL):
                os.write(mine, waiting.pop(0)[1])
                news = ""
        return process.wait(60), re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    finally:
        os.close(mine)
        process.kill()
        process.wait()


def test_a_terminal_shows_bars(tmp_path: Path, model: Path) -> None:
    titles = ["Mesa\x1b[2J \u202eratona", "", "[red]silla :smile:"]
    code, shown = in_terminal(tmp_path, model, [*titles, "--top", "2"])
    assert code == 3
    assert re.search(r"Mesa·\[2J ·ratona +TABLES +█+.? +\d\d\.\d%", shown)
    assert re.search(r" +CHAIRS +[█-▏] +\d\.\d%", shown)
    assert "the title is empty" in shown
    assert "[red]silla :smile:" in shown


def test_a_few_rows_of_a_file_are_a_table_and_many_are_csv(tmp_path: Path, model: Path) -> None:
    (tmp_path / "few.csv").write_bytes(TABLE)
    _, shown = in_terminal(tmp_path, model, ["few.csv"])
    assert "█" in shown
    (tmp_path / "many.txt").write_text("mesa\n" * 100)
    _, shown = in_terminal(tmp_path, model, ["many.txt"])
    assert shown.count("mesa,TABLES,0.") == 100


def test_a_bar_moves_while_a_file_is_written(tmp_path: Path, model: Path) -> None:
    (tmp_path / "a.txt").write_text("mesa\n" * 20_000)
    code, shown = in_terminal(tmp_path, model, ["a.txt", "-o", "out.csv"])
    assert code == 0
    assert re.search(r"predicting .*[\d,]+ rows, [\d,]+/s", shown)
    assert "out.csv: 20,000 rows" in shown


def test_parquet_is_not_for_terminals(tmp_path: Path, model: Path) -> None:
    code, shown = in_terminal(tmp_path, model, ["mesa", "--format", "parquet"])
    assert code == 2
    assert "parquet is not for a terminal; name a file with --output" in shown


@pytest.mark.parametrize("end", [b"q\r", b"\x04", b"\x03"])
def test_titles_are_asked_for_in_a_terminal(tmp_path: Path, model: Path, end: bytes) -> None:
    prompt = "MUGS.*title:"
    keys = [("title:", b"mesas\x7f\r"), (prompt, b"\x1b[A\x01la \r"), (prompt, end)]
    code, shown = in_terminal(tmp_path, model, [], keys)
    assert code == 0
    assert len(re.findall(r"█.? +\d\d\.\d% +TABLES", shown)) == 2
    assert (tmp_path / "state/rubro/titles").read_text().count("\n+") == 2


# Starting


def modules_of(folder: Path, *arguments: str) -> set[str]:
    """The names of the packages that a command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rubro.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        input="",
    )
    names = re.findall(r"^import time: +\d+ \| +\d+ \| *([\w.]+)$", done.stderr, re.MULTILINE)
    assert len(names) > 50, done.stderr
    return {name.partition(".")[0] for name in names}


PIPELINE = {"torch", "gensim", "lightning", "sklearn", "scipy", "pandas", "dvc", "ruamel", "yaml"}


@pytest.mark.parametrize("arguments", [["mesa", "silla"], ["a.csv", "-o", "out.jsonl"]])
def test_predicting_imports_little(tmp_path: Path, model: Path, arguments: list[str]) -> None:
    (tmp_path / "a.csv").write_bytes(TABLE)
    modules = modules_of(tmp_path, "predict", "--model", str(model), *arguments)
    assert "numpy" in modules
    assert not modules & {*PIPELINE, "pyarrow", "prompt_toolkit"}


def test_parquet_is_read_without_the_packages_of_the_pipeline(tmp_path: Path, model: Path) -> None:
    pd.DataFrame({"title": ["mesa"]}).to_parquet(tmp_path / "a.parquet")
    modules = modules_of(tmp_path, "predict", "--model", str(model), "a.parquet")
    assert "pyarrow" in modules
    assert not modules & PIPELINE


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["--version"]])
def test_help_imports_less(tmp_path: Path, arguments: list[str]) -> None:
    modules = modules_of(tmp_path, *arguments)
    assert not modules & {*PIPELINE, "numpy", "rich", "pyarrow", "prompt_toolkit"}
