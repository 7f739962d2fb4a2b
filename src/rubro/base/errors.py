"""Exceptions that are shown to the user as a message instead of a traceback."""


class RubroError(Exception):
    """An error that the user can correct, such as a wrong file, value or parameter.

    The message names the file (and line) or the parameter, the value found, and a remedy.
    """


class ParamsError(RubroError):
    """A parameter that is unknown, or has a wrong type or value."""


class DataError(RubroError):
    """A data file that is missing, damaged or without any usable row."""


class TrainingError(RubroError):
    """A training that diverged, lost a process, differs between processes or cannot be tracked."""
