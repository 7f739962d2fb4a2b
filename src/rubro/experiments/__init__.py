"""Run DVC experiments, compare their metrics, and search for hyperparameters."""
