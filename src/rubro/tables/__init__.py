"""Reading and writing tables: csv, tsv, json, jsonl, parquet and txt."""
