"""What a record may have built, and what it may not: no code of others runs because a model is read."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
from torch import nn

from swath.challenges.ai4arctic.tasks import SIC, SOD
from swath.config import build_from_record, load, resolve
from swath.config.paths import PROJECT_ROOT
from swath.errors import ConfigError
from swath.geo.zones import MissingZones
from swath.nn.losses.pixel import cross_entropy_dice
from swath.nn.networks.decoders import TaskDecoders
from swath.training.config import TrainingConfig
from swath.training.model_record import PARTS

TRAININGS = sorted((PROJECT_ROOT / "configs").rglob("training*.py"))


def named(target: str, **arguments: Any) -> dict[str, Any]:
    """The JSON form of a thing to build."""
    return {"_target_": target} | arguments


@pytest.mark.parametrize("path", TRAININGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_c130_records_of_all_committed_trainings_are_built(path: Path) -> None:
    resolved = resolve(load(path, TrainingConfig))
    for part in PARTS:
        assert resolve(build_from_record(resolved[part])) == resolved[part]


def test_c130_tasks_zones_losses_and_layers_are_built() -> None:
    given = (
        {"sic": SIC, "sod": SOD},
        MissingZones(),
        partial(cross_entropy_dice),
        partial(TaskDecoders, network=partial(smp.Unet, encoder_name="tu-resnet18", encoder_weights=None)),
        partial(nn.Identity),
    )
    for value in given:
        assert build_from_record(resolve(value)) == value or resolve(build_from_record(resolve(value))) == resolve(
            value
        )
    moved = build_from_record(named("swath.nn.unet:UNet", filters=[4, 8]))  # a name of version 0.1.0
    assert moved.func.__module__ == "swath.nn.networks.unet"


REFUSED = {
    "torch.hub:load": "torch.hub",
    "os:system": "os",
    "builtins:eval": "builtins",
    "subprocess:run": "subprocess",
    "torch:load": "torch",
    "timm.models._hub:os.system": "posix",
    "torch.nn.modules.module:torch.load": "torch.serialization",
    "torch.nn.functional:conv2d": "torch",
    "torch.nn.init:zeros_": "torch.nn.init",
    "swath.nn.model:partial": "functools",
    "swath.nn.model:np.load": "numpy",
    "swath.nn.networks.pretrained:urlopen": "urllib.request",
    "swath.nn.networks.pretrained:answers": "swath.nn.networks.pretrained",
    "swath.nn.networks.unet:UNet.forward": "swath.nn.networks.unet",
    "swath.config:locate": "swath.config",
    "swath.config.files:load": "swath.config.files",
    "swath.files:write_text": "swath.files",
    "swath.challenges.unosat.submission:zipfile.ZipFile": "zipfile",
    "swath.tracking:cli": "swath.tracking",
    "timm:create_model": "timm.models._factory",
    "timm.models:load_checkpoint": "timm.models._helpers",
    "timm.models.resnet:resnet18": "timm.models.resnet",
    "torchvision.models:get_model": "torchvision.models._api",
    "torchvision.models.resnet:resnet18": "torchvision.models.resnet",
    "torchvision.models:ResNet18_Weights": "torchvision.models.resnet",
    "segmentation_models_pytorch:from_pretrained": "huggingface_hub.hub_mixin",
    "segmentation_models_pytorch:create_model": "segmentation_models_pytorch",
    "configs.demo.training:TrainingConfig.__init__": "pydantic._internal._dataclasses",
    "tests.synthetic:TinyNet": "tests.synthetic",
}
"""What a record must not name, to the module that `trust` would have to name."""


@pytest.mark.parametrize("target", REFUSED)
def test_c130_what_makes_no_part_of_a_model_is_refused_with_what_to_type(target: str) -> None:
    with pytest.raises(ConfigError, match="is not built") as refused:
        build_from_record({"model": named(target)})
    assert target in str(refused.value)
    module = REFUSED[target]
    assert f"-P trust={module} (--trust {module})" in str(refused.value)


def test_c130_a_module_that_is_not_trusted_is_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n\n\nclass Net: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="trust=evil_module"):
        build_from_record(named("evil_module:Net"))
    assert not (tmp_path / "ran").exists()
    assert build_from_record(named("evil_module:Net"), trust=("evil_module",)).func.__name__ == "Net"
    assert (tmp_path / "ran").exists()
    del sys.modules["evil_module"]


def test_c130_trust_goes_no_further_than_the_module_that_it_names() -> None:
    assert build_from_record(named("tests.synthetic:TinyNet"), trust=("tests",)).func.__name__ == "TinyNet"
    with pytest.raises(ConfigError, match=r"trust=tests\.synthetic"):
        build_from_record(named("tests.synthetic:TinyNet"), trust=("tests.synth",))
    with pytest.raises(ConfigError, match="trust=posix"):
        build_from_record(named("tests.conftest:os.system"), trust=("tests",))


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("segmentation_models_pytorch.decoders.unet.model:Unet", {"encoder_name": "tu-hf-hub:owner/name"}),
        ("segmentation_models_pytorch.decoders.unet.model:Unet", {"encoder_name": "tu-local-dir:/tmp/x"}),
        ("segmentation_models_pytorch.decoders.unet.model:Unet", {"checkpoint_path": "x.pth"}),
        ("segmentation_models_pytorch.decoders.unet.model:Unet", {"pretrained_cfg": {"url": "http://example.org/x"}}),
        ("segmentation_models_pytorch.encoders.timm_universal:TimmUniversalEncoder", {"name": "hf-hub:a/b"}),
        ("segmentation_models_pytorch.encoders.timm_universal:TimmUniversalEncoder", {"name": "x", "pretrained": 1}),
        ("swath.nn.networks.unet:UNet", {"middle": {"_target_": "torch.nn:Identity", "checkpoint_path": "x.pth"}}),
    ],
)
def test_c130_arguments_that_fetch_other_files_are_refused(target: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="it would fetch or open other files"):
        build_from_record(named(target, **arguments))


@pytest.mark.parametrize("target", [7, None, ["a"], "no colon", "torch.nn:", ":x", "torch.nn:NoSuch", "..:x", "a b:c"])
def test_c130_what_is_no_name_is_an_error_and_no_traceback(target: Any) -> None:
    with pytest.raises(ConfigError):
        build_from_record({"_target_": target})


def test_c130_networks_of_the_project_s_own_code_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    (root / "code").mkdir(parents=True)
    (root / "code" / "own_networks.py").write_text(
        "import os\nfrom torch import nn\n\n\nclass Net(nn.Module): ...\n\n\ndef small(in_channels, classes): ...\n"
    )
    monkeypatch.syspath_prepend(root / "code")
    with pytest.raises(ConfigError, match="trust=own_networks"):
        build_from_record(named("own_networks:Net"))  # a module of that name, but not of the project
    monkeypatch.setattr("swath.config.paths.PROJECT_ROOT", root)
    assert build_from_record(named("own_networks:Net")).func.__name__ == "Net"
    assert build_from_record(named("own_networks:small")).func.__name__ == "small"
    with pytest.raises(ConfigError, match="trust=posix"):
        build_from_record(named("own_networks:os.system"))
    del sys.modules["own_networks"]
