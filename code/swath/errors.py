"""Errors that a person can act on: what failed, with which value, and what to do about it."""


class SwathError(Exception):
    """Base of every error that swath raises on purpose; scripts print it without a traceback."""


class ConfigError(SwathError):
    """A config file, one of its fields or an override is wrong."""


class RasterError(SwathError):
    """A raster cannot be read or written, or does not fit its partner."""


class VectorError(SwathError):
    """A vector file cannot be read or written, or lacks what the step needs."""


class CatalogError(SwathError):
    """A table of scenes or tiles is missing, incomplete or does not match its files."""


class LeakError(SwathError):
    """Training and evaluation share ground."""


class TrainingError(SwathError):
    """A training cannot start, go on or be resumed."""


class TrackingError(SwathError):
    """A run or one of its artifacts cannot be found or read."""


class StepError(SwathError):
    """A preparation step could not finish all of its items."""


def reason(error: BaseException) -> str:
    """What a library says of a failure, on one line, with the name of its error."""
    said = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {said}" if said else name
