"""Losses on logits (batch, class, height, width) and targets (batch, height, width), 255 = ignore.

Every loss is finite on batches without a labelled pixel or without a class, and gives no gradient to ignored pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.labels import IGNORE

EPS = 1e-7


class CrossEntropy(nn.Module):
    """Mean cross entropy over labelled pixels, weighted by class: sum w_y ce / sum w_y, 0 without labelled pixels."""

    class_weights: Tensor | None

    def __init__(self, class_weights: tuple[float, ...] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", torch.tensor(class_weights) if class_weights else None)

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        target = target_BHW.long()
        loss = F.cross_entropy(
            logits_BKHW.float(), target, self.class_weights, ignore_index=IGNORE, reduction="sum",
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        valid = target != IGNORE
        if self.class_weights is None:
            return loss / valid.sum().clamp(min=1)
        weights = torch.where(valid, self.class_weights[torch.where(valid, target, 0)], 0.0)
        return loss / weights.sum().clamp(min=EPS)


class SoftOverlap(nn.Module):
    """Base of Jaccard and Dice: sums of p y, p and y per class over all labelled pixels of the batch."""

    def __init__(self, classes: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.classes = list(classes) if classes is not None else None

    def sums(self, logits_BKHW: Tensor, target_BHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(intersection, predicted, true) per class, each (K,)."""
        valid = (target_BHW != IGNORE)[:, None]
        probability = torch.where(valid, logits_BKHW.float().softmax(1), 0.0)
        labels = torch.where(valid[:, 0], target_BHW.long(), 0)
        truth = F.one_hot(labels, logits_BKHW.shape[1]).movedim(-1, 1) * valid
        axes = (0, 2, 3)
        sums = (probability * truth).sum(axes), probability.sum(axes), truth.sum(axes).float()
        return sums if self.classes is None else (sums[0][self.classes], sums[1][self.classes], sums[2][self.classes])


class SoftJaccard(SoftOverlap):
    """1 - mean over classes of I / U with U = p + y - p y, softmax probabilities.

    Sums run over the batch, so one tile without the class does not count as a miss. With `pooled`, classes are summed
    as well before dividing: 1 - mean(I) / mean(U) over batch and class, the UNOSAT pipeline's Jaccard loss.
    """

    def __init__(self, classes: tuple[int, ...] | None = None, pooled: bool = False) -> None:
        super().__init__(classes)
        self.pooled = pooled

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        intersection, predicted, true = self.sums(logits_BKHW, target_BHW)
        union = predicted + true - intersection
        if self.pooled:
            return 1 - (intersection.sum() + EPS) / (union.sum() + EPS)
        return 1 - ((intersection + EPS) / (union + EPS)).mean()


class Dice(SoftOverlap):
    """1 - mean over classes of 2 I / (p + y), softmax probabilities (Milletari et al. 2016, without squares)."""

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        intersection, predicted, true = self.sums(logits_BKHW, target_BHW)
        return 1 - ((2 * intersection + EPS) / (predicted + true + EPS)).mean()


class WeightedSum(nn.Module):
    """sum_i weights[i] losses[i]; each term is logged under its name."""

    def __init__(self, losses: Mapping[str, Any], weights: Mapping[str, float] | None = None) -> None:
        """`losses` maps names to factories (or modules); `weights` defaults to 1 for each."""
        super().__init__()
        surplus = sorted(set(weights or {}) - set(losses))
        if surplus:
            raise ConfigError(f"weights: no loss {', '.join(surplus)} in the sum. It has: {', '.join(losses)}.")
        self.losses = nn.ModuleDict(
            {name: loss if isinstance(loss, nn.Module) else loss() for name, loss in losses.items()}
        )
        self.weights = dict.fromkeys(losses, 1.0) | dict(weights or {})

    def terms(self, logits_BKHW: Tensor, target_BHW: Tensor) -> dict[str, Tensor]:
        """Unweighted loss of each term."""
        return {name: loss(logits_BKHW, target_BHW) for name, loss in self.losses.items()}

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        return self.total(self.terms(logits_BKHW, target_BHW))

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()


class TaskLosses(nn.Module):
    """The losses of all tasks: sum of each task's loss times its weight, and every term by name."""

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)

    def forward(self, logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``{"loss": total, "loss_<task>": ..., "loss_<task>_<term>": ...}``, scalars."""
        out: dict[str, Tensor] = {}
        for task, loss in self.losses.items():
            if isinstance(loss, WeightedSum):
                terms = loss.terms(logits[task], targets[task])
                out |= {f"loss_{task}_{name}": term for name, term in terms.items()}
                out[f"loss_{task}"] = loss.total(terms)
            else:
                out[f"loss_{task}"] = loss(logits[task], targets[task])
        total = torch.stack([self.weights[task] * out[f"loss_{task}"] for task in self.losses]).sum()
        return {"loss": total, **out}
