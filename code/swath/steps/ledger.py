"""What a step has finished: a ledger in its output folder, the one place that knows what is current there.

``<step>.settings.json`` holds the settings, who made the results, and, after a start that ended well, the run that did.
``<step>.done.jsonl`` has a line per finished job: its settings, and the contents of its inputs and outputs. A line ends
with a checksum: what a crash cut short or a disk damaged is not done, and is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from swath.config import digest
from swath.config.json_files import Shape, read_json
from swath.config.moved import with_new_names
from swath.contents import contents_in_order, contents_of
from swath.errors import StepError
from swath.files import atomic_write
from swath.notices import Notices, as_rows, from_rows
from swath.steps.job import Done, Job
from swath.version import version

log = logging.getLogger("swath.steps")

_CHECKED = re.compile(rb'(\{.*), "checksum": "([0-9a-f]{16})"\}')


class _Completed(Shape):
    """What the last start that ended well left."""

    run_id: str
    items: str
    files: dict[str, str | None]


class _Record(Shape):
    """What ``<step>.settings.json`` holds, besides who made the results."""

    settings: dict[str, Any]
    sources: dict[str, str] = Field(default_factory=dict)
    completed: _Completed | None = None


class Ledger:
    """What a step has finished in `folder`, under `settings` that decide the results."""

    def __init__(
        self,
        folder: Path,
        step: str,
        settings: Mapping[str, Any],
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """`sources`: name of each field that is an input to its path as text; decides only when items would be mixed."""
        self.folder, self.step = folder, step
        self.settings_path = folder / f"{step}.settings.json"
        self.done_path = folder / f"{step}.done.jsonl"
        self.settings = json.loads(json.dumps(dict(settings)))
        self.sources = dict(sources or {})
        self._digest = digest(self.settings)
        self._take_over: Callable[[], None] | None = None
        self._to_replace: set[str] = set()
        self._read: dict[str, dict[str, Any]] | None = None

    # ------------------------------------------------------------------------------------------------- what is current

    def finished(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Key to result of the jobs that need not be done again: same settings, same inputs, outputs as they were left."""
        entries = {} if self._take_over else self._entries()
        done = {key: entry for key, entry in entries.items() if entry["identity"]}
        known = [job for job in jobs if job.key in done]
        now = contents_of([path for job in known for path in (*job.inputs, *job.outputs)])
        results = {}
        for job in known:
            entry = done[job.key]
            inputs = [now[path] for path in job.inputs]
            outputs = [now[path] for path in job.outputs]
            same = entry["identity"] == self._identity(job, inputs) and entry["outputs"] == outputs
            if same and None not in outputs:
                results[job.key] = entry["result"]
        return results

    def identity(self, job: Job) -> str:
        """Changes with the settings, the contents of any input, and what else decides the job's result."""
        return self._identity(job, contents_in_order(job.inputs))

    def _identity(self, job: Job, inputs: Sequence[str | None]) -> str:
        besides = getattr(job, "decided_by", None)
        return digest({"settings": self._digest, "inputs": list(inputs), "decided_by": besides})

    def made_by(self, jobs: Sequence[Job], about: Any = None) -> str | None:
        """The id of the run that left exactly these jobs' results, `about` the same; None when anything is missing."""
        completed = self._recorded().get("completed")
        if completed is None or completed["items"] != self._items(jobs, about):
            return None
        if len(self.finished(jobs)) < len(jobs):
            return None
        written = {self.folder / name: content for name, content in completed["files"].items()}
        return completed["run_id"] if contents_of(written) == written else None

    def left(self) -> list[Path]:
        """The files that the last complete start left besides the outputs of its jobs."""
        completed = self._recorded().get("completed")
        return [(self.folder / name).resolve() for name in completed["files"]] if completed else []

    def _items(self, jobs: Sequence[Job], about: Any) -> str:
        entries = self._entries()
        return digest([about, [[job.key, entries.get(job.key, {}).get("identity")] for job in jobs]])

    # --------------------------------------------------------------------------------------------------- other settings

    def prepare(self, jobs: Sequence[Job], replace: bool, provenance: Mapping[str, Any]) -> None:
        """Before the work: refuse results of other settings; with `replace`, count none as done.

        What is replaced stays known until the first new result is there. Raises StepError; then nothing was touched.
        """
        completed = self._recorded().get("completed")
        if replace and (completed or self._entries()):
            self._to_replace = set(completed["files"]) if completed else set()
            self._take_over = partial(self._replace, jobs, provenance)
            return
        self.require_same(jobs)
        self._say_what_is_kept(jobs)
        self._record(provenance)

    def require_same(self, jobs: Sequence[Job]) -> None:
        """Raise StepError when the folder holds results of other settings, or of other inputs that would be mixed."""
        differs = self.differs(jobs)
        if differs:
            raise StepError(
                f"{self.folder}: holds results of {self.step} with other settings ({differs}). "
                "Choose another output_path, or add -P replace=True (--replace True) to have them made again in place."
            )

    def differs(self, jobs: Sequence[Job]) -> str | None:
        """How the settings of the results in the folder differ from ours, as text; None when they do not."""
        entries = self._entries()
        recorded = self._recorded()
        if not recorded or not (entries or "completed" in recorded):
            return None
        before = with_new_names(recorded["settings"])
        if "sources" not in recorded:  # version 0.2 or older had inputs and workers among the settings
            before = self.settings | {name: before[name] for name in self.settings if name in before}
        changed = _changes(before, self.settings)
        other_items = set(entries) - {job.key for job in jobs}
        if other_items:
            changed += _changes(recorded.get("sources", self.sources), self.sources)
        return "; ".join(changed) or None

    def _replace(self, jobs: Sequence[Job], provenance: Mapping[str, Any]) -> None:
        """Drop what the ledger knows; files that no job leaves again are deleted."""
        kept = {path.resolve() for job in jobs for path in job.outputs}
        for entry in self._entries().values():
            for name in entry.get("files", ()):
                if (self.folder / name).resolve() not in kept:
                    self._remove(name)
        self.done_path.unlink(missing_ok=True)
        self._read = {}
        self._take_over = None
        self._record(provenance)

    def _remove(self, name: str) -> None:
        """Delete a file of the folder; a ledger that names others is not followed there."""
        path = (self.folder / name).resolve()
        if path.is_relative_to(self.folder.resolve()):
            path.unlink(missing_ok=True)

    def _say_what_is_kept(self, jobs: Sequence[Job]) -> None:
        """Say what stays although a start from nothing would not leave it."""
        entries = self._entries()
        keys = {job.key for job in jobs}
        others = sorted({str(e.get("version")) for k, e in entries.items() if k in keys} - {version()})
        if others:
            known = [name for name in others if name != "None"]
            log.warning(
                "%s: results of %s there were made by version %s of swath, this is %s; %s. "
                "-P replace=True (--replace True) makes all of them again.",
                self.folder, self.step, " and ".join(known) or "0.2 or older", version(),
                "they are kept" if known else "its ledger does not say enough, so they are made again",
            )  # fmt: skip
        gone = sorted(set(entries) - keys)
        if gone:
            log.warning(
                "%s: results of %d items that are no longer among the inputs stay (%s). "
                "-P replace=True (--replace True) removes them.",
                self.folder, len(gone), ", ".join(gone[:5]),
            )  # fmt: skip

    # ---------------------------------------------------------------------------------------------------------- records

    def _record(self, provenance: Mapping[str, Any]) -> None:
        """Leave command, versions and every setting beside the outputs; nothing is complete yet."""
        self._write({"settings": self.settings, "sources": self.sources} | dict(provenance))

    def complete(self, jobs: Sequence[Job], run_id: str, written: Sequence[Path] = (), about: Any = None) -> None:
        """After the work: `run_id` made what is here now, with the files `written` besides the outputs of the jobs."""
        if self._take_over:
            self._take_over()
        files = {os.path.relpath(path, self.folder): content for path, content in contents_of(written).items()}
        completed = {"run_id": run_id, "items": self._items(jobs, about), "files": files}
        self._write(self._recorded() | {"completed": completed})
        for name in self._to_replace - set(files):
            self._remove(name)

    def add(self, job: Job, done: Done) -> None:
        """Note a job as done."""
        if self._take_over:
            self._take_over()
        entry = {
            "key": job.key,
            "identity": self._identity(job, done.inputs),
            "outputs": list(done.outputs),
            "files": [os.path.relpath(path, self.folder) for path in job.outputs],
            "version": version(),
            "result": done.result,
        } | ({"left_out": as_rows(done.left_out)} if done.left_out else {})
        line = ledger_line(entry)
        with self._writable(), self.done_path.open("ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            torn = file.read() not in (b"", b"\n")  # a crash cut the last line short
            file.write(b"\n" + line if torn else line)
        self._entries()[job.key] = json.loads(line)

    def left_out(self, jobs: Sequence[Job]) -> Notices:
        """What the jobs, whenever they were done, did not use of their inputs."""
        entries = self._entries()
        return [notice for job in jobs for notice in from_rows(entries.get(job.key, {}).get("left_out", []))]

    def _entries(self) -> dict[str, dict[str, Any]]:
        """The last line of each job by its key; the file is read once, as it may hold the rows of many tiles."""
        if self._read is None:
            lines = self._lines()
            parsed = [_parse(line) for line in lines]
            damaged = sum(entry is None for entry in parsed)
            if damaged:
                log.warning(
                    "%s: %d of %d lines are damaged or were edited; what they noted is made again.",
                    self.done_path, damaged, len(lines),
                )  # fmt: skip
            self._read = {entry["key"]: entry for entry in parsed if entry is not None}
        return self._read

    def _lines(self) -> list[bytes]:
        if not self.done_path.is_file():
            return []
        try:
            return self.done_path.read_bytes().splitlines()
        except OSError as error:
            raise StepError(
                f"{self.done_path}: cannot be read ({error}). "
                "Delete it and start the same command again: all is then made again."
            ) from error

    def _recorded(self) -> dict[str, Any]:
        return read_settings(self.settings_path) if self.settings_path.exists() else {}

    def _write(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, indent=2, default=str) + "\n"
        with self._writable(), atomic_write(self.settings_path, failures=()) as part:
            part.write_text(text)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StepError(
                f"{self.folder}: {self.step} cannot write its records ({error}). "
                "Free disk space or check the folder's permissions, then start the same command again."
            ) from error


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, a text per name."""
    return [
        f"{name}: {before.get(name)} before, {now.get(name)} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def read_settings(path: Path) -> dict[str, Any]:
    """A step's ``<step>.settings.json``: `settings`, and what else it holds. Raises StepError when it is damaged."""
    step = path.name.removesuffix(".settings.json")
    remedy = f"Delete it and start {step} again with the same command: what is done is kept."
    return dict(read_json(path, _Record, StepError, remedy))


def ledger_line(entry: Mapping[str, Any]) -> bytes:
    """A finished job's line of ``<step>.done.jsonl``, with its checksum."""
    body = json.dumps(dict(entry))[:-1].encode()
    return body + f', "checksum": "{_checksum(body)}"}}\n'.encode()


def _checksum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _parse(line: bytes) -> dict[str, Any] | None:
    """A ledger's line; None for one that is not as it was written."""
    found = _CHECKED.fullmatch(line)
    if found and _checksum(found[1]) == found[2].decode():
        return dict(json.loads(found[1] + b"}"))
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    of_older_version = isinstance(entry, dict) and isinstance(entry.get("key"), str) and "identity" not in entry
    return {"key": entry["key"], "identity": None, "outputs": None} if of_older_version else None
