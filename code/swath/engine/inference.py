"""Whole scenes to probability maps: sliding windows in rows, blended, streamed; memory grows with the width only."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import ttach
from numpy.typing import NDArray
from torch import Tensor, nn

from swath.config import configclass, leaves, resolve
from swath.engine.mapper import Ledger
from swath.engine.panels import PALETTE, stretch
from swath.engine.scoring import ScoringConfig
from swath.errors import ConfigError, RasterError
from swath.geo.grid import Grid, Window
from swath.geo.raster import RasterReader, RasterSpec, RasterWriter
from swath.geo.windows import blend_weights, constant_stride_offsets
from swath.labels import IGNORE
from swath.nn.heads import Classification, probabilities

BATCH_PIXELS = 1_100_000


@configclass
class SlidingConfig:
    """How windows slide, blend and are turned."""

    window: int = 512
    """Side of the windows in pixels."""
    overlap: int = 128
    """Pixels that neighbouring windows share."""
    blend: Literal["uniform", "linear", "gaussian"] = "linear"
    """Weights of a window's pixels where windows overlap."""
    tta: Literal["off", "d4"] = "off"
    """Average the probabilities of the eight flips and quarter turns."""
    batch: int | None = None
    """Windows per forward pass; None takes about a million pixels."""


@configclass
class InferenceConfig:
    """Predict whole scenes with the model of a training run; with labels, score them."""

    run_id: str
    """Id of the training run."""
    weights: str = "best"
    """Which of the weights that the training kept: best, last, swa, or the name of a metric of validation.also."""
    input_path: str
    """Folder of scenes with a scenes.parquet, any folder of GeoTIFFs, or one GeoTIFF."""
    output_path: str
    """Folder for classes/<area>/<key>.tif and probabilities/<area>/<key>.tif."""
    labels_path: str | None = None
    """Folder of label rasters; scores are logged when it is given."""
    sliding: SlidingConfig = SlidingConfig()
    """Windows, overlap, blending, test-time augmentation."""
    score_prefix: str = "test"
    """Scores are logged as <score_prefix>/iou_water and so on."""
    allow_selection_set: bool = False
    """Score scenes that the training selected its weights on; the run is then marked as such."""
    scoring: ScoringConfig = ScoringConfig()
    """Blocks, intervals and conditions of the scores."""
    device: str | None = None
    """Device such as cpu or cuda; None takes the GPU when there is one."""


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


# ----------------------------------------------------------------------------------------------------------- streaming


@dataclass
class Accumulator:
    """Weighted sums of the window rows in flight: `rows` rows from `top` on, for all tasks' classes together."""

    width: int
    rows: int
    classes: int
    top: int = 0
    total: NDArray[np.float32] = field(init=False)
    weight: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros((self.classes, self.rows, self.width), np.float32)
        self.weight = np.zeros((self.rows, self.width), np.float32)

    def add(
        self,
        probability_KHW: NDArray[np.float32],
        weights_HW: NDArray[np.float32],
        window: Window,
        height: int,
    ) -> None:
        """Add one window; the parts outside the scene (columns, rows from `height` on) are dropped."""
        inside = window.intersect(Window(self.top, 0, min(self.rows, height - self.top), self.width))
        here = inside.relative_to(Window(self.top, 0, self.rows, self.width)).slices
        there = inside.relative_to(window).slices
        self.total[(slice(None), *here)] += probability_KHW[(slice(None), *there)] * weights_HW[there]
        self.weight[here] += weights_HW[there]

    def flush(self, until: int) -> NDArray[np.float32]:
        """Mean probabilities (K, rows, width) of the rows above `until`, NaN where no window was; they leave the buffer."""
        count = until - self.top
        seen = self.weight[:count] > 0
        mean = np.where(seen, self.total[:, :count] / np.where(seen, self.weight[:count], 1), np.nan)
        for buffer in (self.total, self.weight):
            kept = self.rows - count
            buffer[..., :kept, :] = buffer[..., count:, :].copy()
            buffer[..., kept:, :] = 0
        self.top = until
        return mean.astype(np.float32)


