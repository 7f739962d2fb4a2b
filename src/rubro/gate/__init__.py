"""Check whether metrics became worse than in a Git revision, for `rubro gate`."""
