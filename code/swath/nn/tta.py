"""Test-time augmentation: a model as a function to probabilities, of one view of a window or of several turned ones.

Probabilities are merged, never logits: a geometric mean of numbers below 0 is nothing, and one of probabilities is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import torch
import ttach
from torch import Tensor, nn

from swath.nn.model import probabilities

Predict = Callable[[Tensor], dict[str, Tensor]]
"""Raw bands (B, C, H, W) with NaN to probabilities (B, K, H, W) per task."""

Views = Literal["off", "flips", "rotations", "d4"]
"""Which of the eight symmetries of a square: the given view, 4 flips, 4 quarter turns, or all 8."""

Merge = Literal["mean", "max", "min", "gmean"]
"""How the views' probabilities become one, see `merge_views`."""

FLOOR = 1e-7
"""Smallest probability that `merge_views` knows: a view that is certain cannot veto all others."""


Precision = Literal["fp32", "bf16"]
"""Arithmetic of the network: as trained, or in half of the bits where a device is faster so. Probabilities are float32."""


def predictor(
    model: nn.Module, tta: Views, device: torch.device, merge: Merge = "mean", precision: Precision = "fp32"
) -> Predict:
    """The model as a function to probabilities (on `device`), merged over the views of `tta`.

    Its weights are laid out channels last: a sixth faster on CPUs (Unet mobilenet_v2, 512 px), and what GPUs like.
    """
    turned, model = views(tta), model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    half = partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16")

    def predict(image_BCHW: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode(), half():
            return merge_views(view_probabilities(model, image_BCHW.to(device), turned), merge)

    return predict


def view_probabilities(model: nn.Module, image_BCHW: Tensor, turned: Iterable[Any]) -> Iterator[dict[str, Tensor]]:
    """The model's probabilities (B, K, H, W) per task for each of ttach's transforms, turned back."""
    for view in turned:
        found = probabilities(model(view.augment_image(image_BCHW)))
        yield {task: view.deaugment_mask(p) for task, p in found.items()}


def views(tta: Views) -> list[Any]:
    """ttach's transforms (``augment_image``, ``deaugment_mask``) of a group of symmetries, the identity first."""
    flips, turns = [ttach.HorizontalFlip(), ttach.VerticalFlip()], [ttach.Rotate90([0, 90, 180, 270])]
    parts: dict[Views, list[Any]] = {"off": [], "flips": flips, "rotations": turns, "d4": [*flips, *turns]}
    return distinct(ttach.Compose(parts[tta]))


def distinct(transforms: Iterable[Any]) -> list[Any]:
    """The transforms that move pixels differently: of the 16 products of flips and quarter turns 8 are left."""
    probe, found = torch.arange(6).reshape(1, 1, 2, 3), dict[str, Any]()
    for transform in transforms:
        found.setdefault(str(transform.augment_image(probe).tolist()), transform)
    return list(found.values())


def merge_views(found: Iterable[Mapping[str, Tensor]], merge: Merge) -> dict[str, Tensor]:
    """One probability map (B, K, H, W) per task from those of several views; sums to 1 over classes, never NaN.

    ``mean``; ``gmean``, the geometric mean divided by its sum over classes; ``max`` and ``min`` of each class's
    probability, divided by their sum. Of two classes ``max`` and ``min`` are of the second one, and the first has the rest:
    divided by their sum, both would decide by the same (max + min) / 2. A single view stays as it is.
    The numbers of a regression have their mean for ``gmean``, too.
    """
    combine: Callable[[Tensor, Tensor], Tensor] = {"max": torch.maximum, "min": torch.minimum}.get(merge, torch.add)
    first: Mapping[str, Tensor] = {}
    total: dict[str, Tensor] = {}
    count = 0
    for count, view in enumerate(found, start=1):  # noqa: B007 - the number of views is needed below
        first = first or view
        terms = {
            task: p.clamp_min(FLOOR).log() if merge == "gmean" and p.shape[1] > 1 else p for task, p in view.items()
        }
        total = {task: combine(total[task], p) for task, p in terms.items()} if total else terms
    return dict(first) if count == 1 else {task: _normalised(value, merge, count) for task, value in total.items()}


def _normalised(value_BKHW: Tensor, merge: Merge, count: int) -> Tensor:
    if value_BKHW.shape[1] == 1:  # the number of a regression
        return value_BKHW if merge in ("max", "min") else value_BKHW / count
    if merge == "mean":
        return value_BKHW / count
    if merge == "gmean":
        return (value_BKHW / count).softmax(dim=1)
    if value_BKHW.shape[1] == 2:
        return torch.stack([1 - value_BKHW[:, 1], value_BKHW[:, 1]], dim=1)
    floored = value_BKHW.clamp_min(FLOOR)
    return floored / floored.sum(dim=1, keepdim=True)
