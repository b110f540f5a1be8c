"""A disk that is really full: a file system of its own in memory, of a given size."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A folder with room for `size` bytes. Skips the test where nothing may be mounted."""
    folder.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system (root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, free: int) -> Path:
    """Take all room but `free` bytes; returns the file that takes it."""
    taken = folder / "taken"
    status = os.statvfs(folder)
    taken.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - free)))
    return taken
