"""A script's process: errors, signals and exit status."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from swath.config.help import reader_has_gone, write_nowhere
from swath.errors import SwathError

CLOSED_PIPE = 128 + signal.SIGPIPE
"""Exit status of a script whose output nobody reads any more, as of one that the signal ended."""


class Stopped(KeyboardInterrupt):
    """SIGTERM arrived: handled as Ctrl-C everywhere, so that files, runs and child processes are cleaned up."""


def cli(main: Callable[[], None]) -> int:
    """Run a script's `main`: errors that a person can act on are printed alone, and every failure has an exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    _quiet_libraries()
    signal.signal(signal.SIGTERM, _stop)
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        if not reader_has_gone():  # another pipe than the one that is printed to
            raise
        write_nowhere()
        return CLOSED_PIPE
    except SwathError as error:
        if asks_for_traceback(sys.argv):
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: what was finished is kept; start the same command again to go on", file=sys.stderr)
        return 130
    return 0


def asks_for_traceback(arguments: Sequence[str]) -> bool:
    """Whether a command line has ``--debug True``, as ``mlflow run . -P debug=True`` passes it on."""
    given = " ".join(arguments).replace("=", " ").split()
    return "--debug" in given[:-1] and given[given.index("--debug") + 1] == "True"


def _stop(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not cut the clean-up short
    raise Stopped


def _quiet_libraries() -> None:
    for name in ("alembic", "mlflow.store.db.utils", "urllib3", "rasterio._env", "pyogrio._io", "ignite"):
        logging.getLogger(name).setLevel(logging.ERROR)
