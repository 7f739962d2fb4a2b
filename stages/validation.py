"""Logits of the members for the validation titles, from before a final fit on these titles."""

from collections.abc import Sequence
from pathlib import Path

import process_setup  # noqa: F401

import numpy as np

from rubro.base.files import read_tensors, write_tensors

FOLDER = Path("data/validation_logits")


def write_validation_logits(name: str, logits: np.ndarray) -> None:
    """Write the logits of a member, float32 (titles, classes)."""
    write_tensors(FOLDER / f"{name}.safetensors", {"logits": logits})


def read_validation_logits(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the logits of members, float32 (titles, classes), by name.

    Raises:
        DataError: A file is missing or damaged.
    """
    layout = {"logits": ("F32", (None, None))}
    return {n: read_tensors(FOLDER / f"{n}.safetensors", layout)["logits"] for n in names}
