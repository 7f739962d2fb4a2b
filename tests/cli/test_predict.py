"""`rubro predict` as a process: pipes, messages, signals, terminals and imports."""

from __future__ import annotations

import csv
import fcntl
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest

from rubro.base.console import reported_errors
from rubro.cli import COMMANDS
from rubro.cli.prompt import unknown_words
from support.keyword_model import (
    Command,
    assert_refused,
    called,
    command,
    environment,
    in_terminal,
)
from support.tiny_project import wait_until

pytest_plugins = ["support.keyword_model"]

TABLE = b"id,title\n1,mesa\n2,silla\n"


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def categories(content: bytes) -> list[str]:
    return [row["predicted_category"] for row in rows(content)]


def test_titles_as_arguments_become_csv_outside_a_terminal(rubro: Command) -> None:
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
    assert [bool(error) for error in errors] == [False, True, True]
    assert "encoding" in errors[2]
    assert b"2 of 3 rows" in done.stderr and b"'error'" in done.stderr


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (TABLE, ["csv", "'title'"]),
        (gzip.compress(TABLE, mtime=0), ["csv", "'title'"]),
        (TABLE.replace(b",", b"\t"), ["tsv", "'title'"]),
        (TABLE.replace(b",", b";"), ["csv", "semicolon", "'title'"]),
        (b'[{"title": "mesa"},\n{"title": "silla"}]', ["array", "'title'"]),
        (b'{"title": "mesa"}\n{"title": "silla"}\n', ["jsonl", "'title'"]),
        (b"mesa\nsilla\n", ["text", "--input-format"]),
        (b"[oferta] mesa\n{silla}\n", ["text", "--input-format"]),
        (b"mesa, roja\nsilla\n", ["text", "--input-format"]),
        ("título\nmesa\nsilla\n".encode("utf-16"), ["csv", "utf-16", "'título'"]),
    ],
)
def test_the_format_of_standard_input_is_detected(
    rubro: Command, content: bytes, facts: list[str]
) -> None:
    done = rubro("--format", "jsonl", stdin=content)
    assert done.returncode == 0
    (message,) = done.stderr.decode().splitlines()
    for fact in ["standard input", *facts]:
        assert fact in message
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["predicted_category"] for answer in answers] == ["TABLES", "CHAIRS"]


def test_the_format_of_standard_input_can_be_given(rubro: Command) -> None:
    done = rubro("-", "--input-format", "txt", stdin=b"title\n{mesa}\n")
    assert done.stderr == b""
    assert [row["title"] for row in rows(done.stdout)] == ["title", "{mesa}"]
    done = rubro("--column", "what", "--input-format", "csv", stdin=b"what\nmesa\n")
    assert categories(done.stdout) == ["TABLES"]


def test_empty_standard_input_has_no_rows(rubro: Command) -> None:
    done = rubro("-")
    assert done.returncode == 0
    assert done.stdout.startswith(b"title,predicted_category,")
    assert rows(done.stdout) == []
    assert b"standard input" in done.stderr and b"no rows" in done.stderr


def test_the_format_of_a_file_without_a_suffix_is_detected(rubro: Command, tmp_path: Path) -> None:
    (tmp_path / "titles").write_bytes(TABLE)
    done = rubro("titles")
    assert categories(done.stdout) == ["TABLES", "CHAIRS"]
    assert b"titles: csv" in done.stderr


def test_parquet_is_read_from_and_written_to_pipes(rubro: Command) -> None:
    content = io.BytesIO()
    pd.DataFrame({"id": [1, 2], "title": ["mesa", "silla"]}).to_parquet(content)
    done = rubro("--format", "parquet", stdin=content.getvalue())
    assert done.returncode == 0
    table = pyarrow.parquet.read_table(io.BytesIO(done.stdout))
    assert table["predicted_category"].to_pylist() == ["TABLES", "CHAIRS"]
    assert table["id"].to_pylist() == [1, 2]


def is_empty(pipe: int) -> bool:
    return fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) == bytes(4)


def test_a_pipe_that_starts_slowly_is_read(tmp_path: Path, model: Path) -> None:
    with started(tmp_path, model) as process:
        assert process.stdin is not None
        for piece in (b"ti", b"tle,id\nme", b"sa,1\n"):
            process.stdin.write(piece)
            process.stdin.flush()
            assert wait_until(partial(is_empty, process.stdin.fileno()))
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


