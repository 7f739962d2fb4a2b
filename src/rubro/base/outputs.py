"""Check output files before work begins, and replace them atomically."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from shutil import copyfileobj
from tempfile import gettempdir

from rubro.base.errors import DataError

try:
    import fcntl
except ImportError:  # Windows, where leftovers of killed runs are not removed
    fcntl = None  # type: ignore[assignment]

_LEFTOVERS = ".rubro-*.partial"
# A run on another machine may hold a lock that cannot be seen here.
_MAX_AGE = 24 * 3600
# Errors for a mounted file, and for the file of another user in a shared folder.
_NOT_REPLACEABLE = (errno.EBUSY, errno.EPERM, errno.EACCES)


def output_path(path: Path, makes_folder: bool = False) -> Path:
    """Return the file to replace for an output that the user named, with links resolved.

    Call this function before long work, so that an output that cannot be written is refused early.

    Args:
        path: Path of a file that may not exist, of a link, or of a device or a pipe.
        makes_folder: Whether the folder of the file will be created if it is missing.

    Raises:
        DataError: The path is a folder, a read-only file or a link to itself, or its folder does
            not exist or cannot be written.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        target = path.resolve()
        folder = target.parent
        while makes_folder and not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; create it first") from None
        if not os.access(folder, os.W_OK):
            raise DataError(
                f"{folder}: this folder is read-only; name a file in another folder"
            ) from None
        return target
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name another output file") from None
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: this is a folder; name a file in it")
    # The owner and root may replace a file that is marked as read-only, but should not.
    if not mode & 0o222 or not os.access(path, os.W_OK):
        remedy = "remove the link" if path.is_symlink() else "make it writable (chmod u+w)"
        raise DataError(f"{path}: this file is read-only; {remedy} or name another file")
    return path.resolve() if stat.S_ISREG(mode) else path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file atomically, after the body of the `with` statement has written a new one.

    If the path is a link, for instance into DVC's cache, the link is replaced and its target stays
    unchanged. A writable file keeps its permissions. Devices and pipes are written directly. A file
    that cannot be replaced, such as a mounted file, is overwritten with the complete new content.

    Args:
        path: Path of the file to replace; its folder is created if missing.

    Yields:
        Path of an empty temporary file, or of the device, to be written.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device or a pipe
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_file(path) as partial:
        with suppress(FileNotFoundError):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & stat.S_IWUSR and mode != partial.stat().st_mode:
                partial.chmod(stat.S_IMODE(mode))
        yield partial
        if partial.parent == path.parent:
            try:
                partial.replace(path)
                return
            except OSError as error:
                if error.errno not in _NOT_REPLACEABLE or path.is_symlink():
                    raise
        with open(partial, "rb") as content, open(path, "r+b") as file:
            _lock(file.fileno())
            copyfileobj(content, file)
            file.truncate()


@contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    """Create a locked file with a unique name, and remove it at the end of the block."""
    folder = path.parent
    if path.is_file() and not path.is_symlink() and not os.access(folder, os.W_OK):
        folder = Path(gettempdir())
    _remove_leftovers(folder)
    with ExitStack() as stack:
        while True:
            partial = folder / f".rubro-{_kernel()}-{os.urandom(8).hex()}.partial"
            file = open(partial, "xb")  # noqa: SIM115 (never an existing file or a link)
            stack.callback(partial.unlink, missing_ok=True)
            if fcntl is None:
                file.close()  # Windows does not rename an open file
                break
            stack.enter_context(file)
            _lock(file.fileno())
            if partial.exists():
                break  # otherwise, another run has just removed it as a leftover
        yield partial


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed runs, but keep the files of running processes.

    A running process holds a lock on its file. Processes on other machines may hold locks that
    cannot be seen here, so their files are removed only after a day.
    """
    for leftover in folder.glob(_LEFTOVERS) if fcntl else ():
        with suppress(OSError), open(leftover, "r+b", opener=_open_plain_file) as file:
            is_dead = leftover.name.startswith(f".rubro-{_kernel()}-")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:  # this folder has no locks
                is_dead = False
            if is_dead or time.time() - os.fstat(file.fileno()).st_mtime > _MAX_AGE:
                leftover.unlink()


def _open_plain_file(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _lock(file: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # some network folders have no locks
            fcntl.flock(file, fcntl.LOCK_EX)


@cache
def _kernel() -> str:
    """Return a name for the running kernel, which containers share and other machines do not."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return os.urandom(4).hex()