def predict_rows(
    read: Callable[[Window], NDArray[np.float32]], shape: tuple[int, int], predict: Predict, tasks: Mapping[str, Classification],
    sliding: SlidingConfig,
) -> Iterator[tuple[Window, NDArray[np.float32]]]:  # fmt: skip
    """Yield (strip, probabilities (K of all tasks, rows, width)) from the top of a scene to its bottom.

    `read(window)` gives raw bands, NaN where nodata or outside. Pixels without any measurement are NaN in the
    result; windows without one are not computed. The last window of a row or column is moved inside; scenes smaller
    than a window are padded with NaN.
    """
    size = sliding.window
    if not 0 <= sliding.overlap < size:
        raise ConfigError(f"sliding.overlap={sliding.overlap}: must be at least 0 and below sliding.window={size}")
    stride = size - sliding.overlap
    rows, cols = (constant_stride_offsets(length, size, stride, "shift") for length in shape)
    weights = blend_weights((size, size), sliding.blend)
    buffer = Accumulator(shape[1], size, sum(task.channels for task in tasks.values()))
    batch = sliding.batch or max(1, BATCH_PIXELS // size**2)
    missing = np.zeros((size, shape[1]), bool)
    for i, row in enumerate(rows):
        band = read(Window(row, 0, size, max(shape[1], size)))
        gap = np.asarray(np.isnan(band).all(axis=0))
        missing[:] = gap[:, : shape[1]]
        live = [c for c in cols if not gap[:, c : c + size].all()]
        for start in range(0, len(live), batch):
            chosen = live[start : start + batch]
            images = torch.from_numpy(np.stack([band[:, :, c : c + size] for c in chosen]))
            joined = torch.cat(list(predict(images).values()), dim=1).numpy()
            for col, probability in zip(chosen, joined, strict=True):
                buffer.add(probability, weights, Window(row, col, size, size), shape[0])
        until = rows[i + 1] if i + 1 < len(rows) else shape[0]
        done = buffer.flush(until)
        done[:, missing[: until - row]] = np.nan
        yield Window(row, 0, until - row, shape[1]), done


# -------------------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True, kw_only=True)
class SceneOutput:
    """Where the two rasters of a predicted scene go."""

    classes: Path
    probabilities: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.classes, self.probabilities


def scene_output(folder: Path, area: str, key: str) -> SceneOutput:
    """Below `folder`: classes/<area>/<key>.tif and probabilities/<area>/<key>.tif."""
    return SceneOutput(
        classes=folder / "classes" / area / f"{key}.tif",
        probabilities=folder / "probabilities" / area / f"{key}.tif",
    )


def fresh_ledger(config: InferenceConfig, output: Path) -> Ledger:
    """The ledger of finished scenes; predictions of another model or other windows make way, so that none are mixed."""
    settings = {"run_id": config.run_id, "weights": config.weights, **leaves(resolve(config.sliding), "sliding")}
    ledger = Ledger(output, "inference", settings, replace=True)
    if ledger.differs:
        for name in ("classes", "probabilities"):
            shutil.rmtree(output / name, ignore_errors=True)
    return ledger


def predict_scene(
    image: Path, output: SceneOutput, bands: Sequence[str], predict: Predict, tasks: Mapping[str, Classification],
    sliding: SlidingConfig,
) -> int:  # fmt: skip
    """Predict one scene strip by strip; return its number of pixels.

    Classes: uint8, a band per task, 255 = nodata, with a colour table. Probabilities: float32 in [0, 1], NaN = nodata;
    one band for a task of two classes (the second one's), else one per class. Raises RasterError when the scene
    lacks a band that the model needs.
    """
    with ExitStack() as stack:
        reader = stack.enter_context(RasterReader(image))
        order = _band_order(reader, bands)
        grid = reader.info.grid
        classes = stack.enter_context(RasterWriter(output.classes, _class_spec(grid, tasks)))
        soft = stack.enter_context(RasterWriter(output.probabilities, _probability_spec(grid, tasks)))
        for strip, probability in predict_rows(lambda w: reader.image(w, order), grid.shape, predict, tasks, sliding):
            classes.write(_class_bands(probability, tasks), strip)
            soft.write(_probability_bands(probability, tasks), strip)
    return grid.shape[0] * grid.shape[1]


def _band_order(reader: RasterReader, bands: Sequence[str]) -> list[int]:
    have = reader.info.bands
    missing = [band for band in bands if band not in have]
    if missing:
        raise RasterError(
            f"{reader.path}: no band {', '.join(missing)}; it has {', '.join(have)}. The model was trained on {', '.join(bands)}."
        )
    return [have.index(band) + 1 for band in bands]


def _class_spec(grid: Grid, tasks: Mapping[str, Classification]) -> RasterSpec:
    color = {
        i: (*(int(v) for v in PALETTE[i % len(PALETTE)]), 255) for i in range(max(t.channels for t in tasks.values()))
    }
    palette = color if len(tasks) == 1 else None
    return RasterSpec(grid=grid, bands=list(tasks), dtype="uint8", nodata=IGNORE, compress=True, colors=palette)  # type: ignore[arg-type]


def _probability_spec(grid: Grid, tasks: Mapping[str, Classification]) -> RasterSpec:
    names = [n for task, t in tasks.items() for n in ([task] if t.is_binary else [f"{task}:{c}" for c in t.classes])]
    return RasterSpec(grid=grid, bands=names, dtype="float32", nodata=math.nan, compress=True)


def _by_task(
    probability: NDArray[np.float32], tasks: Mapping[str, Classification]
) -> Iterator[tuple[Classification, NDArray[np.float32]]]:
    start = 0
    for task in tasks.values():
        yield task, probability[start : start + task.channels]
        start += task.channels


def _class_bands(probability: NDArray[np.float32], tasks: Mapping[str, Classification]) -> NDArray[np.uint8]:
    bands = [np.where(np.isnan(p[0]), IGNORE, np.nan_to_num(p).argmax(axis=0)) for _, p in _by_task(probability, tasks)]
    return np.stack(bands).astype(np.uint8)


def _probability_bands(probability: NDArray[np.float32], tasks: Mapping[str, Classification]) -> NDArray[np.float32]:
    return np.concatenate([p[1:] if task.is_binary else p for task, p in _by_task(probability, tasks)])


# ------------------------------------------------------------------------------------------------------------ pictures


def quick_look(image: Path, classes: Path | None, side: int = 900) -> NDArray[np.uint8]:
    """uint8 RGB of a whole scene, at most `side` px, with the predicted foreground's outline in red."""
    with RasterReader(image) as reader:
        step = max(1, math.ceil(max(reader.info.grid.shape) / side))
        picture = stretch(_thinned(reader.image, reader.info.grid.shape, step))
    if classes is None:
        return picture
    with RasterReader(classes) as reader:
        mask = _thinned(lambda w: reader.labels(w)[:1], reader.info.grid.shape, step)[0]
    foreground = (mask > 0) & (mask != IGNORE)
    edge = foreground & ~_eroded(foreground)
    picture[edge] = (235, 30, 40)
    return picture


def _thinned(read: Callable[[Window], NDArray[Any]], shape: tuple[int, int], step: int) -> NDArray[Any]:
    return np.concatenate(
        [
            read(Window(r, 0, min(step * 64, shape[0] - r), shape[1]))[:, ::step, ::step]
            for r in range(0, shape[0], step * 64)
        ],
        axis=1,
    )


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner
