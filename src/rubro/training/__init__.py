"""Fitting embeddings and classifiers."""
