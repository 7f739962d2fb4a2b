"""Going on where an interrupted training stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from rubro import __version__

# Outside the stage's outputs, which DVC removes before each run.
FOLDER = Path(".checkpoints")
INTERVAL = "RUBRO_CHECKPOINT_SECONDS"
_DEFAULT_INTERVAL = 20.0


def resume_folder(name: str, settings: dict[str, Any], inputs: list[Path]) -> Path:
    """The folder for the checkpoints of one training: another training has another.

    Folders of earlier trainings of the same name, which nothing can go on from, are removed.

    Args:
        name: of the model.
        settings: every parameter that the result depends on, as plain values.
        inputs: files and folders that the result depends on, code included.

    Returns:
        A folder that exists, named by a hash of all this.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([__version__, torch.__version__, settings], sort_keys=True).encode())
    for path in inputs:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(file.name.encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    folder = FOLDER / f"{name}-{digest.hexdigest()[:16]}"
    for other in FOLDER.glob(f"{name}-*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class ResumePoint(Checkpoint):  # Lightning calls these last, when all else knows the epoch
    """Saves the whole state of a training at the end of an epoch, and brings it back.

    Args:
        folder: from resume_folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "last.ckpt"
        self._interval = float(os.environ.get(INTERVAL, _DEFAULT_INTERVAL))
        self._saved_at = time.monotonic()
        self._random_state: torch.Tensor | None = None

    @property
    def checkpoint(self) -> Path | None:
        """What to go on from, if an earlier run left it."""
        return self._file if self._file.exists() else None

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._random_state = checkpoint["random_state"]

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        stopping = trainer.early_stopping_callback
        if stopping is not None and stopping.stopped_epoch:
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._random_state is not None:
            torch.set_rng_state(self._random_state)
            self._random_state = None

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # Writing takes time too.
        if time.monotonic() - self._saved_at >= self._interval:
            partial = self._file.with_suffix(".partial")
            trainer.save_checkpoint(partial, weights_only=False)
            partial.replace(self._file)
            self._saved_at = time.monotonic()
