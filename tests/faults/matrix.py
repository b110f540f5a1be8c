"""Faults by steps: real processes, a fault at each of many writes, and the same command again.

`python -m tests.faults.matrix --positions 40` does all cells and writes their outcomes into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.dask_cluster import free_port
from tests.faults.harness import FULL, KILL, PAUSE, TERM, Case, Ended, Fault, Process, Warm, compiled, locked
from tests.faults.world import Command, World
from tests.processes import Server

DOCUMENT = ROOT / "docs/reliability.md"
START, END = "<!-- faults: make faults -->", "<!-- end of faults -->"
ROWS = ("prepare", "train", "infer", "submit")
INPUTS = {"prepare": "raw", "train": "tiles", "infer": "scenes", "submit": "maps/probabilities"}
"""What is cut short below ``in``."""
UNDELIVERED = 75
FLUSH = {"swath__tracking__runs__FLUSH_SECONDS": 2.0}
"""Two seconds instead of two minutes for a store that is away for good."""


@dataclass
class Cell:
    """What became of the cases of one cell."""

    cases: int = 0
    wrong: list[str] = field(default_factory=list)
    skipped: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        first = f"; the first: {self.wrong[0]}" if self.wrong else ""
        return f"{self.cases - len(self.wrong)} of {self.cases}{first}".replace("|", "/").replace("\n", " ")


@dataclass
class Row:
    """One step (or chain of steps) with what an undisturbed start of it leaves."""

    world: World
    name: str

    @property
    def commands(self) -> list[Command]:
        return self.world.commands[self.name]

    @cached_property
    def undisturbed(self) -> tuple[dict[str, Any], list[int]]:
        """Contents of the results, and the number of writes of each command."""
        case = self.world.case()
        ended = self.world.run(case, self.commands)
        assert [one.status for one in ended] == [0] * len(self.commands), ended[-1].said
        return case.contents(), [one.writes or 0 for one in ended]

    def places(self, positions: int) -> list[tuple[int, int]]:
        """(command, number of its write) of at most so many writes, from the first to the last of all."""
        counts = self.undisturbed[1]
        every = [(number, at) for number, count in enumerate(counts) for at in range(1, count + 1)]
        step = max(1.0, len(every) / positions)
        return [every[int(i * step)] for i in range(min(positions, len(every)))]

    # ------------------------------------------------------------------------------------------------------- judging

    def again(self, case: Case, files_only: bool = False) -> str:
        """What is wrong after the same command again; empty when everything is as if nothing had happened."""
        ended = self.world.run(case, self.commands)
        if ended[-1].status:
            return f"the second start ends with {ended[-1].status}: {last(ended[-1])}"
        difference = differing(self.undisturbed[0], case.contents(), files_only)
        left = case.leftovers()
        return f"differs: {difference}" if difference else f"left over: {left[:3]}" if left else ""

    def half_written(self, case: Case) -> str:
        """Files under their final names that are not what an undisturbed start leaves."""
        expected = self.undisturbed[0]
        found = case.contents()
        bad = [
            name
            for name, content in found.items()
            if not name.startswith((".", "unfinished/")) and "/." not in name
            if not name.endswith(".done.jsonl") and name != "weights" and content != expected.get(name)
        ]
        return f"half written: {bad}" if bad else ""


def differing(expected: dict[str, Any], found: dict[str, Any], files_only: bool = False) -> str:
    """Names of the files that are not equal; empty when none is."""
    names = {*expected, *found} - ({"weights"} if files_only else set())
    return ", ".join(sorted(name for name in names if expected.get(name) != found.get(name))[:4])


def last(ended: Ended) -> str:
    """The last line that a process said."""
    return (ended.said.strip().splitlines() or [""])[-1][:300]


def is_clear(ended: Ended, *words: str) -> str:
    """What is wrong with how a process failed; empty for an error for people that has all these words."""
    if ended.status != 1 or "Traceback" in ended.said or "error:" not in ended.said:
        return f"ends with {ended.status}: {last(ended)}"
    missing = [word for word in words if word not in ended.said]
    return f"does not name {missing}: {last(ended)}" if missing else ""


# ------------------------------------------------------------------------------------------------------------- cells


def killed(row: Row, positions: int) -> Cell:
    """SIGKILL before a write."""
    return at_writes(
        row, positions, KILL, lambda ended, case: "" if ended.status == -9 else f"ends with {ended.status}"
    )


def terminated(row: Row, positions: int) -> Cell:
    """SIGTERM before a write: the run is KILLED, or the work was done already."""

    def judge(ended: Ended, case: Case) -> str:
        status = case.statuses()[-1]
        if (ended.status, status) in ((130, "KILLED"), (0, "FINISHED")) and "Traceback" not in ended.said:
            return ""
        return f"ends with {ended.status}, its run is {status}: {last(ended)}"

    return at_writes(row, positions, TERM, judge)


def full(row: Row, positions: int) -> Cell:
    """No space from a write on: a clear error."""
    return at_writes(row, positions, FULL, lambda ended, case: "" if not ended.status else is_clear(ended, "space"))


def at_writes(row: Row, positions: int, action: int, judge: Callable[[Ended, Case], str]) -> Cell:
    """A fault at each of several writes, then the same command again."""
    cell = Cell()
    for number, at in row.places(positions):
        case = row.world.case()
        ended = row.world.run(case, row.commands, (number, Fault(case.out, at, action)))
        faulted = ended[number] if len(ended) > number else ended[-1]
        wrong = judge(faulted, case) or row.half_written(case) or row.again(case)
        note(cell, wrong, f"{row.commands[number].script}, write {at}", case)
    return cell


def note(cell: Cell, wrong: str, where: str, case: Case) -> None:
    """Count a case; what went wrong is kept, what went right is removed."""
    cell.cases += 1
    if wrong:
        cell.wrong.append(f"{where}: {wrong} [{case.folder.name}]")
    else:
        shutil.rmtree(case.folder)


def truncated(row: Row, positions: int) -> Cell:
    """An input that is cut short: an error that names it, or no harm; then the whole input again."""
    cell = Cell()
    for turn in range(positions):
        case = row.world.case()
        home = case.folder / "in" / INPUTS[row.name]
        files = sorted(path for path in home.rglob("*") if path.is_file() and not is_ledger(path))
        path = files[turn % len(files)]
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * (turn + 1) // (positions + 1)])
        ended = row.world.run(case, row.commands)[-1]
        wrong = is_clear(ended, path.stem) if ended.status else harm(row, case)
        path.write_bytes(whole)
        wrong = wrong or row.again(case)
        note(cell, wrong, f"{path.relative_to(home)} cut after {turn + 1}/{positions + 1}", case)
    return cell


def harm(row: Row, case: Case) -> str:
    """Results that a cut input changed without an error. The ledger may know that the input was another one."""
    expected, found = row.undisturbed[0], case.contents()
    results = [
        {name: value for name, value in them.items() if not name.endswith(".done.jsonl")} for them in (expected, found)
    ]
    return differing(*results)


def is_ledger(path: Path) -> bool:
    """Files that say how inputs were made; nothing reads them here."""
    return path.name.endswith((".settings.json", ".done.jsonl", ".csv", ".txt", ".json", ".png", ".html"))


def server_away(row: Row, positions: int) -> Cell:
    """A tracking server that is not there at the start, and one that goes away for good at the first write."""
    cell = Cell()
    case = row.world.case()
    case.uri = "http://127.0.0.1:9"
    ended = row.world.run(case, row.commands)[-1]
    wrong = is_clear(ended, "tracking store http://127.0.0.1:9 does not answer", "unset MLFLOW_TRACKING_URI")
    wrong = wrong or ("something was written" if any(case.out.rglob("*")) else "")
    case.uri = ""
    note(cell, wrong or row.again(case), "at the start", case)
    case = row.world.case()
    server = Server(case.folder, free_port())
    server.start()
    case.uri = server.uri
    try:
        ended = interrupted(row, case, lambda process: stopped(server))
        wrong = undelivered(row, ended, case, server.uri)
        server.start()
        note(cell, wrong or row.again(case), "for good, from the first write on", case)
    finally:
        server.stop()
    return cell


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """A server that is away and does not come back."""
    server.stop()
    yield


def store_locked(row: Row, positions: int) -> Cell:
    """Another process holds the SQLite store, from the start or from the first write on."""
    cell = Cell()
    case = row.world.case()
    with locked(case.database):
        ended = row.world.run(case, row.commands, swath__tracking__unreachable__TURNS=1)[-1]
    wrong = is_clear(ended, f"tracking store {case.database}: is locked, by process {os.getpid()} (")
    wrong = wrong or ("something was written" if any(case.out.rglob("*")) else "")
    note(cell, wrong or row.again(case), "at the start", case)
    case = row.world.case()
    ended = interrupted(row, case, lambda process: locked(case.database, process))
    wrong = undelivered(row, ended, case, str(case.database))
    note(cell, wrong or row.again(case), "for good, from the first write on", case)
    return cell


def interrupted(row: Row, case: Case, trouble: Callable[[Process], Any]) -> Ended:
    """Start the row's first command; the trouble begins at its first write and lasts beyond its end."""
    command = row.commands[0]
    fault = Fault(case.out, 1, PAUSE)
    process = row.world.warm.start(case, command.script, command.arguments(case), fault, **FLUSH)
    assert process.wait(paused=True) is None, "ended before its first write"
    with trouble(process):
        process.send(signal.SIGCONT)
        ended = process.wait()
    assert ended is not None
    return ended


