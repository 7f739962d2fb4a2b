"""Outputs of a stage whose network is not trained, because its number of epochs is 0."""

import shutil
from pathlib import Path

import process_setup  # noqa: F401

from rubro.base.console import say
from rubro.base.files import write_json, write_tensors


def write_untrained(name: str) -> None:
    """Write the outputs of the stage train_NAME without a model."""
    say(f"train_{name}.max_epochs is 0, so this model is not trained")
    write_note(Path("models") / name)
    write_note(Path("metrics/curves") / name)
    write_tensors(Path(f"data/validation_logits/{name}.safetensors"), {})
    write_json(Path(f"metrics/train_{name}.json"), {})


def write_note(folder: Path) -> None:
    """Replace a folder with one that contains only a note, because DVC does not restore empty folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "not_trained.txt").write_text("Not trained, because the number of epochs is 0.\n")
