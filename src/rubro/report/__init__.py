"""Report of a run: its metrics as one web page with charts."""
