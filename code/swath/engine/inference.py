"""Whole scenes to probability maps and class maps with the model of a training run, streamed strip by strip."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from swath.config import configclass, leaves, resolve
from swath.data.leaks import LeakKind
from swath.engine.mapper import Item, Ledger
from swath.engine.maps import (
    SceneOutput,
    class_bands,
    class_spec,
    probability_bands,
    probability_spec,
    require_threshold,
    scene_output,
)
from swath.engine.panels import stretch
from swath.engine.scoring import ScoringConfig
from swath.engine.sliding import SlidingConfig, predict_rows
from swath.engine.tta import Predict
from swath.errors import RasterError
from swath.geo.grid import Window
from swath.geo.raster import RasterReader, RasterWriter
from swath.labels import IGNORE
from swath.nn.heads import Task


@configclass
class InferenceConfig:
    """Predict whole scenes with the model of a training run; with labels, score them."""

    run_id: str
    """Id of the training run."""
    weights: str = "best"
    """Which of the weights that the training kept: best, last, swa, or the name of a metric of validation.also."""
    input_path: str
    """Folder of scenes with a scenes.parquet, any folder of GeoTIFFs, or one GeoTIFF."""
    areas: tuple[str, ...] | None = None
    """Areas to predict; None takes all."""
    output_path: str
    """Folder for classes/<area>/<key>.tif and probabilities/<area>/<key>.tif."""
    labels_path: str | None = None
    """Folder of label rasters; scores are logged when it is given."""
    sliding: SlidingConfig = SlidingConfig()
    """Windows, overlap, blending, test-time augmentation."""
    threshold: float | None = None
    """Probability from which on (>=) a task of two classes is its second one; None takes the more probable class."""
    previews: int = 8
    """Pictures to log of the first so many scenes."""
    score_prefix: str = "test"
    """Scores are logged as <score_prefix>/iou_water and so on."""
    allow_selection_set: bool = False
    """Score scenes that the training selected its weights on; the run is then marked as such."""
    allow_leaks: bool | tuple[LeakKind, ...] = False
    """Score scenes that leak from the training, in all ways or those named; the run is then marked as such."""
    scoring: ScoringConfig = ScoringConfig()
    """Blocks, intervals and conditions of the scores."""
    device: str | None = None
    """Device such as cpu or cuda; None takes the GPU when there is one."""


# -------------------------------------------------------------------------------------------------------------- scenes


def fresh_ledger(config: InferenceConfig, output: Path) -> Ledger:
    """The ledger of finished scenes; predictions of another model or other windows make way, so that none are mixed."""
    settings = {
        "run_id": config.run_id, "weights": config.weights, "threshold": config.threshold,
        **leaves(resolve(config.sliding), "sliding"),
    }  # fmt: skip
    ledger = Ledger(output, "inference", settings, replace=True)
    if ledger.differs:
        for name in ("classes", "probabilities"):
            shutil.rmtree(output / name, ignore_errors=True)
    return ledger


def scene_items(scenes: gpd.GeoDataFrame, output: Path) -> list[Item[Any]]:
    """An item of work per row of a table of scenes, with the two rasters that it leaves."""
    return [
        Item(key=r.key, job=r, inputs=(Path(r.image),), outputs=scene_output(output, r.area, r.key).paths)
        for r in scenes.itertuples()
    ]


def predict_scene(
    image: Path, output: SceneOutput, bands: Sequence[str], predict: Predict, tasks: Mapping[str, Task],
    sliding: SlidingConfig, threshold: float | None = None,
) -> int:  # fmt: skip
    """Predict one scene strip by strip; return its number of pixels.

    Layouts as in `class_spec` and `probability_spec`; classes are decided by `class_bands`. Raises RasterError when
    the scene lacks a band that the model needs, and ConfigError for a threshold that makes no sense.
    """
    require_threshold(threshold, tasks)
    with ExitStack() as stack:
        reader = stack.enter_context(RasterReader(image))
        order = _band_order(reader, bands)
        grid = reader.info.grid
        classes = stack.enter_context(RasterWriter(output.classes, class_spec(grid, tasks)))
        soft = stack.enter_context(RasterWriter(output.probabilities, probability_spec(grid, tasks)))
        for strip, probability in predict_rows(lambda w: reader.image(w, order), grid.shape, predict, tasks, sliding):
            found = probability_bands(probability, tasks)
            classes.write(class_bands(found, tasks, threshold), strip)
            soft.write(found, strip)
    return grid.shape[0] * grid.shape[1]


def _band_order(reader: RasterReader, bands: Sequence[str]) -> list[int]:
    have = reader.info.bands
    missing = [band for band in bands if band not in have]
    if missing:
        raise RasterError(
            f"{reader.path}: no band {', '.join(missing)}; it has {', '.join(have)}. The model was trained on {', '.join(bands)}."
        )
    return [have.index(band) + 1 for band in bands]


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
