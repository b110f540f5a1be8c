"""What a training is told: data, tasks, model, optimisation, and what decides."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch

from swath.config import Factory, InputPath, NotDecisive, OutputPath, configclass
from swath.config.ranges import Amount, Count, Pixels, PositiveCount, Share
from swath.data.leakage.leaks import LeakKind
from swath.data.samples.samplers import Sampling, Uniform
from swath.data.samples.storage import Cache
from swath.data.splits.split import ByArea, Split
from swath.data.splits.subset import Subset
from swath.distributed import Launcher
from swath.errors import ConfigError
from swath.geo.windows import Tiling
from swath.nn.consistency import LinearRamp, TurnConsistency
from swath.nn.losses.pixel import TaskLosses
from swath.nn.model import Task
from swath.nn.preprocess.channels import Bands, Fill
from swath.nn.preprocess.normalise import ZScore
from swath.nn.resizing import Resizing
from swath.nn.tta import Merge, Views
from swath.scoring.config import ScoringConfig
from swath.training.schedules import Poly
from swath.training.transfer import Freezing


@configclass
class DataConfig:
    """Where tiles are, who judges, and how samples are drawn."""

    tiles_path: InputPath
    """Folder with tile_stats.parquet; several, separated by ``;``, are one data set, such as scenes at several
    resolutions. Tiles of one scene are on one side of the split, whichever folder they are in."""
    split: Split = ByArea()
    """Who trains, judges and reports: ByArea(validation_areas=...), ByFold(...), ByColumn(...), RandomSplit(...), BlockFolds(...).
    Without validation tiles all train and the last weights are kept."""
    subset: Subset = Subset()
    """Part of the training side that is learned from, such as Subset(fraction=0.4, by="scene"); who judges stays."""
    allow_leaks: bool | tuple[LeakKind, ...] = False
    """Go on although evaluation tiles leak from the training: all kinds, or those named; the run is then marked."""
    crop: Pixels | None = 256
    """Side of the random crops in pixels; None trains on whole tiles."""
    batch: PositiveCount = 8
    """Samples per optimiser step and accumulation part, over all ranks: each of n processes takes an n-th of them, so
    that trainings on one and on many devices take the same steps on the same samples. Draws of augmentation and dropout
    are each process's own, and losses are means of the processes' means, so results are alike, not equal."""
    validation_batch: PositiveCount = 4
    """Whole tiles per validation batch."""
    samples_per_epoch: PositiveCount | None = None
    """Samples drawn per epoch; None takes as many as there are training tiles."""
    echo: PositiveCount = 1
    """Steps in a row with each loaded batch (data echoing, Choi et al. 2019), for tiles that are read more slowly than they
    are learned from. Each step augments anew, while crops are part of what is loaded. An epoch reads the same samples
    and has so many times as many steps."""
    seek_target: Share = 0.0
    """Share of the crops that are drawn anew until they hold some of the target."""
    min_labelled: Share = 0.0
    """Share of pixels with a label that every crop has to have, for whole scenes of which only a part is labelled;
    above 0, no crop is without a label."""
    validation_tiling: Tiling | None = None
    """Evaluate tiles, or whole scenes, by such windows, each pixel in one of them; None: each tile at once."""
    cache: NotDecisive[Cache] = "off"
    """Where pixels are kept from their first use on: "mmap" in files of `cache_path` that other trainings use as well,
    "ram" in memory, read at the start. Samples are the same."""
    cache_path: NotDecisive[str] = "output/cache"
    """Folder for cache="mmap", on a fast local disk; may be deleted when nothing runs."""
    sampler: Sampling = Uniform()
    """Which tiles are drawn: Uniform(), TargetPresence(without=..., with_target=...), ShiftCorrection(test_path=...,
    fields=...), InverseSize(by=...) or TileQuality(factors={column: factor})."""
    augmentation: tuple[Factory, ...] = ()
    """Transforms of training batches, in order: partial(D4), partial(RandomAffine, degrees=10), ..."""
    workers: NotDecisive[Count | None] = None
    """Threads that make batches ahead of their use; samples are the same for any number. None: 4 beside a GPU, and none on
    a CPU, whose cores have enough to do."""
    limit: PositiveCount | None = None
    """Take only so many training and validation tiles, drawn by the seed: a quick trial of the whole chain."""


@configclass
class Unlabelled:
    """Learn from tiles without labels beside the labelled ones."""

    tiles_path: InputPath
    """Folder with tile_stats.parquet; tiles with a mask are refused."""
    method: Factory = partial(TurnConsistency)
    """partial(TurnConsistency, ...) or partial(PseudoLabels, threshold=...)."""
    ramp: Factory = partial(LinearRamp)
    """Weight by iteration: partial(LinearRamp, low=0.001, high=1.0, share=0.25)."""
    batch: PositiveCount = 8
    """Unlabelled samples per step, over all ranks."""
    own_steps: Count = 0
    """0 adds the unlabelled gradients to those of the labelled batch. More: so many optimiser steps of their own on each
    unlabelled batch, after the labelled one, each with new draws; the rate is that of the labelled step."""


@configclass
class WarmStart:
    """Start from the weights of another training that fit by name and shape."""

    weights: InputPath = ""
    """A safetensors or PyTorch file, or runs:/<id of a training run>. Configs that start from a training of one's own
    leave it open: it is given with the command."""
    part: str = ""
    """Module of the model that the weights belong to, such as network.encoder; empty: the whole model."""

    def source(self) -> str:
        """`weights`. Raises ConfigError where the config leaves them open."""
        if not self.weights:
            raise ConfigError(
                "warm_start.weights: this config starts from another training and was not told which. Add "
                "-P warm_start.weights=runs:/<id of its run>, or -P warm_start=None to start from random weights."
            )
        return self.weights


@configclass
class EarlyStopping:
    """End a training that no longer improves."""

    patience: Count = 10
    """Evaluations without an improvement that are waited for."""
    min_delta: Amount = 0.0
    """Smallest change that counts as an improvement."""
    metric: str | None = None
    """Logged metric; None takes the one that selects the weights. Losses count as better when they fall."""


@configclass
class Plateau:
    """Multiply the learning rate by `factor`, on top of the schedule, when a metric stops improving."""

    factor: Share = 0.5
    """What the rate is multiplied by."""
    patience: Count = 3
    """Evaluations without an improvement that are waited for."""
    min_delta: Amount = 0.0
    """Smallest change that counts as an improvement."""
    lowest: Share = 1e-3
    """Smallest product of all reductions."""
    metric: str | None = None
    """Logged metric; None takes the one that selects the weights. Losses count as better when they fall."""


@configclass
class ValidationConfig:
    """When to evaluate, what decides, and what to show."""

    every: PositiveCount = 1
    """Evaluate every so many epochs or iterations (`unit`); the end of the training is always evaluated."""
    unit: Literal["epochs", "iterations"] = "epochs"
    """Unit of `every`."""
    at_start: bool = False
    """Evaluate before the first step, too."""
    metric: str | None = "validation/iou_fg"
    """Logged metric whose highest value marks the best weights; None keeps the last ones."""
    also: tuple[str, ...] = ()
    """Further logged metrics that each keep their own best weights, beside `metric`; those with losses keep the lowest."""
    top: PositiveCount = 1
    """How many of the best weights by each metric are kept."""
    keep_last: bool = False
    """Keep the weights at the end of the training, too."""
    training_subset: bool = False
    """Also evaluate as many whole training tiles as there are validation tiles, always the same ones."""
    training_scores: bool = False
    """At the end, also score all training tiles: a row for each, and scores by condition, in the run's folder training."""
    tta: Views = "off"
    """Judge by the mean of several views, as `sliding.tta` of inference predicts: off, flips, rotations or d4. Scores,
    panels and what they select are those of the mean; losses are those of the plain view. A forward pass per view."""
    merge: Merge = "mean"
    """How the views' probabilities become one, as `sliding.merge`."""
    early_stopping: EarlyStopping | None = None
    """When to end early; None trains all epochs."""
    scoring: ScoringConfig = ScoringConfig()
    """Intervals and conditions of the scores that the best weights reach."""
    panels: Count = 4
    """Validation tiles drawn at every evaluation: those with most labelled foreground."""


