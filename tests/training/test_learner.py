"""What a step does and does not do: it waits for nothing, losses come every n steps, options change no law."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from swath.data.augment.random_crop import RandomCrop
from swath.data.augment.transforms import D4, CoarseDropout, OneOf, RadiometricJitter, RandomAffine, RandomFlip
from swath.errors import ConfigError, TrainingError
from swath.geo.windows import ConstantSize
from swath.nn.losses.overlap import SoftJaccard
from swath.nn.losses.pixel import WeightedSum, cross_entropy_dice
from swath.nn.model import Classification, build_model
from swath.training.learner import Learner, fused
from swath.training.loop import Reports
from swath.training.loss_log import LossLog
from swath.training.schedules import Constant
from swath.training.trainer import build_training
from tests.synthetic import PixelNet, TinyNet, echoes, labels
from tests.trainings import killed_at, losses, quiet, same, small, trained

BANDS = ("vh", "vv", "mean")


class NanLater(torch.nn.Module):
    """A network whose fifth output is not a number."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.layer, self.calls = torch.nn.Conv2d(in_channels, classes, 1), 0

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        out: torch.Tensor = self.layer(image_BCHW)
        return out * torch.nan if self.calls == 5 and self.training else out


# ----------------------------------------------------------------------------------------------- nothing waits


