"""DVC experiments: compare, sweep and search."""
