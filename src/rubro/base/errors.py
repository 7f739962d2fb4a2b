"""Exceptions that the user sees as a message instead of a traceback."""


class RubroError(Exception):
    """An error that the user can correct: a wrong file, value or parameter.

    Its message names the file (and line) or the parameter, the value found, and a remedy.
    """


class ParamsError(RubroError):
    """An unknown parameter, or one of a wrong type or value."""


class DataError(RubroError):
    """A missing or damaged data file, or one without any usable row."""


class ProcessError(RubroError):
    """A process that shares the work has ended."""


class TrainingError(RubroError):
    """A training that diverged, lost a process, differs among processes or could not be tracked."""
