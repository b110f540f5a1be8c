"""``--num_gpus N``: a script on N processes of this machine, each on a GPU, or on CPUs where there is none.

Torchrun starts them, in the process that was asked. Nothing heavy is imported for one process.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

NAME = "num_gpus"


def start_processes(script: str) -> None:
    """Go on as `script` on several processes when the command line asks for them, and take the request out of it.

    Called before a script's slow imports. Ends the process with a message for a number that makes no sense.
    """
    text = _taken(sys.argv)
    count = _count(text)
    if count == 1:
        return
    import torch

    if torch.distributed.is_torchelastic_launched():  # torchrun was told already how many
        return
    devices = torch.cuda.device_count()
    if 0 < devices < count and not any(argument.startswith("--device") for argument in sys.argv):
        _refuse(f"{NAME}={text}: this machine has {devices} GPUs. Ask for at most so many, or add -P device=cpu.")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    raise SystemExit(_launch(["--standalone", f"--nproc_per_node={count}", script, *sys.argv[1:]]))


def _launch(arguments: list[str]) -> int:
    """What ``torchrun`` does with its arguments; where all processes that failed say the same, so does the status."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main(arguments)
    except ChildFailedError as error:
        failed = {failure.exitcode for failure in error.failures.values()}
        return failed.pop() if failed == {os.EX_TEMPFAIL} else 1
    return 0


def _taken(arguments: list[str]) -> str:
    """The value of ``--num_gpus`` among `arguments`, which lose it; "1" where it is not there."""
    found = "1"
    for at in reversed(range(1, len(arguments))):
        name, equals, value = arguments[at].partition("=")
        if name != f"--{NAME}":
            continue
        found = value if equals else "".join(arguments[at + 1 : at + 2])
        del arguments[at : at + (1 if equals else 2)]
    return found


def _count(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if number < 1 or not number.is_integer():
        _refuse(f"{NAME}={text}: give the number of processes, 1 or more")
    return int(number)


def _refuse(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(1)
