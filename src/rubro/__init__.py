"""Reproducible classification of marketplace product titles into categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rubro.prediction.classifier import Classifier

__version__ = "0.2.0"
__all__ = ["Classifier"]


def __getattr__(name: str) -> Any:
    """Import Classifier on first use, so that commands that do not predict start faster."""
    if name == "Classifier":
        from rubro.prediction.classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