@pytest.fixture
def elsewhere(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learner:
    """A learner on the device of tensors without values: whoever asks for one fails, as on a GPU he would wait."""
    monkeypatch.setattr(Learner, "_autocast", lambda self: contextlib.nullcontext())
    augmentation = (
        partial(RandomCrop, size=24), partial(D4), partial(RandomFlip), partial(RandomAffine, degrees=10.0),
        partial(RadiometricJitter, common=1.0), partial(CoarseDropout, holes=2, size=4, ignore_labels=True),
        partial(OneOf, transforms=(partial(D4), partial(RandomFlip)), p=0.5),
    )  # fmt: skip
    loss = partial(WeightedSum, losses={"both": partial(cross_entropy_dice), "jaccard": partial(SoftJaccard)})
    config = small(
        tiles, tmp_path, tasks={"water": Classification(loss=loss)}, device="meta", clip_norm=1.0, accumulation=2
    )
    config = replace(config, data=replace(config.data, augmentation=augmentation))
    model = build_model(BANDS, config.channels, config.fill, config.normaliser, config.model, config.tasks)
    return Learner(config, model, config.losses(), torch.device("meta"), 10, config.tasks, config.unlabelled)


def batch(highest: int = 1) -> dict[str, object]:
    target = labels((4, 32, 32))
    target[0, 0, 0] = highest
    return {"image": echoes((4, 3, 32, 32)), "target": {"water": target}, "key": list("abcd")}


def test_c69_no_step_waits_for_the_device(elsewhere: Learner) -> None:
    for iteration in (1, 2):
        values = elsewhere.step(batch(), iteration)
    assert {name for name, value in values.items() if isinstance(value, float)} == {"training/lr"}
    with pytest.raises(RuntimeError, match="meta"):  # the oracle is able to fail
        float(values["training/loss"])


def test_c70_labels_are_looked_at_before_they_go_to_the_device(elsewhere: Learner) -> None:
    with pytest.raises(ConfigError, match="label 7 is not among the 2 classes"):
        elsewhere.step(batch(highest=7), 1)


# ------------------------------------------------------------------------------------------------- losses, every n


def test_c69_losses_are_logged_as_means_every_n_steps_and_at_the_end_of_epochs(tiles: Path, tmp_path: Path) -> None:
    each, _ = trained(small(tiles, tmp_path / "each", epochs=2))
    some, _ = trained(small(tiles, tmp_path / "some", epochs=2, log_every=3))
    single = losses(each)
    steps = [step for step, values in some.history if "training/loss" in values]
    assert steps == [3, 4, 6, 8]  # four steps per epoch
    expected = [math.fsum(single[a:b]) / (b - a) for a, b in ((0, 3), (3, 4), (4, 6), (6, 8))]
    assert losses(some) == expected
    rates = {step: values["training/lr"] for step, values in each.history if "training/lr" in values}
    assert all(values["training/lr"] == rates[step] for step, values in some.history if "training/lr" in values)


@pytest.mark.parametrize("moment", [3, 6])
def test_c88_resumed_equals_uninterrupted_between_two_fetches(tiles: Path, tmp_path: Path, moment: int) -> None:
    config = small(tiles, tmp_path / "a", log_every=3, checkpoint_every=2)
    whole, expected = trained(replace(config, output_path=str(tmp_path / "whole")))
    killed_at(config, moment)
    resumed, weights = trained(config)
    assert same(expected, weights)
    assert resumed.history == whole.history


def test_c70_a_loss_that_is_not_finite_is_seen_at_the_fetch_and_names_its_step(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path, model=partial(NanLater), log_every=100)
    seen: list[Mapping[str, float]] = []
    reports = Reports(metrics=lambda values, step: seen.append(values), evaluation=lambda *_: None)
    training = build_training(config, reports)
    with pytest.raises(TrainingError, match=r"loss is nan at iteration 5 on the samples s1a_.*The best weights so far"):
        training.run()
    assert training.evaluated == 4  # nothing was judged after the fault
    assert all(math.isfinite(value) for values in seen for name, value in values.items() if "loss" in name)
    assert not any(torch.isnan(v).any() for v in torch.load(training.unfinished.state)["model"].values())


def test_c70_the_log_names_the_first_bad_step_of_several() -> None:
    log = LossLog()
    for step, value in enumerate((1.0, 2.0, math.inf, math.nan), start=7):
        log.add(step, {"training/loss": torch.tensor(value), "training/lr": 0.1}, [f"tile_{step}"])
    with pytest.raises(TrainingError, match="loss is inf at iteration 9 on the samples tile_9"):
        log.fetch()


# ------------------------------------------------------------------------------------------------------- options


def test_c67_optimisers_are_fused_on_gpus_unless_the_config_chooses() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    adam = torch.optim.AdamW
    assert fused(partial(adam, lr=0.1), gpu) == {"fused": True}
    assert fused(partial(adam, lr=0.1), cpu) == {}
    assert fused(partial(adam, foreach=True), gpu) == fused(partial(adam, fused=False), gpu) == {}
    assert fused(partial(torch.optim.Rprop), gpu) == {}


def first_step(tiles: Path, output: Path, **changes: object) -> tuple[dict[str, torch.Tensor], Learner]:
    """How a training's first step moves each weight, under plain gradient descent."""
    training = build_training(small(tiles, output, model=partial(PixelNet), **changes), quiet())
    learner = training.learner
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.step(next(iter(training.batches.training_loader(0))), 1)
    return {name: p.detach() - before[name] for name, p in learner.model.named_parameters()}, learner


def length(change: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([c.flatten() for c in change.values()]).norm())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_c69_gradients_are_clipped_to_the_norm_and_keep_their_direction(
    tiles: Path, tmp_path: Path, precision: str
) -> None:
    plain = {"precision": precision, "optimizer": partial(torch.optim.SGD, lr=1.0), "schedule": partial(Constant)}
    free, _ = first_step(tiles, tmp_path, **plain)
    norm = length(free)
    clipped, _ = first_step(tiles, tmp_path, **plain, clip_norm=0.25 * norm)
    assert length(clipped) == pytest.approx(0.25 * norm, rel=1e-3)
    for name, change in free.items():
        torch.testing.assert_close(clipped[name], 0.25 * change, rtol=1e-3, atol=1e-6)
    untouched, _ = first_step(tiles, tmp_path, **plain, clip_norm=4 * norm)
    for name, change in free.items():
        torch.testing.assert_close(untouched[name], change)


def test_c69_fp16_scales_losses_so_that_small_gradients_reach_the_weights(tiles: Path, tmp_path: Path) -> None:
    """The loss is weighted so low that its gradients are 0 in half precision unless it is scaled on the way."""
    faint = Classification(weight=1e-6)
    plain = {"optimizer": partial(torch.optim.SGD, lr=1e6), "schedule": partial(Constant), "tasks": {"water": faint}}
    expected, _ = first_step(tiles, tmp_path, **plain)
    found, learner = first_step(tiles, tmp_path, **plain, precision="fp16")
    assert length(expected) > 0.01
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change, rtol=0.05, atol=0.02 * length(expected))
    assert learner.state()["scaler"]["scale"] == 2.0**16


