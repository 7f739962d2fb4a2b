"""Outputs appear complete, under unique temporary names, and replace earlier files safely."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rubro.base.errors import DataError
from rubro.base.outputs import output_path, replacing

AT_ONCE = 10
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
NO_NAMESPACE = 77


def write(path: Path, text: str) -> None:
    with replacing(path) as partial, open(partial, "w") as file:
        for _ in range(20):
            file.write(text)
            file.flush()


def partial_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(".rubro-*"))


# Several runs at once


def start_as_process_1(work: Callable[[], None]) -> int:
    """Run a function in a process with the id 1, as in a container."""
    outer = os.fork()
    if outer:
        return outer
    code = 1
    try:
        unshare = ctypes.CDLL(None).unshare
        if unshare(CLONE_NEWPID) and unshare(CLONE_NEWUSER | CLONE_NEWPID):
            os._exit(NO_NAMESPACE)
        inner = os.fork()
        if inner == 0:
            assert os.getpid() == 1
            work()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    finally:
        os._exit(code)


@pytest.mark.skipif(sys.platform != "linux", reason="needs namespaces of Linux")
@pytest.mark.parametrize("pairs", [AT_ONCE, pytest.param(200, marks=pytest.mark.slow)])
def test_runs_with_the_same_process_number_write_only_their_own_rows(
    tmp_path: Path, pairs: int
) -> None:
    for first in range(0, pairs, AT_ONCE):
        running = []
        for number in range(first, first + AT_ONCE):
            for shop in "ab":

                def work(number: int = number, shop: str = shop) -> None:
                    write(tmp_path / f"{shop}{number}.csv", f"{shop}{number}\n")
                    write(tmp_path / "both.csv", f"{shop}{number}\n")

                running.append(start_as_process_1(work))
        codes = {os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in running}
        if codes == {NO_NAMESPACE}:
            pytest.skip("needs the right to create namespaces")
        assert codes == {0}
        lines = (tmp_path / "both.csv").read_text().splitlines()
        assert len(lines) == 20 and len(set(lines)) == 1
    for number in range(pairs):
        for shop in "ab":
            assert (tmp_path / f"{shop}{number}.csv").read_text() == f"{shop}{number}\n" * 20
    assert partial_files(tmp_path) == []


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that begins to replace a file, and then waits until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from rubro.base.outputs import replacing\n"
        "with replacing(Path(sys.argv[1])): print('started', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_next_run_removes_leftovers_of_killed_but_not_of_running_processes(
    tmp_path: Path,
) -> None:
    with writing(tmp_path / "a.csv") as process:
        (living,) = partial_files(tmp_path)
        write(tmp_path / "b.csv", "b\n")
        assert partial_files(tmp_path) == [living]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert partial_files(tmp_path) == [living]
    write(tmp_path / "b.csv", "b\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.csv"]


def test_leftovers_of_other_machines_are_removed_after_a_day(tmp_path: Path) -> None:
    fresh, old = tmp_path / ".rubro-other-1.partial", tmp_path / ".rubro-other-2.partial"
    for file in (fresh, old):
        file.write_text("rows")
    os.utime(old, (time.time() - 90_000,) * 2)
    write(tmp_path / "a.csv", "a\n")
    assert partial_files(tmp_path) == [fresh]


def test_leftovers_that_are_not_plain_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    (tmp_path / ".rubro-link.partial").symlink_to("mine.csv")
    os.mkfifo(tmp_path / ".rubro-pipe.partial")
    (tmp_path / ".rubro-folder.partial").mkdir()
    write(tmp_path / "a.csv", "a\n")
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert (tmp_path / "a.csv").exists()


# Links, permissions, devices and mounts


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_into_a_cache_is_replaced(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    cached, output = tmp_path / "cached", tmp_path / "output"
    cached.write_text("cached")
    cached.chmod(0o444)
    link(cached, output)
    write(output, "new\n")
    assert cached.read_text() == "cached"
    assert output.read_text() == "new\n" * 20
    assert not output.is_symlink() and output.stat().st_mode & 0o200


def test_a_file_keeps_its_permissions_also_while_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch(0o600)
    with replacing(tmp_path / "a.csv") as partial:
        assert partial.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o600


def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(output_path(pipe), "row\n")
        assert os.read(reader, 1000) == b"row\n" * 20
    finally:
        os.close(reader)
    assert [file.name for file in tmp_path.iterdir()] == ["pipe.csv"] and pipe.is_fifo()


def test_an_output_is_found_through_links(tmp_path: Path) -> None:
    (tmp_path / "one.csv").symlink_to("two.csv")
    (tmp_path / "two.csv").symlink_to("three.csv")  # does not exist
    assert output_path(tmp_path / "one.csv") == tmp_path / "three.csv"
    write(tmp_path / "three.csv", "3\n")
    assert output_path(tmp_path / "one.csv") == tmp_path / "three.csv"


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("folder", "folder: "),
        ("missing/a.csv", "missing: "),
        ("loop", "loop: "),
        ("read_only", "read_only: "),
        ("to_read_only", "to_read_only: "),
        ("file/a.csv", "file/a.csv: "),
        ("x" * 300, "xxx: "),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, name: str, fact: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    (tmp_path / "read_only").touch(0o444)
    (tmp_path / "to_read_only").symlink_to("read_only")
    with pytest.raises(DataError, match=fact):
        output_path(tmp_path / name)


def test_a_missing_folder_that_will_be_created_is_not_an_error(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/a.csv"
    assert output_path(path, makes_folder=True) == path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_read_only", [False, True])
def test_a_mounted_file_is_overwritten(tmp_path: Path, is_read_only: bool) -> None:
    folder, real = tmp_path / "folder", tmp_path / "real.csv"
    folder.mkdir()
    real.write_text("old and longer than the new rows\n" * 10)
    script = 'set -e; mount -t tmpfs tmpfs "$1"; touch "$1/a.csv"; mount --bind "$2" "$1/a.csv"'
    script += '; mount -o remount,ro "$1"' * is_read_only
    try:
        done = subprocess.run(["sh", "-c", script, "sh", folder, real], check=False)
        if done.returncode:
            pytest.skip("needs the right to mount")
        write(output_path(folder / "a.csv"), "new\n")
        assert real.read_text() == "new\n" * 20
        assert [file.name for file in folder.iterdir()] == ["a.csv"]
    finally:
        for mounted in (folder / "a.csv", folder):
            subprocess.run(["umount", str(mounted)], check=False)
