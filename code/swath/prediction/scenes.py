"""Whole scenes to probability maps and class maps with the model of a training run, streamed strip by strip."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import ignite.distributed as idist
import torch

from swath.config import leaves, resolve
from swath.distributed import device_of, on_all_ranks, partition
from swath.errors import SwathError
from swath.files import remove_partial
from swath.geo.grid import Grid, Window
from swath.geo.raster import RasterReader, RasterWriter, bounded_cache, describe
from swath.nn.model import Task
from swath.prediction.config import InferenceConfig
from swath.prediction.rasters import (
    SceneOutput,
    class_bands,
    class_spec,
    probability_bands,
    probability_spec,
    require_threshold,
    scene_output,
)
from swath.prediction.sliding import CPU, SlidingConfig, predict_rows, window_rows
from swath.prediction.strip_store import Strips
from swath.prediction.tta import Predict, predictor
from swath.steps.executors import SerialExecutor
from swath.steps.ledger import Item, Ledger
from swath.steps.memory import keep_freed_memory
from swath.steps.prefetch import prefetch, write_behind
from swath.steps.run import run_items
from swath.training.model_record import ModelRecord

# -------------------------------------------------------------------------------------------------------------- scenes


def fresh_ledger(config: InferenceConfig, output: Path) -> Ledger:
    """The ledger of finished scenes; predictions of another model or other windows make way, so that none are mixed."""
    settings = {
        "run_id": config.run_id, "weights": config.weights, "threshold": config.threshold,
        "probabilities": config.probabilities, "precision": config.precision,
        **leaves(resolve(config.sliding), "sliding"),
    }  # fmt: skip
    ledger = Ledger(output, "inference", settings, replace=True)
    if ledger.differs and idist.get_rank() == 0:
        for name in ("classes", "probabilities"):
            shutil.rmtree(output / name, ignore_errors=True)
    return ledger


def scene_items(scenes: gpd.GeoDataFrame, output: Path, probabilities: bool = True) -> list[Item[Any]]:
    """An item of work per row of a table of scenes, with the rasters that it leaves: classes, and probabilities."""
    return [
        Item(
            key=r.key,
            job=r,
            inputs=(Path(r.image),),
            outputs=scene_output(output, r.area, r.key).paths[: 1 + probabilities],
        )
        for r in scenes.itertuples()
    ]


@dataclass(frozen=True, kw_only=True)
class ScenePredictor:
    """What all scenes of a run have in common. Calling it predicts one scene, with all ranks.

    Layouts of the rasters as in `class_spec` and `probability_spec`; classes are decided by `class_bands`.
    """

    bands: Sequence[str]
    predict: Predict
    tasks: Mapping[str, Task]
    sliding: SlidingConfig
    threshold: float | None = None
    probabilities: bool = True
    device: torch.device = CPU

    def __call__(self, image: Path, output: SceneOutput, attempt: str | None = None) -> int:
        """Predict one scene, strip by strip; return its number of pixels.

        Ranks take strips that follow one another, and rank 0 joins them. `attempt` is a digest of all that decides
        the result: strips that a killed process finished under the same one are not computed again; None computes
        all. Raises RasterError when the scene lacks a band that the model needs, is damaged, or cannot be written, and
        ConfigError for a threshold that makes no sense. Finished strips stay then, and no raster appears.
        """
        require_threshold(self.threshold, self.tasks)
        strips = Strips(output.classes, attempt or "unnamed")
        with bounded_cache():
            grid, todo = on_all_ranks(lambda: self._plan(image, output, strips, attempt is not None))[0]
            mine = partition(todo, idist.get_rank(), idist.get_world_size())
            on_all_ranks(lambda: self._compute(image, strips, mine))
            if idist.get_rank() == 0:
                self._join(grid, strips, output)
                strips.clear()
        return grid.shape[0] * grid.shape[1]

    def _plan(self, image: Path, output: SceneOutput, strips: Strips, resume: bool) -> tuple[Grid, list[int]]:
        """The scene's grid, and which strips are to be computed."""
        grid = describe(image).grid
        if idist.get_rank() == 0:
            strips.open(resume)
            for path in output.paths:
                remove_partial(path)
        return grid, strips.missing(len(window_rows(grid.shape[0], self.sliding)))

    def _compute(self, image: Path, strips: Strips, parts: Sequence[range]) -> None:
        with RasterReader(image) as reader, write_behind(strips.save) as save:
            order = reader.numbers_of(self.bands, f"The model was trained on {', '.join(self.bands)}.")
            shape = reader.info.grid.shape
            read = partial(reader.image, bands=order)
            for part in parts:
                rows = predict_rows(read, shape, self.predict, self.tasks, self.sliding, self.device, part)
                with closing(rows) as found:
                    for number, (_, probability) in zip(part, found, strict=True):
                        soft = probability_bands(probability, self.tasks)
                        save(number, soft if self.probabilities else class_bands(soft, self.tasks, self.threshold))

    def _join(self, grid: Grid, strips: Strips, output: SceneOutput) -> None:
        rows = window_rows(grid.shape[0], self.sliding)
        with ExitStack() as stack:
            classes = stack.enter_context(RasterWriter(output.classes, class_spec(grid, self.tasks)))
            if self.probabilities:
                soft = stack.enter_context(RasterWriter(output.probabilities, probability_spec(grid, self.tasks)))
            for row, strip in zip(rows, prefetch(map(strips.load, range(len(rows)))), strict=True):
                window = Window(row, 0, *strip.shape[1:])
                if self.probabilities:
                    soft.write(strip, window)
                    strip = class_bands(strip, self.tasks, self.threshold)
                classes.write(strip, window)


