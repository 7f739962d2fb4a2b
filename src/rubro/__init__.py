"""Reproducible classification of marketplace product titles into categories."""

__version__ = "0.1.0"
