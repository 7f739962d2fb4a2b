"""Compiled inner loops of training, one operation per file."""
