"""A tracking store that does not answer: what is the matter with it, and what to do about that."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import mlflow
import psutil
from mlflow.environment_variables import MLFLOW_TRACKING_URI
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from swath.errors import TrackingError
from swath.interrupt import check_stop
from swath.tracking.delivery import brief

TURNS = 20
"""Seconds to wait for another writer of a SQLite store at the start, one by one, so that a signal is heard meanwhile."""
LOCKED = "database is locked"
"""What SQLite says when another process writes."""
LOCKS = Path("/proc/locks")
"""Who holds which file, on Linux."""


def require_store() -> None:
    """Raise TrackingError when the store is a SQLite file that is there and cannot be written now.

    MLflow would try for minutes, and say at each try that an engine could not be created.
    """
    path = sqlite_file(mlflow.get_tracking_uri())
    if path is None or not path.is_file():
        return
    for turn in range(TURNS):
        check_stop()
        try:
            with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=1.0)) as store:
                store.execute("BEGIN IMMEDIATE")
                store.execute("ROLLBACK")
            return
        except sqlite3.Error as error:
            if LOCKED not in str(error) or turn == TURNS - 1:
                raise unanswered(error) from error


def unanswered(error: Exception) -> TrackingError:
    """The error for a store that does not answer, with the remedy that fits what is set and what failed."""
    uri = mlflow.get_tracking_uri()
    path = sqlite_file(uri)
    if path is not None:
        return TrackingError(f"tracking store {path}: {_about_file(path, error)}")
    remedy = f"Start the server there, or check host and port: `curl {uri}/health` has to say OK."
    if not uri.startswith("http"):
        remedy = "Check that the database runs there, and user, password and name in the URI."
    if MLFLOW_TRACKING_URI.is_set():
        remedy += " Or unset MLFLOW_TRACKING_URI to use the project's own mlflow.db."
    return TrackingError(f"tracking store {without_password(uri)} does not answer ({brief(error)}). {remedy}")


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for other stores."""
    try:
        found = make_url(uri)
    except ArgumentError:
        return None
    return Path(found.database) if found.get_backend_name() == "sqlite" and found.database else None


def without_password(uri: str) -> str:
    """A store's URI as it may be printed."""
    try:
        return make_url(uri).render_as_string(hide_password=True)
    except ArgumentError:
        return uri


def _about_file(path: Path, error: Exception) -> str:
    """What is the matter with the file of a SQLite store, and the remedy."""
    said = str(error)
    if LOCKED in said:
        holders = "; ".join(_holders(path)) or "a dashboard, another run, a database tool, or another host of this disk"
        return (
            f"is locked, by {holders}. Wait until it has finished or end it (`fuser -v {path}` lists who has the file "
            "open), then start the same command again."
        )
    if "readonly" in said or "unable to open" in said:
        return (
            f"cannot be written ({brief(error)}). Check the permissions of the file and of its folder, and free space."
        )
    if "not a database" in said or "malformed" in said:
        return f"is damaged ({brief(error)}). Restore it from a copy, or move it away: a new one is made."
    return f"does not answer ({brief(error)}). Look at that file: `sqlite3 {path} 'PRAGMA integrity_check'`."


def _holders(path: Path) -> Iterator[str]:
    """Processes that hold a lock on a file, with their commands; those of this host that can be seen."""
    with suppress(OSError):
        inode = str(path.stat().st_ino)
        lines = [line.split() for line in LOCKS.read_text().splitlines()]
        numbers = {int(line[4]) for line in lines if len(line) > 5 and line[5].rpartition(":")[2] == inode}
        for number in sorted(numbers - {0, -1}):
            with suppress(psutil.Error):
                command = " ".join(psutil.Process(number).cmdline())
                yield f"process {number} ({command[:80]})"
