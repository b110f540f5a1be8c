"""Clean-up of predicted classes by filters that are on or off each, and what each of them is worth where labels are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.config.ranges import Amount, Count
from swath.data.pairing import by_key, labels_by_key
from swath.data.scene_image import SceneImage
from swath.errors import CatalogError, ConfigError, RasterError, VectorError
from swath.geo import morphology
from swath.geo.earth import brought_to
from swath.geo.grid import Grid
from swath.geo.morphology import Connectivity
from swath.geo.mosaic import STRIP_PIXELS
from swath.geo.raster import RasterReader, require_clear_labels, warped
from swath.geo.raster_writer import RasterWriter
from swath.geo.rasterize import burn
from swath.geo.vector import read_polygons
from swath.geo.vector_files import VECTOR_SUFFIXES
from swath.geo.windows import strips
from swath.labels import IGNORE
from swath.nn.model import Classification
from swath.prediction.impossible import Impossible, impossible_pixels, scene_images, without_class
from swath.prediction.rasters import class_spec
from swath.scoring.lineage import prediction_folder
from swath.scoring.metrics import scores
from swath.steps.config import StepConfig, ledger_of

CHOOSE_TASK = "Set `task` to one of them."

Filter = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@configclass
class PostprocessConfig(StepConfig):
    """Filters on class rasters, in the order of the fields; each is off unless it is set.

    A scene of 100 million pixels takes 1 GB of memory per worker.
    """

    input_path: InputPath
    """Folder of predictions with classes/ in it, or any folder of class rasters."""
    output_path: OutputPath
    """Folder for classes/<area>/<scene>.tif."""
    task: str | None = None
    """Band to filter; None takes the first. Other bands are copied."""
    target: Count = 1
    """Class to clean up; what a filter takes from it becomes class 0."""
    mask_path: InputPath | None = None
    """Where there is no such class (land, for example): a raster, a folder of rasters named as the scenes, or a vector file."""
    mask_layer: str | None = None
    """Layer of mask_path that holds the polygons; None takes the only one."""
    mask_values: tuple[int, ...] | None = None
    """Values of the raster that mask, as the flags of a quality band; None takes all but 0."""
    mask_keeps: bool = False
    """The mask marks what to keep, not what to mask out."""
    scenes_path: InputPath | None = None
    """Folder of the scenes that were predicted, for `impossible`."""
    impossible: dict[str, Impossible] = field(default_factory=dict)
    """Where there is no such class by the scene's own bands: a name to a condition, such as
    {"land": Impossible(band="DEM", above=0.0)}. Each is a filter of its own; other classes stay there."""
    masked_as: Literal["background", "nodata"] = "background"
    """What pixels of the class become where there is none by mask_path or `impossible`: class 0 or nodata."""
    opening: Count = 0
    """Radius in pixels of a morphological opening; takes away what is narrower than the disk."""
    closing: Count = 0
    """Radius in pixels of a morphological closing; fills what is narrower than the disk."""
    min_object: Amount = 0.0
    """Smallest area of an object; smaller ones become class 0."""
    max_hole: Amount = 0.0
    """Largest area of a hole that is filled."""
    area_unit: Literal["px", "m2"] = "px"
    """Unit of the two areas: pixels or square metres."""
    connectivity: Connectivity = 4
    """Objects are connected by sides (4, as polygonize has it) or by sides and corners (8)."""
    labels_path: InputPath | None = None
    """Folder of label rasters; each filter is then scored, on and off."""
    allow_selection_set: bool = False
    """Score scenes that selected the model's weights; the run is then marked."""

    def made_by(self) -> str | None:
        """The id of the run that left what this config gives now, whole and unchanged; None where there is none."""
        output = absolute(self.output_path)
        source = prediction_folder(self.input_path, "classes", "input_path")
        return ledger_of("postprocess", self, output).made_by(postprocess_jobs(self, source, output))


@dataclass(frozen=True, kw_only=True)
class PostprocessJob:
    """One class raster, its mask and labels where there are some, and where the result goes."""

    key: str
    classes: Path
    output: Path
    mask: Path | None
    labels: Path | None
    config: PostprocessConfig
    scene: SceneImage | None = None
    """The scene that was predicted, where its bands are asked."""

    @property
    def inputs(self) -> list[Path]:
        image = self.scene.path if self.scene else None
        return [path for path in (self.classes, self.mask, self.labels, image) if path]

    @property
    def decided_by(self) -> Any:
        """What the table of scenes says of the scene; None where no scene is read."""
        return {"missing": self.scene.missing, "bands": self.scene.bands} if self.scene else None

    @property
    def outputs(self) -> tuple[Path]:
        return (self.output,)

    def run(self) -> dict[str, Any]:
        """Filter the raster."""
        return postprocess_scene(self)


