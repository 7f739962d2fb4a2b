"""Metrics, confidence intervals and tables of predictions, and confidence thresholds."""
