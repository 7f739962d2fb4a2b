"""Fixtures and functions that several test files share."""