@pytest.mark.parametrize("folder", ["models/none", None])
def test_a_missing_model_gives_one_message_with_remedies(
    tmp_path: Path, folder: str | None
) -> None:
    done = called(tmp_path, "predict", "mesa", *(["--model", folder] if folder else []))
    assert_refused(done, "--model", "`make repro`", "`dvc pull`", "`dvc artifacts get")
    assert done.stderr.startswith(f"error: {folder or 'models/ensemble'}: ")


@pytest.mark.parametrize("arguments", [["predict", "mesa"], ["explain", "mesa"], ["serve"]])
@pytest.mark.parametrize("damage", [None, b"", b"{}"])
def test_a_damaged_model_gives_one_message_with_remedies(
    tmp_path: Path, model: Path, arguments: list[str], damage: bytes | None
) -> None:
    folder = shutil.copytree(model, tmp_path / "svm")
    (folder / "svm.safetensors").unlink()
    if damage is not None:
        (folder / "svm.safetensors").write_bytes(damage)
    done = called(tmp_path, *arguments, "--model", "svm")
    assert_refused(
        done, "svm/svm.safetensors: ", "`make repro`", "`dvc pull`", "`dvc artifacts get"
    )
    assert "stage" not in done.stderr


def test_no_temporary_folder_gives_one_message_with_a_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(SystemExit) as stop, reported_errors():
        tempfile.gettempdir()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "TMPDIR" in message and "dvc repro" not in message


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["none.csv"], ["none.csv"]),
        (["a.csv", "mesa"], ["a.csv", "pipe"]),
        (["folder"], ["folder: ", "pipe"]),
        (["a.csv", "-o", "out.xls"], ["out.xls", "--format"]),
        (["a.csv", "--column", "x"], ["a.csv", "'x'", "(found: id, title)"]),
        (["a.csv", "--encoding", "klingon"], ["'--encoding'", "klingon", "utf-8"]),
        (["empty.csv"], ["empty.csv", "empty"]),
        (["a.csv", "--top", "0"], ["'--top'"]),
        (["a.csv", "--min-confidence", "1.5"], ["'--min-confidence'"]),
        (["a.csv", "--input-format", "xls"], ["'--input-format'"]),
        (["bad.gz"], ["bad.gz", "gzip"]),
        (["named.csv.gz"], ["named.csv.gz", "gzip"]),
        (["named.parquet"], ["named.parquet", "parquet"]),
    ],
)
def test_wrong_input_gives_one_message(
    model: Path, tmp_path: Path, arguments: list[str], facts: list[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.csv").write_bytes(TABLE)
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "bad.gz").write_bytes(gzip.compress(TABLE, mtime=0)[:-12])
    (tmp_path / "named.csv.gz").write_bytes(TABLE)
    (tmp_path / "named.parquet").write_bytes(TABLE)
    assert_refused(called(tmp_path, "predict", "--model", str(model), *arguments), *facts)


# Paths


@pytest.mark.parametrize(
    "name",
    [
        *("mi catalogo.csv", "MI CATALOGO.CSV.GZ", "precios.xlsx", "los precios.xlsx"),
        *(
            "catalogo.csv.bz2",
            "catalogo.csv.part",
            "catalogo.csv~",
            "'mi catalogo.csv'",
            "mi catalogo.gz",
            "catalogo.numbers",
            "catalogo.PQ",
            "lista de precios.pdf",
            "data/catalogo",
            "folder/mi catalogo",
            "./mi catalogo",
            "../x y",
        ),
        *(
            "/tmp/no such file",
            "/no such/my file",
            "~/mi catalogo",
            "C:\\datos\\mi catalogo",
            "file:///tmp/mi catalogo",
            "gs://bucket/catalogo",
            "loop",
            "dangling",
            "folder",
        ),
    ],
)
def test_a_path_that_does_not_exist_is_not_classified(
    model: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    done = called(tmp_path, "predict", "--model", str(model), name, "-o", "out.csv")
    assert_refused(done, f"{name}: ")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "title",
    [
        "Cable 3/4 pulgada",
        "Auto c/ gnc",
        "Mesa 1.5 m",
        "Sr. Mesa",
        "mesa\0/x y",
        "a/b " * 99,
        "/ 2",
    ],
)
def test_a_title_with_a_slash_or_a_point_is_classified(
    model: Path, tmp_path: Path, title: str
) -> None:
    done = called(tmp_path, "predict", "--model", str(model), title, "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    assert rows((tmp_path / "out.csv").read_bytes())[0]["title"] == title


# Standard streams


def shell(
    folder: Path, model: Path, script: str, name: str = "predict", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a script of the shell in which "$@" is a `rubro` command."""
    return subprocess.run(
        ["sh", "-c", script, "sh", *command(model, [], name)],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        check=False,
        timeout=60,
    )


def assert_one_message(done: subprocess.CompletedProcess[bytes], *facts: str) -> None:
    """Assert that a command ended with exit code 2 and one message that contains facts."""
    messages = done.stderr.decode().splitlines()
    assert done.returncode == 2, messages
    assert [line.startswith("error: ") for line in messages].count(True) == 1
    assert "Traceback" not in done.stderr.decode()
    for fact in facts:
        assert fact in messages[-1]


@pytest.mark.parametrize(
    ("script", "facts"),
    [
        ('"$@" <&-', ["standard input", "closed"]),
        ('"$@" -o out.csv <&-', ["standard input", "closed"]),
        ('"$@" a.csv >&-', ["standard output", "closed"]),
        ('"$@" mesa >&-', ["standard output", "closed"]),
        ('"$@" a.csv --format parquet >&-', ["standard output", "closed"]),
        ('"$@" a.csv > /dev/full', ["space"]),
        ('"$@" a.csv --format parquet > /dev/full', ["space"]),
        ('"$@" 0> /dev/null', ["descriptor"]),
        ('ulimit -f 1; "$@" many.csv -o out.csv', ["ulimit"]),
        ('ulimit -f 1; "$@" many.csv > out.txt', ["ulimit"]),
        ('ulimit -f 1; "$@" many.csv -o out.parquet', ["ulimit"]),
        ('cp many.csv in.csv; "$@" in.csv >> in.csv', ["input", "--output"]),
        ('cp many.csv in.csv; "$@" < in.csv >> in.csv', ["input", "--output"]),
        ('cp many.csv in.csv; ln in.csv b.csv; "$@" in.csv >> b.csv', ["input", "--output"]),
    ],
)
def test_an_unusable_stream_gives_one_message(
    tmp_path: Path, model: Path, script: str, facts: list[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(TABLE)
    many = b"id,title\n" + b"".join(b"%d,mesa %d\n" % (n, n * 7919) for n in range(3000))
    (tmp_path / "many.csv").write_bytes(many)
    assert_one_message(shell(tmp_path, model, script), *facts)
    kept = {"a.csv", "many.csv", "in.csv", "b.csv", "out.txt"}
    assert {file.name for file in tmp_path.iterdir()} <= kept
    if (tmp_path / "in.csv").exists():
        assert (tmp_path / "in.csv").read_bytes() == many


@pytest.mark.parametrize(
    "script", ['"$@" a.csv -o out.csv >&- <&-', '"$@" a.csv -o out.csv 2>&- >&- <&-']
)
def test_closed_streams_that_are_not_used_do_no_harm(
    tmp_path: Path, model: Path, script: str
) -> None:
    (tmp_path / "a.csv").write_bytes(TABLE)
    assert shell(tmp_path, model, script).returncode == 0
    assert categories((tmp_path / "out.csv").read_bytes()) == ["TABLES", "CHAIRS"]


@pytest.mark.parametrize("name", ["explain", "predict"])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_output_for_programs_is_utf_8(
    tmp_path: Path, model: Path, name: str, encoding: str
) -> None:
    script = '"$@" "Lámpara 😀"'
    done = shell(tmp_path, model, script, name, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "Lámpara" in done.stdout.decode()
    assert "😀" in done.stdout.decode()


def test_a_killed_run_ends_its_workers_quietly(tmp_path: Path, model: Path) -> None:
    with started(tmp_path, model, "-", "-o", "out.csv", "--processes", "2") as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"title\n" + b"mesa\n" * 5000)
        process.stdin.flush()
        assert wait_until(lambda: any(file.stat().st_size > 40_000 for file in tmp_path.iterdir()))
        process.kill()
        _, messages = process.stderr.read().split(b"\n", 1)  # after the detected format
    assert messages == b""


# Ends


@contextmanager
def started(folder: Path, model: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a `rubro predict` that waits for its standard input."""
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


def send_rows(folder: Path, process: subprocess.Popen[bytes], are_written: bool = True) -> None:
    """Send rows and wait until the output is opened and, if it is not buffered, has rows."""
    assert process.stdin is not None
    process.stdin.write(TABLE)
    process.stdin.flush()
    assert wait_until(
        lambda: any(path.stat().st_size or not are_written for path in folder.glob(".rubro-*"))
    )


def test_the_output_appears_only_when_it_is_complete(tmp_path: Path, model: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    with started(tmp_path, model, "-", "-o", "out.csv", "--batch", "1") as process:
        send_rows(tmp_path, process)
        assert (tmp_path / "out.csv").read_text() == "old"
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert categories((tmp_path / "out.csv").read_bytes()) == ["TABLES", "CHAIRS"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("out.csv", signal.SIGINT),
        ("out.csv", signal.SIGTERM),
        ("out.csv", signal.SIGHUP),
        ("out.csv", signal.SIGUSR1),
        ("out.jsonl.gz", signal.SIGTERM),
        ("out.parquet", signal.SIGTERM),
    ],
)
def test_an_interrupted_run_leaves_no_file(
    tmp_path: Path, model: Path, name: str, number: signal.Signals
) -> None:
    with started(tmp_path, model, "-", "-o", name, "--batch", "1") as process:
        send_rows(tmp_path, process, are_written=name == "out.csv")
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    _, *messages = errors.decode().splitlines()  # the first one names the detected format
    assert [number.name in message for message in messages] == [True] * (number != signal.SIGINT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_an_error_in_a_later_row_leaves_no_file(rubro: Command, tmp_path: Path, name: str) -> None:
    done = rubro("-", "-o", name, "--batch", "1", stdin=TABLE + b'3,"open\n')
    assert done.returncode == 2
    _, message = done.stderr.decode().strip().split("\n")
    assert message.startswith("error: standard input:4: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_closed_output_pipe_ends_the_command_quietly(
    tmp_path: Path, model: Path, kind: str
) -> None:
    (tmp_path / "a.txt").write_text("mesa\n" * 100_000)
    with started(tmp_path, model, "a.txt", "--format", kind) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 141
    assert errors == b""


# Terminals


def shown_in_terminal(
    folder: Path, model: Path, arguments: list[str], keys: Sequence[tuple[str, bytes]] = ()
) -> tuple[int, str]:
    """Return the exit code of `rubro predict` in a terminal, and its output without colours."""
    code, shown = in_terminal(folder, command(model, arguments), keys)
    return code, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)


def test_a_terminal_shows_bars(tmp_path: Path, model: Path) -> None:
    titles = ["Mesa\x1b[2J \u202eratona", "", "[red]silla :smile:"]
    code, shown = shown_in_terminal(tmp_path, model, [*titles, "--top", "2"])
    assert code == 3
    assert re.search(r"Mesa·\[2J ·ratona +TABLES +\d\d\.\d% █+", shown)
    assert re.search(r" +CHAIRS +\d\.\d% [█-▏]", shown)
    assert "empty" in shown
    assert "[red]silla :smile:" in shown


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_row_fits_the_terminal_with_its_percentage_next_to_the_bar(
    tmp_path: Path, model: Path, columns: int
) -> None:
    titles = ["Mesa ratona de madera de pino macizo con dos cajones y estante", "silla"]
    _, shown = in_terminal(tmp_path, command(model, titles), columns=columns)
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown).splitlines()
    assert all(len(line) <= columns for line in lines)
    assert sum(bool(re.search(r"\d\.\d% █", line)) for line in lines) == len(titles)
    words = {word for line in lines for word in line.split()}
    assert words >= {*titles[0].split(), "TABLES", "CHAIRS"}


def test_the_prompt_marks_unknown_words(tmp_path: Path, model: Path) -> None:
    keys = [("title:", b"Mesa xyzzy\r"), ("TABLES.*title:", b"q\r")]
    code, shown = in_terminal(tmp_path, command(model, []), keys)
    assert code == 0
    assert re.search(r"\x1b\[0;33;4m[xyz]", shown)  # underlined
    assert not re.search(r"\x1b\[0;33;4mM", shown)
    assert re.search(r"does not know: xyzzy\b", shown)


@pytest.mark.parametrize(
    ("title", "words"),
    [("Mesa xyz, silla", ["xyz", ","]), ("MESÁ  Xyz", ["Xyz"]), ("mesa", []), ("", [])],
)
def test_unknown_words_are_found_in_the_text_as_typed(title: str, words: list[str]) -> None:
    found = unknown_words(title, {"mesa", "silla"})
    assert [title[start:end] for start, end in found] == words


def test_a_terminal_shows_few_rows_as_a_table_and_many_as_csv(tmp_path: Path, model: Path) -> None:
    (tmp_path / "few.csv").write_bytes(TABLE)
    assert "█" in shown_in_terminal(tmp_path, model, ["few.csv"])[1]
    (tmp_path / "many.txt").write_text("mesa\n" * 100)
    assert shown_in_terminal(tmp_path, model, ["many.txt"])[1].count("mesa,TABLES,0.") == 100


def test_a_progress_bar_is_shown_while_a_file_is_written(tmp_path: Path, model: Path) -> None:
    (tmp_path / "a.txt").write_text("mesa\n" * 20_000)
    code, shown = shown_in_terminal(tmp_path, model, ["a.txt", "-o", "out.csv"])
    assert code == 0
    assert re.search(r"predicting .*[\d,]+ rows, [\d,]+/s", shown)
    assert "out.csv: 20,000 rows" in shown


def test_a_terminal_does_not_show_parquet(tmp_path: Path, model: Path) -> None:
    code, shown = shown_in_terminal(tmp_path, model, ["mesa", "--format", "parquet"])
    assert code == 2
    assert "parquet" in shown and "--output" in shown


@pytest.mark.parametrize("end", [b"q\r", b"\x04", b"\x03"])
def test_a_terminal_prompts_for_titles(tmp_path: Path, model: Path, end: bytes) -> None:
    prompt = "MUGS.*title:"
    keys = [("title:", b"mesas\x7f\r"), (prompt, b"\x1b[A\x01la \r"), (prompt, end)]
    code, shown = shown_in_terminal(tmp_path, model, [], keys)
    assert code == 0
    assert len(re.findall(r"\d\d\.\d% █+.? +TABLES", shown)) == 2
    assert (tmp_path / "state/rubro/titles").read_text().count("\n+") == 2


# Imports


def modules_of(folder: Path, *arguments: str) -> set[str]:
    """Return the names of the packages that a command imports."""
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
    commands = {name for name in names if name.removeprefix("rubro.cli.") in COMMANDS}
    assert commands <= {f"rubro.cli.{arguments[0]}"}
    return {name.partition(".")[0] for name in names}


PIPELINE = {"torch", "gensim", "lightning", "sklearn", "scipy", "pandas", "dvc", "ruamel", "yaml"}


@pytest.mark.parametrize(
    ("titles", "allowed"),
    [(["mesa", "silla"], set()), (["a.csv", "-o", "o.jsonl"], set()), (["a.parquet"], {"pyarrow"})],
)
def test_predicting_imports_only_the_packages_it_needs(
    tmp_path: Path, model: Path, titles: list[str], allowed: set[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(TABLE)
    pd.DataFrame({"title": ["mesa"]}).to_parquet(tmp_path / "a.parquet")
    modules = modules_of(tmp_path, "predict", "--model", str(model), *titles)
    assert modules >= {"numpy"} | allowed
    assert not modules & ({*PIPELINE, "pyarrow", "prompt_toolkit"} - allowed)


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["--version"]])
def test_help_imports_no_large_package(tmp_path: Path, arguments: list[str]) -> None:
    modules = modules_of(tmp_path, *arguments)
    assert not modules & {*PIPELINE, "numpy", "rich", "pyarrow", "prompt_toolkit"}
