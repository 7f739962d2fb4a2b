"""The exceptions that are shown to the user as a message instead of a traceback."""


class RubroError(Exception):
    """Something the user can put right: a file, a value or a parameter.

    The message names the file (and line) or the parameter, the value found, and the remedy.
    """


class ParamsError(RubroError):
    """A parameter is unknown, of the wrong type or impossible."""


class DataError(RubroError):
    """A data file is missing, damaged or holds nothing that can be used."""


class TrainingError(RubroError):
    """A training went astray, or could not be tracked."""
