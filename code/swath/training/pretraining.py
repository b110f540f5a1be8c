"""Pretraining of an encoder on hidden patches: the loop of every training, judged by what is guessed."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from swath.distributed import all_gather, device_of, is_main, mean_over_ranks
from swath.errors import ConfigError
from swath.figures.pictures import side_by_side, stretch
from swath.interrupt import check_stop
from swath.nn.model import Classification, build_model
from swath.nn.networks.masked import Guess, MaskedModel, Reconstruction, from_patches, hidden_count
from swath.nn.networks.pretrained import build_network, check_network, takes, without_weights
from swath.scoring.evaluate import Evaluation
from swath.training.batches import Batches
from swath.training.checkpoint import CHANNELS, STEM, save_weights, warm_start
from swath.training.learner import Learner, mix, seed_everything
from swath.training.loop import Loop, Reports, resume_folder
from swath.training.pretrain_config import PretrainConfig
from swath.training.sides import fit_preprocessing, limited

ENCODER = "network.encoder."
"""What the names of an encoder's tensors start with, in a pretraining as in a training."""

GUESS = {"guess": Classification(classes=("guess",))}
"""Stands for the tasks that the decoder, which is thrown away, would have had."""

Picture = NDArray[np.uint8]


class Pretraining:
    """A pretraining: its data, its learner and its last weights. A `Course` of the loop."""

    def __init__(self, config: PretrainConfig, reports: Reports, start_from: Path | None = None) -> None:
        """`start_from`: file of the weights that `config.warm_start` names."""
        check_network(config.model)
        seed_everything(config.seed, config.reproducible)
        self.config, self.reports, self.stopped, self.evaluated = config, reports, "", -1
        self.device = device_of(config.device)
        self.batches = Batches(config, self.device)
        model = masked_model(config, self.batches.train_set.bands)
        if config.warm_start and start_from:
            warm_start(model, start_from, config.warm_start.part)
        if config.data.crop:
            hidden_count(math.prod(model.grid(config.data.crop, config.data.crop)), config.ratio)  # is there enough?
        fit_preprocessing(model, self.batches.folds, [], config.seed)
        self.model = model
        self.learner = Learner(config, model, config.losses(), self.device, self.batches.steps * config.epochs)
        if idist.get_rank():
            torch.manual_seed(mix(config.seed, idist.get_rank()))
        self.loop = Loop(config, self.learner, self.batches, resume_folder(config), reports)
        held = self.batches.folds.validation
        self.held_out = self.batches.whole_tiles(held)
        drawn = limited(self.batches.folds.train if held.empty else held, config.panels, config.seed)
        self.shown = self.batches.whole_tiles(drawn)

    def run(self) -> MaskedModel:
        """Train to the end, from the state of an earlier start where there is one; return the model of the last step."""
        try:
            with self.loop.unfinished.exclusive():
                self.loop.run(self)
        finally:
            self.learner.unwrap()
        return self.model

    def attach(self, engine: Engine) -> None:
        """Evaluate every so many epochs."""
        every = Events.EPOCH_COMPLETED(every=self.config.evaluate_every)
        engine.add_event_handler(every, lambda e: self.evaluate(e, e.state.iteration))

    def begin_epoch(self, epoch: int) -> None:
        """Nothing changes from epoch to epoch."""

    def begin(self, engine: Engine) -> None:
        """Nothing is judged before the first step."""

    def evaluate(self, engine: Engine, iteration: int) -> None:
        """The loss on tiles that are held out, and panels; always with the same hidden patches."""
        if iteration == self.evaluated:
            return
        self.loop.fetch(iteration)
        self.evaluated = iteration
        epoch = iteration // self.batches.steps
        values: dict[str, float] = {}
        if self.held_out is not None:
            values = held_out_scores(self.model, self._losses, self.held_out, self.config.seed)
            values = {f"validation/{name}": value for name, value in values.items()}
            self.loop.record(values, epoch, iteration)
        panels = self._panels() if self.config.panels else {}
        self.reports.evaluation(Evaluation({}, dict(values), panels), values, epoch)

    def kept(self) -> Collection[int]:
        """None: the state holds the last weights."""
        return ()

    def state(self) -> dict[str, Any]:
        """What a resumed pretraining has to know besides the learner's state."""
        return {"evaluated": self.evaluated}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.evaluated = state["evaluated"]

    @property
    def _losses(self) -> Reconstruction:
        assert isinstance(self.learner.losses, Reconstruction)
        return self.learner.losses

    def _panels(self) -> dict[str, NDArray[np.uint8]]:
        """Pictures by tile: the input, what was left of it, and the guess."""
        mine: dict[str, NDArray[np.uint8]] = {}
        for batch, found in guesses(self.model, self.shown, self.config.seed):
            mine |= dict(zip(batch["key"], pictures(self.model, self._losses, batch, found), strict=True))
        return {key: picture for part in all_gather(mine) for key, picture in part.items()}

    def write(self, path: Path) -> None:
        """Write the encoder's weights under the names that they have in a training, with the names of its channels."""
        if not is_main():
            return
        names = list(self.model.preprocess.channels.names)
        notes = {CHANNELS: json.dumps(names), STEM: json.dumps(stem_of(self.config, self.model))}
        save_weights(path, self.model, notes | {"iteration": str(self.evaluated)}, ENCODER)


