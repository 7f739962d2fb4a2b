"""Save and find checkpoints for resuming interrupted training runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import Checkpoint

from rubro import __version__
from rubro.base.console import say
from rubro.base.outputs import replacing
from rubro.training.data_parallel import rank_and_count

_FOLDER = ".checkpoints"
_MAX_FOLDERS = 3
INTERVAL = "RUBRO_CHECKPOINT_SECONDS"
_DEFAULT_INTERVAL = 20.0


@contextmanager
def checkpoint_folder(name: str, settings: dict[str, Any], inputs: list[Path]) -> Iterator[Path]:
    """Create or reopen the folder for the checkpoints of a training run.

    Each combination of arguments has its own folder, which is removed when the run succeeds.
    Only the latest three folders of interrupted runs with the same name are kept. If another
    process is already training with the same arguments, a temporary folder is used.

    Args:
        name: Name of the model.
        settings: Parameters that affect the result, as values for JSON.
        inputs: Files and folders that affect the result, including the code.

    Yields:
        Path of an existing folder, named after a hash of all arguments.
    """
    checkpoints = _checkpoints().resolve()  # Lightning resumes only at the same path
    folder = checkpoints / f"{name}-{_digest({**settings, 'in': str(checkpoints)}, inputs)}"
    with ExitStack() as stack:
        try:
            stack.enter_context(_lock_of(folder).acquire(blocking=False))
        except Timeout:
            yield Path(stack.enter_context(TemporaryDirectory()))
            return
        folder.mkdir(exist_ok=True)
        _remove_old(folder)
        yield folder
        shutil.rmtree(folder)


def _checkpoints() -> Path:
    """Return the parent folder of all checkpoint folders.

    It is not an output of a stage, because DVC removes outputs before each run. An experiment that
    runs in a copy of the repository, below .dvc/tmp, uses the folder of the repository itself,
    because the copy is removed after an interruption.
    """
    here = Path.cwd()
    for parent in here.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2] / _FOLDER
    return here / _FOLDER


def _digest(settings: dict[str, Any], inputs: list[Path]) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps([__version__, torch.__version__, settings], sort_keys=True).encode())
    for path in inputs:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.parent.name != "__pycache__":
                digest.update(file.name.encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _lock_of(folder: Path) -> FileLock:
    """Return the lock of a checkpoint folder, released when its process ends or is killed."""
    locks = folder.parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / folder.name)


def _remove_old(folder: Path) -> None:
    """Remove a model's oldest checkpoint folders, except folders that a process is using."""
    name = folder.name.rpartition("-")[0]
    others = []
    for other in set(folder.parent.glob(f"{name}-*")) - {folder}:
        with suppress(FileNotFoundError):  # its training run may have just ended
            others.append((other.stat().st_mtime, other))
    for _, other in sorted(others)[: -(_MAX_FOLDERS - 1)]:
        with suppress(Timeout, FileNotFoundError), _lock_of(other).acquire(blocking=False):
            shutil.rmtree(other)


class ResumeCheckpoint(Checkpoint):  # Lightning calls Checkpoint last, after all other callbacks
    """Save all that is needed to resume training at the end of an epoch, in process 0.

    Args:
        folder: Path of the folder, from checkpoint_folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "last.ckpt"
        self._interval = float(os.environ.get(INTERVAL, _DEFAULT_INTERVAL))
        self._saved_at = time.monotonic()

    @property
    def checkpoint(self) -> Path | None:
        """Path of the undamaged checkpoint of an earlier run; None = no checkpoint."""
        if not self._file.exists():
            return None
        try:
            torch.load(self._file, weights_only=True, mmap=True)
        except (EOFError, OSError, RuntimeError, UnpicklingError) as error:
            say(f"{self._file} is damaged ({str(error)[:100]}); the training starts over")
            return None
        return self._file

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        stopping = trainer.early_stopping_callback
        if stopping is not None and stopping.stopped_epoch:
            trainer.should_stop = True
        if rank_and_count()[0] > 0 and trainer.ckpt_path:  # a copy, which has been loaded
            Path(trainer.ckpt_path).unlink()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        due = time.monotonic() - self._saved_at >= self._interval  # because writing takes time too
        if due and rank_and_count()[0] == 0:
            with replacing(self._file) as partial:
                trainer.save_checkpoint(partial, weights_only=False)
            self._saved_at = time.monotonic()
