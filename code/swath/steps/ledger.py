"""What a step has finished: a ledger in its output folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swath.config import digest
from swath.config.moved import with_new_names, with_old_names
from swath.errors import StepError
from swath.files import atomic_write
from swath.steps.job import Job


class Ledger:
    """What a step has finished in `folder`: a settings file and a line of JSON per finished job."""

    def __init__(self, folder: Path, step: str, settings: Mapping[str, Any], replace: bool = False) -> None:
        """With `replace`, results of other settings are done again in place instead of being an error."""
        self.folder, self.step = folder, step
        self.settings_path = folder / f"{step}.settings.json"
        self.done_path = folder / f"{step}.done.jsonl"
        self.settings = dict(settings)
        self._digest = digest(self.settings)
        self._digest_before_the_move = digest(with_old_names(self.settings))
        if not replace:
            self._check_settings()

    @property
    def differs(self) -> str | None:
        """How the settings in the folder differ from ours, as text; None when they do not, or there are none."""
        if not self.settings_path.is_file():
            return None
        before = with_new_names(json.loads(self.settings_path.read_text())["settings"])
        now = json.loads(json.dumps(self.settings))
        changed = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
        return "; ".join(f"{k}: {before.get(k)} before, {now.get(k)} now" for k in changed) or None

    def _check_settings(self) -> None:
        if self.differs:
            raise StepError(
                f"{self.folder}: holds the result of {self.step} with other settings ({self.differs}). "
                f"Choose another output_path; or delete {self.settings_path.name} and {self.done_path.name} there "
                "to have all of it done again in place."
            )

    def record_settings(self, provenance: Mapping[str, Any]) -> None:
        """Leave the command, versions and every setting beside the outputs."""
        text = json.dumps({"settings": self.settings} | dict(provenance), indent=2, default=str) + "\n"
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

    def finished(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Key to result of the jobs that need not be done again: same inputs, same settings, outputs in place."""
        lines = self.done_path.read_text().splitlines() if self.done_path.is_file() else []
        done = {entry["key"]: entry for entry in map(_parse, lines) if entry}
        return {
            job.key: done[job.key]["result"]
            for job in jobs
            if job.key in done
            and done[job.key]["digest"] in self._digests(job)
            and all(p.is_file() for p in job.outputs)
        }

    def digest_of(self, job: Job) -> str:
        """Changes with the settings and with name, size and time of any input, also when one goes missing."""
        return self._digests(job)[0]

    def _digests(self, job: Job) -> tuple[str, str]:
        """A job's digest, and the one that version 0.1.0 gave it, whose settings have the classes' old names."""
        inputs = [_stamp(path) for path in job.inputs]
        now = digest({"settings": self._digest, "inputs": inputs})
        return now, digest({"settings": self._digest_before_the_move, "inputs": inputs})

    def add(self, job: Job, result: Any) -> None:
        """Note a job as done."""
        line = json.dumps({"key": job.key, "digest": self.digest_of(job), "result": result}) + "\n"
        with self._writable(), self.done_path.open("ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            torn = file.read() not in (b"", b"\n")  # a crash cut the last line short
            file.write(("\n" + line if torn else line).encode())


def _stamp(path: Path) -> list[Any]:
    stat = path.stat() if path.exists() else None
    return [str(path), stat.st_size if stat else None, stat.st_mtime_ns if stat else None]


def _parse(line: str) -> dict[str, Any] | None:
    """A ledger's line; None for one that a crash cut short."""
    try:
        return dict(json.loads(line))
    except json.JSONDecodeError:
        return None
