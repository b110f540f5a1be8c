"""Whole scenes to probability maps and class maps with the model of a training run, streamed strip by strip."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import ignite.distributed as idist
import torch

from swath.config import absolute, leaves, relative, resolve
from swath.data.tables import Row, bands_of, missing_of
from swath.distributed import device_of, is_main, on_all_ranks, partition
from swath.errors import SwathError
from swath.geo.block_cache import bounded_cache
from swath.geo.grid import Grid, Window
from swath.geo.raster import describe
from swath.geo.raster_writer import RasterWriter
from swath.geo.scene_bands import SceneBands, SceneReader
from swath.geo.zones import MissingZones, Read, hiding, zones_in
from swath.nn.model import Task
from swath.nn.tta import Predict, predictor
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
from swath.steps.executors import SerialExecutor
from swath.steps.ledger import Ledger
from swath.steps.memory import keep_freed_memory
from swath.steps.prefetch import prefetch, write_behind
from swath.steps.run import run_jobs
from swath.training.model_record import ModelRecord

# -------------------------------------------------------------------------------------------------------------- scenes


def scene_ledger(config: InferenceConfig, output: Path) -> Ledger:
    """The ledger of finished scenes, under the settings that decide a scene's rasters; scores have none."""
    settings = {
        "run_id": config.run_id,
        "weights": config.weights,
        "threshold": config.threshold,
        "probabilities": config.probabilities,
        "precision": config.precision,
        **leaves(resolve(config.sliding), "sliding"),
        **({"tuned_on": list(config.tuned_on)} if config.tuned_on else {}),
    }
    return Ledger(output, "inference", settings, {"input_path": relative(config.input_path)})