def postprocess_jobs(config: PostprocessConfig, source: Path, output: Path) -> list[PostprocessJob]:
    """A job per class raster below `source`.

    Raises CatalogError when there is none, or scenes have no mask or no labels, and ConfigError when no filter is on.
    """
    require_filter(config)
    rasters = by_key(source)
    if not rasters:
        raise CatalogError(f"{source}: no class rasters found. Set input_path to the output of inference or ensemble.")
    scenes = scene_images(absolute(config.scenes_path), rasters) if config.impossible and config.scenes_path else {}
    masks, labels = (_partners(rasters, getattr(config, field), field) for field in ("mask_path", "labels_path"))
    return [
        PostprocessJob(
            key=key, classes=path, output=output / "classes" / path.relative_to(source), mask=masks.get(key),
            labels=labels.get(key), config=config, scene=scenes.get(key),
        )
        for key, path in rasters.items()
    ]  # fmt: skip


def _partners(rasters: Mapping[str, Path], text: str | None, field: str) -> dict[str, Path]:
    """A file serves every scene; of a folder each scene has a raster of its own."""
    if text is None:
        return {}
    path = absolute(text)
    if path.is_file():
        return dict.fromkeys(rasters, path)
    found = labels_by_key(path) if field == "labels_path" else by_key(path)
    missing = sorted(set(rasters) - set(found))
    if missing:
        raise CatalogError(f"{field}={text}: no raster for {', '.join(missing[:5])}. Add them, or name another folder.")
    return {key: found[key] for key in rasters}


def require_filter(config: PostprocessConfig) -> None:
    """Raise ConfigError when no filter is on, a size is below 0, or scenes are needed or named for nothing."""
    sizes = {name: getattr(config, name) for name in ("opening", "closing", "min_object", "max_hole")}
    negative = [f"{name}={size}" for name, size in sizes.items() if size < 0]
    if negative:
        raise ConfigError(f"{', '.join(negative)}: sizes must be 0 (off) or above")
    if bool(config.impossible) != (config.scenes_path is not None):
        raise ConfigError(
            f"impossible={config.impossible}, scenes_path={config.scenes_path}: one needs the other. Set scenes_path to the "
            "folder that inference read, and impossible to conditions on its bands."
        )
    if not any(sizes.values()) and config.mask_path is None and not config.impossible:
        raise ConfigError(f"no filter is on: set mask_path, {', '.join(sizes)}, impossible, or several of them")


# -------------------------------------------------------------------------------------------------------------- filters


def active_filters(job: PostprocessJob, grid: Grid) -> dict[str, Filter]:
    """The filters that a job's config turns on, by the name of their field, in order."""
    c, chain = job.config, dict[str, Filter]()
    value = 0 if c.masked_as == "background" else IGNORE
    if job.mask:
        chain["mask_path"] = partial(morphology.masked, mask_HW=read_mask(job.mask, grid, c), value=value)
    if job.scene:
        for name, condition in c.impossible.items():
            nowhere = impossible_pixels(job.scene, grid, condition)
            chain[f"impossible.{name}"] = partial(without_class, target=c.target, mask_HW=nowhere, value=value)
    if c.opening:
        chain["opening"] = partial(morphology.opened, target=c.target, radius=c.opening)
    if c.closing:
        chain["closing"] = partial(morphology.closed, target=c.target, radius=c.closing)
    pixel = 1.0 if c.area_unit == "px" else square_metres(grid, job.classes)
    if c.min_object:
        area = c.min_object / pixel
        chain["min_object"] = partial(
            morphology.remove_objects, target=c.target, min_area=area, connectivity=c.connectivity
        )
    if c.max_hole:
        area = c.max_hole / pixel
        chain["max_hole"] = partial(morphology.fill_holes, target=c.target, max_area=area, connectivity=c.connectivity)
    return chain


def square_metres(grid: Grid, path: Path) -> float:
    """Area of a pixel in m2. Raises RasterError without a projected CRS."""
    if grid.crs is None or not grid.crs.is_projected:
        raise RasterError(
            f"{path}: areas in m2 need a projected CRS, found {grid.crs.to_string() if grid.crs else 'none'}. "
            "Set area_unit=px, or bring the predictions to a projected CRS."
        )
    return grid.pixel_area * float(grid.crs.linear_units_factor[1]) ** 2


def read_mask(path: Path, grid: Grid, config: PostprocessConfig) -> NDArray[np.bool_]:
    """bool (height, width): what to mask out, from a raster on any grid or from polygons in any CRS."""
    marked = (
        _burnt(path, grid, config.mask_layer)
        if path.suffix.lower() in VECTOR_SUFFIXES
        else _flagged(path, grid, config.mask_values)
    )
    return ~marked if config.mask_keeps else marked


