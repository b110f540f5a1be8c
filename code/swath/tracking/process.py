"""A script's process: errors, signals and exit status."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from swath.config.help import reader_has_gone, write_nowhere
from swath.errors import ConfigError, SwathError
from swath.interrupt import obeying_signals, stop_requested

CLOSED_PIPE = 128 + signal.SIGPIPE
"""Exit status of a script whose output nobody reads any more, as of one that the signal ended."""


OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of the system that no program can help."""
UNDELIVERED = os.EX_TEMPFAIL
"""Exit status (75) of a script that did its work, and whose run the tracking store did not take whole."""
STOPPED = 128 + signal.SIGINT
"""Exit status of a script that a signal stopped and that left everything in order. A second signal ends it at once, with
128 and the signal's number: 143 for SIGTERM."""


def cli(main: Callable[[], None]) -> int:
    """Run a script's `main`: errors that a person can act on are printed alone, and every failure has an exit status.

    0: all is done and delivered; 1: an error; 75 (`UNDELIVERED`); 130 (`STOPPED`); 141 (`CLOSED_PIPE`).
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    _quiet_libraries()
    _last_words.clear()
    with obeying_signals():
        status = _status_of(main)
    for text in _last_words:
        print(text, file=sys.stderr)
    return status or (UNDELIVERED if _last_words else 0)


_last_words: list[str] = []


def tell_at_the_end(text: str) -> None:
    """Have `cli` print a line on what was not delivered when all else is said, and exit with `UNDELIVERED`."""
    if text not in _last_words:
        _last_words.append(text)


def _status_of(main: Callable[[], None]) -> int:
    """Run `main`, and say how it ended."""
    try:
        _require_utf8()
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        if not reader_has_gone():  # another pipe than the one that is printed to
            raise
        write_nowhere()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        return _stopped()
    except Exception as error:
        if stop_requested():  # such as a worker process that the same signal has ended
            return _stopped()
        told = _of_the_disk(error) if isinstance(error, OSError) else error
        if not isinstance(told, SwathError):
            raise
        if asks_for_traceback(sys.argv):
            traceback.print_exc()
        print(f"error: {told}", file=sys.stderr)
        return 1
    return 0


def _of_the_disk(error: OSError) -> OSError | SwathError:
    """An error for people, where a disk is full or a file or folder must not be written; else the same error."""
    if error.errno not in OF_THE_DISK:
        return error
    return SwathError(
        f"{error.filename2 or error.filename or 'a file'}: cannot be written ({error.strerror}). Free disk space or check the "
        "folder's permissions, then start the same command again."
    )


def _stopped() -> int:
    print("stopped: what was finished is kept; start the same command again to go on", file=sys.stderr)
    return STOPPED


def asks_for_traceback(arguments: Sequence[str]) -> bool:
    """Whether a command line has ``--debug True``, as ``mlflow run . -P debug=True`` passes it on."""
    given = " ".join(arguments).replace("=", " ").split()
    return "--debug" in given[:-1] and given[given.index("--debug") + 1] == "True"


def _require_utf8() -> None:
    """Raise ConfigError where names of files are in another encoding: tables, ledgers and the store hold UTF-8."""
    encoding = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") != "utf8":
        raise ConfigError(
            f"names of files are in {encoding} here, by the locale or PYTHONUTF8=0; swath needs UTF-8. "
            "Type `export PYTHONUTF8=1`, then start the same command again."
        )


def _quiet_libraries() -> None:
    for name in ("alembic", "mlflow.store.db.utils", "urllib3", "rasterio._env", "pyogrio._io", "ignite"):
        logging.getLogger(name).setLevel(logging.ERROR)
