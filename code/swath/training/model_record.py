"""What a training leaves so that its run is usable alone: weights, model description, fold lists."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import geopandas as gpd
from pydantic import Field

from swath import config as configs
from swath.config.json_files import Shape, read_json
from swath.data.scene_bands import SCENE_BANDS
from swath.data.tables import CLASSES, read_table, write_table
from swath.data.zones import ZONE_RULE
from swath.errors import ConfigError, SwathError, TrackingError, reason
from swath.files import scratch_folder
from swath.geo.scene_bands import SceneBands
from swath.geo.zones import MissingZones
from swath.nn.model import SegmentationModel, Task, build_model
from swath.nn.networks.pretrained import without_weights
from swath.nn.resizing import Resizing
from swath.training.checkpoint import load_weights, save_weights

if TYPE_CHECKING:
    from swath.training.trainer import Training

log = logging.getLogger("swath.training")

FOLDER = "model"
"""Artifact folder of a training run that holds its record."""

WEIGHTS, DESCRIPTION, TILES, INDEX = "weights.safetensors", "model.json", "tiles_used.parquet", "weights.json"
TILE_RECORD = (
    "key", "scene", "area", "crs", "side", "row", "col", "height", "width", "scene_height", "scene_width", "content",
    "thumbnail", "geometry", *ZONE_RULE,
)  # fmt: skip
"""What a record keeps of a tile, where its table has it: enough to know its ground and its pixels again."""

ZONES = "missing_zones"
"""Entry of the description that says which zones were missing in the training's tiles; null: none were looked for."""

REMEDY = "Pass a training's run id, or fetch the record of the run again."

DIGESTS = "sha256"
"""Entry of the description: name of each file of weights to the SHA-256 of its bytes; version 0.3.0 and before has none."""


class _Described(Shape):
    """What the description of a model holds."""

    channels: dict[str, Any]
    fill: dict[str, Any]
    normaliser: dict[str, Any]
    model: dict[str, Any]
    tasks: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    rgb: list[str | None] | None
    bands: Annotated[list[str], Field(min_length=1)]
    resize: dict[str, Any] | None = None
    missing_zones: dict[str, Any] | None = None
    scene_bands: dict[str, Any] | None = None
    sha256: Annotated[dict[str, str], Field(default_factory=dict)]


class _Kept(Shape):
    """What the index of weights says of one of them."""

    file: str


PARTS = ("channels", "fill", "normaliser", "model", "tasks", "rgb", "resize")


@dataclass(frozen=True)
class ModelRecord:
    """A trained model with all that inference and scoring need to know of its training."""

    model: SegmentationModel
    tasks: Mapping[str, Task]
    bands: tuple[str, ...]
    tiles: gpd.GeoDataFrame
    """Tiles with a column `side`: training, validation (selected the weights), held out (did not), or test."""
    missing_zones: MissingZones | None = None
    """Zones that the training's tiles have lost as missing: to be looked for in scenes as well."""
    scene_bands: SceneBands = field(default_factory=dict)
    """Rules of those of `bands` that are made of whole scenes: inference makes them of its own."""

    @property
    def measured_bands(self) -> tuple[str, ...]:
        """Those of `bands` that scenes have."""
        return tuple(band for band in self.bands if band not in self.scene_bands)


def write_record(training: Training, folder: Path) -> list[Path]:
    """Write the record of a finished training; return its files."""
    folder.mkdir(parents=True, exist_ok=True)
    resolved = configs.resolve(training.config)
    description = {name: resolved[name] for name in PARTS} | {"bands": list(training.batches.train_set.bands)}
    description[ZONES] = configs.resolve(training.batches.missing_zones)
    if training.batches.scene_bands:
        description[SCENE_BANDS] = configs.resolve(dict(training.batches.scene_bands))
    save_weights(folder / WEIGHTS, training.judged, {"iteration": str(training.best_iteration)})
    kept = _copy_kept(training, folder)
    description[DIGESTS] = {name: _sha256(folder / name) for name in (WEIGHTS, *kept) if name != INDEX}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    held_out = "validation" if training.selection.metrics else "held out"  # what selected nothing may report
    folds = training.folds
    sides = [side.assign(side=name) for name, side in
             (("training", folds.train), (held_out, folds.validation), ("test", folds.test))]  # fmt: skip
    used = gpd.pd.concat([side for side in sides if not side.empty])
    write_table(folder / TILES, gpd.GeoDataFrame(used[[c for c in used if c in TILE_RECORD or c.startswith(CLASSES)]]))
    return [folder / name for name in (WEIGHTS, DESCRIPTION, TILES, *kept)]


def _copy_kept(training: Training, folder: Path) -> list[str]:
    """Copy what is kept beside the best weights, one file per iteration, and an index by name; return the file names."""
    index: dict[str, dict[str, Any]] = {}
    for name, (path, about) in training.kept_weights().items():
        best = about["iteration"] == training.best_iteration and path.stem.rsplit("-", 1)[-1].isdigit()
        index[name] = {"file": WEIGHTS if best else path.name} | about
        if not best:
            shutil.copyfile(path, folder / path.name)
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return sorted({INDEX, *(entry["file"] for entry in index.values())} - {WEIGHTS})


