"""Everything that changes while a model learns, and the one step that changes it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from torch import Tensor, nn

from swath.engine.training_config import TrainingConfig
from swath.errors import TrainingError
from swath.nn.heads import SegmentationModel
from swath.nn.losses import TaskLosses


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries below still draw from the global generator
    torch.manual_seed(seed)


def seed_worker(worker: int) -> None:
    """Seed a loader process from what its loader gave it."""
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - see seed_everything


@dataclass
class Learner:
    """Everything that changes while a model learns, and the one step that changes it."""

    config: TrainingConfig
    model: SegmentationModel
    device: torch.device
    total_steps: int
    reduction: float = 1.0
    """Factor of the learning rate on top of the schedule: see Plateau."""

    def __post_init__(self) -> None:
        config = self.config
        self.wrapped: nn.Module = self.model.to(self.device)
        self.wrap()
        losses = {name: task.loss() for name, task in config.tasks.items()}
        self.losses = TaskLosses(losses, {name: task.weight for name, task in config.tasks.items()}).to(self.device)
        self.optimizer = config.optimizer(parameter_groups(self.model, config))
        schedule = config.schedule()
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda i: self.reduction * schedule(i, self.total_steps)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.augmentation = [factory() for factory in config.data.augmentation]
        self.unlabelled = config.unlabelled.method().to(self.device) if config.unlabelled else None
        self.ramp = config.unlabelled.ramp() if config.unlabelled else None

    def wrap(self) -> None:
        """Wrap the model for data-parallel training, anew whenever other parameters have gradients than before."""
        self.wrapped = idist.auto_model(self.model) if idist.get_world_size() > 1 else self.model

    def step(self, batch: Mapping[str, Any], iteration: int) -> dict[str, float]:
        """One optimiser step on `accumulation` parts of a batch; mean losses and the rate that was used.

        Raises TrainingError that names the samples when the loss is not finite; the weights stay as they were.
        """
        self.wrapped.train()
        self.optimizer.zero_grad(set_to_none=True)
        rate = self.optimizer.param_groups[0]["lr"]
        parts = _parts(batch, self.config.accumulation)
        sums: dict[str, float] = {}
        for number, part in enumerate(parts):
            terms = self._forward(part, iteration, number)
            if not torch.isfinite(terms["loss"]):
                raise TrainingError(
                    f"loss is {float(terms['loss'].detach())} at iteration {iteration} on the samples {', '.join(part['key'])}. "
                    "Look at these tiles, lower the learning rate, or set clip_norm. The best weights so far are kept."
                )
            self.scaler.scale(terms["loss"] / len(parts)).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(parts)
        if self.unlabelled is not None:
            sums |= self._learn_unlabelled(batch["unlabelled"], iteration)
        self._apply()
        return {f"training/{name}": value for name, value in sums.items()} | {"training/lr": float(rate)}

    def _learn_unlabelled(self, batch: Mapping[str, Any], iteration: int) -> dict[str, float]:
        """Add the gradients of the unlabelled loss, with its weight of this iteration; return the values to log."""
        assert self.unlabelled is not None
        assert self.ramp is not None
        generator = self._generator(iteration, self.config.accumulation)
        image = batch["image"].to(self.device, non_blocking=True)
        with self._autocast():
            terms: dict[str, Tensor] = self.unlabelled(self.wrapped, image, generator)
        total = torch.stack([self.config.tasks[task].weight * value for task, value in terms.items()]).sum()
        if not torch.isfinite(total):
            raise TrainingError(
                f"unlabelled loss is {float(total.detach())} at iteration {iteration} on the samples {', '.join(batch['key'])}. "
                "Look at these tiles, or lower the ramp's high."
            )
        weight = self.ramp(iteration - 1, self.total_steps)
        self.scaler.scale(weight * total).backward()
        values = {f"unlabelled_{task}": float(value.detach()) for task, value in terms.items()}
        return values | {"unlabelled": float(total.detach()), "unlabelled_weight": weight}

    def _generator(self, iteration: int, number: int) -> torch.Generator:
        """Draws of one part of one step on this rank."""
        return torch.Generator().manual_seed(_mix(self.config.seed, iteration, number, idist.get_rank()))

    def _autocast(self) -> torch.autocast:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def _forward(self, part: Mapping[str, Any], iteration: int, number: int) -> dict[str, Tensor]:
        generator = self._generator(iteration, number)
        image = part["image"].to(self.device, non_blocking=True)
        targets = {task: target.to(self.device, non_blocking=True) for task, target in part["target"].items()}
        for transform in self.augmentation:
            image, targets = transform(image, targets, generator)
        with self._autocast():
            logits = self.wrapped(image)
        terms: dict[str, Tensor] = self.losses(logits, targets)
        return terms

    def _apply(self) -> None:
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()

    def reduce(self, reduction: float) -> None:
        """Set the factor of the learning rate on top of the schedule, from the next step on."""
        before, self.reduction = self.reduction, reduction
        for group in self.optimizer.param_groups:
            group["lr"] *= reduction / before

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(), "reduction": self.reduction, "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state_all(),
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.reduction = state["reduction"]
        torch.set_rng_state(state["rng"])
        if len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _parts(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    images = batch["image"].chunk(count)
    targets = {task: target.chunk(count) for task, target in batch["target"].items()}
    size = len(images[0])
    return [
        {
            "image": image,
            "target": {t: c[i] for t, c in targets.items()},
            "key": batch["key"][i * size : (i + 1) * size],
        }
        for i, image in enumerate(images)
    ]


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """All trainable parameters with the optimiser's own decay; with `no_decay`, vectors (biases, norms) without any."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not config.no_decay:
        return [{"params": [p for _, p in named]}]
    flat = [p for _, p in named if p.ndim <= 1]
    return [{"params": [p for _, p in named if p.ndim > 1]}, {"params": flat, "weight_decay": 0.0}]
