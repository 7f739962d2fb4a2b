"""Outputs of a stage whose model is not a member of the ensemble, so that it is not trained."""

import shutil
from pathlib import Path

import process_setup  # noqa: F401

from rubro.base.console import say
from rubro.base.files import write_json, write_tensors
from rubro.base.params import Params

NETWORKS = ("mlp", "cnn")


def is_left_out(name: str, params: Params) -> bool:
    """Return whether a model is not in ensemble.members, and write its outputs without a model then.

    Args:
        name: Name of the model.
        params: All parameters of params.yaml.
    """
    if name in params.ensemble.members:
        return False
    say(f"{name}: not trained, because it is not in ensemble.members")
    write_note(Path("models") / name)
    if name in NETWORKS:
        write_note(Path("metrics/curves") / name)
    write_tensors(Path(f"data/validation_logits/{name}.safetensors"), {})
    write_json(Path(f"metrics/train_{name}.json"), {})
    return True


def write_note(folder: Path) -> None:
    """Replace a folder by one with only a note, because DVC does not restore empty folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "not_trained.txt").write_text("Not needed by a model in ensemble.members.\n")
