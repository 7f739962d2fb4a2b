"""Files whose bytes depend on their content alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write JSON, replacing the file in one step.

    Args:
        path: where; its folder is made if missing.
        content: plain values; NaN and infinity, which JSON does not have, are an error.

    Raises:
        ValueError: content holds NaN or infinity.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
