"""Pixel losses, compounds of pixel and region losses, and weighted sums.

Logits (batch, class, height, width) and targets (batch, height, width), 255 = ignore; a float32 scalar comes out.
Every loss is finite, with finite gradients, on batches without a labelled pixel or without a class, and gives no
gradient to ignored pixels. Region losses are in `swath.nn.losses.overlap`, that of a regression head in `swath.nn.losses.regression`.

Soft cross entropy is `CrossEntropy(label_smoothing=0.1)`. For two classes, cross entropy is the binary cross entropy of
the difference of the logits, and `Focal` torchvision's `sigmoid_focal_loss` of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses.labelled import EPS, Labelled, labelled, power
from swath.nn.losses.overlap import Dice
from swath.nn.losses.overlap import SoftJaccard as SoftJaccard  # earlier configs and runs name it here


class CrossEntropy(nn.Module):
    """Mean cross entropy over labelled pixels, weighted by class: sum w_y ce / sum w_y, 0 without labelled pixels.

    With `label_smoothing` e, the target of class k is (1 - e) y_k + e / K (Szegedy et al. 2016): soft cross entropy.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: tuple[float, ...] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", _tensor(class_weights))

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels = labelled(logits_BKHW, target_BHW)
        weights = torch.where(pixels.valid, _pixel_weights(pixels, self.class_weights), 0.0)
        loss = F.cross_entropy(
            pixels.logits, target_BHW.long(), self.class_weights, ignore_index=IGNORE, reduction="sum",
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        return loss / weights.sum().clamp(min=EPS)


class Focal(nn.Module):
    """Mean over labelled pixels of w_y (1 - p_y)^gamma (-log p_y): Lin et al. 2017, arXiv:1708.02002, with softmax.

    As in the paper, `class_weights` scale pixels and are not divided out; for two classes they are (1 - alpha, alpha).
    segmentation_models_pytorch's is not finite without a labelled pixel, torchvision's knows no ignored ones.
    """

    class_weights: Tensor | None

    def __init__(self, gamma: float = 2.0, class_weights: tuple[float, ...] | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("class_weights", _tensor(class_weights))

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels = labelled(logits_BKHW, target_BHW)
        entropy = F.cross_entropy(pixels.logits, pixels.labels, reduction="none")
        doubt = -torch.expm1(-entropy)  # 1 - p, exact where p is close to 1
        return pixels.mean(_pixel_weights(pixels, self.class_weights) * power(doubt, self.gamma) * entropy)


class Combo(nn.Module):
    """alpha M + (1 - alpha) (1 - Dice): Taghanaki et al. 2019, arXiv:1805.02798, moved by a constant so that 0 is best.

    M is the mean over labelled pixels and classes of -beta y log p - (1 - beta) (1 - y) log(1 - p): `beta` above 1/2 is
    hard on misses, below on false alarms. Of two classes, each one's misses are the other's false alarms, so `beta` acts
    only with `classes`, such as ``(1,)``. The paper sums Dice over classes; here it is the mean.
    """

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, classes: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.alpha, self.beta, self.classes = alpha, beta, classes
        self.dice = Dice(classes)

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels, dice = labelled(logits_BKHW, target_BHW), self.dice(logits_BKHW, target_BHW)
        chosen = range(pixels.classes) if self.classes is None else self.classes
        entropy = torch.stack([self._entropy(pixels, k) for k in chosen]).mean(0)
        return self.alpha * pixels.mean(entropy) + (1 - self.alpha) * dice

    def _entropy(self, pixels: Labelled, k: int) -> Tensor:
        every = pixels.logits.logsumexp(1)
        others = torch.cat([pixels.logits[:, :k], pixels.logits[:, k + 1 :]], 1).logsumexp(1)
        hit, rest = every - pixels.logits[:, k], every - others  # -log p and -log(1 - p) without the rounding of 1 - p
        return torch.where(pixels.labels == k, self.beta * hit, (1 - self.beta) * rest)


class ExpLog(nn.Module):
    """w_dice E_k[(-log Dice_k)^gamma] + w_ce E_x[w_y (-log p_y)^gamma]: Wong et al. 2018, arXiv:1809.00076.

    E_k is the mean over classes, E_x that over labelled pixels. The paper's `class_weights` are sqrt(sum_k f_k / f_y)
    with the frequencies f of the classes in the training set; they scale pixels and are not divided out.
    """

    class_weights: Tensor | None

    def __init__(
        self, dice: float = 0.8, ce: float = 0.2, gamma_dice: float = 0.3, gamma_ce: float = 0.3,
        class_weights: tuple[float, ...] | None = None, classes: tuple[int, ...] | None = None, smooth: float = EPS,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weights, self.gammas = (dice, ce), (gamma_dice, gamma_ce)
        self.overlap = Dice(classes, smooth)
        self.register_buffer("class_weights", _tensor(class_weights))

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels = labelled(logits_BKHW, target_BHW)
        region = power(-self.overlap.index(logits_BKHW, target_BHW).log(), self.gammas[0]).mean()
        entropy = power(F.cross_entropy(pixels.logits, pixels.labels, reduction="none"), self.gammas[1])
        pixel = pixels.mean(_pixel_weights(pixels, self.class_weights) * entropy)
        return self.weights[0] * region + self.weights[1] * pixel


def _tensor(class_weights: tuple[float, ...] | None) -> Tensor | None:
    return torch.tensor(class_weights, dtype=torch.float32) if class_weights else None


def _pixel_weights(pixels: Labelled, class_weights: Tensor | None) -> Tensor:
    """Weight of each pixel's class, (B, H, W); 1 without weights. Raises ConfigError for too few or too many."""
    if class_weights is None:
        return torch.ones_like(pixels.labels, dtype=torch.float32)
    if len(class_weights) != pixels.classes:
        raise ConfigError(f"class_weights has {len(class_weights)} values, the head {pixels.classes} classes.")
    return class_weights[pixels.labels]


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

    @property
    def names(self) -> list[str]:
        """Names of the values that `forward` returns."""
        terms = [
            f"loss_{t}_{n}" for t, loss in self.losses.items() if isinstance(loss, WeightedSum) for n in loss.losses
        ]
        return ["loss", *(f"loss_{task}" for task in self.losses), *terms]

    def of(
        self, model: Callable[[Tensor], Mapping[str, Tensor]], image_BCHW: Tensor, targets: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:  # fmt: skip
        """What a training step lessens; `generator` is for losses that draw something."""
        found: dict[str, Tensor] = self(model(image_BCHW), targets)
        return found

    def forward(self, logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``{"loss": total, "loss_<task>": ..., "loss_<task>_<term>": ...}``, scalars."""
        found = self.by_task(logits, targets)
        total = torch.stack([self.weights[task] * terms[f"loss_{task}"] for task, terms in found.items()]).sum()
        return {"loss": total} | {name: value for terms in found.values() for name, value in terms.items()}

    def by_task(self, logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Each task's ``{"loss_<task>": ..., "loss_<task>_<term>": ...}``, scalars: means over that task's labels."""
        found: dict[str, dict[str, Tensor]] = {}
        for task, loss in self.losses.items():
            if isinstance(loss, WeightedSum):
                terms = loss.terms(logits[task], targets[task])
                found[task] = {f"loss_{task}_{name}": term for name, term in terms.items()}
                found[task][f"loss_{task}"] = loss.total(terms)
            else:
                found[task] = {f"loss_{task}": loss(logits[task], targets[task])}
        return found


def cross_entropy_dice(
    class_weights: tuple[float, ...] | None = None, classes: tuple[int, ...] | None = None, ce: float = 0.5, dice: float = 0.5
) -> WeightedSum:  # fmt: skip
    """Cross entropy and Dice (of `classes`), half and half unless told otherwise; logged as ``ce`` and ``dice``."""
    return WeightedSum({"ce": CrossEntropy(class_weights), "dice": Dice(classes)}, {"ce": ce, "dice": dice})


def binary_cross_entropy_dice(bce: float = 1.0, dice: float = 1.0) -> WeightedSum:
    """Binary cross entropy and foreground Dice of a head with two classes; logged as ``bce`` and ``dice``."""
    return WeightedSum({"bce": CrossEntropy(), "dice": Dice((1,))}, {"bce": bce, "dice": dice})
