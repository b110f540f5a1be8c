"""Finished strips of a scene in work, kept beside its final name: a stopped inference goes on, and ranks meet here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.errors import RasterError
from swath.files import atomic_write


@dataclass(frozen=True)
class Strips:
    """A file per finished strip of the raster `target`, in ``.<name>.parts/<attempt>/`` beside it.

    `attempt` is a digest of all that decides the values, so that strips of other settings are never taken for ours.
    """

    target: Path
    attempt: str

    @property
    def home(self) -> Path:
        return self.target.with_name(f".{self.target.stem}.parts")

    def _path(self, number: int) -> Path:
        return self.home / self.attempt / f"{number:06d}.npy"

    def open(self, resume: bool) -> None:
        """Remove the strips of other attempts, and without `resume` those of this one."""
        for folder in self.home.glob("*"):
            if folder.name != self.attempt or not resume:
                shutil.rmtree(folder)

    def missing(self, count: int) -> list[int]:
        """Which of `count` strips are not there yet."""
        return [number for number in range(count) if not self._is_whole(number)]

    def _is_whole(self, number: int) -> bool:
        try:
            np.load(self._path(number), mmap_mode="r")  # compares the file's size with its header
        except (OSError, ValueError, EOFError):
            return False
        return True

    def save(self, number: int, array: NDArray[Any]) -> None:
        """Keep a strip: it appears whole or not at all. Raises RasterError when it cannot be written."""
        try:
            with atomic_write(self._path(number), failures=()) as part, part.open("wb") as file:
                np.save(file, array)
        except OSError as error:
            raise RasterError(
                f"{self.target}: a strip of it cannot be written ({error}). Nothing is left under that name. "
                f"Free disk space or check the folder's permissions, then start the same command again: {number} or more "
                "finished strips are kept."
            ) from error

    def load(self, number: int) -> NDArray[Any]:
        """A strip as it was saved. Raises RasterError when it is not readable any more."""
        try:
            return np.asarray(np.load(self._path(number)))
        except (OSError, ValueError, EOFError) as error:
            raise RasterError(
                f"{self._path(number)}: a finished strip of {self.target.name} cannot be read ({error}). "
                "Delete that file, then start the same command again."
            ) from error

    def clear(self) -> None:
        """The raster is complete: forget its strips, and what a killed process left half written."""
        shutil.rmtree(self.home, ignore_errors=True)
