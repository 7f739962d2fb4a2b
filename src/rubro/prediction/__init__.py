"""Probabilities of categories."""
