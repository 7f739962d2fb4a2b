"""The files that commands write: refused early, written through links, never in place of a device."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from support.keyword_model import assert_refused, called

pytest_plugins = ["support.keyword_model"]

# Commands whose other arguments are wrong, too; the output is checked before them.
COMMANDS = {
    "predict": ["none.csv", "--model", "none", "--format", "csv", "-o"],
    "evaluate": ["none.csv", "--model", "none", "--json"],
    "thresholds": ["none.csv", "--model", "none", "-o"],
    "report": ["-o"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["read_only", "loop", "folder", "to_read_only", "file/a"])
def test_an_unusable_output_is_refused_before_work_begins(
    tmp_path: Path, command: str, name: str
) -> None:
    (tmp_path / "none.csv").write_text("title\nmesa\n")
    (tmp_path / "read_only").write_text("old")
    (tmp_path / "read_only").chmod(0o444)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to_read_only").symlink_to("read_only")
    (tmp_path / "file").touch()
    assert_refused(called(tmp_path, command, *COMMANDS[command], name), f"{name}: ")
    assert (tmp_path / "read_only").read_text() == "old"


def test_metrics_are_written_through_a_link_and_into_a_pipe(tmp_path: Path, model: Path) -> None:
    (tmp_path / "a.csv").write_text("title,category\nmesa,TABLES\nsilla,CHAIRS\n")
    (tmp_path / "link.json").symlink_to("real.json")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        for name in ("link.json", "pipe"):
            done = called(tmp_path, "evaluate", "--model", str(model), "a.csv", "--json", name)
            assert done.returncode == 0, done.stderr
        content = os.read(reader, 2**16)
    finally:
        os.close(reader)
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "pipe").is_fifo()
    assert json.loads((tmp_path / "real.json").read_text()) == json.loads(content)


def test_a_full_device_gives_one_message_and_stays(tmp_path: Path, model: Path) -> None:
    (tmp_path / "a.csv").write_text("title,category\nmesa,TABLES\nsilla,CHAIRS\n")
    full = tmp_path / "full"
    try:
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))  # as /dev/full
        full.open("wb").close()
    except PermissionError:
        pytest.skip("needs the right to create devices")
    for arguments in (["evaluate", "--json"], ["predict", "--format", "csv", "-o"]):
        name, *options = arguments
        done = called(tmp_path, name, "--model", str(model), "a.csv", *options, "full")
        assert_refused(done, "space")
        assert full.is_char_device()
