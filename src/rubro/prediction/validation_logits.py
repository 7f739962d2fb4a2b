"""Files of the members' logits for validation titles, from before a final fit on these titles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rubro.base.files import read_tensors, write_tensors

_FOLDER = Path("data/validation_logits")


def save_validation_logits(name: str, logits: np.ndarray) -> None:
    """Write the logits of a member, float32 (titles, classes)."""
    write_tensors(_FOLDER / f"{name}.safetensors", {"logits": logits})


def load_validation_logits(
    names: Iterable[str],
    project: Path = Path(),
    shape: tuple[int | None, int | None] = (None, None),
) -> dict[str, np.ndarray]:
    """Read the logits of members, float32 (titles, classes), by name.

    Args:
        names: Names of the members.
        project: Folder of the project that the stages ran in.
        shape: Numbers of titles and categories; None = any number.

    Raises:
        DataError: A file is missing or damaged, or contains logits of another shape.
    """
    layout = {"logits": ("F32", shape)}
    folder = project / _FOLDER
    return {name: read_tensors(folder / f"{name}.safetensors", layout)["logits"] for name in names}
