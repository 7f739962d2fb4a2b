"""Text, parameters, files, messages, errors and parallelism, used by all other folders."""
