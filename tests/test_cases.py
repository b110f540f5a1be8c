"""Awkward inputs that others made: each goes through the step that takes it, and gives the right value or an error that names it.

A script per input lies in `../shared/cases`, beside the project, and is not part of it; its first lines say what is right.
"""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio

from swath.data.tables import TILE_STATS
from swath.geo.raster import read_image, read_labels
from tests.conftest import ROOT, Script, child_environment

CASES = ROOT.parent / "shared" / "cases"

pytestmark = [
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the awkward inputs are not at hand ({CASES})"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

Made = Callable[[str], Path]
Said = Callable[..., str]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Run a maker; returns the folder with its inputs."""

    def make(name: str) -> Path:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", str(tmp_path)])
        runpy.run_path(str(CASES / f"{name}.py"), run_name="__main__")
        return tmp_path

    return make


@pytest.fixture
def said(script: Script, capsys: pytest.CaptureFixture[str]) -> Said:
    """Start a step that has to end with `status`; returns what it said."""

    def start(name: str, status: int, **settings: object) -> str:
        capsys.readouterr()
        assert script(name, f"configs/demo/{name}.py", **settings) == status
        shown = capsys.readouterr()
        return shown.err if status else shown.out

    return start


def paths(folder: Path, source: str = "in", **more: object) -> dict[str, object]:
    return {"input_path": folder / source, "output_path": folder / f"out_{source}", "executor": "serial"} | more


REFUSED: list[tuple[str, str, list[str]]] = [
    ("nan_vertex", "rasterize", ["aoi1.gpkg: feature 1 has a corner at (500400, nan)"]),
    ("gpkg_layers", "rasterize", ["aoi1.gpkg: has 2 layers (a_extent, water)", "-P layer=water"]),
    ("class_1_and_255", "rasterize", ["aoi1.gpkg: attribute 'DN' holds 1, 255."]),
    ("gcps_only", "generate_3b_images", ["s1a_aoi1_vh_20200101.tif: its place is given by 9 ground control points", "gdalwarp"]),
    ("complex_slc", "generate_3b_images", ["s1a_aoi1_vh_20200101.tif: its pixels are complex numbers (complex64)"]),
    ("aggregate_values", "all_agg_by_city", ["multi/d1.tif: holds 2 where", "int16/d1.tif: holds int16;", "percent/d1.tif: holds 30"]),
]  # fmt: skip
"""(input, step, what the error says): none of them has a right value."""


@pytest.mark.parametrize(("case", "step", "words"), REFUSED, ids=[row[0] for row in REFUSED])
def test_c116_inputs_without_a_right_value_are_refused(
    made: Made, said: Said, case: str, step: str, words: list[str]
) -> None:
    """Without `executor`, as not every step has one."""
    folder = made(case)
    shown = said(step, 1, input_path=folder / "in", output_path=folder / "out")
    assert not [word for word in words if word not in shown], shown
    assert "Traceback" not in shown
    assert not [path for path in folder.glob("out/**/*") if path.suffix.lower() == ".tif"]


def test_c116_the_right_layer_can_be_chosen(made: Made, said: Said) -> None:
    folder = made("gpkg_layers")
    said("rasterize", 0, **paths(folder, layer="water"))
    (mask,) = (folder / "out_in").rglob("*.tif")
    assert (read_labels(mask) == 1).sum() == 100


def test_c116_edges_of_labels_follow_parallels(made: Made, said: Said) -> None:
    """4390 pixel centres lie in the box; 4474 pixels are touched by its densified outline or lie in it."""
    folder = made("long_edges")
    counts = []
    for touched in (False, True):
        output = folder / f"out{touched}"
        said("rasterize", 0, input_path=folder / "in", output_path=output, executor="serial", all_touched=touched)
        (path,) = output.rglob("*.tif")
        burnt = read_labels(path)[0] == 1
        counts.append(int(burnt.sum()))
        rows, cols = np.mgrid[: burnt.shape[0], : burnt.shape[1]] + 0.5
        to_degrees = pyproj.Transformer.from_crs(3413, 4326, always_xy=True)
        lon, lat = to_degrees.transform(-600_000 + cols * 1e4, -800_000 - rows * 1e4)
        inside = (lon > -75) & (lon < -15) & (lat > 76) & (lat < 80)
        assert not (inside & ~burnt).any()
    assert counts == [4390, 4474]


def test_c116_letter_case_hides_no_scene(made: Made, said: Said) -> None:
    folder = made("letter_case")
    assert "3 of 3 items done now" in said("generate_3b_images", 0, **paths(folder))
    assert len([p for p in (folder / "out_in").rglob("*") if p.suffix.lower() == ".tif"]) == 3


def test_c116_scale_and_offset_are_used(made: Made, said: Said) -> None:
    folder = made("scale_offset")
    said("generate_3b_images", 0, **paths(folder, missing_zones=None))
    (path,) = (folder / "out_in").rglob("*.tif")
    counts = []
    for name in ("vh", "vv"):
        with rasterio.open(next((folder / "in").rglob(f"*_{name}_*.tif"))) as file:
            counts.append(file.read(1))
    vh, vv = counts[0] * 1e-4, counts[1] * 1e-3 - 1
    np.testing.assert_allclose(read_image(path), [vh, vv, (vh + vv) / 2], rtol=1e-5, atol=1e-6)


def test_c116_two_dates_across_180_degrees_are_of_the_same_ground(made: Made, said: Said) -> None:
    folder = made("antimeridian_dates")
    said("all_agg_by_city", 0, input_path=folder / "in", output_path=folder / "out")
    probabilities = [read_image(path) for path in sorted((folder / "out").rglob("*.tif")) if "probab" in str(path)]
    assert [found.shape[-2:] for found in probabilities] == [(20, 20)]
    np.testing.assert_allclose(probabilities[0], 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("sheared", "1 polygons, 0.02 km2, checked"), ("feet", "1 polygons, 0.0019 km2, checked"),
     ("degrees", "1 polygons, 1.75 km2, checked")],
)  # fmt: skip
def test_c116_areas_are_square_metres_of_the_ground(made: Made, said: Said, kind: str, words: str) -> None:
    assert words in submitted(made("areas_in_m2"), said, kind)


def submitted(folder: Path, said: Said, kind: str) -> str:
    return said(
        "to_submission", 0, input_path=folder / kind, output_path=folder / f"out_{kind}", scenes_path=None, min_area=0
    )


@pytest.mark.parametrize(("kind", "areas"), [("brackets", {"[aoi]", "plain"}), ("dots", {"aoi", "aoi.1"})])
def test_c116_areas_of_odd_names_are_handed_in_once_each(made: Made, said: Said, kind: str, areas: set[str]) -> None:
    folder = made("area_names")
    submitted(folder, said, kind)
    with zipfile.ZipFile(folder / f"out_{kind}" / "submission.zip") as packed:
        names = packed.namelist()
    assert len(names) == len(set(names)) == 10
    assert {name.removesuffix(".shp") for name in names if name.endswith(".shp")} == areas


TILING: dict[str, object] = {"tiling.size": 32, "tiling.min_overlap": 0, "executor": "serial"}


def test_c116_two_bands_of_one_name_are_refused(made: Made, said: Said) -> None:
    folder = made("band_names_twice")
    shown = said("generate_tiles", 1, input_path=folder / "in", masks_path=None, output_path=folder / "out", **TILING)
    for name in ("a/a_20200101.tif", "b/b_20200101.tif"):
        assert f"{name}: several of its bands are called Gray" in shown


def cut(folder: Path, kind: str) -> dict[str, object]:
    place = folder / kind
    return {"input_path": place / "img", "masks_path": place / "mask", "output_path": place / "tiles"} | TILING


@pytest.mark.parametrize("kind", ["tag99", "masked"])
def test_c116_what_masks_hide_is_no_label(made: Made, said: Said, kind: str) -> None:
    """Rows 0 to 19 are target and those from 40 on no labels: of tiles of 32 rows, 20 of 32 and none of 8 are target."""
    folder = made("label_masks")
    said("generate_tiles", 0, **cut(folder, kind))
    said("generate_tiles_stats", 0, input_path=folder / kind / "tiles", executor="serial")
    table = pd.read_parquet(folder / kind / "tiles" / TILE_STATS).sort_values("row")
    assert list(table["labelled_ratio"]) == [1, 1, 0.25, 0.25]
    assert list(table["target_ratio"]) == [0.625, 0.625, 0, 0]


def test_c116_masks_of_0_and_255_are_asked_about(made: Made, said: Said) -> None:
    assert "s_20200101.tif: holds only 0 and 255" in said("generate_tiles", 1, **cut(made("label_masks"), "bw"))


def test_c116_digits_that_are_no_date_make_no_date(made: Made, said: Said) -> None:
    folder = made("dates_that_are_none")
    shown = said("validate", 0, preds_path=folder / "pred", gt_path=folder / "mask")
    assert "scene 22978945_15" in shown
    assert "-89-" not in shown
    assert "9999-99" not in shown
    assert "by date" not in shown


# ------------------------------------------------------------------------------------------- recipes to follow by hand


def started(project: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`generate_demo_scenes` of a project, in a process that knows no tracking store."""
    known = child_environment(folder / "unused.db")
    inherited = {name: value for name, value in known.items() if not name.startswith(("MLFLOW_", "LC_", "PYTHONUTF8"))}
    command = [
        sys.executable,
        str(project / "code/generate_demo_scenes.py"),
        "--config_path=configs/demo/generate_demo_scenes.py",
        f"--output_path={folder / 'Ausgabe ü'}",
    ]
    own = inherited | {"PYTHONPATH": f"{project / 'code'}:{project}"} | environment
    return subprocess.run(command, cwd=project, env=own, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.system
@pytest.mark.parametrize("name", ["p%20q", "p?x"])
def test_c85_the_store_lies_in_the_project_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    project = tmp_path / "projects" / name
    for part in ("code", "configs"):
        shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("MLproject", "pyproject.toml"):
        shutil.copyfile(ROOT / part, project / part)
    done = started(project, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (project / "mlflow.db").is_file()
    assert [path.name for path in (tmp_path / "projects").iterdir()] == [name]


@pytest.mark.system
def test_c85_an_ascii_locale_is_refused_at_once_with_what_to_type(tmp_path: Path) -> None:
    done = started(
        ROOT,
        tmp_path,
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/a.db",
    )
    assert done.returncode == 1
    assert "PYTHONUTF8=1" in done.stderr
    assert not list(tmp_path.rglob("*.tif"))


def test_every_case_has_a_test() -> None:
    """A new maker beside the others wants a test here."""
    source = Path(__file__).read_text()
    known = {"project_folder", "ascii_locale"}
    made_here = {path.stem for path in CASES.iterdir() if path.suffix in (".py", ".sh")} - known
    assert [name for name in sorted(made_here) if f'"{name}"' not in source] == []
