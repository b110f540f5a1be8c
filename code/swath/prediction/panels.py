"""Scenes as pictures for people: a panel for each composite, index, label and prediction, in one picture per scene.

A panel whose bands, labels or predictions a scene does not have is left out, and the picture says so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from swath.config import InputPath, NotDecisive, OutputPath, absolute, configclass
from swath.config.ranges import Count, Pixels, PositiveCount
from swath.data.indices.band_formulas import band_formula, lacking_bands
from swath.data.indices.catalogue import INDICES
from swath.data.indices.expression import parse_formula
from swath.data.naming import listing
from swath.data.pairing import by_key, labels_of
from swath.data.scene_image import SceneImage
from swath.data.tables import only_where, read_scenes
from swath.errors import ConfigError
from swath.figures.pictures import (
    colors,
    enlarged,
    in_colors,
    legend,
    palette_of,
    paragraph,
    side_by_side,
    stacked,
    stretch,
    write_picture,
)
from swath.files import path_below
from swath.geo.raster import RasterReader
from swath.labels import IGNORE
from swath.notices import leave_out
from swath.prediction.label_disagreement import NAME_TASK, PredictedMap
from swath.prediction.previews import thinned
from swath.scoring.lineage import prediction_folders
from swath.steps.config import Step
from swath.steps.job import Report

Picture = NDArray[np.uint8]


class MissingPanelError(Exception):
    """A scene lacks what a panel shows; the text says what."""


@configclass
class ColorPanel:
    """Three bands or formulas as red, green and blue, each from the quantile of 2 % of its valid pixels to that of 98 %."""

    bands: tuple[str, str, str]
    """Names of bands, or formulas."""


@configclass
class ValuePanel:
    """One band, index or formula in the colours of a colormap."""

    formula: str
    """Name of a band or of an index, or arithmetic with names of bands."""
    colormap: str = "viridis"
    """Colormap of Matplotlib."""
    limits: tuple[float, float] | None = None
    """Values of the colormap's two ends; None: quantiles of 2 and 98 % of the valid pixels."""

    def __post_init__(self) -> None:
        if self.colormap not in colormaps:
            raise ConfigError(
                f"colormap={self.colormap}: Matplotlib has none of this name. Take one such as viridis, gray or terrain."
            )
        if self.formula not in INDICES:
            parse_formula(self.formula)


@configclass
class ClassPanel:
    """Classes in colours: those of the labels or of the predictions."""

    of: Literal["label", "prediction"]
    """Which of the two."""


Panel = ColorPanel | ValuePanel | ClassPanel


