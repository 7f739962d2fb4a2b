"""Titles as arrays of integers, and word vectors."""