def test_c69_a_step_whose_scaled_gradients_overflow_is_left_out_and_the_scale_is_halved(
    tiles: Path, tmp_path: Path
) -> None:
    huge = Classification(weight=1e6)
    found, learner = first_step(
        tiles, tmp_path, tasks={"water": huge}, optimizer=partial(torch.optim.SGD, lr=1e-6), precision="fp16"
    )
    assert length(found) == 0
    assert learner.state()["scaler"]["scale"] == 2.0**15


def test_c69_pixel_by_pixel_in_memory_is_the_same_training(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path / "a", epochs=1, model=partial(TinyNet, dropout=0.0))
    other, _ = trained(config)  # as chosen on a CPU
    plain, _ = trained(replace(config, channels_last=False, output_path=str(tmp_path / "b")))
    assert losses(plain) == pytest.approx(losses(other), abs=1e-4)
    weight = next(p for p in other.learner.model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_c69_compiled_training_is_the_same_training(tiles: Path, tmp_path: Path) -> None:
    plain, _ = trained(small(tiles, tmp_path / "a", epochs=1, model=partial(TinyNet, dropout=0.0)))
    other, weights = trained(small(tiles, tmp_path / "b", epochs=1, model=partial(TinyNet, dropout=0.0), compile=True))
    assert losses(plain) == pytest.approx(losses(other), abs=1e-3)
    assert not any("_orig_mod" in name for name in weights)


@pytest.mark.parametrize("mode", ["ram", "mmap"])
def test_c40_a_training_from_the_cache_is_the_same_training(tiles: Path, tmp_path: Path, mode: str) -> None:
    config = small(tiles, tmp_path / "a", epochs=1)
    plain, expected = trained(config)
    data = replace(config.data, cache=mode, cache_path=str(tmp_path / "cache"))
    cached, weights = trained(replace(config, data=data, output_path=str(tmp_path / "b")))
    assert same(expected, weights)
    assert plain.history == cached.history


def test_c39_tiles_evaluated_whole_and_by_windows_give_equal_scores(tiles: Path, tmp_path: Path) -> None:
    config = small(
        tiles, tmp_path / "a", epochs=1, model=partial(PixelNet)
    )  # looks at single pixels: no window has an edge
    whole, _ = trained(config)
    tiling = ConstantSize(size=32, min_overlap=8)
    by_windows, _ = trained(
        replace(config, data=replace(config.data, validation_tiling=tiling), output_path=str(tmp_path / "b"))
    )
    for (_, a), (_, b) in zip(whole.history, by_windows.history, strict=True):
        for name, value in a.items():
            if name.startswith("validation/") and "loss" not in name:
                assert b[name] == pytest.approx(value, abs=0, nan_ok=True), name
    assert whole.validation_loader is not None
    assert by_windows.validation_loader is not None
    assert len(by_windows.validation_loader.dataset) > len(whole.validation_loader.dataset)  # type: ignore[arg-type]


def test_c56_batches_that_do_not_divide_among_processes_are_refused(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ignite.distributed as idist

    training = build_training(small(tiles, tmp_path), quiet())
    monkeypatch.setattr(idist, "get_world_size", lambda: 3)
    with pytest.raises(ConfigError, match="4 samples do not divide among 3 processes"):
        training.batches.training_loader(0)