def read_record(folder: Path, weights: str = "best", trust: Sequence[str] = ()) -> ModelRecord:
    """The inverse of `write_record`, with the ``best`` weights or others that the training kept, by their name or file.

    The record may lie deeper in `folder`, as in a registered model. It has classes and functions of known modules, and of
    those that `trust` names (`swath.config.trust`). Raises TrackingError when there is none, when its description cannot
    be understood or names others, when weights are damaged, or, listing the names, when there are no such weights.
    """
    folder = _home_of_record(folder)
    description = read_json(folder / DESCRIPTION, _Described, TrackingError, REMEDY)
    bands, digests = tuple(description["bands"]), dict(description.get(DIGESTS, {}))
    with _described_by(folder / DESCRIPTION):
        parts: dict[str, Any] = {name: configs.build_from_record(description.get(name), trust) for name in PARTS}
        zones = configs.build_from_record(description.get(ZONES), trust)  # version 0.2.0 and before do not say
        rules = configs.build_from_record(description.get(SCENE_BANDS), trust) or {}
        _require_parts(parts)
        network = without_weights(parts["model"])  # those of the record are loaded below
        model = build_model(
            bands,
            parts["channels"],
            parts["fill"],
            parts["normaliser"],
            network,
            parts["tasks"],
            resize=parts["resize"],
        )
    path = folder / _file_of(folder, weights)
    _require_whole(path, digests)
    load_weights(path, model)
    return ModelRecord(model.eval(), parts["tasks"], bands, read_used_tiles(folder / TILES), zones, rules)


@contextmanager
def _described_by(path: Path) -> Iterator[None]:
    """Whatever goes wrong when a model is built from its description becomes a TrackingError that names the file."""
    try:
        yield
    except Exception as error:  # networks of any library refuse their arguments in their own ways
        if isinstance(error, ConfigError) and "trust=" in str(error):  # says what to type
            raise TrackingError(f"{path}: {error}") from error
        said = str(error).rstrip(".") if isinstance(error, SwathError) else reason(error)
        raise TrackingError(f"{path}: no model can be built from this description: {said}. {REMEDY}") from error


def _require_parts(parts: Mapping[str, Any]) -> None:
    """Raise ValueError for parts that are none: to call, but for the tasks."""
    wrong = [name for name in ("channels", "fill", "normaliser", "model") if not callable(parts[name])]
    tasks = parts["tasks"]
    if parts["resize"] is not None and not isinstance(parts["resize"], Resizing):
        wrong.append("resize")
    if wrong or not isinstance(tasks, Mapping) or not all(isinstance(task, Task) for task in tasks.values()):
        raise ValueError(f"{', '.join(wrong) or 'tasks'}: no such part")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_whole(path: Path, digests: Mapping[str, str]) -> None:
    """Raise TrackingError for weights that are not those of the record; say so where it does not know them."""
    if not path.is_file():
        return  # said by whoever opens it
    if path.name not in digests:
        log.warning("%s: %s has no digest of it, so damage cannot be told", path, DESCRIPTION)
    elif _sha256(path) != digests[path.name]:
        raise TrackingError(
            f"{path}: is damaged or from another training: its SHA-256 is {_sha256(path)}, {DESCRIPTION} says "
            f"{digests[path.name]}. Fetch the run's folder {FOLDER} again, or train again."
        )


def _home_of_record(folder: Path) -> Path:
    described = folder / DESCRIPTION
    found = [described] if described.is_file() else sorted(folder.rglob(DESCRIPTION))
    return found[0].parent if found else folder


def fetch_record(
    run_id: str, fetch: Callable[[str, str, Path], Path], weights: str = "best", trust: Sequence[str] = ()
) -> ModelRecord:
    """The record of a training run; ``fetch(run_id, artifact, folder)`` downloads it, as ``tracking.fetch`` does.

    `run_id` may be any reference that `fetch` takes; one that ends in a file of weights chooses these.
    """
    named = run_id.partition("#")[0].rpartition("/")[2]
    weights = named if named.endswith(Path(WEIGHTS).suffix) else weights
    with scratch_folder() as folder:
        return read_record(fetch(run_id, FOLDER, folder), weights, trust)


def fetch_tiles(run_id: str, fetch: Callable[[str, str, Path], Path]) -> gpd.GeoDataFrame:
    """The tiles that a training run used, column `side` = training or validation, without its model."""
    with scratch_folder() as folder:
        return read_used_tiles(fetch(run_id, f"{FOLDER}/{TILES}", folder))


def read_used_tiles(path: Path) -> gpd.GeoDataFrame:
    """The table of a record's tiles."""
    return read_table(path, ("key", "area", "side"), "training")


def _file_of(folder: Path, weights: str) -> str:
    if weights == "best":
        return WEIGHTS
    if weights.endswith(Path(WEIGHTS).suffix) and (folder / weights).is_file():
        return weights
    path = folder / INDEX
    index = read_json(path, dict[str, _Kept], TrackingError, REMEDY) if path.is_file() else {}
    if weights not in index:
        kept = ", ".join(["best", *index])
        raise TrackingError(f"weights={weights}: this training kept {kept}. Choose one of them; {path} has no other.")
    name = str(index[weights]["file"])
    if not name or Path(name).name != name:
        raise TrackingError(f"{path}: {name!r} is no name of a file beside it. {REMEDY}")
    return name