def _flagged(path: Path, grid: Grid, values: Sequence[int] | None) -> NDArray[np.bool_]:
    found = np.zeros(grid.shape, bool)
    with warped(path, grid, "nearest") as reader:
        for strip in strips(grid.shape, STRIP_PIXELS):
            raster = reader.image(strip, bands=[1])[0]
            found[strip.slices] = np.isin(raster, values) if values is not None else np.nan_to_num(raster) != 0
    return found


def _burnt(path: Path, grid: Grid, layer: str | None) -> NDArray[np.bool_]:
    if grid.crs is None:
        raise VectorError(
            f"{path}: the predictions have no CRS, so its polygons have no place on them. Use a raster mask."
        )
    polygons = read_polygons(path, layer=layer, layer_field="mask_layer")
    moved = brought_to(polygons.geometry.to_numpy(), polygons.crs, grid, str(path))
    return burn(list(moved), [1] * len(moved), grid, grid.window, all_touched=False) == 1


# ----------------------------------------------------------------------------------------------------------- one scene


def postprocess_scene(job: PostprocessJob) -> dict[str, Any]:
    """Write one filtered raster; return the number of changed pixels and, with labels, a matrix per `variants`.

    Raises RasterError when the raster lacks the task's band, or labels lie on another grid.
    """
    with RasterReader(job.classes) as reader:
        info = reader.info
        if info.dtype != "uint8":
            raise RasterError(
                f"{job.classes}: {info.dtype}, not classes. Set input_path to the classes, not the probabilities."
            )
        bands = reader.labels()
    band = info.position_of_task(job.config.task, CHOOSE_TASK)
    chain = active_filters(job, info.grid)
    before = bands[band].copy()
    bands[band] = _applied(before, chain.values())
    count = max(2, int(np.where(bands == IGNORE, 0, bands).max()) + 1)
    task = Classification(classes=tuple(str(i) for i in range(count)))
    with RasterWriter(job.output, class_spec(info.grid, dict.fromkeys(info.bands, task))) as writer:
        writer.write(bands)
    found: dict[str, Any] = {"changed": int((bands[band] != before).sum())}
    if job.labels:
        truth = _truth(job, info.grid, info.bands[band])
        chosen = {name: [chain[f] for f in names] for name, names in variants(list(chain)).items()}
        found["matrices"] = {
            name: matrix_of(_applied(before, c), truth, job.config.target) for name, c in chosen.items()
        }
    return found


def _applied(classes_HW: NDArray[np.uint8], chain: Any) -> NDArray[np.uint8]:
    for function in chain:
        classes_HW = function(classes_HW)
    return classes_HW


def _truth(job: PostprocessJob, grid: Grid, task: str) -> NDArray[np.uint8]:
    assert job.labels
    require_clear_labels(job.labels)
    with RasterReader(job.labels) as reader:
        difference = reader.info.grid.difference(grid)
        if difference:
            raise RasterError(f"{job.labels} and {job.classes}: not on one grid: {difference}. Rasterise the labels.")
        return reader.labels()[reader.info.position_of_task(task, CHOOSE_TASK)]


# ---------------------------------------------------------------------------------------------------------- evaluation


def variants(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Which filters are on: none, all, all but one, one alone; the same choice stands once, under its first name."""
    found = {"none": (), "all": tuple(names)}
    found |= {f"without {name}": tuple(n for n in names if n != name) for name in names}
    found |= {f"only {name}": (name,) for name in names}
    return {
        label: chosen for label, chosen in found.items() if label == next(k for k, v in found.items() if v == chosen)
    }


def matrix_of(classes_HW: NDArray[np.uint8], truth_HW: NDArray[np.uint8], target: int) -> list[list[int]]:
    """[[tn, fp], [fn, tp]] of the target against the rest over labelled pixels; nodata counts as the rest."""
    valid, hit = truth_HW != IGNORE, classes_HW == target
    true = truth_HW == target
    tp, positive, found = (int(np.count_nonzero(m)) for m in (true & hit, true, hit & valid))
    return [[int(np.count_nonzero(valid)) - positive - found + tp, found - tp], [positive - tp, tp]]


def filter_table(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row per variant: `filters`, scores over all scenes together, and `gain`, its iou_fg less that without filters."""
    total = {name: np.sum([r["matrices"][name] for r in results], axis=0) for name in results[0]["matrices"]}
    rows = {name: scores(matrix, ("rest", "target")) for name, matrix in total.items()}
    kept = ["iou_fg", "f1_fg", "precision_fg", "recall_fg"]
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=kept)
    return table.assign(gain=table["iou_fg"] - table["iou_fg"]["none"]).rename_axis("filters").reset_index()
