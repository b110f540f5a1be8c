"""The folder of an unfinished training: its state, the weights that are kept so far, and a lock."""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ignite.distributed as idist

from swath.errors import TrainingError


@dataclass(frozen=True)
class ResumeState:
    """Files of one training, one folder per configuration. Only the first rank writes there."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything from which a killed training goes on."""
        return self.path / "state.pt"

    def weights(self, name: int | str) -> Path:
        """Weights by iteration, so that a state finds the very ones that it knows as the best; or by name."""
        return self.path / f"weights-{name}.safetensors"

    def keep_only(self, iterations: Collection[int]) -> None:
        """Delete the weights of all other iterations."""
        kept = {self.weights(iteration) for iteration in iterations}
        for path in set(self.path.glob("weights-*.safetensors")) - kept:
            path.unlink()

    def forget(self) -> None:
        """Delete everything: the run holds the result."""
        if idist.get_rank():
            return
        for path in (*self.path.glob("weights-*.safetensors"), self.state, self.path / "lock"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Two processes must not write one training's state: TrainingError for the second."""
        if idist.get_rank():
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise TrainingError(
                    f"{self.path}: another process runs this training. Wait for it, or change the seed or output_path."
                ) from None
            yield