def predict_scenes(
    config: InferenceConfig, record: ModelRecord, scenes: gpd.GeoDataFrame, output: Path,
    provenance: Mapping[str, Any] | None = None, ready: Callable[[Any], None] = lambda row: None,
) -> int:  # fmt: skip
    """Predict the scenes of a table that are not there yet, each with all ranks; return how many these were.

    `ready(row)` is called on rank 0 for every scene, as soon as it is there. A scene that fails does not stop the
    others; StepError on rank 0 lists the failed ones in the end.
    """
    work, items = scene_predictor(config, record), scene_items(scenes, output, config.probabilities)
    ledger = fresh_ledger(config, output)
    before = on_all_ranks(lambda: ledger.finished(items))[0]
    attempts = {item.key: ledger.item_digest(item) for item in items}
    todo = [item for item in items if item.key not in before]

    def one(row: Any) -> int:
        started = time.monotonic()
        pixels = work(Path(row.image), scene_output(output, row.area, row.key), attempts[row.key])
        if idist.get_rank() == 0:
            print(f"predicted {row.key} ({pixels / 1e6 / (time.monotonic() - started):.2f} MPix/s)", flush=True)
            ready(row)
        return pixels

    if idist.get_rank():
        for item in todo:
            with suppress(SwathError):  # rank 0 has it too, and reports it
                one(item.job)
        return len(todo)
    ledger.record_settings(provenance or {})
    for item in items:
        if item.key in before:
            ready(item.job)
    return run_items(one, items, ledger, SerialExecutor()).done_now


def scene_predictor(config: InferenceConfig, record: ModelRecord) -> ScenePredictor:
    """The model of a training run, on the device of the config."""
    device, sliding = device_of(config.device), config.sliding
    if device.type == "cpu":
        keep_freed_memory()
    return ScenePredictor(
        bands=record.bands, predict=predictor(record.model, sliding.tta, device, sliding.merge, config.precision),
        tasks=record.tasks, sliding=sliding, threshold=config.threshold, probabilities=config.probabilities, device=device,
    )  # fmt: skip
