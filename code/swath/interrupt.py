"""Signals that ask a process to stop: noted at once, obeyed where nothing is half done, and never lost.

A handler that raises does so between any two instructions: inside a callback of a weak reference or a destructor the
exception is printed and forgotten. Here the first signal is noted, and whoever works looks (`check_stop`) between two
steps of a training, two jobs, two windows. Where nobody looks for a while, the main thread is woken by an exception,
again and again until one gets through. A second signal ends the process at once, also from within a library's code.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("swath")

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask for an end."""
WAKING = signal.SIGALRM
"""What interrupts a main thread that waits or computes without looking."""
TOGETHER = 0.5
"""Seconds within which signals are one request: a supervisor may tell a process, its parent and their group."""
UNTIL_WOKEN = 0.5
"""Seconds for the work to look by itself before it is woken."""
UNTIL_WOKEN_AGAIN = 10.0
"""Seconds for what a stop cleans up on its way, before it counts as lost."""
AFTER_LOSS = 0.05
"""Seconds until the next try when an exception is known to have been lost."""
END, LOST = 0, 255
"""Messages to the watching thread that are no signals."""


class Stopped(KeyboardInterrupt):
    """SIGTERM or Ctrl-C arrived: files, runs and child processes are left in order, and the process ends."""


class StopRequest:
    """What the signals of this process have asked for so far."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """Number of the first signal; None as long as there is none."""
        self.held = 0
        """Blocks under way that a wake-up must not cut short."""

    def note(self, number: int) -> None:
        """The first signal is kept."""
        if self.signal is None:
            self.signal = number

    def forget(self) -> None:
        """As if nothing had been asked: a new script begins."""
        self.signal, self.held = None, 0


_request = StopRequest()


def stop_requested() -> int | None:
    """Number of the signal that asked this process to stop; None when none did."""
    return _request.signal


def check_stop() -> None:
    """Raise Stopped when the process was asked to stop. Called where nothing is half done."""
    if _request.signal is not None:
        raise Stopped


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that a first signal does not cut short: it is obeyed at the next look. A second one ends the process."""
    _request.held += 1
    try:
        yield
    finally:
        _request.held -= 1


@contextmanager
def obeying_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C ask for a stop, for the length of a block in the main thread. Signals that are ignored stay so."""
    _request.forget()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True)
    handlers = {number: _note for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    before[WAKING] = signal.signal(WAKING, _raise)
    before_wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before_hook, sys.unraisablehook = sys.unraisablehook, _tell_of_loss(sys.unraisablehook, writer)
    fork = _Fork(writer)
    os.register_at_fork(before=fork.begin, after_in_parent=fork.end, after_in_child=fork.begin_child)
    watcher.start()
    try:
        yield
    finally:
        with uninterrupted():
            sys.unraisablehook = before_hook
            signal.set_wakeup_fd(before_wakeup)
            writer.send(bytes([END]))
            watcher.join()
            for number, handler in before.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()


def _note(number: int, frame: object) -> None:
    """In the main thread, between two of its instructions. The watching thread has counted the signal already."""
    _request.note(number)


def _raise(number: int, frame: object) -> None:
    if _request.signal is not None and not _request.held:
        raise Stopped


class _Fork:
    """A forked process has no watching thread, and must not write to that of its parent: signals end it.

    They are held back while the process is made, so that none arrives in between and goes to the parent's thread.
    """

    def __init__(self, writer: socket.socket) -> None:
        self.writer = writer
        self._mask: Any = None

    def begin(self) -> None:
        """Hold signals back, unless the block is over."""
        if self.writer.fileno() >= 0:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

    def end(self) -> None:
        """Let them through again."""
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None

    def begin_child(self) -> None:
        """Give signals their usual meaning, then let them through."""
        if self._mask is None:
            return
        signal.set_wakeup_fd(-1)
        for number in STOPPING:
            if signal.getsignal(number) is _note:
                signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
        self.end()


def _tell_of_loss(hook: Callable[[Any], object], writer: socket.socket) -> Callable[[Any], object]:
    """A hook for exceptions that Python cannot raise: a stop among them is asked for again at once."""

    def told(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, Stopped):
            writer.send(bytes([LOST]))
        else:
            hook(unraisable)

    return told


def _watch(reader: socket.socket) -> None:
    """Count signals as they arrive, whatever the main thread does, and wake it until it ends."""
    main = threading.main_thread().ident
    assert main is not None
    first: float | None = None
    patience: float | None = None
    while True:
        if not select.select([reader], [], [], patience)[0]:
            signal.pthread_kill(main, WAKING)
            patience = UNTIL_WOKEN_AGAIN
            continue
        for message in reader.recv(64):
            if message == END:
                return
            if message == LOST:
                patience = AFTER_LOSS
            elif message in STOPPING and first is None:
                first, patience = time.monotonic(), UNTIL_WOKEN
                _request.note(message)
            elif message in STOPPING and first is not None and time.monotonic() - first > TOGETHER:
                _end_at_once(message)


def _end_at_once(number: int) -> None:
    """A second signal: nothing is waited for, neither here nor in child processes."""
    for child in multiprocessing.active_children():
        child.kill()
    print("ended at once: a second signal", file=sys.stderr, flush=True)
    os._exit(128 + number)
