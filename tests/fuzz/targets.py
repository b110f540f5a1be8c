"""What the fuzzer damages, and how each damaged file is then used: by the product's own functions, or by its scripts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyogrio
import rasterio
import torch
from pyarrow import parquet

from swath import config as configs
from swath.challenges.ai4arctic.import_scenes import ImportIceConfig
from swath.challenges.unosat.labels import RasterizeConfig
from swath.challenges.unosat.scenes import Generate3bConfig
from swath.config.command_line import from_command_line
from swath.data.samples.dataset import TileDataset
from swath.data.samples.tile_tables import read_tiles
from swath.data.tiles.cutting import TilesConfig
from swath.data.tiles.statistics import StatsConfig
from swath.eda.report import _band_statistics
from swath.geo.windows import ConstantSize
from swath.geo.zones import MissingZones
from swath.prediction.merge_tiles import MergeTilesConfig
from swath.prediction.polygonize import PolygonizeConfig
from swath.scoring.decisions import read_decision
from swath.scoring.lineage import origin_of
from swath.steps.config import Step
from swath.steps.run import run_step
from swath.training.checkpoint import load_state, read_tensors
from swath.training.model_record import read_record
from tests.fuzz.corpus import AREA, run_script
from tests.fuzz.mutations import ODD_CONFIGS, ODD_TEXTS, Rng, mutate

OUT = "out"
"""Folder of a case that its results go to."""


@dataclass(frozen=True)
class Target:
    """Files that are damaged, and what is done with them."""

    kind: str
    """Row of the report."""
    files: tuple[str, ...]
    """Patterns of files of the corpus, one of which is damaged."""
    needs: tuple[str, ...]
    """Folders of the corpus that a case has a copy of."""
    use: Callable[[Path], Any]
    """What is done in the folder of a case; what it returns tells results apart."""
    equal: Literal["cut", "all"] = "cut"
    """Which accepted inputs have to give the honest result: those that were cut short, or all."""
    script: str | None = None
    """The entry point's script that is run; None: functions are called."""


@dataclass(frozen=True)
class Typed:
    """A field on the command line of a script, with an odd text."""

    kind: str
    script: str
    config: str
    needs: tuple[str, ...]
    given: Mapping[str, str] = field(default_factory=dict)
    """Fields whose texts are right; ``{}`` stands for the folder of the case."""
    run: bool = False
    """Whether the script is run; else its command line alone is read."""


# ---------------------------------------------------------------------------------------------------------------- uses


def finish(config: Step) -> str:
    """Do a step as its script does, but for the run: its jobs, its table, its ledger."""
    jobs, ledger = config.jobs(), config.ledger()
    results = run_step(ledger, jobs, config, {}, lambda values, number: None)
    report = config.finish(results)
    ledger.complete(jobs, "0" * 32, report.written)
    return contents(config.output)