@configclass
class LearningConfig:
    """What every training is told, whatever it learns."""

    data: DataConfig
    """Tiles, held-out areas, crops and batches."""
    warm_start: WarmStart | None = None
    """Weights to start from."""
    channels: Factory = partial(Bands)
    """Derived channels: partial(Bands, bands=...), partial(Decibel, bands=..., clip=...)."""
    fill: Factory = partial(Fill)
    """What takes the place of missing pixels."""
    normaliser: Factory = partial(ZScore)
    """Scaling of channels; constants left open are fitted on training tiles."""
    rgb: tuple[str | None, ...] | None = None
    """Channels that take a pretrained network's filters of red, green and blue; None: the first three."""
    optimizer: Factory = partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-4)
    """Optimiser: called with the parameters."""
    no_decay: bool = False
    """Exempt biases and normalisation weights from weight decay, and what a network of timm names: positions, tokens."""
    schedule: Factory = partial(Poly)
    """Learning-rate factor by iteration, e.g. partial(OneCycle, warm_up=0.1)."""
    epochs: PositiveCount = 20
    """Number of epochs."""
    accumulation: PositiveCount = 1
    """Parts of `data.batch` samples whose gradients make one optimiser step."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass: bf16 on GPUs that have it (Ampere and newer), where it is up to twice as fast;
    fp16 on older ones, with scaled losses. On most CPUs fp32 is fastest."""
    channels_last: bool | None = None
    """Keep images and weights pixel by pixel in memory, for faster convolutions. None: on CPUs (a tenth faster), and on
    GPUs with bf16 or fp16."""
    compile: bool = False
    """Compile the network with `torch.compile` for training: a minute or two at the start, faster steps after it."""
    clip_norm: Amount | None = None
    """Largest gradient norm."""
    log_every: NotDecisive[PositiveCount] = 10
    """Steps between two values of the losses in the run, each the mean of these steps. The device is waited for then
    only, and then only a loss that is not finite is seen. Every evaluation and every state is preceded by one."""
    checkpoint_every: NotDecisive[PositiveCount] = 200
    """Iterations between states from which a killed training goes on; the end of an epoch always leaves one."""
    output_path: OutputPath = "output/training"
    """Folder for the state of unfinished trainings."""
    seed: Count = 0
    """Seed of weights, draws and augmentation."""
    device: NotDecisive[str | None] = None
    """Device such as cpu or cuda; None takes the GPU when there is one, or each process its own."""
    reproducible: bool = False
    """Compute with one thread: the same weights to the bit for any number of cores, on processors of one kind. Slower by
    the number of cores that would have helped."""
    launcher: NotDecisive[Launcher] = "auto"
    """Where other processes of the training come from: torchrun is seen by itself; "slurm" joins the tasks of srun."""
    name: NotDecisive[str | None] = None
    """Name of the run in the dashboard."""


