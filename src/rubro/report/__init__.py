"""Create the report of a pipeline run: one web page with its metrics and charts."""
