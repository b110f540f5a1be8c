"""What decides a training: with what it goes on after a crash, and when it is the same training."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from swath.errors import TrainingError
from swath.training.config import TrainingConfig, WarmStart
from swath.training.identity import training_identity
from swath.training.loop import resume_folder
from tests.trainings import killed_at, same, small, trained


@pytest.fixture
def own_tiles(tiles: Path, tmp_path: Path) -> Path:
    """A copy of the tiles, to be changed."""
    return Path(shutil.copytree(tiles, tmp_path / "tiles"))


def everything_else(config: TrainingConfig, folder: Path) -> TrainingConfig:
    """The same training with all changed that does not decide its result."""
    data = replace(config.data, workers=2, cache="mmap", cache_path=str(folder / "cache"))
    return replace(config, data=data, name="again", log_every=2, checkpoint_every=5)


def test_c88_what_decides_nothing_may_change_after_a_crash(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path / "a", checkpoint_every=3)
    _, expected = trained(replace(config, output_path=str(tmp_path / "whole")))
    killed_at(config, 7)
    assert (resume_folder(config).path / "state.pt").is_file()
    other = everything_else(config, tmp_path)
    assert resume_folder(other).path == resume_folder(config).path
    resumed, weights = trained(other)
    assert resumed.history[0][0] == 1  # what was logged before the crash
    assert same(expected, weights)


def test_c88_what_decides_starts_anew(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path / "a")
    for other in (replace(config, seed=5), replace(config, epochs=4), replace(config, precision="bf16")):
        assert resume_folder(other).path != resume_folder(config).path


def test_c88_other_pixels_or_other_weights_to_start_from_are_refused(own_tiles: Path, tmp_path: Path) -> None:
    config = small(own_tiles, tmp_path / "a", checkpoint_every=3)
    tile = next((own_tiles / "images").rglob("*.tif"))
    content = tile.read_bytes()
    killed_at(config, 7)
    tile.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TrainingError, match=r"started on other tiles or labels .*Delete that folder to start anew"):
        trained(config)
    tile.write_bytes(content)  # the same again, at another time
    trained(config)


def test_c88_identity_follows_contents_and_not_places(own_tiles: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"one")
    config = small(own_tiles, tmp_path / "a", warm_start=WarmStart(weights=str(weights)))
    first = training_identity(config)
    assert training_identity(everything_else(config, tmp_path)) == first
    moved = Path(shutil.copytree(own_tiles, tmp_path / "moved", copy_function=shutil.copyfile))
    shutil.copyfile(weights, tmp_path / "v.pt")
    elsewhere = replace(config, data=replace(config.data, tiles_path=str(moved)), output_path=str(tmp_path / "b"))
    assert training_identity(replace(elsewhere, warm_start=WarmStart(weights=str(tmp_path / "v.pt")))) == first
    weights.write_bytes(b"two")
    assert training_identity(config) != first
    weights.write_bytes(b"one")
    assert training_identity(config) == first
    tile = next((own_tiles / "images").rglob("*.tif"))
    tile.write_bytes(tile.read_bytes()[:-1] + b"?")
    assert training_identity(config) != first
    assert training_identity(replace(config, seed=1)) != training_identity(config)


@pytest.mark.system
def test_c88_going_on_with_other_threads_says_what_is_equal(
    tiles: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, threads = small(tiles, tmp_path / "a", checkpoint_every=3), torch.get_num_threads()
    killed_at(config, 7)
    torch.set_num_threads(threads + 1)
    try:
        with caplog.at_level(logging.WARNING):
            trained(config)
    finally:
        torch.set_num_threads(threads)
    assert f"threads {threads} before, {threads + 1} now: equal to a tolerance, not to the bit" in caplog.text


@pytest.mark.system
def test_c07_reproducible_trainings_do_not_depend_on_threads(tiles: Path, tmp_path: Path) -> None:
    network = partial(smp.Unet, encoder_name="resnet18", encoder_weights=None)
    config = small(tiles, tmp_path / "a", model=network, epochs=1, reproducible=True)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            _, weights = trained(replace(config, output_path=str(tmp_path / str(count))))
            found.append(weights)
    finally:
        torch.set_num_threads(threads)
    assert same(found[0], found[1])
    assert same(found[0], found[2])
