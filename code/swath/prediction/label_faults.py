"""Labels that look wrong, listed for a person to look at: those that predictions doubt, and those that lie off the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from swath.config import InputPath, NotDecisive, OutputPath, absolute, configclass
from swath.config.ranges import Count, Pixels, Share
from swath.data.naming import listing
from swath.data.pairing import by_key, labels_of
from swath.data.scene_image import SceneImage
from swath.data.tables import only_where, read_scenes, write_csv
from swath.errors import CatalogError, ConfigError
from swath.files import atomic_write
from swath.geo.raster import RasterReader
from swath.geo.registration import Shift
from swath.notices import leave_out
from swath.prediction.fault_report import draw_faults, write_corrected
from swath.prediction.label_disagreement import DISAGREEMENT, NAME_TASK, Disagreement, PredictedMap, disagreements
from swath.prediction.label_shifts import SHIFT, SceneBands, ShiftSearch, clearest, shifts_of_scene
from swath.scoring.lineage import prediction_folders, require_elsewhere
from swath.scoring.pairs import Pairs
from swath.steps.config import Step
from swath.steps.job import Report

TABLE = "label_faults"


@configclass
class FindLabelFaultsConfig(Step):
    """Scenes ranked by how far predictions doubt their labels, and by how far labels lie off the image."""

    step_name = "find_label_faults"

    input_path: InputPath
    """Folder of scenes, with a scenes.parquet or of GeoTIFFs."""
    masks_path: InputPath | None = None
    """Folder of label rasters; None takes those that scenes.parquet names."""
    predictions_path: InputPath | None = None
    """Folder of maps by models that were not trained on these scenes; those of several folds joined by ';'. None: labels
    are not compared with predictions."""
    output_path: OutputPath
    """Folder for label_faults.csv, label_faults.parquet, pictures/, and with `correct` labels/ and scenes.parquet."""
    only: dict[str, tuple[str, ...]] | None = None
    """Scenes to look at by their columns, values as texts: {"original_split": ("train",)}; None takes all."""
    task: str | None = None
    """Band of labels and maps; None takes the first."""
    shift: ShiftSearch | None = None
    """What is compared to find shifts; None looks for none."""
    block: Pixels = 512
    """Larger scenes are compared with predictions in windows of so many pixels."""
    narrowest: Count = 1
    """Radius in pixels of the disk that differing pixels have to fill to count; 0 counts every one."""
    least_doubt: Share = 0.2
    """Mean doubt of the labels of a window from which on they are called a fault."""
    correct: bool = False
    """Write labels without their shift, and a scenes.parquet that names them; the originals stay."""
    pictures: NotDecisive[Count] = 12
    """Pictures of the first so many rows of each kind."""
    picture_bands: NotDecisive[tuple[str, ...]] = ()
    """Bands of the pictures, as red, green and blue; empty: the first ones."""

    def __post_init__(self) -> None:
        if self.predictions_path is None and self.shift is None:
            raise ConfigError(
                "predictions_path, shift: neither is set, so there is nothing to compare labels with. Set one of them: "
                "-P predictions_path=<folder of maps>"
            )

    def jobs(self) -> list[FaultJob]:
        """A job per scene that has labels and a map, or in which a shift is looked for."""
        return fault_jobs(self)

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write the table, pictures of its first rows, and corrected labels; say how many faults there are."""
        jobs = {job.key: job for job in self.jobs()}
        table = fault_table(self, jobs, results)
        corrected = write_corrected(self, table, jobs) if self.correct else []
        drawn = draw_faults(self, table, jobs)
        files = [self.output / f"{TABLE}.csv", self.output / f"{TABLE}.parquet"]
        write_csv(files[0], table)
        with atomic_write(files[1]) as part:
            table.to_parquet(part, index=False)
        counts = {"scenes": len(jobs), "corrected": max(0, len(corrected) - 1)} | _counts(table)
        return Report(
            metrics={f"label_faults/{name}": float(count) for name, count in counts.items()},
            written=[*files, *corrected],
            files=[*files, *drawn],
            lines=[", ".join(f"{name} {count}" for name, count in counts.items()), *_first_rows(table)],
        )


