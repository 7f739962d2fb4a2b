"""Text, parameters, files, messages and errors, for every other part."""
