"""Batch normalisation over several processes is that of one."""

from __future__ import annotations

import copy
import logging
import subprocess
import sys
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from swath.nn import batch_norm
from swath.nn.batch_norm import BatchNormOverRanks, over_all_ranks
from tests.conftest import ROOT, child_environment


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests.ranks_norm` finds on one process, and on each of two."""
    folder = tmp_path_factory.mktemp("norm")
    command = [sys.executable, "-m", "tests.ranks_norm", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=child_environment(folder / "mlflow.db"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}


@pytest.mark.system
@pytest.mark.parametrize("what", ["found", "images", "judged"])
def test_c69_samples_are_normalised_on_two_processes_as_on_one(kept: dict[str, Any], what: str) -> None:
    whole = kept["1_0"][what]
    assert whole.abs().max() > 0
    for rank in range(2):
        torch.testing.assert_close(kept[f"2_{rank}"][what], whole[rank::2], rtol=1e-4, atol=1e-4)


@pytest.mark.system
@pytest.mark.parametrize("what", ["gradients", "state"])
def test_c69_gradients_and_running_statistics_of_two_processes_are_those_of_one(
    kept: dict[str, Any], what: str
) -> None:
    whole = kept["1_0"][what]
    for rank in range(2):
        found = kept[f"2_{rank}"][what]
        assert found.keys() == whole.keys()
        for name, value in whole.items():
            scale = max(1.0, float(value.abs().max()))
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4 * scale, msg=name)


def test_c69_one_process_keeps_its_own_batch_norm() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    assert over_all_ranks(model, torch.device("cpu"))[0] is model[0]


def test_c69_activations_stay_and_unknown_kinds_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class OfSomeLibrary(nn.BatchNorm2d):
        """A kind that nobody knows."""

    monkeypatch.setattr(batch_norm.idist, "get_world_size", lambda: 2)
    for device, kind in (("cpu", BatchNormOverRanks), ("cuda", nn.SyncBatchNorm)):
        model = nn.Sequential(BatchNormAct2d(3, act_layer=nn.SiLU), nn.BatchNorm2d(3), nn.ReLU())
        weight, before = model[0].weight, copy.deepcopy(model)
        found = over_all_ranks(model, torch.device(device))
        assert isinstance(found[0], kind)
        assert isinstance(found[1], kind)
        assert isinstance(found[0].act, nn.SiLU)
        assert found[0].weight is weight
        images = torch.randn(2, 3, 4, 4)
        torch.testing.assert_close(found.eval()(images), before.eval()(images))
    with caplog.at_level(logging.WARNING, "swath.nn"):
        over_all_ranks(nn.Sequential(OfSomeLibrary(3)), torch.device("cpu"))
    assert "OfSomeLibrary normalises by the samples of each process alone" in caplog.text