@dataclass(frozen=True, kw_only=True)
class FaultJob:
    """A scene with its labels and its map, where there are some."""

    key: str
    area: str
    scene: SceneImage
    labels: Path | None
    found: Path | None
    config: FindLabelFaultsConfig

    @property
    def inputs(self) -> list[Path]:
        return [path for path in (self.scene.path, self.labels, self.found) if path]

    @property
    def outputs(self) -> tuple[Path, ...]:
        return ()

    @property
    def decided_by(self) -> Any:
        """What the table of scenes says of the scene."""
        return self.scene.said

    def run(self) -> dict[str, Any]:
        """Compare the scene's labels with its map and its image."""
        return examine(self)


def fault_jobs(config: FindLabelFaultsConfig) -> list[FaultJob]:
    """A job per scene. Raises CatalogError when no scene has anything to compare."""
    scenes = only_where(read_scenes(absolute(config.input_path)), config.only)
    labels = labels_of(scenes, absolute(config.masks_path) if config.masks_path else None)
    found = {key: path for key, path in _maps(config).items() if key in labels}
    jobs = [
        FaultJob(
            key=row["key"], area=str(row["area"]), scene=SceneImage.of(row), labels=labels.get(row["key"]),
            found=found.get(row["key"]), config=config,
        )
        for row in scenes.to_dict("records")
        if config.shift is not None or row["key"] in found
    ]  # fmt: skip
    if not jobs:
        raise CatalogError(
            f"predictions_path={config.predictions_path}: no map is of a labelled scene of {config.input_path}. "
            "Predict these scenes, or name another folder."
        )
    lacking = sorted(set(labels) - set(found)) if config.predictions_path else []
    leave_out(len(lacking), "labels", config.input_path, f"no map of these scenes to compare ({listing(lacking)})")
    return jobs


def paired_maps(config: FindLabelFaultsConfig) -> dict[Path, Pairs]:
    """Each folder of maps with the labels of its scenes, for the check that these did not train the models."""
    jobs = [job for job in fault_jobs(config) if job.found and job.labels]
    found = {}
    for folder in _folders(config):
        of_folder = {job.key: (job.found, job.labels) for job in jobs if job.found and job.found.is_relative_to(folder)}
        found[folder] = Pairs({key: (a, b) for key, (a, b) in of_folder.items() if a and b}, [], [])
    return found


def _folders(config: FindLabelFaultsConfig) -> list[Path]:
    if config.predictions_path is None:
        return []
    folders = prediction_folders(config.predictions_path, "probabilities", "predictions_path")
    require_elsewhere(config.output, folders)
    return folders


def _maps(config: FindLabelFaultsConfig) -> dict[str, Path]:
    """Key to map, of all folders. Raises CatalogError when two folders have a map of one scene."""
    found: dict[str, Path] = {}
    for folder in _folders(config):
        here = by_key(folder)
        twice = sorted(set(found) & set(here))
        if twice:
            raise CatalogError(
                f"predictions_path: several folders have maps of {listing(twice)}. Name for each scene the folder of "
                "the model that was not trained on it."
            )
        found |= here
    return found


# --------------------------------------------------------------------------------------------------------------- scene


def examine(job: FaultJob) -> dict[str, Any]:
    """What is found in a scene: `disagreement`, a list of windows, and `shift`, one by comparison."""
    with ExitStack() as stack:
        labels = stack.enter_context(RasterReader(job.labels)) if job.labels else None
        task = labels.info.position_of_task(job.config.task, NAME_TASK) if labels else 0
        result: dict[str, Any] = {DISAGREEMENT: [], SHIFT: {}}
        if labels and job.found:
            found = stack.enter_context(PredictedMap(job.found, labels.info.grid, job.config.task))
            windows = disagreements(labels, found, task, job.config.block, job.config.narrowest)
            result[DISAGREEMENT] = [asdict(window) for window in windows]
        if job.config.shift:
            image = stack.enter_context(job.scene.reader())
            shifts = shifts_of_scene(job.config.shift, SceneBands(image, labels, task))
            result[SHIFT] = {name: asdict(shift) for name, shift in shifts.items()}
        return result


# --------------------------------------------------------------------------------------------------------------- table


def fault_table(
    config: FindLabelFaultsConfig, jobs: Mapping[str, FaultJob], results: Mapping[str, Any]
) -> pd.DataFrame:  # fmt: skip
    """A row per window that has a map, and per scene in which a shift was looked for and edges were found.

    `rank` counts from 1 in each `kind`: windows by `doubt`; shifts that are faults first, by `clearness`.
    """
    rows = []
    for key, found in results.items():
        about = {"key": key, "area": jobs[key].area}
        rows += [about | row for row in _disagreement_rows(config, found[DISAGREEMENT])]
        rows += [about | row for row in _shift_rows(config, found[SHIFT])]
    columns = [field.name for field in fields(Disagreement)]
    table = pd.DataFrame(
        rows, columns=["key", "area", "kind", "is_fault", "score", "reason", *columns, *_SHIFT_COLUMNS]
    )
    table = table.sort_values(["kind", "is_fault", "score", "key"], ascending=[True, False, False, True])
    table.insert(0, "rank", table.groupby("kind").cumcount() + 1)
    return table.reset_index(drop=True)


_SHIFT_COLUMNS = ("by", "rows", "cols", "strength", "unshifted", "clearness")


def _disagreement_rows(config: FindLabelFaultsConfig, windows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for window in windows:
        reason = (
            f"{window['doubt']:.1%} of the labelled pixels are doubted: the map misses {window['false_target']:.1%} that the "
            f"labels have, and has {window['missing_target']:.1%} that they lack"
        )
        is_fault = window["doubt"] >= config.least_doubt
        yield window | {"kind": DISAGREEMENT, "is_fault": is_fault, "score": window["doubt"], "reason": reason}


def _shift_rows(config: FindLabelFaultsConfig, found: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    shifts = {name: Shift(**values) for name, values in found.items()}
    if not shifts or config.shift is None:
        return
    sure = clearest(config.shift, shifts)
    name = sure or max(shifts, key=lambda name: shifts[name].clearness)
    shift = shifts[name]
    values = {
        "by": name, "rows": shift.rows, "cols": shift.cols, "strength": shift.strength, "unshifted": shift.unshifted,
        "clearness": shift.clearness,
    }  # fmt: skip
    score = shift.clearness
    yield values | {"kind": SHIFT, "is_fault": sure is not None, "score": score, "reason": _words(shift, name, sure)}


def _words(shift: Shift, name: str, sure: str | None) -> str:
    """The reason of a row about a shift."""
    numbers = (
        f"correlation {shift.strength:.2f}, {shift.unshifted:.2f} without a shift, clearness {shift.clearness:.1f}"
    )
    vertical = f"{abs(shift.rows)} px {'down' if shift.rows > 0 else 'up'}"
    horizontal = f"{abs(shift.cols)} px to the {'right' if shift.cols > 0 else 'left'}"
    if sure is None:
        return f"no shift is claimed; the best one by {name}: {vertical}, {horizontal} ({numbers})"
    return f"lies {vertical} and {horizontal} of the same place in the image, by {name} ({numbers})"


def _counts(table: pd.DataFrame) -> dict[str, int]:
    faults = table[table["is_fault"].astype(bool)]
    return {
        "doubted_windows": int((faults["kind"] == DISAGREEMENT).sum()),
        "shifted_scenes": int((faults["kind"] == SHIFT).sum()),
    }


def _first_rows(table: pd.DataFrame) -> list[str]:
    """The first rows of each kind, as lines."""
    lines = []
    for kind, rows in table.groupby("kind", sort=True):
        for row in rows.head(5).to_dict("records"):
            lines.append(f"{kind} {row['rank']}: {row['key']}: {row['reason']}")
    return lines
