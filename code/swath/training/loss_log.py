"""Losses of steps that are still on the device: fetched together, so that no step waits for its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from swath.distributed import all_gather, mean_over_ranks
from swath.errors import TrainingError

GUARDED = ("training/loss", "training/unlabelled")


@dataclass
class LossLog:
    """Values of the steps since the last fetch, and which samples they were taken on."""

    steps: list[int] = field(default_factory=list)
    values: list[Mapping[str, Tensor | float]] = field(default_factory=list)
    samples: list[Sequence[str]] = field(default_factory=list)
    last: float = math.nan
    """The total loss as of the last fetch."""

    def add(self, step: int, values: Mapping[str, Tensor | float], samples: Sequence[str]) -> None:
        """Keep what a step found; names are the same at every step."""
        self.steps.append(step)
        self.values.append(values)
        self.samples.append(samples)

    def fetch(self) -> dict[str, float]:
        """Means since the last fetch, over steps and ranks, equal on all ranks; plain numbers are those of the last step.

        Raises TrainingError that names the step and its samples, of all ranks, when a loss is not finite.
        """
        steps = [{name: value for name, value in row.items() if isinstance(value, Tensor)} for row in self.values]
        names = list(steps[0])
        rows = torch.stack([torch.stack(list(row.values())) for row in steps])
        table = mean_over_ranks(rows.float()).tolist()  # the one place that waits for the device
        found = {
            name: math.fsum(column) / len(table) for name, column in zip(names, zip(*table, strict=True), strict=True)
        }
        self._require_finite(names, table)
        fetched = {name: found[name] if name in found else float(value) for name, value in self.values[-1].items()}
        self.steps, self.values, self.samples, self.last = [], [], [], found["training/loss"]
        return fetched

    def _require_finite(self, names: Sequence[str], table: Sequence[Sequence[float]]) -> None:
        for step, row, samples in zip(self.steps, table, self.samples, strict=True):
            for name, value in zip(names, row, strict=True):
                if name in GUARDED and not math.isfinite(value):
                    everywhere = [key for keys in all_gather(list(samples)) for key in keys]
                    raise TrainingError(
                        f"{name.removeprefix('training/')} is {value} at iteration {step} on the samples "
                        f"{', '.join(everywhere)}. Look at these tiles, lower the learning rate (or the ramp of the "
                        "unlabelled loss), or set clip_norm. The best weights so far are kept."
                    )
