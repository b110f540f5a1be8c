"""What a training may start from, hold fixed, learn from besides labels, and report on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import nn

from swath.data.splits.split import ByArea
from swath.errors import CatalogError, LeakError, TrainingError
from swath.nn.consistency import LinearRamp, PseudoLabels, TurnConsistency
from swath.nn.model import build_model
from swath.training.checkpoint import save_weights
from swath.training.config import TrainingConfig, Unlabelled, ValidationConfig, WarmStart
from swath.training.learner import Learner, mix
from swath.training.loop import Reports
from swath.training.trainer import build_training
from swath.training.transfer import Freezing
from tests.conftest import Script
from tests.synthetic import TinyNet, echoes, labels
from tests.trainings import killed_at, quiet, same, small, trained


class TwoParts(nn.Module):
    """An encoder with batch norm and a head."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.encoder(image))
        return out


def encoder_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if ".encoder." in name}


def test_c62_warm_start_takes_the_weights_of_another_training(tiles: Path, tmp_path: Path) -> None:
    first = build_training(small(tiles, tmp_path / "a", model=partial(TwoParts)), quiet())
    save_weights(tmp_path / "w.safetensors", first.learner.model)
    config = small(
        tiles,
        tmp_path / "b",
        model=partial(TwoParts),
        seed=7,
        warm_start=WarmStart(weights=str(tmp_path / "w.safetensors")),
    )
    second = build_training(config, quiet(), start_from=tmp_path / "w.safetensors")
    cold = build_training(replace(config, warm_start=None), quiet())
    network = {n: t for n, t in first.learner.model.state_dict().items() if n.startswith("network.")}
    assert same(network, second.learner.model.state_dict())
    assert not same(network, cold.learner.model.state_dict())


def test_c62_frozen_encoder_stays_and_thaws_at_its_epoch(tiles: Path, tmp_path: Path) -> None:
    config = small(
        tiles, tmp_path, model=partial(TwoParts), epochs=3, freezing=(Freezing(part="encoder", epochs=2),),
        validation=ValidationConfig(panels=0),
    )  # fmt: skip
    ends: list[dict[str, torch.Tensor]] = []
    training = build_training(config, Reports(metrics=lambda *_: None, evaluation=lambda *_: ends.append(
        {name: tensor.clone() for name, tensor in training.learner.model.state_dict().items()}
    )))  # fmt: skip
    start = {name: tensor.clone() for name, tensor in training.learner.model.state_dict().items()}
    training.run()
    assert same(encoder_of(start), ends[0])  # parameters and running statistics
    assert same(encoder_of(start), ends[1])
    assert not same(encoder_of(start), ends[2])
    assert not torch.equal(start["network.head.weight"], ends[0]["network.head.weight"])


