"""Read raw title files, check their labels, and split their rows into three data sets."""
