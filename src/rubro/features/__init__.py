"""Titles as arrays of integers."""
