"""Signals that ask a process to stop, sent to real processes at any moment: none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swath.interrupt import check_stop, obeying_signals, stop_requested
from tests.conftest import ROOT, child_environment

HEAD = """
import sys, time, weakref
from swath.interrupt import Stopped, check_stop, obeying_signals, uninterrupted
"""
WORKS = {
    "callbacks": """
class Key: pass
def work():  # callbacks of weak references run for nearly all of the time
    while True:
        held = weakref.WeakKeyDictionary()
        keys = [Key() for _ in range(1000)]
        for key in keys:
            held[key] = None
        while keys:
            keys.pop()
""",
    "destructors": """
class Slow:
    def __del__(self):
        sum(range(20000))
def work():
    while True:
        Slow()
""",
    "waiting": """
import threading
def work():
    threading.Event().wait()
""",
    "looking": """
def work():
    while True:
        check_stop()
        time.sleep(0.01)
""",
    "swallowing": """
def work():
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass
        check_stop()
""",
    "uninterrupted": """
def work():
    with uninterrupted():
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            sum(range(1000))
        print("whole", flush=True)
    check_stop()
""",
}
TAIL = """
with obeying_signals():
    print("ready", flush=True)
    try:
        work()
    except Stopped:
        print("stopped", file=sys.stderr)
        sys.exit(130)
"""
"""As `swath.tracking.process.cli`, which takes longer to import."""
STUCK = """
import hashlib
def work():  # minutes in a library's code, where no handler of Python runs
    with uninterrupted():
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 400_000_000)
"""


@contextmanager
def process(tmp_path: Path, work: str) -> Iterator[subprocess.Popen[str]]:
    """A script that works until it is stopped, once it has begun to work."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + work + TAIL], env=child_environment(tmp_path / "mlflow.db"), cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as started:  # fmt: skip
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        time.sleep(0.1)
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("work", WORKS)
def test_c86_one_signal_stops_whatever_the_process_is_doing(tmp_path: Path, work: str, number: int) -> None:
    with process(tmp_path, WORKS[work]) as started:
        started.send_signal(number)
        out, said = started.communicate(timeout=30)
    assert started.returncode == 130, said
    assert said == "stopped\n"
    assert out == ("whole\n" if work == "uninterrupted" else "")


@pytest.mark.system
def test_c86_no_signal_of_many_is_lost_in_a_callback(tmp_path: Path) -> None:
    """Each of twenty processes is stopped by one signal, wherever in a callback it arrives."""
    for turn in range(20):
        with process(tmp_path, WORKS["callbacks"]) as started:
            time.sleep(0.003 * turn)
            started.send_signal(signal.SIGTERM)
            _, said = started.communicate(timeout=30)
        assert started.returncode == 130, said


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_c86_a_second_signal_ends_a_process_at_once_even_inside_a_library(
    tmp_path: Path, number: int, status: int
) -> None:
    with process(tmp_path, STUCK) as started:
        started.send_signal(number)
        time.sleep(1.0)
        assert started.poll() is None
        began = time.monotonic()
        started.send_signal(number)
        _, said = started.communicate(timeout=30)
    assert time.monotonic() - began < 5.0
    assert started.returncode == status, said
    assert said.splitlines()[-1] == "ended at once: a second signal"


def test_c86_signals_that_arrive_together_are_one(tmp_path: Path) -> None:
    """A supervisor signals a process, and a group that it belongs to."""
    with process(tmp_path, WORKS["uninterrupted"]) as started:
        for _ in range(5):
            started.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        out, said = started.communicate(timeout=30)
    assert (started.returncode, out) == (130, "whole\n"), said


def test_c86_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with obeying_signals():
            os.kill(os.getpid(), signal.SIGINT)
            check_stop()
            assert stop_requested() is None
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_c86_handlers_are_those_of_before_when_a_script_has_ended() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with obeying_signals():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_c86_a_forked_process_is_ended_by_its_signal_and_asks_nothing_of_its_parent() -> None:
    with obeying_signals():
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
        time.sleep(0.1)
        assert stop_requested() is None