def contents(folder: Path) -> str:
    """A digest of what a step leaves, but for its ledger and for times and versions in files."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name.endswith((".done.jsonl", ".settings.json")):
            continue
        whole.update(path.relative_to(folder).as_posix().encode())
        if path.suffix == ".tif":
            with rasterio.open(path) as found:
                whole.update(repr((found.profile["transform"], found.descriptions, found.nodata)).encode())
                whole.update(found.read().tobytes())
        elif path.suffix in (".shp", ".gpkg", ".geojson", ".fgb"):
            whole.update(pyogrio.read_dataframe(path).to_json().encode())
        elif path.suffix in (".json", ".parquet", ".csv"):
            whole.update(path.read_bytes())
    return whole.hexdigest()


def three_bands(folder: Path) -> str:
    return finish(Generate3bConfig(input_path=f"{folder}/raw", output_path=f"{folder}/{OUT}", executor="serial"))


def masks(folder: Path, raw: str = "raw") -> str:
    return finish(RasterizeConfig(input_path=f"{folder}/{raw}", output_path=f"{folder}/{OUT}", executor="serial"))


def tiles(folder: Path) -> str:
    tiling = ConstantSize(size=32, min_overlap=8)
    given = {"input_path": f"{folder}/scenes", "masks_path": f"{folder}/masks", "output_path": f"{folder}/{OUT}"}
    return finish(TilesConfig(**given, tiling=tiling, executor="serial"))


def tiles_again(folder: Path) -> str:
    """The step whose ledger lies in `tiles`, once more."""
    config = TilesConfig(
        input_path=f"{folder}/scenes", masks_path=f"{folder}/masks", output_path=f"{folder}/tiles",
        tiling=ConstantSize(size=32, min_overlap=8), missing_zones=MissingZones(), executor="serial",
    )  # fmt: skip
    config.ledger().made_by(config.jobs())
    return finish(config)


def statistics(folder: Path) -> str:
    return finish(StatsConfig(input_path=f"{folder}/tiles", output_path=f"{folder}/{OUT}", executor="serial"))


def samples(folder: Path) -> str:
    """All samples of the tiles, as trainings read them."""
    found = TileDataset(read_tiles(folder / "tiles"), folder / "tiles", ("water",))
    whole = hashlib.sha256()
    for number in range(len(found)):
        sample = found[number]
        whole.update(sample["image"].numpy().tobytes() + sample["target"]["water"].numpy().tobytes())
    return whole.hexdigest()


def ice(folder: Path) -> str:
    config = ImportIceConfig(input_path=f"{folder}/ice/train", output_path=f"{folder}/{OUT}", executor="serial")
    return finish(config)


def polygons(folder: Path) -> str:
    source = f"{folder}/maps/classes"
    return finish(PolygonizeConfig(input_path=source, output_path=f"{folder}/{OUT}", executor="serial", format="gpkg"))


def merged(folder: Path) -> str:
    given = {"input_path": f"{folder}/tiles/images", "tiles_path": f"{folder}/tiles", "output_path": f"{folder}/{OUT}"}
    return finish(MergeTilesConfig(**given, executor="serial"))


def model(folder: Path, weights: str = "best") -> str:
    """What the model of a record says of one image."""
    found = read_record(folder / "record", weights, trust=("tests.synthetic",))
    image = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 0.1, (1, 3, 32, 32)).astype(np.float32))
    with torch.inference_mode():
        logits = found.model(image)
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in logits.values())).hexdigest()


def state(folder: Path) -> str:
    return repr(sorted(load_state(folder / "weights" / "state.pt") or {}))


def tensors(folder: Path) -> str:
    found = read_tensors(folder / "weights" / "weights.pt")
    return hashlib.sha256(b"".join(name.encode() + found[name].numpy().tobytes() for name in sorted(found))).hexdigest()


def decision(folder: Path) -> str:
    return repr(read_decision(str(folder / "threshold"), Path))


def bands(folder: Path) -> str:
    return json.dumps(_band_statistics(folder / "tiles"), sort_keys=True)


def origin(folder: Path) -> str:
    return repr(sorted(origin_of(folder / "maps").run_ids))


def config_file(folder: Path) -> str:
    return configs.digest(configs.load(folder / "configs" / "tiles.py", TilesConfig))


def script(name: str, config: str, given: Mapping[str, str], folder: Path) -> str:
    """Run a script; ``{}`` in a field's text, and in the config's path, is the folder of the case."""
    fields = [f"--{key}={value.replace('{}', str(folder))}" for key, value in given.items()]
    run_script(name, [f"--config_path={config.replace('{}', str(folder))}", *fields])
    return contents(folder / OUT) if (folder / OUT).is_dir() else ""


def started(name: str, config: str, **given: str) -> Callable[[Path], Any]:
    """A use that runs a script."""
    return partial(script, name, config, given)


# ------------------------------------------------------------------------------------------------------------- targets

DEMO = "configs/demo"
TO_OUT = {"output_path": f"{{}}/{OUT}", "executor": "serial"}
CUT = {"input_path": "{}/scenes", "masks_path": "{}/masks", "tiling.size": "32", "tiling.min_overlap": "8"}
PREDICT = {
    "run_id": "{}/record", "input_path": "{}/scenes", "labels_path": "{}/masks", "previews": "1", "device": "cpu",
    "output_path": f"{{}}/{OUT}", "trust": "tests.synthetic",
}  # fmt: skip
CHECK = {"preds_path": "{}/maps/classes", "gt_path": "{}/masks"}

SHAPEFILE = tuple(f"raw/{AREA}/{AREA}.{suffix}" for suffix in ("shp", "shp", "dbf", "shx", "prj", "cpg"))
RECORD = ("record/model.json", "record/model.json", "record/weights.safetensors", "record/tiles_used.parquet")

CALLED: tuple[Target, ...] = (
    Target("GeoTIFF", ("raw/**/*.tif",), ("raw",), three_bands),
    Target("GeoTIFF", ("raw/**/*.tif",), ("raw",), masks),
    Target("GeoTIFF", ("scenes/**/*.tif", "masks/**/*.tif"), ("scenes", "masks"), tiles),
    Target("GeoTIFF", ("tiles/**/*.tif",), ("tiles",), statistics),
    Target("GeoTIFF", ("tiles/**/*.tif",), ("tiles",), samples),
    Target("GeoTIFF", ("tiles/images/**/*.tif",), ("tiles",), merged),
    Target("GeoTIFF", ("maps/classes/**/*.tif",), ("maps",), polygons),
    Target("shapefile", SHAPEFILE, ("raw",), masks),
    Target("GeoPackage", (f"raw_gpkg/{AREA}/{AREA}.gpkg",), ("raw_gpkg",), partial(masks, raw="raw_gpkg")),
    Target("GeoJSON", (f"raw_geojson/{AREA}/{AREA}.geojson",), ("raw_geojson",), partial(masks, raw="raw_geojson")),
    Target("FlatGeobuf", (f"raw_fgb/{AREA}/{AREA}.fgb",), ("raw_fgb",), partial(masks, raw="raw_fgb")),
    Target("NetCDF", ("ice/train/*.nc",), ("ice",), ice),
    Target("table", ("scenes/scenes.parquet", "masks/labels.parquet"), ("scenes", "masks"), tiles),
    Target("table", ("tiles/tiles.parquet",), ("tiles",), statistics),
    Target("table", ("tiles/tile_stats.parquet",), ("tiles",), samples),
    Target("table", ("tiles/tiles.parquet",), ("tiles",), merged),
    Target("ledger", ("tiles/*.done.jsonl",), ("tiles", "scenes", "masks"), tiles_again, "all"),
    Target("settings of a step", ("tiles/generate_tiles.settings.json",), ("tiles", "scenes", "masks"), tiles_again, "all"),
    Target("settings of a step", ("maps/*.settings.json",), ("maps",), origin),
    Target("statistics of bands", ("tiles/band_stats.json",), ("tiles",), bands),
    Target("decision", ("threshold/threshold.json",), ("threshold",), decision),
    Target("model record", RECORD, ("record",), model),
    Target("model record", ("record/weights.json",), ("record",), partial(model, weights="last")),
    Target("weights and states (archives)", ("weights/weights.pt",), ("weights",), tensors),
    Target("weights and states (archives)", ("weights/state.pt",), ("weights",), state),
    Target("config file", ("configs/tiles.py",), ("configs",), config_file),
)  # fmt: skip
"""Files that functions read."""


def _script(
    kind: str, files: tuple[str, ...], needs: tuple[str, ...], name: str, config: str = "", **given: str
) -> Target:
    use = started(name, config or f"{DEMO}/{name}.py", **given)
    return Target(kind, files, needs, use, script=name)


RUN: tuple[Target, ...] = (
    _script("GeoTIFF", ("raw/**/*.tif",), ("raw",), "generate_3b_images", input_path="{}/raw", **TO_OUT),
    _script("GeoTIFF", ("scenes/**/*.tif",), ("scenes", "record", "masks"), "inference", **PREDICT),
    _script("GeoTIFF", ("scenes/**/*.tif", "masks/**/*.tif"), ("scenes", "masks"), "generate_tiles", **CUT, **TO_OUT),
    _script("GeoTIFF", ("maps/classes/**/*.tif", "masks/**/*.tif"), ("maps", "masks"), "validate", **CHECK),
    _script("GeoTIFF", ("maps/classes/**/*.tif",), ("maps",), "polygonize", input_path="{}/maps/classes", **TO_OUT),
    _script("shapefile", SHAPEFILE, ("raw",), "rasterize", input_path="{}/raw", **TO_OUT),
    *(
        _script(kind, (f"raw_{s}/{AREA}/{AREA}.{s}",), (f"raw_{s}",), "rasterize", input_path=f"{{}}/raw_{s}", **TO_OUT)
        for kind, s in (("GeoPackage", "gpkg"), ("GeoJSON", "geojson"), ("FlatGeobuf", "fgb"))
    ),
    _script("NetCDF", ("ice/train/*.nc",), ("ice",), "import_scenes", "configs/ai4arctic/import_scenes.py",
            input_path="{}/ice/train", **TO_OUT),
    _script("table", ("scenes/scenes.parquet",), ("scenes", "masks"), "generate_tiles", **CUT, **TO_OUT),
    _script("table", ("scenes/scenes.parquet",), ("scenes", "record", "masks"), "inference", **PREDICT),
    _script("table", ("tiles/tiles.parquet",), ("tiles",), "generate_tiles_stats", input_path="{}/tiles", **TO_OUT),
    _script("table", ("tiles/tiles.parquet",), ("tiles",), "merge_tiles", input_path="{}/tiles/images",
            tiles_path="{}/tiles", **TO_OUT),
    _script("ledger", ("tiles/generate_tiles.done.jsonl",), ("tiles", "scenes", "masks"), "generate_tiles",
            **CUT, output_path="{}/tiles", executor="serial"),
    _script("settings of a step", ("tiles/generate_tiles.settings.json",), ("tiles", "scenes", "masks"),
            "generate_tiles", **CUT, output_path="{}/tiles", executor="serial"),
    _script("settings of a step", ("maps/*.settings.json",), ("maps", "masks"), "validate", **CHECK),
    _script("model record", RECORD, ("record", "scenes", "masks"), "inference", **PREDICT),
    _script("decision", ("threshold/threshold.json",), ("threshold", "record", "scenes", "masks"), "inference",
            **PREDICT, threshold="{}/threshold", allow_selection_set="True"),
    _script("config file", ("configs/tiles.py",), ("configs", "scenes", "masks"), "generate_tiles",
            "{}/configs/tiles.py", **CUT, **TO_OUT),
)  # fmt: skip
"""Files that scripts read."""

TYPED: tuple[Typed, ...] = (
    Typed("-P texts", "generate_tiles", f"{DEMO}/generate_tiles.py", ("scenes", "masks"), CUT | TO_OUT),
    Typed("-P texts", "generate_tiles_stats", f"{DEMO}/generate_tiles_stats.py", ("tiles",)),
    Typed("-P texts", "inference", f"{DEMO}/inference.py", ("record", "scenes", "masks")),
    Typed("-P texts", "training", f"{DEMO}/training.py", ()),
    Typed("-P texts", "pretrain", f"{DEMO}/pretrain.py", ()),
    Typed("-P texts", "postprocess", f"{DEMO}/postprocess.py", ()),
    Typed("-P texts", "eda", f"{DEMO}/eda.py", ()),
    Typed("-P texts", "pipeline", f"{DEMO}/pipeline.py", ()),
    Typed("-P texts", "cross_validation", f"{DEMO}/cross_validation.py", ()),
)
"""Command lines that are read."""

RUN_TYPED: tuple[Typed, ...] = (
    Typed("-P texts", "generate_3b_images", f"{DEMO}/generate_3b_images.py", ("raw",),
          {"input_path": "{}/raw"} | TO_OUT, run=True),
    Typed("-P texts", "rasterize", f"{DEMO}/rasterize.py", ("raw",), {"input_path": "{}/raw"} | TO_OUT, run=True),
    Typed("-P texts", "generate_tiles", f"{DEMO}/generate_tiles.py", ("scenes", "masks"), CUT | TO_OUT, run=True),
    Typed("-P texts", "generate_tiles_stats", f"{DEMO}/generate_tiles_stats.py", ("tiles",),
          {"input_path": "{}/tiles"} | TO_OUT, run=True),
    Typed("-P texts", "inference", f"{DEMO}/inference.py", ("record", "scenes", "masks"), PREDICT, run=True),
    Typed("-P texts", "polygonize", f"{DEMO}/polygonize.py", ("maps",),
          {"input_path": "{}/maps/classes"} | TO_OUT, run=True),
    Typed("-P texts", "validate", f"{DEMO}/validate.py", ("maps", "masks"), CHECK, run=True),
    Typed("-P texts", "merge_tiles", f"{DEMO}/merge_tiles.py", ("tiles",),
          {"input_path": "{}/tiles/images", "tiles_path": "{}/tiles"} | TO_OUT, run=True),
)  # fmt: skip
"""Command lines that are run."""

LEFT_ALONE = ("launcher", "executor", "workers", "processes", "device", "output_path")
"""Fields that say where work is done, or goes: odd ones start clusters, processes or GPUs, or write anywhere."""


def odd_field(target: Typed, rng: Rng, kinds: Mapping[str, Any]) -> tuple[str, str]:
    """A field of the config of a script, or nearly one, and an odd text for it; or the place of the config."""
    if rng.random() < 0.08:
        return "config_path", ODD_CONFIGS[int(rng.integers(len(ODD_CONFIGS)))]
    config = configs.load(target.config, kinds[target.script])
    leaves = [n for n in configs.leaves(configs.resolve(config)) if n.split(".")[-1] not in LEFT_ALONE]
    name = leaves[int(rng.integers(len(leaves)))]
    if rng.random() < 0.15:
        broken = (
            "",
            ".",
            "..",
            f"{name}.x",
            f".{name}",
            f"{name}.",
            f"{name[:-1]}",
            "__class__",
            f"{name}.0",
            "a" * 3000,
        )
        name = broken[int(rng.integers(len(broken)))]
    return name, ODD_TEXTS[int(rng.integers(len(ODD_TEXTS)))]


def read_command_line(target: Typed, kind: Any, folder: Path, name: str, text: str) -> str:
    """What the script makes of its command line."""
    fields = [f"--{key}={value.replace('{}', str(folder))}" for key, value in target.given.items()]
    config, _ = from_command_line(kind, [f"--config_path={target.config}", *fields, f"--{name}={text}"])
    return configs.digest(config)


def damaged(target: Target, folder: Path, rng: Rng) -> tuple[Path, str]:
    """Damage one of the files of a target in the folder of a case; the file, and what was done."""
    pattern = target.files[int(rng.integers(len(target.files)))]
    found = sorted(folder.glob(pattern))
    path = found[int(rng.integers(len(found)))]
    return path, mutate(path, rng)


def require_whole(path: Path) -> None:
    """Read a file to its end; whatever its reader raises says that it is not whole."""
    if path.suffix == ".tif":
        with rasterio.open(path) as found:
            found.read()
    elif path.suffix == ".parquet":
        parquet.read_table(path)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix in (".shp", ".gpkg", ".geojson", ".fgb"):
        pyogrio.read_dataframe(path)
