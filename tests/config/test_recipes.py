"""Published numbers stand beside the recipes that gave them: what the committed configs say, against what was published."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch

from swath.config import PROJECT_ROOT, load
from swath.config.partials import arguments
from swath.data.samples.samplers import ShiftCorrection, TargetPresence
from swath.errors import ConfigError
from swath.nn.losses.pixel import CrossEntropy, WeightedSum
from swath.nn.model import Regression
from swath.nn.networks.unet import UNet
from swath.nn.preprocess.sar import Decibel3, Decibel5, Linear3
from swath.training.config import TrainingConfig, WarmStart

# ------------------------------------------------------------------------------------------- AI4Arctic: U-Nets as pizzas


class Pizza(NamedTuple):
    """A run of the challenge's reference team."""

    levels: int
    epochs: int | None
    """None: not published."""
    rate: float
    from_marinara: bool
    regression: bool
    reweighted: bool
    published: str
    """Total, SIC, SOD, FLOE, in percent on the test set; empty: the run was planned only."""


PIZZAS = {
    "marinara": Pizza(4, None, 1e-4, False, False, False, "74.5 / 75.2 / 76.4 / 69.4"),
    "margherita": Pizza(8, 40, 1e-4, False, False, False, "71.5 / 70.4 / 74.3 / 68.1"),
    "basilico": Pizza(8, 100, 1e-4, False, False, False, "75.6 / 78.2 / 75.3 / 70.0"),
    "quattro_formaggi": Pizza(8, 75, 5e-5, True, True, True, "68.1 / 68.8 / 69.9 / 62.8"),
    "quattro_stagioni": Pizza(6, 40, 5e-5, True, True, True, "77.7 / 83.8 / 77.5 / 66.1"),
    "tre_stagioni": Pizza(6, 40, 5e-5, True, False, True, ""),
}


def pizza(name: str) -> TrainingConfig:
    return load(f"configs/ai4arctic/training_{name}.py", TrainingConfig)


@pytest.mark.parametrize("name", PIZZAS)
def test_c58_the_runs_of_the_reference_team_are_those_that_they_published(name: str) -> None:
    config, told = pizza(name), PIZZAS[name]
    network = config.model(in_channels=24, classes=24)
    assert isinstance(network, UNet)
    assert arguments(config.model)["filters"] == (16, *[32] * (told.levels - 1))
    assert config.epochs == (told.epochs or config.epochs)
    assert config.optimizer([torch.zeros(1)]).param_groups[0]["lr"] == told.rate
    assert (config.warm_start == WarmStart()) == told.from_marinara
    assert isinstance(config.tasks["SIC"], Regression) == told.regression
    sampler = config.data.sampler
    assert isinstance(sampler, ShiftCorrection) == told.reweighted
    if isinstance(sampler, ShiftCorrection):
        assert sampler.fields == ("region",)  # months, providers and missions were computed and left out
    assert [config.tasks[task].weight for task in ("SIC", "SOD", "FLOE")] == [1.0, 1.0, 0.5 if told.reweighted else 1.0]


@pytest.mark.parametrize("name", PIZZAS)
def test_c58_a_level_of_the_starter_kit_halves_the_image(name: str) -> None:
    """Its network has an input block, a block after each of the filters' halvings, and a bridge after one more."""
    encoder = pizza(name).model(in_channels=24, classes=24).encoder.eval()
    found = encoder(torch.zeros(1, 24, 256, 256))
    assert [level.shape[-1] for level in found] == [256 >> level for level in range(PIZZAS[name].levels + 1)]


@pytest.mark.parametrize("name", [name for name, told in PIZZAS.items() if told.from_marinara])
def test_c62_a_config_that_starts_from_another_training_says_how_to_name_it(name: str) -> None:
    start = pizza(name).warm_start
    assert start is not None
    with pytest.raises(ConfigError, match=r"-P warm_start\.weights=runs:/<id of its run>"):
        start.source()
    assert WarmStart(weights="runs:/abc").source() == "runs:/abc"


# --------------------------------------------------------------------------------------------- UNOSAT: the challenge team


