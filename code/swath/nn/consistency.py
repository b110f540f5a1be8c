"""Learning from images without labels: the prediction of a turned image should be the turned prediction.

The two variants of the UNOSAT system. Both see an image (B, C, H, W) of raw bands twice: the teacher as it is, without
gradient, the student flipped or turned. `TurnConsistency` wants equal probabilities; `PseudoLabels` takes the teacher's
most probable class for the truth. Pixels that are NaN in all bands do not count. Every draw comes from the
generator that is passed in. A training adds ``LinearRamp()(i, n)`` times the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from swath.config import Factory
from swath.data.augment.transforms import symmetry
from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import probabilities

Model = Callable[[Tensor], Mapping[str, Tensor]]
"""Image (B, C, H, W) to ``{task: logits (B, K, H, W)}``."""

Difference = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, K, H, W) of student and teacher to a difference per pixel, (B, H, W)."""


@dataclass(frozen=True, kw_only=True)
class LinearRamp:
    """Weight of the unlabelled loss at iteration i of n: from `low` up to `high` over the first `share`, then `high`."""

    low: float = 0.001
    high: float = 1.0
    share: float = 0.25

    def __call__(self, i: int, n: int) -> float:
        length = self.share * n
        return self.low + (self.high - self.low) * (min(1.0, i / length) if length > 0 else 1.0)


class Views(NamedTuple):
    """What student and teacher say about one turned image, pixel by pixel."""

    student: dict[str, Tensor]
    """Logits (B, K, H', W') of each task; H' and W' are exchanged after a quarter turn."""
    teacher: dict[str, Tensor]
    """The same, without gradient."""
    valid: Tensor
    """bool (B, H', W'): some band holds a measurement."""


def turned_views(model: Model, image_BCHW: Tensor, generator: torch.Generator, teacher: Model | None = None) -> Views:
    """Predict a batch after, and before, one of the seven flips and turns that move something, each equally likely.

    These are what quarter turns (1 to 3) with random flips come to, without the identity. `teacher` is `model` itself
    unless given; whether either is in training mode is the caller's choice.
    """
    move = int(torch.randint(1, 8, (1,), generator=generator))
    # the student first: older torch's autocast keeps weights cast without gradient for later (pytorch issue 112583)
    student = model(symmetry(image_BCHW, move))
    with torch.no_grad():
        taught = (teacher or model)(image_BCHW)
    valid = ~torch.isnan(image_BCHW).all(dim=1)
    return Views(
        dict(student), {task: symmetry(logits, move) for task, logits in taught.items()}, symmetry(valid, move)
    )


def squared_difference(student_BKHW: Tensor, teacher_BKHW: Tensor) -> Tensor:
    """(B, H, W): mean over classes of (p - q)^2; of the values themselves for a head with one channel."""
    if student_BKHW.shape[1] == 1:
        return (student_BKHW - teacher_BKHW).square()[:, 0]
    p = probabilities({"student": student_BKHW, "teacher": teacher_BKHW})
    return (p["student"] - p["teacher"]).square().mean(1)


def kullback_leibler(student_BKHW: Tensor, teacher_BKHW: Tensor) -> Tensor:
    """(B, H, W): sum over classes of q (log q - log p), p the student's and q the teacher's probability, in nats."""
    if student_BKHW.shape[1] == 1:
        raise ConfigError("kullback_leibler compares classes; for a head with one channel use squared_difference.")
    log_p, log_q = student_BKHW.log_softmax(1), teacher_BKHW.log_softmax(1)
    return (log_q.exp() * (log_q - log_p)).sum(1)


class TurnConsistency(nn.Module):
    """Mean difference, over pixels with a measurement, of the turned prediction and the prediction of the turned image."""

    def __init__(self, difference: Difference = squared_difference) -> None:
        super().__init__()
        self.difference = difference

    def forward(
        self, model: Model, image_BCHW: Tensor, generator: torch.Generator, teacher: Model | None = None
    ) -> dict[str, Tensor]:
        """Loss of each task, a float32 scalar, 0 when no pixel holds a measurement."""
        views = turned_views(model, image_BCHW, generator, teacher)
        count = views.valid.sum().clamp(min=1)
        losses = {}
        for task, logits in views.student.items():
            pair = [torch.where(views.valid[:, None], x.float(), 0.0) for x in (logits, views.teacher[task])]
            losses[task] = torch.where(views.valid, self.difference(*pair), 0.0).sum() / count
        return losses


class PseudoLabels(nn.Module):
    """`loss` of the prediction of the turned image against the teacher's classes, where the teacher is sure enough.

    Pixels whose most probable class has a probability below `threshold` are ignored; 0 keeps all. For tasks with
    classes only: a head with one channel is a ConfigError.
    """

    def __init__(self, loss: Factory = CrossEntropy, threshold: float = 0.0) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold={threshold}: a probability from 0 to 1 is needed.")
        self.loss: nn.Module = loss()
        self.threshold = threshold

    def forward(
        self, model: Model, image_BCHW: Tensor, generator: torch.Generator, teacher: Model | None = None
    ) -> dict[str, Tensor]:
        """Loss of each task, a float32 scalar, 0 when no pixel is sure enough."""
        views = turned_views(model, image_BCHW, generator, teacher)
        return {
            task: self.loss(logits, pseudo_labels(views.teacher[task], views.valid, self.threshold))
            for task, logits in views.student.items()
        }


def pseudo_labels(logits_BKHW: Tensor, valid_BHW: Tensor, threshold: float = 0.0) -> Tensor:
    """uint8 (B, H, W): the most probable class; 255 where it is less probable than `threshold` or `valid_BHW` is False."""
    if logits_BKHW.shape[1] == 1:
        raise ConfigError("pseudo-labels need classes; for a head with one channel use TurnConsistency.")
    confidence, label = probabilities({"task": logits_BKHW})["task"].max(dim=1)
    return torch.where(valid_BHW & (confidence >= threshold), label, IGNORE).to(torch.uint8)