def unlabelled(tiles: Path, **changes: object) -> Unlabelled:
    options = {"tiles_path": str(tiles.parent / "unlabelled"), "method": partial(TurnConsistency), "batch": 2} | changes
    return Unlabelled(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", [3, 6, 9])
def test_c88_c73_c62_resumed_with_unlabelled_tiles_and_a_frozen_part(tiles: Path, tmp_path: Path, moment: int) -> None:
    config = small(
        tiles, tmp_path / "a", model=partial(TwoParts), checkpoint_every=1, freezing=(Freezing(part="encoder", epochs=1),),
        unlabelled=unlabelled(tiles),
    )  # fmt: skip
    whole, expected = trained(replace(config, output_path=str(tmp_path / "whole")))

    killed_at(config, moment)
    resumed, weights = trained(config)
    assert same(expected, weights)
    assert resumed.history == whole.history


@pytest.mark.parametrize("method", [partial(TurnConsistency), partial(PseudoLabels, threshold=0.6)])
def test_c73_unlabelled_loss_is_logged_with_its_ramp_and_moves_the_weights(
    tiles: Path, tmp_path: Path, method: object
) -> None:
    ramp = partial(LinearRamp, low=0.0, high=2.0, share=0.5)
    config = small(tiles, tmp_path / "a", epochs=2, unlabelled=unlabelled(tiles, method=method, ramp=ramp))
    with_others, weights = trained(config)
    _, alone = trained(replace(config, unlabelled=None, output_path=str(tmp_path / "b")))
    logged = [v for _, v in with_others.history if "training/unlabelled" in v]
    assert len(logged) == 8
    assert [v["training/unlabelled_weight"] for v in logged] == pytest.approx([0, 0.5, 1, 1.5, 2, 2, 2, 2])
    assert all(np.isfinite(v["training/unlabelled_water"]) for v in logged)
    assert not same(weights, alone)


def test_c73_own_steps_are_steps_of_the_unlabelled_loss_alone_on_one_batch(tiles: Path, tmp_path: Path) -> None:
    method = partial(PseudoLabels, threshold=0.5)
    ramp = partial(LinearRamp, low=0.5, high=1.0, share=1.0)
    config = small(
        tiles,
        tmp_path,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        unlabelled=unlabelled(tiles, method=method, ramp=ramp),
    )
    batch = {"image": echoes((4, 3, 32, 32)), "target": {"water": labels((4, 32, 32))}, "key": list("abcd")}
    batch["unlabelled"] = {"image": echoes((2, 3, 32, 32), seed=5)}

    def learner(own_steps: int | None) -> Learner:
        torch.manual_seed(0)
        model = build_model(
            ("vh", "vv", "mean"), config.channels, config.fill, config.normaliser, config.model, config.tasks
        )
        assert config.unlabelled is not None
        others = None if own_steps is None else replace(config.unlabelled, own_steps=own_steps)
        return Learner(config, model, config.losses(), torch.device("cpu"), 10, config.tasks, others)

    learned = learner(own_steps=3)
    learned.step(batch, 2)

    alone = learner(own_steps=None)
    rate = alone.optimizer.param_groups[0]["lr"]
    alone.step(batch, 2)
    teacher = method()
    for repetition in range(3):
        draws = torch.Generator().manual_seed(mix(config.seed, 2, config.accumulation + repetition, 0))
        loss = teacher(alone.model, batch["unlabelled"]["image"], draws)["water"]
        gradients = torch.autograd.grad(ramp()(1, 10) * loss, list(alone.model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(alone.model.parameters(), gradients, strict=True):
                parameter -= rate * gradient
    for (name, a), b in zip(learned.model.named_parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert learned.scheduler.last_epoch == 1
    together = learner(own_steps=0)
    together.step(batch, 2)
    assert not same(dict(learned.model.state_dict()), dict(together.model.state_dict()))


def test_c73_tiles_with_labels_are_not_taken_as_unlabelled(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path, unlabelled=unlabelled(tiles, tiles_path=str(tiles)))
    with pytest.raises(CatalogError, match=r"tiles have a mask, the first: .*Train on them as labelled tiles"):
        build_training(config, quiet())


def three_sides(tiles: Path, output: Path) -> TrainingConfig:
    config = small(tiles, output, epochs=1)
    return replace(config, data=replace(config.data, split=ByArea(validation_areas=("south",), test_areas=("east",))))


def test_c83_test_tiles_only_report(tiles: Path, tmp_path: Path) -> None:
    training, _ = trained(three_sides(tiles, tmp_path))
    tables = training.scores()
    assert set(tables) == {"validation", "test"}
    assert set(tables["test"].rows["area"]) == {"east"}
    assert set(training.folds.train["area"]) == {"north"}
    found = tables["validation"].metrics("validation")
    assert found["validation/iou_fg"] == training.best
    assert found["validation/iou_fg_low"] <= found["validation/iou_fg"] <= found["validation/iou_fg_high"]
    loader = training.batches.whole_tiles(training.folds.test)
    assert loader is not None
    truth, guess = [], []
    for batch in loader:
        with torch.no_grad():
            guess.append(training.judged(batch["image"])["water"].argmax(1).numpy().ravel())
        truth.append(batch["target"]["water"].numpy().ravel())
    y, p = np.concatenate(truth), np.concatenate(guess)
    valid = y != 255
    expected = jaccard_score(y[valid], p[valid], pos_label=1)
    assert tables["test"].metrics("test")["test/iou_fg"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.system
def test_c16_c83_leaks_are_refused_unless_allowed_and_then_named(
    tiles: Path, tmp_path: Path, script: Script, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import geopandas as gpd

    copied = tmp_path / "tiles"
    copied.mkdir()
    table = gpd.read_parquet(tiles / "tile_stats.parquet")
    for column in ("image", "mask"):
        table[column] = [str(tiles / path) for path in table[column]]
    again = table[table["area"] == "south"].assign(
        key=lambda t: "copy_" + t["key"], scene=lambda t: "copy_" + t["scene"], area="elsewhere"
    )
    gpd.pd.concat([table, again]).to_parquet(copied / "tile_stats.parquet")
    config = small(copied, tmp_path / "out", epochs=1, model=partial(TinyNet))
    with pytest.raises(LeakError, match="hold the same pixels under another name"):
        build_training(config, quiet())
    overrides = {
        "data.tiles_path": copied, "data.split.validation_areas": "south", "data.crop": 32,
        "data.samples_per_epoch": 8, "epochs": 1, "model": "tests.synthetic:TinyNet", "output_path": tmp_path / "out",
    }  # fmt: skip
    capsys.readouterr()
    assert script("training", "configs/demo/training.py", **overrides) == 1
    remedy = dict(re.findall(r"-P (\S+)=(\w+)", capsys.readouterr().err))
    assert remedy == {"data.allow_leaks": "True"}
    assert script("training", "configs/demo/training.py", **overrides, **remedy) == 0
    tags = last_run().data.tags
    assert "same content" in tags["swath.leaks"]
    assert "leaks allowed" in tags["mlflow.runName"]


@pytest.mark.parametrize(("area", "side"), [("north", "training"), ("south", "validation or test")])
@pytest.mark.parametrize("missing", [None, float("nan"), ""], ids=["None", "NaN", "empty"])
def test_c36_tiles_that_teach_or_judge_need_a_mask(
    tiles: Path, tmp_path: Path, area: str, side: str, missing: object
) -> None:
    import geopandas as gpd

    (tmp_path / "tiles").mkdir()
    table = gpd.read_parquet(tiles / "tile_stats.parquet")
    table["image"] = [str(tiles / path) for path in table["image"]]
    masks = [missing if a == area else str(tiles / m) for a, m in zip(table["area"], table["mask"], strict=True)]
    table["mask"] = gpd.pd.Series(masks, dtype=object)
    table.to_parquet(tmp_path / "tiles" / "tile_stats.parquet")
    count, first = (table["area"] == area).sum(), table["key"][table["area"] == area].iloc[0]
    with pytest.raises(TrainingError, match=rf"{count} {side} tiles have no mask, the first: {first}\. Set masks_path"):
        build_training(small(tmp_path / "tiles", tmp_path / "out", epochs=1), quiet()).run()