class Unosat(NamedTuple):
    """A system of the challenge team."""

    network: str
    encoder: str | None
    channels: type
    class_weights: tuple[float, float]
    jaccard: float
    """Weight of the Jaccard loss beside the cross entropy."""
    known: str
    """Validation IoU and F1 on the city that was trained on."""
    corrected: str
    test: str


PUBLISHED = {
    "lwrefinenet": Unosat("LWRefineNet", None, Linear3, (0.1, 2.0), 0, "0.648, 0.891", "0.506, 0.830", "0.688"),
    "lwrefinenet_jaccard": Unosat("LWRefineNet", None, Linear3, (0.1, 2.0), 2, "0.668, 0.899", "0.524, 0.838", "0.7055"),
    "unet_resnet50": Unosat("Unet", "resnet50", Linear3, (0.5, 1.0), 0, "0.668, 0.899", "0.525, 0.839", "0.7012"),
    "fpn_seresnext50": Unosat("FPN", "se_resnext50_32x4d", Linear3, (0.1, 2.0), 0, "", "", ""),
    "fpn_seresnext50_db": Unosat("FPN", "se_resnext50_32x4d", Decibel3, (0.5, 1.5), 0, "0.696, 0.909", "0.535, 0.843", "0.743"),
    "fpn_seresnext50_restart": Unosat("FPN", "se_resnext50_32x4d", Decibel3, (0.5, 1.5), 0, "", "0.543, 0.847", "0.643"),
    "lwrefinenet_5b_db": Unosat("LWRefineNet", None, Decibel5, (0.75, 1.5), 0, "", "0.532, 0.841", ""),
    "deeplabv3_resnet101": Unosat("DeepLabV3ResNet101", None, Linear3, (0.1, 2.0), 0, "", "", ""),
}  # fmt: skip


def terms(loss: Any) -> dict[str, tuple[float, Any]]:
    """Weight and factory of each term of a loss, by the name of its class."""
    if isinstance(loss, partial) and loss.func is WeightedSum:
        weights = loss.keywords["weights"]
        return {part.func.__name__: (weights[name], part) for name, part in loss.keywords["losses"].items()}
    return {loss.func.__name__: (1.0, loss)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_c57_the_systems_of_the_challenge_team_are_those_that_they_published(name: str) -> None:
    config, told = load(f"configs/unosat/training_{name}.py", TrainingConfig), PUBLISHED[name]
    assert isinstance(config.model, partial)
    assert config.model.func.__name__ == told.network
    assert config.model.keywords.get("encoder_name") == told.encoder
    assert isinstance(config.channels, partial)
    assert config.channels.func is told.channels
    found = terms(config.tasks["water"].loss)
    assert found[CrossEntropy.__name__][0] == 1.0
    assert found[CrossEntropy.__name__][1].keywords["class_weights"] == told.class_weights
    assert {name: weight for name, (weight, _) in found.items() if name != CrossEntropy.__name__} == (
        {"SoftJaccard": told.jaccard} if told.jaccard else {}
    )
    assert isinstance(config.data.sampler, TargetPresence)


# ------------------------------------------------------------------------------------------------------------- the guides


def rows_of_guide(challenge: str) -> dict[str, str]:
    """Config to the rest of its row in the guide's tables of published numbers."""
    text = (PROJECT_ROOT / "configs" / challenge / "README.md").read_text()
    return dict(re.findall(r"^\| `training_(\w+)\.py` \|(.*)\|$", text, flags=re.MULTILINE))


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))


def test_c03_guides_and_docstrings_give_each_config_its_own_numbers() -> None:
    guide = rows_of_guide("ai4arctic")
    for name, told in PIZZAS.items():
        assert numbers(guide[name]) == numbers(told.published), name
        assert numbers(told.published) <= numbers(docstring("ai4arctic", name)), name
    guide = rows_of_guide("unosat")
    for name, system in PUBLISHED.items():
        wanted = numbers(f"{system.known} {system.corrected} {system.test}")
        assert numbers(guide[name]) == wanted, name
        written = docstring("unosat", name)
        assert {float(n) for n in wanted} <= {float(n) for n in numbers(written)}, name


def docstring(challenge: str, name: str) -> str:
    text = (PROJECT_ROOT / "configs" / challenge / f"training_{name}.py").read_text()
    return text.split('"""')[1]