def masked_model(config: PretrainConfig, bands: tuple[str, ...]) -> MaskedModel:
    """The model of a config for tiles with these bands: its network's encoder with a head that guesses."""
    whole = build_model(bands, config.channels, config.fill, config.normaliser, config.model, GUESS, config.rgb)
    if "encoder" not in dict(whole.network.named_children()):
        raise ConfigError(
            f"model: {type(whole.network).__name__} has no part named encoder, which alone can be pretrained. Use a network "
            "of segmentation-models-pytorch, or swath.nn.networks.decoders:TaskDecoders of one."
        )
    method = config.method(encoder=whole.network.encoder, channels=len(whole.preprocess.channels.names))
    return MaskedModel(whole.preprocess, method, config.ratio)


def stem_of(config: PretrainConfig, model: MaskedModel) -> list[str]:
    """Names of the encoder's tensors whose second axis are the channels: those that differ in shape for one more."""
    made = partial(config.model, tasks={"guess": 1}) if takes(config.model, "tasks") else config.model
    other = build_network(without_weights(made), len(model.preprocess.channels.names) + 1, 1)
    shapes = {name: tensor.shape for name, tensor in other.state_dict().items()}
    own = {f"encoder.{name}": tensor.shape for name, tensor in model.network.encoder.state_dict().items()}
    return [f"network.{name}" for name, shape in own.items() if shapes[name] != shape]


def guesses(model: MaskedModel, loader: Iterable[dict[str, Any]] | None, seed: int) -> Iterator[tuple[Any, Guess]]:
    """Batches with what is guessed of them; what is hidden depends on seed, rank and the batch's number alone."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    for number, batch in enumerate(loader or ()):
        check_stop()
        generator = torch.Generator().manual_seed(mix(seed, number, idist.get_rank()))
        with torch.no_grad():
            yield batch, model(batch["image"].to(device), generator)
    model.train(was_training)


def held_out_scores(
    model: MaskedModel, losses: Reconstruction, loader: Iterable[dict[str, Any]], seed: int
) -> dict[str, float]:
    """Over all hidden values of all ranks' tiles: `loss`, the mean squared error, and `explained`, the share of the
    dullest guess's error that is gone. Speckle cannot be guessed, so a loss alone does not say whether anything was learnt.
    """
    channels, sums = len(model.preprocess.channels.names), torch.zeros(3, dtype=torch.float64)
    for _, found in guesses(model, loader, seed):
        sums += torch.stack([part.double().cpu() for part in (*losses(found), losses.constant(found, channels))])
    error, count, dull = mean_over_ranks(sums.to(next(model.parameters()).device)).tolist()
    if not count:
        return {"loss": math.nan}
    return {"loss": error / count} | ({"explained": 1 - error / dull} if dull else {})


def pictures(model: MaskedModel, losses: Reconstruction, batch: Mapping[str, Any], found: Guess) -> list[Picture]:
    """uint8 RGB per sample: the network's input, what was left of it, and the image with the guess, alike in contrast."""
    height, width = batch["image"].shape[-2:]
    gone = torch.where(found.valid, found.wanted.float(), torch.nan)
    left = torch.where(found.hidden[..., None], torch.nan, gone)
    patch, (rows, cols) = model.network.patch, model.grid(height, width)
    three = [
        from_patches(part, patch, rows, cols)[..., :height, :width] for part in (gone, left, losses.pictures(found))
    ]
    images = [stretch(image) for image in torch.cat(three, dim=-1).cpu().numpy()]
    return [
        side_by_side(np.split(image, 3, axis=1), (key, "left over", "with the guess"))
        for key, image in zip(batch["key"], images, strict=True)
    ]
