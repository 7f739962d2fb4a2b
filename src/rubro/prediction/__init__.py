"""Trained models in numpy: model folders, predictions and explanations."""
