"""A peer is ahead in a measure if no model of rubro is as accurate and as good."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from front import measures_ahead


def row(name: str, accuracy: float, seconds: float, rate: float, size: float) -> dict[str, object]:
    return {
        "name": name,
        "accuracy": accuracy,
        "seconds": seconds,
        "titles_per_second": rate,
        "model_megabytes": size,
    }


def test_a_peer_is_ahead_if_no_model_is_as_accurate_and_as_good() -> None:
    ours = [
        row("rubro, ensemble", 0.95, 60, 10_000, 80),
        row("rubro, svm", 0.94, 8, 40_000, 8),
    ]
    everywhere = ["seconds", "titles_per_second", "model_megabytes"]
    assert measures_ahead(row("as the SVM", 0.94, 8, 40_000, 8), ours) == []
    assert measures_ahead(row("more accurate", 0.96, 90, 9_000, 90), ours) == everywhere
    assert measures_ahead(row("small", 0.90, 9, 30_000, 1), ours) == ["model_megabytes"]
