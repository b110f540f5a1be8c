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
from swath.interrupt import check_stop
from swath.nn.losses.pixel import TaskLosses
from swath.nn.model import Regression, Task, predict_classes, probabilities
from swath.nn.tta import Merge, Views, merge_views, view_probabilities, views
from swath.scoring.metrics import combined, confusion_matrices, named, scores, tile_means


@dataclass
class Unit:
    """What was counted on one tile: a confusion matrix per task, and sums of losses over the task's labelled pixels."""

    matrices: dict[str, NDArray[np.int64]]
    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    """Task to its losses by name, each times the pixels that have a label of this task."""

    def add(self, other: Unit) -> None:
        """Take in what was counted on another part of the same tile."""
        self.matrices = {task: self.matrices[task] + other.matrices[task] for task in self.matrices}
        for task, sums in self.losses.items():
            self.losses[task] = {name: value + other.losses[task][name] for name, value in sums.items()}

    @property
    def mean_losses(self) -> dict[str, float]:
        """Losses of each task per pixel with a label of it; none of a task without any."""
        means: dict[str, float] = {}
        for task, sums in self.losses.items():
            pixels = int(self.matrices[task].sum())
            if pixels:
                means |= {name: value / pixels for name, value in sums.items()}
        return means


@dataclass
class Evaluation:
    """What an evaluation found: a confusion matrix per task, mean losses, panels and counts by sample key."""

    matrices: dict[str, NDArray[np.int64]]
    losses: dict[str, float]
    """Those of a task are means over the pixels with a label of it; ``loss`` is the sum of the tasks' times their weights.
    A task without a label has none, and adds nothing."""
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

    Losses are those of each sample, averaged by their pixels with a label of the task: like the matrices they do not
    depend on batch size or ranks, nor on the labels of other tasks. Samples of one key are counted together. With `tta`,
    classes are those of the probabilities that `swath.nn.tta.predictor` gives, merged over the views; losses stay those
    of the plain view's logits.
    """
    turned = views(tta)[1:]  # the first one is the image as it is
    units: dict[str, Unit] = {}
    panels: dict[str, NDArray[np.uint8]] = {}

    def step(engine: Engine, batch: dict[str, Any]) -> None:
        check_stop()
        with torch.inference_mode():
            image = batch["image"].to(device, non_blocking=True)
            targets = {task: target.to(device, non_blocking=True) for task, target in batch["target"].items()}
            logits, predicted = _predicted(model, image, turned, merge, tasks)
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
    means = _means(together, losses.weights) if losses is not None else {}
    return Evaluation(_sums(together, tasks), means, drawn, together)


def _predicted(
    model: nn.Module, image: Tensor, turned: Sequence[Any], merge: Merge, tasks: Mapping[str, Task]
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """(logits of the image as it is, classes from the probabilities of all views)."""
    logits = model(image)
    found = chain([probabilities(logits)], view_probabilities(model, image, turned))
    return logits, predict_classes(merge_views(found, merge), tasks)


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
    for i, by_task in enumerate(means):
        mine = {name: matrix[i] for name, matrix in matrices.items()}
        sums = {}
        for task, terms in by_task.items():
            pixels = int(mine[task].sum())
            sums[task] = {name: value * pixels if pixels else 0.0 for name, value in terms.items()}
        yield Unit(mine, sums)


def _losses(
    logits: Mapping[str, Tensor], targets: Mapping[str, Tensor], losses: TaskLosses, size: int
) -> list[dict[str, dict[str, float]]]:
    """The losses of each sample of a batch by task and name, in one transfer from the device."""
    rows = []
    names: list[tuple[str, str]] = []
    for i in range(size):
        sample = {t: v[i : i + 1] for t, v in logits.items()}, {t: v[i : i + 1] for t, v in targets.items()}
        by_task = losses.by_task(*sample)
        names = [(task, name) for task, terms in by_task.items() for name in terms]
        rows.append(torch.stack([by_task[task][name] for task, name in names]))
    found = []
    for row in torch.stack(rows).tolist():
        one: dict[str, dict[str, float]] = {task: {} for task, _ in names}
        for (task, name), value in zip(names, row, strict=True):
            one[task][name] = value
        found.append(one)
    return found


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


def _means(units: Mapping[str, Unit], weights: Mapping[str, float]) -> dict[str, float]:
    """Mean losses over all units, see `Evaluation.losses`; `weights` are those of the tasks. None without a label."""
    means: dict[str, float] = {}
    total = 0.0
    for task, weight in weights.items():
        mine = [unit.losses[task] for unit in units.values()]
        pixels = sum(int(unit.matrices[task].sum()) for unit in units.values())
        if pixels:
            means |= {name: sum(sums[name] for sums in mine) / pixels for name in mine[0]}
            total += weight * means[f"loss_{task}"]
    return {"loss": total, **means} if means else {}
