"""Evaluation on tiles: confusion matrices and losses over all valid pixels, and panels of fixed samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from swath.data.samples.loader import Loader
from swath.distributed import all_gather
from swath.figures.pictures import palette_of, panel
from swath.nn.losses.pixel import TaskLosses
from swath.nn.model import Regression, Task, predict_classes, probabilities
from swath.nn.tta import Merge, Views, merge_views, view_probabilities, views
from swath.scoring.metrics import combined, confusion_matrices, named, scores, tile_means


@dataclass
class Unit:
    """What was counted on one tile: a confusion matrix per task, and sums of losses over its labelled pixels."""

    matrices: dict[str, NDArray[np.int64]]
    pixels: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)

    def add(self, other: Unit) -> None:
        """Take in what was counted on another part of the same tile."""
        self.matrices = {task: self.matrices[task] + other.matrices[task] for task in self.matrices}
        self.pixels += other.pixels
        self.losses = {name: value + other.losses[name] for name, value in self.losses.items()}

    @property
    def mean_losses(self) -> dict[str, float]:
        """Losses per labelled pixel; none when no pixel is labelled."""
        return {name: value / self.pixels for name, value in self.losses.items()} if self.pixels else {}


@dataclass
class Evaluation:
    """What an evaluation found: a confusion matrix per task, mean losses, panels and counts by sample key."""

    matrices: dict[str, NDArray[np.int64]]
    losses: dict[str, float]
    panels: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    """Counts of each tile, of all ranks, in the order of their keys; their sums are `matrices` and `losses`."""

    def metrics(
        self, prefix: str, tasks: Mapping[str, Task], weights: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """All scores and losses under ``<prefix>/...``; means over tiles (see `tile_means`) when tiles were counted.

        `weights` make the `combined` score.
        """
        table = {f"{prefix}/{name}": value for name, value in self.losses.items()}
        for name, task in tasks.items():
            found = scores(self.matrices[name], task.classes)
            if self.units:
                found |= tile_means(np.stack([unit.matrices[name] for unit in self.units.values()]))
            table |= named(found, prefix, name, len(tasks))
        return table | combined(table, weights or {}, prefix)


def evaluate(
    model: nn.Module, loader: Loader | DataLoader[Any], tasks: Mapping[str, Task], losses: TaskLosses | None = None,
    show: Sequence[str] = (), device: str | torch.device = "cpu", tta: Views = "off", merge: Merge = "mean",
) -> Evaluation:  # fmt: skip
    """Run `model` over `loader` without gradients, on all ranks together; `show` names the samples to draw.

    Losses are those of each sample, averaged by their labelled pixels: like the matrices they do not depend on batch
    size or ranks. Samples of one key are counted together. With `tta`, classes are those of the probabilities that
    `swath.nn.tta.predictor` gives, merged over the views; losses stay those of the plain view's logits.
    """
    turned = views(tta)[1:]  # the first one is the image as it is
    units: dict[str, Unit] = {}
    panels: dict[str, NDArray[np.uint8]] = {}

    def step(engine: Engine, batch: dict[str, Any]) -> None:
        with torch.inference_mode():
            image = batch["image"].to(device, non_blocking=True)
            logits = model(image)
            targets = {task: target.to(device, non_blocking=True) for task, target in batch["target"].items()}
            found = chain([probabilities(logits)], view_probabilities(model, image, turned))
            predicted = predict_classes(merge_views(found, merge), tasks)
            for key, unit in zip(batch["key"], _count(logits, predicted, targets, tasks, losses), strict=True):
                _add(units, key, unit)
        for i, key in enumerate(batch["key"]):
            if key in show and key not in panels:
                panels[key] = _panels(batch, predicted, i, tasks)

    model.eval()
    if len(loader):  # of few tiles, some ranks have none
        Engine(step).run(loader, max_epochs=1)
    together = _of_all_ranks(units)
    drawn = {key: picture for part in all_gather(panels) for key, picture in part.items()}
    return Evaluation(_sums(together, tasks), _means(together), drawn, together)


def _panels(
    batch: Mapping[str, Any], predicted: Mapping[str, Tensor], i: int, tasks: Mapping[str, Task]
) -> NDArray[np.uint8]:
    """A panel per task of sample `i`, one below the other."""
    image, key = batch["image"][i].numpy(), batch["key"][i]
    rows = [
        panel(
            image,
            batch["target"][task][i].numpy(),
            found[i].cpu().numpy(),
            tasks[task].classes,
            key if len(predicted) == 1 else f"{key} {task}",  # a long caption loses its beginning
            palette_of(len(tasks[task].classes), isinstance(tasks[task], Regression)),
        )
        for task, found in predicted.items()
    ]
    return np.concatenate(rows)


def _count(
    logits: Mapping[str, Tensor], predicted: Mapping[str, Tensor], targets: Mapping[str, Tensor],
    tasks: Mapping[str, Task], losses: TaskLosses | None,
) -> Iterator[Unit]:  # fmt: skip
    """The counts of each sample of a batch."""
    size = len(next(iter(predicted.values())))
    sample = torch.arange(size, device=next(iter(predicted.values())).device).reshape(-1, 1, 1)
    matrices = {
        name: confusion_matrices(predicted[name], targets[name], len(task.classes), sample, size).cpu().numpy()
        for name, task in tasks.items()
    }
    means = _losses(logits, targets, losses, size) if losses is not None else [{}] * size
    for i, one in enumerate(means):
        pixels = float(sum(matrix[i].sum() for matrix in matrices.values()))
        sums = {name: value * pixels for name, value in one.items()}
        yield Unit({name: matrix[i] for name, matrix in matrices.items()}, pixels, sums)


def _losses(
    logits: Mapping[str, Tensor], targets: Mapping[str, Tensor], losses: TaskLosses, size: int
) -> list[dict[str, float]]:
    """The losses of each sample of a batch, in one transfer from the device."""
    rows = []
    for i in range(size):
        terms = losses({t: v[i : i + 1] for t, v in logits.items()}, {t: v[i : i + 1] for t, v in targets.items()})
        rows.append(torch.stack(list(terms.values())))
    return [dict(zip(terms, row, strict=True)) for row in torch.stack(rows).tolist()]


def _add(units: dict[str, Unit], key: str, unit: Unit) -> None:
    if key in units:
        units[key].add(unit)
    else:
        units[key] = unit


def _of_all_ranks(units: dict[str, Unit]) -> dict[str, Unit]:
    """Units of every rank by key, sorted: equal on every rank and for any number of them."""
    together: dict[str, Unit] = {}
    for part in all_gather(units):
        for key, unit in part.items():
            _add(together, key, unit)
    return dict(sorted(together.items()))


def _sums(units: Mapping[str, Unit], tasks: Mapping[str, Task]) -> dict[str, NDArray[np.int64]]:
    return {
        name: sum((u.matrices[name] for u in units.values()), np.zeros((len(task.classes),) * 2, np.int64))
        for name, task in tasks.items()
    }


def _means(units: Mapping[str, Unit]) -> dict[str, float]:
    names = next(iter(units.values())).losses if units else {}
    pixels = max(sum(unit.pixels for unit in units.values()), 1.0)
    return {name: sum(unit.losses[name] for unit in units.values()) / pixels for name in names}
