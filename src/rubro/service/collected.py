"""Collect the corrections of everybody who uses the page in CSV files, one file per day."""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from rubro.base.errors import DataError
from rubro.base.outputs import replacing

try:
    import fcntl
except ImportError:  # Windows, where only one service may write into the folder
    fcntl = None  # type: ignore[assignment]

_FILES = "corrections-????-??-??*.csv"


class StoredRow(NamedTuple):
    """Place of a row.

    Attributes:
        file: Name of the file.
        line: Line in the file, from 1.
    """

    file: str
    line: int


class CollectedCorrections:
    """Folder of CSV files with corrections, which `data.corrections` of the pipeline reads.

    Several services may share the folder. They take turns by locking the file .lock in it. Each row
    is one line, because white space in a text becomes a single space.

    Args:
        folder: Folder, which is created if it is missing.

    Raises:
        DataError: The folder cannot be created or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                pass
        except OSError as error:
            raise DataError(
                f"{folder}: {error.strerror}; choose another folder with --corrections"
            ) from None

    def add(self, row: Mapping[str, str]) -> StoredRow:
        """Append a row to the file of this day (UTC), and return when it is on the disk.

        Args:
            row: Texts by the name of their column. If the file of the day has other columns, another
                file is used.

        Raises:
            OSError: The file cannot be written; it has the same content as before.
        """
        header = [*row]
        texts = [_one_line(text) for text in row.values()]
        with self._locked():
            path = self._file_of_today(header)
            with open(path, "a+b", buffering=0) as file:
                file.seek(0)
                before = file.read()
                # A power failure may have cut the last line. If it ends in a quoted text, it is removed,
                # because it would swallow the next ones; every row is one line.
                if before.count(b'"') % 2:
                    before = before[: before.rfind(b"\n") + 1]
                    file.truncate(len(before))
                new = b"" if before else _csv_line(header)
                new += b"\n" if before and not before.endswith(b"\n") else b""
                new += _csv_line(texts)
                try:
                    if file.write(new) < len(new):
                        raise OSError("the disk is full")
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(len(before))
                    raise
        return StoredRow(path.name, (before + new).count(b"\n"))

    def remove(self, row: Mapping[str, str]) -> StoredRow | None:
        """Remove the last row with the same texts, and return where it was.

        Args:
            row: Texts by the name of their column; a missing column is an empty text.

        Returns:
            Place before the removal; None if no file contains such a row.

        Raises:
            OSError: A file cannot be read or written.
        """
        texts = {name: _one_line(text) for name, text in row.items() if text.strip()}
        with self._locked():
            for path in sorted(self._folder.glob(_FILES), reverse=True):
                lines = path.read_bytes().splitlines(keepends=True)
                reader = csv.reader(line.decode(errors="replace") for line in lines)
                header, place = next(reader, []), None
                end = reader.line_num
                with suppress(csv.Error):  # a file that was edited may contain an open quote
                    for cells in reader:
                        found = zip(header, cells, strict=False)
                        if {name: text for name, text in found if text} == texts:
                            place = slice(end, reader.line_num)
                        end = reader.line_num
                if place is not None:
                    del lines[place]
                    with replacing(path) as new:
                        new.write_bytes(b"".join(lines))
                    return StoredRow(path.name, place.start + 1)
        return None

    def _file_of_today(self, header: Sequence[str]) -> Path:
        """Return the file to append to: the last one of this day, or a new one if columns differ."""
        day = datetime.now(UTC).date().isoformat()
        path, number = self._folder / f"corrections-{day}.csv", 1
        while path.is_file() and path.stat().st_size:
            with open(path, "rb") as file:
                if file.readline() == _csv_line(header):
                    break
            number += 1
            path = self._folder / f"corrections-{day}_{number}.csv"
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread, open(self._folder / ".lock", "ab") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _csv_line(texts: Sequence[str]) -> bytes:
    line = StringIO()
    csv.writer(line, lineterminator="\n").writerow(texts)
    return line.getvalue().encode()
