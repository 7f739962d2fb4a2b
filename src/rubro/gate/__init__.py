"""Comparison of metrics with a Git revision."""