@configclass
class TrainingConfig(LearningConfig):
    """Train a segmentation model on tiles."""

    tasks: dict[str, Task]
    """Task name (a band of the masks) to its classes and loss."""
    model: Factory
    """Network: called with in_channels and classes, e.g. partial(smp.Unet, encoder_name="resnet18", encoder_weights=None)."""
    resize: Resizing | None = None
    """Size at which the network sees its normalised input: Pad(multiple=32), Resize(factor=2.0, mode="bilinear"); None: as
    it is. Logits come back to the input's pixels, in training, inference and wherever else the model runs."""
    freezing: tuple[Freezing, ...] = ()
    """Parts that are fixed in the first epochs, or throughout: Freezing(part="encoder", epochs=5)."""
    unlabelled: Unlabelled | None = None
    """Tiles without labels to learn from."""
    plateau: Plateau | None = None
    """Reductions of the learning rate on a plateau of a metric."""
    ema_decay: Share | None = None
    """Evaluate and keep an exponential moving average of the weights with this decay per step."""
    swa_from: Share | None = None
    """Share of the epochs after which the weights of each epoch's end are averaged, e.g. 0.75; the average, with
    renewed batch-norm statistics, is kept beside the best weights."""
    validation: ValidationConfig = ValidationConfig()
    """When to evaluate, what decides, what to show."""

    def losses(self) -> TaskLosses:
        """The losses of all tasks with their weights."""
        losses = {name: task.loss() for name, task in self.tasks.items()}
        return TaskLosses(losses, {name: task.weight for name, task in self.tasks.items()})
