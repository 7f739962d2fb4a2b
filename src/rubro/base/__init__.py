"""Basic code for all other folders: text, parameters, files, messages, errors and threads."""
