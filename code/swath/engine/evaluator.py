"""Evaluation on tiles: confusion matrices and losses over all valid pixels, and panels of fixed samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from swath.engine.panels import panel
from swath.labels import IGNORE
from swath.nn.heads import Classification, predict_classes, probabilities
from swath.nn.losses import TaskLosses
from swath.nn.metrics import confusion_matrix, named, scores


@dataclass
class Evaluation:
    """What an evaluation found: a confusion matrix per task, mean losses, panels by sample key."""

    matrices: dict[str, NDArray[np.int64]]
    losses: dict[str, float]
    panels: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def metrics(self, prefix: str, tasks: Mapping[str, Classification]) -> dict[str, float]:
        """All scores and losses under ``<prefix>/...``."""
        table = {f"{prefix}/{name}": value for name, value in self.losses.items()}
        for name, task in tasks.items():
            table |= named(scores(self.matrices[name], task.classes), prefix, name, len(tasks))
        return table


def evaluate(
    model: nn.Module, loader: DataLoader[Any], tasks: Mapping[str, Classification], losses: TaskLosses | None = None,
    show: Sequence[str] = (), device: str | torch.device = "cpu",
) -> Evaluation:  # fmt: skip
    """Run `model` over `loader` without gradients, on all ranks together; `show` names the samples to draw.

    Losses are means over labelled pixels, so that they, like the matrices, do not depend on batch size or ranks.
    """
    matrices = {name: torch.zeros(t.channels, t.channels, dtype=torch.int64) for name, t in tasks.items()}
    sums: dict[str, float] = {}
    panels: dict[str, NDArray[np.uint8]] = {}

    def step(engine: Engine, batch: dict[str, Any]) -> None:
        with torch.inference_mode():
            logits = model(batch["image"].to(device))
            targets = {task: target.to(device) for task, target in batch["target"].items()}
            predicted = predict_classes(probabilities(logits))
            for name, task in tasks.items():
                matrices[name] += confusion_matrix(predicted[name], targets[name], task.channels).cpu()
            if losses is not None:
                _add(sums, losses(logits, targets), targets)
        first = next(iter(tasks))
        for i, key in enumerate(batch["key"]):
            if key in show and key not in panels:
                arrays = (
                    batch["image"][i].numpy(),
                    batch["target"][first][i].numpy(),
                    predicted[first][i].cpu().numpy(),
                )
                panels[key] = panel(*arrays, caption=key)

    model.eval()
    Engine(step).run(loader, max_epochs=1)
    return Evaluation({n: _all_ranks(m).numpy() for n, m in matrices.items()}, _means(sums), panels)


def _add(sums: dict[str, float], terms: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
    pixels = float(sum((target != IGNORE).sum() for target in targets.values()))
    sums["pixels"] = sums.get("pixels", 0.0) + pixels
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + float(value) * pixels


def _means(sums: Mapping[str, float]) -> dict[str, float]:
    if not sums:
        return {}
    total = _all_ranks(torch.tensor([sums[name] for name in sums], dtype=torch.float64))
    table = dict(zip(sums, total.tolist(), strict=True))
    pixels = max(table.pop("pixels"), 1.0)
    return {name: value / pixels for name, value in table.items()}


def _all_ranks(tensor: Tensor) -> Tensor:
    reduced = idist.all_reduce(tensor) if idist.get_world_size() > 1 else tensor
    assert isinstance(reduced, Tensor)
    return reduced
