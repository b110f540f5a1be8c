"""Limits that a process sets on itself, to meet a full disk."""

from __future__ import annotations

import resource
import signal
import sys


def limit_file_size(size: int) -> None:
    """Let no file of this process grow beyond `size` bytes; writes beyond fail as they do on a full disk."""
    # Python keeps compiled modules without looking whether they were written whole: they would be broken for everyone
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
