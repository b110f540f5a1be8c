"""Panels: what is drawn, what is left out where bands, labels or predictions are missing, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from swath.data.indices.band_formulas import band_formula
from swath.data.tables import SCENES, scene_row, write_table
from swath.errors import ConfigError
from swath.figures.pictures import PALETTE, UNLABELLED, in_colors
from swath.prediction.panels import ClassPanel, ColorPanel, PanelsConfig, PanelsJob, ValuePanel, scene_panels
from tests.conftest import Script
from tests.synthetic import grid, write_image, write_mask

SHAPE = (150, 160)
PANELS = {
    "colour": ColorPanel(bands=("R", "G", "B")),
    "infrared": ColorPanel(bands=("NIR", "R", "G")),
    "NDVI": ValuePanel(formula="NDVI", limits=(-1.0, 1.0)),
    "height": ValuePanel(formula="DEM/100", colormap="terrain"),
    "label": ClassPanel(of="label"),
    "prediction": ClassPanel(of="prediction"),
}


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Scene a with everything; b without NIR, labels and map."""
    rng, rows = np.random.default_rng(0), []
    for key, bands in (("a", ("R", "G", "B", "NIR", "DEM")), ("b", ("R", "G", "B", "DEM"))):
        image = rng.uniform(100, 2000, (len(bands), *SHAPE)).astype(np.float32)
        image[:, :20] = np.nan
        labels = write_mask(tmp_path / "labels" / "a.tif", (image[0] > 900).astype(np.uint8), grid(SHAPE))
        path = write_image(tmp_path / "scenes" / f"{key}.tif", image, grid(SHAPE), bands)
        rows.append(scene_row(path, tmp_path / "scenes", "here") | {"labels": None})
        if key == "a":
            rows[-1]["labels"] = "../labels/a.tif"
            write_mask(tmp_path / "maps/classes/here/a.tif", (image[0] > 950).astype(np.uint8), grid(SHAPE))
        assert labels
    write_table(tmp_path / "scenes" / SCENES, rows)
    return tmp_path


def config(folder: Path, **changes: object) -> PanelsConfig:
    fields = {
        "input_path": str(folder / "scenes"), "output_path": str(folder / "panels"), "panels": PANELS,
        "predictions_path": str(folder / "maps"), "columns": 3,
    }  # fmt: skip
    return PanelsConfig(**(fields | changes))  # type: ignore[arg-type]


def jobs(found: PanelsConfig) -> dict[str, PanelsJob]:
    return {job.key: job for job in found.jobs()}


def test_c35_all_panels_are_drawn_in_rows(scenes: Path) -> None:
    picture, left_out = scene_panels(jobs(config(scenes))["a"])
    assert left_out == {}
    assert picture.shape[1] == 3 * (SHAPE[1] + 4)
    assert picture.shape[0] > 2 * (SHAPE[0] + 18)
    colours = {tuple(color) for color in picture.reshape(-1, 3)[::3]}
    assert {tuple(PALETTE[0]), tuple(PALETTE[1])} <= colours


def test_c35_what_a_scene_lacks_is_left_out_and_said(scenes: Path) -> None:
    found = config(scenes)
    results = {key: job.run() for key, job in jobs(found).items()}
    assert results["a"] == {}
    assert set(results["b"]) == {"infrared", "NDVI", "label", "prediction"}
    assert "NIR" in results["b"]["infrared"]
    assert "N or NIR or nir" in results["b"]["NDVI"]
    assert results["b"]["label"] == "there is no label"
    whole, part = (scene_panels(job)[0] for job in jobs(found).values())
    assert part.shape[0] < whole.shape[0]  # one row of panels, and the words
    report = found.finish(results)
    assert report.metrics == {"panels/scenes": 2.0, "panels/left_out": 4.0}


def test_c35_c101_the_run_keeps_the_first_pictures_and_says_what_is_left_out(
    scenes: Path, script: Script, last_run: Callable[[], mlflow.entities.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    args = {"input_path": scenes / "scenes", "output_path": scenes / "panels", "log_first": 1}
    assert script("panels", "configs/kelp/panels.py", executor="serial", **args) == 0
    said = capsys.readouterr().out
    assert "2 of 2 items done now" in said
    assert "1 panels 'NIR-R-G'" in said
    assert "2 panels 'QA'" in said
    kept = {file.path for file in mlflow.MlflowClient().list_artifacts(last_run().info.run_id)}
    assert "a.png" in kept
    assert "b.png" not in kept


def test_c35_large_scenes_are_thinned(scenes: Path) -> None:
    small, _ = scene_panels(jobs(config(scenes, side=80))["a"])
    large, _ = scene_panels(jobs(config(scenes))["a"])
    assert small.shape[0] < large.shape[0] + 1
    assert small.shape[1] <= 3 * (2 * 80 + 4)  # 80 px, enlarged to hold a title


def test_c35_values_are_coloured_between_quantiles_of_valid_pixels() -> None:
    values = np.linspace(0, 100, 400, dtype=np.float32).reshape(20, 20)
    values[3] = np.nan
    picture, (low, high) = in_colors(values, "gray")
    valid = values[np.isfinite(values)]
    assert (low, high) == pytest.approx(tuple(np.quantile(valid, [0.02, 0.98])))
    assert (picture[3] == UNLABELLED).all()
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(picture[..., 0][np.isfinite(values)], expected[np.isfinite(values)], atol=2.0)
    constant, limits = in_colors(np.full((4, 4), 7.0), "gray")
    assert limits == (7.0, 7.0)
    assert len(np.unique(constant)) == 1
    assert (in_colors(np.full((4, 4), np.nan), "gray")[0] == UNLABELLED).all()


@pytest.mark.parametrize(
    ("text", "bands"),
    [("NDVI", ("NIR", "R")), ("DEM", ("DEM",)), ("(N - R)/(N + R)", ("NIR", "R")), ("2*swir16 + R", ("swir16", "R"))],
)
def test_c35_c44_formulas_name_bands_indices_and_arithmetic(text: str, bands: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    arrays = {name: rng.uniform(1, 2, (5, 6)).astype(np.float32) for name in ("R", "NIR", "DEM", "swir16")}
    arrays["R"][0, 0] = np.nan
    formula = band_formula(text, tuple(arrays))
    assert formula.bands == bands
    n, r = arrays["NIR"], arrays["R"]
    wanted = {"DEM": arrays["DEM"], "2*swir16 + R": 2 * arrays["swir16"] + r}.get(text, (n - r) / (n + r))
    np.testing.assert_allclose(formula.values(arrays), wanted, rtol=1e-6)


def test_c35_wrong_panels_are_refused_when_the_config_is_read(scenes: Path) -> None:
    with pytest.raises(ConfigError, match="colormap=rainbows"):
        ValuePanel(formula="R", colormap="rainbows")
    with pytest.raises(ConfigError, match="cannot be read"):
        ValuePanel(formula="(R - ")
    with pytest.raises(ConfigError, match="panels: there is none"):
        replace(config(scenes), panels={})
    with pytest.raises(ConfigError, match="names no band"):
        band_formula("1 + 2", ("R",))