@configclass
class PanelsConfig(Step):
    """A picture per scene with a panel for each thing to look at."""

    step_name = "panels"

    input_path: InputPath
    """Folder of scenes, with a scenes.parquet or of GeoTIFFs."""
    masks_path: InputPath | None = None
    """Folder of label rasters; None takes those that scenes.parquet names."""
    predictions_path: InputPath | None = None
    """Folder of maps of these scenes, as inference leaves it; several joined by ';'. None: no predictions are shown."""
    output_path: OutputPath
    """Folder for <key>.png."""
    panels: dict[str, Panel]
    """Title of a panel to what it shows, in order."""
    only: dict[str, tuple[str, ...]] | None = None
    """Scenes to draw by their columns, values as texts: {"area": ("north",)}; None takes all."""
    most: PositiveCount | None = None
    """Draw the first so many scenes; None draws all."""
    task: str | None = None
    """Band of labels and maps; None takes the first."""
    classes: tuple[str, ...] = ()
    """Names of the classes for the legend."""
    columns: PositiveCount = 4
    """Panels in a row."""
    side: Pixels = 350
    """Largest side of a panel in pixels; larger scenes are thinned."""
    log_first: NotDecisive[Count] = 8
    """Pictures that the run keeps, of the first so many scenes."""

    def __post_init__(self) -> None:
        if not self.panels:
            raise ConfigError("panels: there is none to draw. Name at least one.")

    def jobs(self) -> list[PanelsJob]:
        """A job per scene."""
        scenes = only_where(read_scenes(absolute(self.input_path)), self.only)
        labels = labels_of(scenes, absolute(self.masks_path) if self.masks_path else None)
        folders = (
            prediction_folders(self.predictions_path, "classes", "predictions_path") if self.predictions_path else []
        )
        found = {key: path for folder in folders for key, path in by_key(folder).items()}
        return [
            PanelsJob(
                key=row["key"], title=" ".join(filter(None, (row["key"], str(row["date"] or "")))),
                scene=SceneImage.of(row), labels=labels.get(row["key"]), found=found.get(row["key"]), output=path_below(self.output, row["key"], suffix=".png"),
                config=self,
            )
            for row in scenes.to_dict("records")[: self.most]
        ]  # fmt: skip

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Say what was drawn and which panels were left out."""
        lacking: dict[tuple[str, str], list[str]] = defaultdict(list)
        for key, left_out in results.items():
            for panel, why in left_out.items():
                lacking[panel, why].append(key)
        for (panel, why), keys in lacking.items():
            leave_out(len(keys), f"panels {panel!r}", self.input_path, f"{why} ({listing(keys)})")
        counts = {"scenes": len(results), "left_out": sum(len(keys) for keys in lacking.values())}
        return Report(
            metrics={f"panels/{name}": float(count) for name, count in counts.items()},
            files=[path for job in self.jobs()[: self.log_first] for path in job.outputs],
            lines=[f"{counts['scenes']} pictures in {self.output}"],
        )


@dataclass(frozen=True, kw_only=True)
class PanelsJob:
    """A scene to draw, with its labels and its map, where there are some."""

    key: str
    title: str
    scene: SceneImage
    labels: Path | None
    found: Path | None
    output: Path
    config: PanelsConfig

    @property
    def inputs(self) -> list[Path]:
        return [path for path in (self.scene.path, self.labels, self.found) if path]

    @property
    def outputs(self) -> list[Path]:
        return [self.output]

    @property
    def decided_by(self) -> Any:
        """What the table of scenes says of the scene."""
        return {"title": self.title, **self.scene.said}

    def run(self) -> dict[str, str]:
        """Draw the scene; return why panels were left out, by panel."""
        picture, left_out = scene_panels(self)
        write_picture(self.output, picture)
        return left_out


def scene_panels(job: PanelsJob) -> tuple[Picture, dict[str, str]]:
    """(uint8 RGB of all panels of a scene with a caption, why panels were left out)."""
    config, cells, left_out = job.config, dict[str, Picture](), dict[str, str]()
    with ExitStack() as stack:
        scene = _Scene(job, stack)
        for name, panel in config.panels.items():
            try:
                title, picture = scene.draw(name, panel)
            except MissingPanelError as error:
                left_out[name] = str(error)
            else:
                cells[title] = enlarged(picture)
        classes = scene.class_names()
    rows = list(_rows(cells, config.columns))
    width = max([row.shape[1] for row in rows], default=640)
    parts = [paragraph(job.title, width), *rows]
    if classes:
        parts.append(legend("classes:", classes, palette_of(len(classes)), width))
    if left_out:
        parts.append(paragraph("left out: " + "; ".join(f"{name} ({why})" for name, why in left_out.items()), width))
    return stacked(parts), left_out


def _rows(cells: Mapping[str, Picture], columns: int) -> Iterator[Picture]:
    titles = list(cells)
    for start in range(0, len(titles), columns):
        some = titles[start : start + columns]
        yield side_by_side([cells[title] for title in some], some)


class _Scene:
    """What panels of one scene are drawn from, thinned to the size of a panel."""

    def __init__(self, job: PanelsJob, stack: ExitStack) -> None:
        self.job = job
        self.image = stack.enter_context(job.scene.reader())
        self.stack = stack
        self.shape = self.image.info.grid.shape
        self.step = max(1, math.ceil(max(self.shape) / job.config.side))
        self._bands: dict[str, NDArray[np.float32]] = {}
        self._most_classes = 0

    def draw(self, name: str, panel: Panel) -> tuple[str, Picture]:
        """(title, uint8 RGB). Raises MissingPanelError when the scene lacks what the panel shows."""
        if isinstance(panel, ColorPanel):
            return name, stretch(np.stack([self._values(text) for text in panel.bands]))
        if isinstance(panel, ValuePanel):
            picture, (low, high) = in_colors(self._values(panel.formula), panel.colormap, panel.limits)
            return f"{name}  {low:.4g} to {high:.4g}", picture
        classes_HW = self._classes(panel.of)
        self._most_classes = max([self._most_classes, *(int(c) + 1 for c in np.unique(classes_HW) if c != IGNORE)])
        return name, colors(classes_HW, palette_of(max(self._most_classes, len(self.job.config.classes))))

    def class_names(self) -> Sequence[str]:
        """Names for the legend; empty where no classes were drawn."""
        if not self._most_classes:
            return ()
        numbers = range(len(self.job.config.classes), self._most_classes)
        return (*self.job.config.classes, *(f"class {number}" for number in numbers))

    def _values(self, text: str) -> NDArray[np.float32]:
        """The values of a formula."""
        lacking = lacking_bands(text, self.image.info.bands)
        if lacking:
            raise MissingPanelError(f"there is no band {', '.join(lacking)}")
        formula = band_formula(text, self.image.info.bands)
        for band in formula.bands:
            if band not in self._bands:
                numbers = [self.image.info.bands.index(band) + 1]
                self._bands[band] = self._thin(partial(self.image.image, bands=numbers))[0]
        return formula.values(self._bands)

    def _classes(self, of: str) -> NDArray[np.uint8]:
        """Labels or predictions."""
        path = self.job.labels if of == "label" else self.job.found
        if path is None:
            raise MissingPanelError(f"there is no {of}")
        task = self.job.config.task
        if of == "prediction":
            found = self.stack.enter_context(PredictedMap(path, self.image.info.grid, task))
            return self._thin(found.classes)[0]
        labels = self.stack.enter_context(RasterReader(path))
        if labels.info.grid.shape != self.shape:
            raise MissingPanelError(f"the labels have {labels.info.grid.shape} px, the scene {self.shape}")
        band = labels.info.position_of_task(task, NAME_TASK) + 1
        return self._thin(partial(labels.labels, bands=[band]))[0]

    def _thin(self, read: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
        return thinned(read, self.shape, self.step)