@dataclass(frozen=True, kw_only=True)
class SceneJob:
    """A scene to predict: its row in the table of scenes, the rasters that it leaves, and who does it."""

    row: Any
    rasters: SceneOutput
    probabilities: bool
    predict: Callable[[SceneJob], int]

    @property
    def key(self) -> str:
        return str(self.row.key)

    @property
    def inputs(self) -> tuple[Path]:
        return (Path(self.row.image),)

    @property
    def outputs(self) -> tuple[Path, ...]:
        return self.rasters.paths if self.probabilities else (self.rasters.classes,)

    @property
    def decided_by(self) -> dict[str, Any]:
        """What the table says of the scene, above the file itself."""
        about = self.row._asdict()
        return {"missing": missing_of(about), "bands": bands_of(about)}

    def run(self) -> int:
        """Predict the scene; return its number of pixels."""
        return self.predict(self)


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
    missing_zones: MissingZones | None = None
    """Zones that are no measurement, as in the tiles of the training; found in the whole scene before it is predicted."""
    scene_bands: SceneBands = field(default_factory=dict)
    """Rules of bands that are made of the whole scene, as in the tiles of the training."""

    def __call__(self, image: Path, output: SceneOutput, attempt: str | None = None, about: Row | None = None) -> int:
        """Predict one scene, strip by strip; return its number of pixels.

        Ranks take strips that follow one another, and rank 0 joins them. `attempt` is a digest of all that decides
        the result: strips that a killed process finished under the same one are not computed again; None computes
        all. `about` is the scene's row in its table, whose names of bands and nodata stand above the file's. Raises RasterError when the scene lacks a band that the model needs, is damaged, or cannot be written, and
        ConfigError for a threshold that makes no sense. Finished strips stay then, and no raster appears.
        """
        require_threshold(self.threshold, self.tasks)
        strips = Strips(output.classes, attempt or "unnamed")
        with bounded_cache():
            grid, todo = on_all_ranks(lambda: self._plan(image, output, strips, attempt is not None))[0]
            mine = partition(todo, idist.get_rank(), idist.get_world_size())
            on_all_ranks(lambda: self._compute(image, strips, mine, about or {}))
            if is_main():
                self._join(grid, strips, output)
                strips.clear()
        return grid.shape[0] * grid.shape[1]

    def _plan(self, image: Path, output: SceneOutput, strips: Strips, resume: bool) -> tuple[Grid, list[int]]:
        """The scene's grid, and which strips are to be computed."""
        grid = describe(image).grid
        if is_main():
            strips.open(resume)
        return grid, strips.missing(len(window_rows(grid.shape[0], self.sliding)))

    def _compute(self, image: Path, strips: Strips, parts: Sequence[range], about: Row) -> None:
        missing, names = missing_of(about), bands_of(about)
        with SceneReader(image, missing, names, self.scene_bands) as reader, write_behind(strips.save) as save:
            read, shape = self._whole(reader), reader.info.grid.shape
            for part in parts:
                rows = predict_rows(read, shape, self.predict, self.tasks, self.sliding, self.device, part)
                with closing(rows) as found:
                    for number, (_, probability) in zip(part, found, strict=True):
                        soft = probability_bands(probability, self.tasks)
                        save(number, soft if self.probabilities else class_bands(soft, self.tasks, self.threshold))

    def _whole(self, reader: SceneReader) -> Read:
        """How the bands of the model are read from a scene, of which is found before what only all of it can tell."""
        remedy = f"The model was trained on {', '.join(self.bands)}."
        measured = reader.info.numbers_of([band for band in self.bands if band not in self.scene_bands], remedy)
        zones = zones_in(partial(reader.image, bands=measured), reader.info.grid.shape, self.missing_zones)
        reader.find_medians(zones)
        return hiding(partial(reader.image, bands=reader.info.numbers_of(self.bands, remedy)), zones)

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
    ledger = scene_ledger(config, output)
    work = scene_predictor(config, record)

    def predict(job: SceneJob) -> int:
        started = time.monotonic()
        attempt = on_all_ranks(lambda: ledger.identity(job) if is_main() else "")[0]
        pixels = work(*job.inputs, job.rasters, attempt, job.row._asdict())
        if is_main():
            speed = pixels / 1e6 / (time.monotonic() - started)
            print(f"predicted {job.key} ({speed:.2f} MPix/s)", flush=True)
            ready(job.row)
        return pixels

    jobs = prediction_jobs(config, scenes, predict)

    def plan() -> set[str]:
        if not is_main():
            return set()
        ledger.prepare(jobs, config.replace, provenance or {})
        return set(ledger.finished(jobs))

    before = on_all_ranks(plan)[0]
    if not is_main():
        todo = [job for job in jobs if job.key not in before]
        for job in todo:
            with suppress(SwathError):  # rank 0 has it too, and reports it
                job.run()
        return len(todo)
    for job in jobs:
        if job.key in before:
            ready(job.row)
    return run_jobs(jobs, ledger, SerialExecutor()).done_now


def prediction_jobs(
    config: InferenceConfig,
    scenes: gpd.GeoDataFrame,
    predict: Callable[[SceneJob], int] = lambda job: 0,
) -> list[SceneJob]:
    """A job per scene of a table, done by `predict`."""
    output = absolute(config.output_path)
    return [
        SceneJob(
            row=row,
            rasters=scene_output(output, row.area, row.key),
            probabilities=config.probabilities,
            predict=predict,
        )
        for row in scenes.itertuples()
    ]


def scene_predictor(config: InferenceConfig, record: ModelRecord) -> ScenePredictor:
    """The model of a training run, on the device of the config."""
    device, sliding = device_of(config.device), config.sliding
    assert not isinstance(config.threshold, str), "the script reads the decision that it names"
    if device.type == "cpu":
        keep_freed_memory()
    return ScenePredictor(
        bands=record.bands, predict=predictor(record.model, sliding.tta, device, sliding.merge, config.precision),
        tasks=record.tasks, sliding=sliding, threshold=config.threshold, probabilities=config.probabilities, device=device,
        missing_zones=record.missing_zones, scene_bands=record.scene_bands,
    )  # fmt: skip
