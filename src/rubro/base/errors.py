"""Exceptions that are shown to the user as a message instead of a traceback."""


class RubroError(Exception):
    """An error that the user can correct, such as a wrong file, value or parameter.

    The message names the file (and line) or the parameter, the value found, and a remedy.
    """


class ParamsError(RubroError):
    """A parameter is unknown, or has a wrong type or value."""


class DataError(RubroError):
    """A data file is missing, is damaged or contains no usable row."""


class TrainingError(RubroError):
    """A training run diverged, lost a process, differs between processes or cannot be tracked."""