def undelivered(row: Row, ended: Ended, case: Case, store: str) -> str:
    """What is wrong with the end of a process whose run did not arrive: status, last line, files."""
    if ended.status != UNDELIVERED:
        return f"ends with {ended.status}: {last(ended)}"
    line = ended.said.strip().splitlines()[-1]
    if not line.startswith("not delivered to ") or store not in line or "output/undelivered" not in line:
        return f"its last line is: {line}"
    return row.half_written(case)


def small_disk(row: Row, positions: int) -> Cell:
    """A file system of a fixed size that is too small for the results; then the same with space."""
    cell = Cell()
    sizes = [len(content) for content in row.undisturbed[0].values() if isinstance(content, bytes)]
    most = max(16, sum(sizes) // 1024)
    for turn in range(positions):
        case = row.world.case()
        case.out.mkdir()
        size = 4 + most * turn // positions // 4 * 4
        done = mount(case.out, f"size={size}k")
        if done:
            return Cell(skipped=f"a tmpfs cannot be mounted here ({done})")
        try:
            ended = row.world.run(case, row.commands)[-1]
            wrong = is_clear(ended, "space") if ended.status else ""
            wrong = wrong or row.half_written(case)
            assert not mount(case.out, "remount,size=64m")
            wrong = wrong or row.again(case)
        finally:
            subprocess.run(["umount", str(case.out)], check=True)
        note(cell, wrong, f"{size} kB", case)
    return cell


def mount(folder: Path, options: str) -> str:
    """Mount a tmpfs; what kept it from being mounted, or an empty text."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    return done.stderr.strip() if done.returncode else ""


CELLS: dict[str, Callable[[Row, int], Cell]] = {
    "SIGKILL before a write": killed,
    "SIGTERM before a write": terminated,
    "disk full at a write": full,
    "disk too small (tmpfs)": small_disk,
    "truncated input": truncated,
    "server away": server_away,
    "store locked": store_locked,
}


# ------------------------------------------------------------------------------------------------------------- table


@contextmanager
def small_world(folder: Path) -> Iterator[World]:
    """The world of the matrix, with the process that its scripts are forked from."""
    warm = Warm(compiled(folder))
    try:
        yield World(folder, warm)
    finally:
        warm.close()


def filled(
    world: World, names: Sequence[str], faults: Sequence[str], positions: int, abreast: int
) -> dict[tuple[str, str], Cell]:
    """The cells of these rows and faults, `abreast` at the same time; each is printed when it is done.

    Each case has a folder and a store of its own, so cells do not see each other.
    """
    began = time.monotonic()

    def cell(place: tuple[str, str]) -> Cell:
        fault, name = place
        found = CELLS[fault](rows[name], positions)
        lines = [f"{time.monotonic() - began:6.0f} s  {name}, {fault}: {found}"]
        lines += [f"          {wrong}" for wrong in found.wrong[1:]]
        print("\n".join(lines), flush=True)
        return found

    rows = {name: Row(world, name) for name in names}
    places = [(fault, name) for name in names for fault in faults]
    with ThreadPoolExecutor(abreast) as threads:
        list(threads.map(lambda row: row.undisturbed, rows.values()))
        return dict(zip(places, threads.map(cell, places), strict=True))


def table(found: dict[tuple[str, str], Cell], rows: Sequence[str]) -> str:
    """The matrix as Markdown."""
    lines = ["| fault | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for fault in CELLS:
        cells = [str(found.get((fault, row), "not looked at")) for row in rows]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(text: str) -> None:
    """Renew the table in the document."""
    before, _, rest = DOCUMENT.read_text().partition(START)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, default=40)
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--faults", nargs="*", default=list(CELLS))
    parser.add_argument("--write", action="store_true", help="renew the table in docs/reliability.md")
    parser.add_argument("--keep", action="store_true", help="leave the folders of cases that went wrong")
    parser.add_argument("--abreast", type=int, default=len(os.sched_getaffinity(0)), help="cells at the same time")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    began = time.monotonic()
    with small_world(folder) as world:
        found = filled(world, asked.rows, asked.faults, asked.positions, asked.abreast)
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes", flush=True)
    if asked.write:
        note = f"`make faults` with at most {asked.positions} positions a cell, {minutes:.0f} minutes."
        write(f"{note}\n\n{table(found, ROWS)}")
    if not asked.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return int(any(cell.wrong for cell in found.values()))


if __name__ == "__main__":
    sys.exit(main())
