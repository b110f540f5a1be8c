"""Everything that changes while a model learns, and the one step that changes it."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from torch import Tensor, nn

from swath.config import Factory
from swath.distributed import all_gather, data_parallel, share_statistics
from swath.nn.batch_norm import over_all_ranks
from swath.nn.losses.labelled import require_classes
from swath.nn.losses.pixel import TaskLosses
from swath.nn.model import SegmentationModel, Task
from swath.nn.networks.masked import MaskedModel, Reconstruction
from swath.training.config import LearningConfig, Unlabelled


def seed_everything(seed: int, reproducible: bool = False) -> None:
    """Seed Python, NumPy and torch; `reproducible` computes with one thread from here on.

    Sums over pixels are taken in parts, one per thread: their last digits depend on how many there are.
    """
    if reproducible:
        torch.set_num_threads(1)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries below still draw from the global generator
    torch.manual_seed(seed)


@dataclass
class Learner:
    """Everything that changes while a model learns, and the one step that changes it."""

    config: LearningConfig
    model: SegmentationModel | MaskedModel
    losses: TaskLosses | Reconstruction
    device: torch.device
    total_steps: int
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """What is learned from labels."""
    unlabelled: Unlabelled | None = None
    """How tiles without labels are learned from, where the batches hold some."""
    reduction: float = 1.0
    """Factor of the learning rate on top of the schedule: see Plateau."""

    def __post_init__(self) -> None:
        config = self.config
        self.model.to(self.device).to(memory_format=self._layout)
        over_all_ranks(self.model, self.device)
        self.wrap()
        self.losses.to(self.device)
        self.optimizer = config.optimizer(parameter_groups(self.model, config), **fused(config.optimizer, self.device))
        schedule = config.schedule()
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda i: self.reduction * schedule(i, self.total_steps)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.augmentation = [factory() for factory in config.data.augmentation]
        self.consistency = self.unlabelled.method().to(self.device) if self.unlabelled else None
        self.ramp = self.unlabelled.ramp() if self.unlabelled else None

    def wrap(self) -> None:
        """Wrap the model for data-parallel training, anew whenever other parameters have gradients than before."""
        compiled = torch.compile(self.model) if self.config.compile else self.model
        self.wrapped: nn.Module = data_parallel(compiled, self.device)  # type: ignore[arg-type]

    def unwrap(self) -> None:
        """Let go of the wrapped model, which must not outlive the group of processes; `wrap` makes another one."""
        self.wrapped = self.model

    @property
    def _layout(self) -> torch.memory_format:
        last = self.config.channels_last
        if last is None:
            last = self.device.type == "cpu" or self.config.precision != "fp32"
        return torch.channels_last if last else torch.contiguous_format

    def step(self, batch: Mapping[str, Any], iteration: int) -> dict[str, Tensor | float]:
        """One step on `accumulation` parts of a batch; this rank's mean losses and the rate that was used.

        Losses stay on the device, where they may not be known yet: nothing here waits for it.
        """
        self.wrapped.train()
        self.optimizer.zero_grad(set_to_none=True)
        rate = self.optimizer.param_groups[0]["lr"]
        parts = _parts(batch, self.config.accumulation)
        joint = self.unlabelled is not None and self.unlabelled.own_steps == 0
        sums: dict[str, Tensor | float] = {}
        for number, part in enumerate(parts):
            with self._only_the_last(number + 1 == len(parts) and not joint):
                terms = self._forward(part, iteration, number)
                self.scaler.scale(terms["loss"] / len(parts)).backward()
            for name, value in terms.items():
                mean = value.detach() / len(parts)
                sums[name] = sums[name] + mean if name in sums else mean
        if joint:
            sums |= self._learn_unlabelled(batch["unlabelled"], iteration)
        self._update()
        for repetition in range(self.unlabelled.own_steps if self.unlabelled else 0):
            self.optimizer.zero_grad(set_to_none=True)
            sums |= self._learn_unlabelled(batch["unlabelled"], iteration, repetition)
            self._update()
        self.scheduler.step()
        share_statistics(self.model)
        return {f"training/{name}": value for name, value in sums.items()} | {"training/lr": float(rate)}

    def _only_the_last(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged between ranks once per step, not once per part."""
        if last or not isinstance(self.wrapped, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.wrapped.no_sync()

    def _learn_unlabelled(
        self, batch: Mapping[str, Any], iteration: int, repetition: int = 0
    ) -> dict[str, Tensor | float]:
        """Add the gradients of the unlabelled loss, with its weight of this iteration; return the values to log."""
        assert self.consistency is not None
        assert self.ramp is not None
        generator = self._generator(iteration, self.config.accumulation + repetition)
        image = self._image(batch)
        with self._autocast():
            terms: dict[str, Tensor] = self.consistency(self.wrapped, image, generator)
        total = torch.stack([self.tasks[task].weight * value for task, value in terms.items()]).sum()
        weight = self.ramp(iteration - 1, self.total_steps)
        self.scaler.scale(weight * total).backward()
        values: dict[str, Tensor | float] = {f"unlabelled_{task}": value.detach() for task, value in terms.items()}
        return values | {"unlabelled": total.detach(), "unlabelled_weight": weight}

    def _generator(self, iteration: int, number: int) -> torch.Generator:
        """Draws of one part of one step on this rank."""
        return torch.Generator().manual_seed(mix(self.config.seed, iteration, number, idist.get_rank()))

    def _autocast(self) -> torch.autocast:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def _forward(self, part: Mapping[str, Any], iteration: int, number: int) -> dict[str, Tensor]:
        generator = self._generator(iteration, number)
        image, targets = self._image(part), self._targets(part)
        for transform in self.augmentation:
            image, targets = transform(image, targets, generator)
        terms: dict[str, Tensor] = self.losses.of(self._predict, image, targets, generator)
        return terms

    def _predict(self, *inputs: Any) -> Any:
        with self._autocast():
            return self.wrapped(*inputs)

    def _image(self, batch: Mapping[str, Any]) -> Tensor:
        image: Tensor = batch["image"].to(self.device, non_blocking=True, memory_format=self._layout)
        return image

    def _targets(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.device.type != "cpu":  # the losses look at labels only where that costs nothing
            for task, target in batch["target"].items():
                if not target.is_floating_point():
                    require_classes(target, len(self.tasks[task].classes))
        return {task: target.to(self.device, non_blocking=True) for task, target in batch["target"].items()}

    def _update(self) -> None:
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def reduce(self, reduction: float) -> None:
        """Set the factor of the learning rate on top of the schedule, from the next step on."""
        before, self.reduction = self.reduction, reduction
        for group in self.optimizer.param_groups:
            group["lr"] *= reduction / before

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(), "reduction": self.reduction, "scaler": self.scaler.state_dict(),
            "rng": all_gather(random_state(self.device)),
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.reduction = state["reduction"]
        if len(state["rng"]) == idist.get_world_size():  # else each goes on with draws of its own
            set_random_state(self.device, state["rng"][idist.get_rank()])


def random_state(device: torch.device) -> list[Tensor]:
    """States of the generators that a rank draws from, such as for dropout."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(device: torch.device, state: Sequence[Tensor]) -> None:
    """The inverse of `random_state`; a state from another kind of device is left out."""
    torch.set_rng_state(state[0])
    if device.type == "cuda" and len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)


def fused(factory: Factory, device: torch.device) -> dict[str, bool]:
    """On a GPU, an optimiser that can update all weights in one kernel does so, unless the config chooses."""
    function = factory.func if isinstance(factory, partial) else factory
    chosen = factory.keywords if isinstance(factory, partial) else {}
    able = device.type == "cuda" and "fused" in inspect.signature(function).parameters
    return {"fused": True} if able and not {"fused", "foreach", "capturable"} & set(chosen) else {}


def mix(*numbers: int) -> int:
    """A seed that depends on all of several numbers."""
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


def parameter_groups(model: nn.Module, config: LearningConfig) -> list[dict[str, Any]]:
    """All trainable parameters with the optimiser's own decay; with `no_decay`, vectors (biases, norms) without any,
    nor what a part's own `no_weight_decay()` names, as those of timm do.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not config.no_decay:
        return [{"params": [p for _, p in named]}]
    free = {f"{path}.{name}" for path, part in model.named_modules() if hasattr(part, "no_weight_decay")
            for name in part.no_weight_decay()}  # fmt: skip
    flat = [p for name, p in named if p.ndim <= 1 or name in free]
    rest = [p for name, p in named if p.ndim > 1 and name not in free]
    return [{"params": rest}, {"params": flat, "weight_decay": 0.0}]
