"""Files that stages write."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from rubro.base.files import write_json, write_tensors


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_file_mode_follows_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        write_tensors(tmp_path / "a.safetensors", {"a": np.zeros(2, np.float32)})
    finally:
        os.umask(before)
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask
