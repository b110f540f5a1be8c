"""Whole scenes to probability maps and class maps with the model of a training run, streamed strip by strip."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray

from swath.config import configclass, leaves, resolve
from swath.data.splits import shared_ground
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
from swath.engine.sliding import SlidingConfig, predict_rows
from swath.engine.tta import Predict
from swath.errors import LeakError, RasterError
from swath.geo.grid import Window
from swath.geo.raster import IGNORE, RasterReader, RasterWriter, describe
from swath.geo.windows import strips
from swath.nn.heads import Classification
from swath.nn.metrics import THRESHOLD_BINS, best_threshold, confusion_matrix, threshold_histogram


@configclass
class InferenceConfig:
    """Predict whole scenes with the model of a training run; with labels, score them."""

    run_id: str
    """Id of the training run."""
    input_path: str
    """Folder of scenes with a scenes.parquet, any folder of GeoTIFFs, or one GeoTIFF."""
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
    device: str | None = None
    """Device such as cpu or cuda; None takes the GPU when there is one."""


# -------------------------------------------------------------------------------------------------------------- scenes


def fresh_ledger(config: InferenceConfig, output: Path) -> Ledger:
    """The ledger of finished scenes; predictions of another model or other windows make way, so that none are mixed."""
    settings = {"run_id": config.run_id, "threshold": config.threshold, **leaves(resolve(config.sliding), "sliding")}
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
    image: Path, output: SceneOutput, bands: Sequence[str], predict: Predict, tasks: Mapping[str, Classification],
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


# ------------------------------------------------------------------------------------------------------------- scoring


@dataclass
class SceneScore:
    """Confusion matrices of one scene, and histograms for the best single-band threshold of the first task."""

    matrices: dict[str, NDArray[np.int64]]
    histograms: dict[str, NDArray[np.int64]]


EDGES = np.linspace(-50.0, 20.0, THRESHOLD_BINS + 1)
"""Edges of the threshold histograms: dB, for bands of linear backscatter."""


def score_scene(classes: Path, labels: Path, image: Path | None, tasks: Mapping[str, Classification]) -> SceneScore:
    """Compare a predicted scene with its labels, strip by strip. Raises RasterError when the two are not on one grid.

    Pixels predicted as nodata count as class 0: a map that leaves out labelled ground is not forgiven.
    """
    difference = describe(labels).grid.difference(describe(classes).grid)
    if difference:
        raise RasterError(f"{labels} and {classes}: not on one grid: {difference}. Rasterise the labels on this scene.")
    matrices = {name: np.zeros((t.channels, t.channels), np.int64) for name, t in tasks.items()}
    histograms: dict[str, NDArray[np.int64]] = {}
    with ExitStack() as stack:
        predicted, truth = (stack.enter_context(RasterReader(path)) for path in (classes, labels))
        source = stack.enter_context(RasterReader(image)) if image else None
        for strip in strips(predicted.info.grid.shape, 4_000_000):
            p, t = predicted.labels(strip), truth.labels(strip)
            for name, task in tasks.items():
                band, guess = _band_of(truth, name), p[_band_of(predicted, name)]
                pair = torch.from_numpy(np.where(guess == IGNORE, 0, guess)), torch.from_numpy(t[band])
                matrices[name] += confusion_matrix(*pair, task.channels).numpy()
            if source is not None:
                _add_histograms(histograms, source, strip, t[0])
    return SceneScore(matrices, histograms)


def _band_of(reader: RasterReader, task: str) -> int:
    """Position of a task's band; a raster of one band serves a task of any name."""
    if task in reader.info.bands:
        return reader.info.bands.index(task)
    if len(reader.info.bands) == 1:
        return 0
    raise RasterError(f"{reader.path}: no band {task}; it has {', '.join(reader.info.bands)}. Name it in the tasks.")


def _add_histograms(
    histograms: dict[str, NDArray[np.int64]], source: RasterReader, strip: Window, truth_HW: NDArray[np.uint8]
) -> None:
    for name, band in zip(source.info.bands, source.image(strip), strict=True):
        db = 10 * np.log10(np.where(band > 0, band, np.nan))
        found = threshold_histogram(db, truth_HW, EDGES)
        histograms[name] = histograms[name] + found if name in histograms else found


def best_band_threshold(histograms: Mapping[str, NDArray[np.int64]]) -> tuple[float, str]:
    """(IoU, rule as text) of the best threshold on one band: the most that thresholding can reach on these scenes."""
    best = max(((*best_threshold(h, EDGES), band) for band, h in histograms.items()), key=lambda found: found[0])
    iou, threshold, below, band = best
    return iou, f"{band} {'<' if below else '>='} {threshold:.1f} dB"


def require_fair(scenes: gpd.GeoDataFrame, used: gpd.GeoDataFrame, allow_selection_set: bool) -> bool:
    """Check that scored scenes share no ground with the training; return whether they are the ones it selected on.

    Raises LeakError when a scene trained the model, or selected its weights without `allow_selection_set`.
    """
    sides = {side: _shared(scenes, used[used["side"] == side]) for side in ("training", "validation")}
    if sides["training"]:
        raise LeakError(
            f"{', '.join(sides['training'][:5])}: trained this model, so a score on it says nothing. Score other scenes, or leave labels_path out."
        )
    if sides["validation"] and not allow_selection_set:
        raise LeakError(
            f"{', '.join(sides['validation'][:5])}: selected the weights of this model, so a score on it is flattered. "
            "Score other scenes, or set allow_selection_set=True: the run is then marked."
        )
    return bool(sides["validation"])


def _shared(scenes: gpd.GeoDataFrame, tiles: gpd.GeoDataFrame) -> list[str]:
    names = set(scenes["key"]) & set(tiles["scene"])
    keys = scenes["key"].to_numpy()
    return sorted(names | {keys[i] for i, _ in shared_ground(scenes, tiles)})


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
