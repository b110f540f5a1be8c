"""A program that has imported the libraries once, and forks a real process for each script that it is asked to run.

Reads an order per line, as JSON, and answers with a line: ``start`` forks, ``poll`` says what became of a process.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import runpy
import sys
import tempfile
from typing import Any


def serve(modules: list[str]) -> None:
    """Import `modules`, then obey until the input ends. Returns in forked processes when their script has ended."""
    for name in modules:
        importlib.import_module(name)
    say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "poll":
            say(state_of(order["pid"]))
            continue
        pid = os.fork()
        if not pid:
            become(order)
            return
        say({"pid": pid})


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def state_of(pid: int) -> dict[str, Any]:
    """Whether a process has ended, and how, or waits for SIGCONT."""
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if not found:
        return {"ended": False, "stopped": False}
    if os.WIFSTOPPED(status):
        return {"ended": False, "stopped": True}
    return {"ended": True, "status": os.waitstatus_to_exitcode(status)}


def become(order: dict[str, Any]) -> None:
    """Go on as ``python script arguments``, with the faults that were ordered."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    tempfile.tempdir = None
    for place, value in order["constants"].items():
        module, _, name = place.rpartition(".")
        setattr(importlib.import_module(module), name, value)
    sys.argv = [order["script"], *order["arguments"]]
    sys.path.insert(0, os.path.dirname(order["script"]))  # noqa: PTH120
    root, at, action = order["fault"]
    library = ctypes.CDLL(None)
    if root:
        library.fault_arm(root.encode(), ctypes.c_long(at), action)
    try:
        runpy.run_path(order["script"], run_name="__main__")
    finally:
        if root:
            library.fault_count.restype = ctypes.c_long
            with open(order["log"] + ".count", "w") as file:  # noqa: PTH123
                file.write(str(library.fault_count()))


if __name__ == "__main__":
    serve(sys.argv[1:])
