"""Submission to the AI4Arctic challenge: one NetCDF file with three charts per scene on the grid of 80 m, and its check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath import config as configs
from swath.challenges.ai4arctic.charts import CHARTS
from swath.challenges.ai4arctic.product import OFFICIAL_PIXEL, RAW_PIXEL
from swath.challenges.protocols import Submission, SubmissionWriter
from swath.config import InputPath, OutputPath, configclass
from swath.data.pairing import by_key
from swath.data.tables import SCENE_COLUMNS, SCENES, read_table
from swath.errors import CatalogError, ConfigError, RasterError
from swath.geo.netcdf import NetcdfReader, Variable, write_netcdf
from swath.geo.raster import RasterReader
from swath.geo.tie_points import nearest_cells

NAME = "submission.nc"
ZLIB_LEVEL = 1


@configclass
class IceSubmissionConfig(SubmissionWriter):
    """Charts of all test scenes in one NetCDF file."""

    input_path: InputPath
    """Folder of <region>/<scene>.tif with bands SIC, SOD and FLOE: classes, or numbers that are rounded to one."""
    scenes_path: InputPath
    """Folder with the scenes.parquet that the predictions were made of: each of its scenes has to be there."""
    output_path: OutputPath
    """Folder for submission.nc."""
    missing: int = 0
    """Class where the prediction has none, because the scene measured nothing there; 0 is open water."""

    def __post_init__(self) -> None:
        if not 0 <= self.missing < min(CHARTS.values()):
            raise ConfigError(f"missing={self.missing}: must be a class of all charts, 0 to {min(CHARTS.values()) - 1}")

    def submit(self, results: Mapping[str, Any]) -> Submission:
        """Write the file, reopen and check it."""
        plans = plan(self)
        archive = configs.absolute(self.output_path) / NAME
        archive.unlink(missing_ok=True)  # an older one must not pass for this one's
        filled: dict[str, float] = {}
        write_netcdf(archive, _variables(plans, self.missing, filled), level=ZLIB_LEVEL)
        check(archive, plans)
        lines = [f"{archive}: {len(plans)} scenes, {len(plans) * len(CHARTS)} charts, checked"]
        empty = [f"{key} {100 * share:.1f} %" for key, share in filled.items() if share > 0]
        if empty:
            lines.append(f"without a prediction, written as class {self.missing}: {', '.join(empty)}")
        share = float(np.mean(list(filled.values())))
        return Submission(
            archive=archive, metrics={"scenes": len(plans), "missing_share": share}, lines=lines, written=[archive]
        )


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """One scene of a submission: its raster, how much larger than 80 m its pixels are, and its size at 80 m."""

    key: str
    raster: Path
    ratio: Fraction
    shape: tuple[int, int]


def plan(config: IceSubmissionConfig) -> list[ScenePlan]:
    """The scenes to write. Raises CatalogError that lists scenes without a prediction, RasterError for a wrong raster."""
    columns = [*SCENE_COLUMNS, "factor", "official_height", "official_width", "height", "width"]
    scenes = read_table(configs.absolute(config.scenes_path) / SCENES, columns, "import_scenes").set_index("key")
    rasters = by_key(configs.absolute(config.input_path))
    missing, unknown = sorted(set(scenes.index) - set(rasters)), sorted(set(rasters) - set(scenes.index))
    if missing or unknown:
        what = f"no prediction of {', '.join(missing[:5])}" if missing else f"no scene {', '.join(unknown[:5])}"
        raise CatalogError(
            f"{config.input_path}: {what} ({len(missing)} scenes without a prediction, {len(unknown)} predictions without "
            f"a scene in {config.scenes_path}). Predict all test scenes, and only these, into a folder of their own."
        )
    plans = []
    for key, scene in scenes.iterrows():
        _require_charts(rasters[key], (int(scene["height"]), int(scene["width"])))
        ratio = Fraction(int(scene["factor"]) * RAW_PIXEL, OFFICIAL_PIXEL)
        shape = int(scene["official_height"]), int(scene["official_width"])
        plans.append(ScenePlan(key=str(key), raster=rasters[key], ratio=ratio, shape=shape))
    return plans


ALL_CHARTS = "Predict all three charts."


def _require_charts(path: Path, shape: tuple[int, int]) -> None:
    with RasterReader(path) as reader:
        reader.info.numbers_of(list(CHARTS), ALL_CHARTS)
        if reader.info.grid.shape != shape:
            raise RasterError(f"{path}: {reader.info.grid.shape} pixels, its scene {shape}. Predict the scene again.")


def _variables(plans: Sequence[ScenePlan], missing: int, filled: dict[str, float]) -> Iterator[tuple[str, Variable]]:
    """One chart at a time; `filled` receives the share of each scene that has no prediction."""
    for scene in plans:
        gaps = []
        for chart in CHARTS:
            name = f"{scene.key}_{chart}"
            values_HW, gap = official_chart(scene, chart, missing)
            gaps.append(gap)
            yield name, Variable(dims=(f"{name}_dim0", f"{name}_dim1"), data=values_HW)
        filled[scene.key] = float(np.mean(gaps))


def official_chart(scene: ScenePlan, chart: str, missing: int) -> tuple[NDArray[np.uint8], float]:
    """uint8 (H, W at 80 m) of one chart, each pixel that of the larger one around its middle; and the share without one.

    Numbers of a regression are rounded and clamped to the classes. Raises RasterError for a class that there is not.
    """
    with RasterReader(scene.raster) as reader:
        predicted_HW = reader.image(bands=reader.info.numbers_of([chart], ALL_CHARTS))[0]
        regression = reader.info.dtype != "uint8"
    gap_HW = np.isnan(predicted_HW)
    last = CHARTS[chart] - 1
    if not regression and (predicted_HW > last).any():
        raise RasterError(
            f"{scene.raster}: class {int(np.nanmax(predicted_HW))} in {chart}, whose classes are 0 to {last}. "
            "Was it predicted with other classes?"
        )
    classes_HW = np.where(gap_HW, missing, np.clip(np.rint(predicted_HW), 0, last)).astype(np.uint8)
    rows, cols = (
        nearest_cells(0, n, scene.ratio, cells) for n, cells in zip(scene.shape, classes_HW.shape, strict=True)
    )
    return classes_HW[rows[:, None], cols], float(gap_HW.mean())


def check(archive: Path, plans: Sequence[ScenePlan]) -> None:
    """Reopen a submission; RasterError, and no file, unless it holds each chart as the challenge wants it and no more."""
    expected = {f"{scene.key}_{chart}": (scene.shape, chart) for scene in plans for chart in CHARTS}
    with NetcdfReader(archive) as reader:
        faults = [f"{name} is missing" for name in expected if name not in reader.names]
        faults += [f"{name} is not asked for" for name in reader.names if name not in expected]
        for name, (shape, chart) in expected.items():
            if name in reader.names:
                faults += _faults(reader, name, shape, CHARTS[chart])
    if faults:
        archive.unlink()
        raise RasterError(f"{archive}: {'; '.join(faults[:5])}. Nothing is left of it; run to_submission again.")


def _faults(reader: NetcdfReader, name: str, shape: tuple[int, int], classes: int) -> Iterator[str]:
    if reader.dims(name) != (f"{name}_dim0", f"{name}_dim1"):
        yield f"{name} has the dimensions {reader.dims(name)}"
    if reader.shape(name) != shape:
        yield f"{name} is {reader.shape(name)} instead of {shape}"
    if reader.compression(name) != ("gzip", ZLIB_LEVEL):
        yield f"{name} is packed with {reader.compression(name)} instead of zlib level {ZLIB_LEVEL}"
    values = reader.read(name)
    if values.dtype != np.uint8 or values.max() >= classes:
        yield f"{name} holds {values.dtype} up to {values.max()} instead of uint8 up to {classes - 1}"


def read_submission(path: Path) -> Mapping[str, dict[str, NDArray[np.uint8]]]:
    """Scene to chart to uint8 (H, W): what a scorer reads."""
    found: dict[str, dict[str, NDArray[np.uint8]]] = {}
    with NetcdfReader(path) as reader:
        for name in reader.names:
            scene, _, chart = name.rpartition("_")
            found.setdefault(scene, {})[chart] = reader.read(name)
    return found
