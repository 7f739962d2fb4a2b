"""Prediction with model folders, in numpy."""
