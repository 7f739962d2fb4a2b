"""What every other part builds on: text, parameters, files, messages, errors."""
