"""A model as a function to probabilities, of one view of a window or of several turned ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
import ttach
from torch import Tensor, nn

from swath.nn.heads import probabilities

Predict = Callable[[Tensor], dict[str, Tensor]]
"""Raw bands (B, C, H, W) with NaN to probabilities (B, K, H, W) per task."""


def predictor(model: nn.Module, tta: str, device: torch.device) -> Predict:
    """The model as a function to probabilities, averaged over the D4 group when `tta` says so."""
    transforms = list(ttach.aliases.d4_transform()) if tta == "d4" else []

    def once(image: Tensor) -> dict[str, Tensor]:
        return probabilities(model(image))

    def predict(image_BCHW: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode():
            image = image_BCHW.to(device)
            if not transforms:
                return {task: p.cpu() for task, p in once(image).items()}
            sums: dict[str, Tensor] = {}
            for transform in transforms:
                for task, p in once(transform.augment_image(image)).items():
                    turned = transform.deaugment_mask(p)
                    sums[task] = sums[task] + turned if task in sums else turned
            return {task: (total / len(transforms)).cpu() for task, total in sums.items()}

    return predict
