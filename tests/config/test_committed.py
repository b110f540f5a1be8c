"""Every committed config: each of its leaves can be set from the command line, and its network can be built."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from swath.challenges.ai4arctic.product import CHANNELS
from swath.challenges.kelp.product import BANDS as KELP_BANDS
from swath.config import PROJECT_ROOT, from_command_line, load, resolve
from swath.config.partials import children
from swath.nn.model import build_model
from swath.nn.networks.pretrained import check_network, without_weights
from swath.training.config import LearningConfig, TrainingConfig
from swath.training.learner import parameter_groups
from swath.training.pretrain_config import PretrainConfig
from swath.training.pretraining import masked_model

BANDS = {
    "ai4arctic": CHANNELS, "demo": ("vh", "vv", "mean"), "kelp": KELP_BANDS, "unosat": ("vh", "vv", "mean"),
}  # fmt: skip
"""What the scenes of a challenge hold."""


def binds_config(path: Path) -> bool:
    return any(
        isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "config" for t in node.targets)
        for node in ast.parse(path.read_text()).body
    )


CONFIGS = [p.relative_to(PROJECT_ROOT).as_posix() for p in sorted(PROJECT_ROOT.glob("configs/**/*.py")) if binds_config(p)]  # fmt: skip
LEARNING = [path for path in CONFIGS if Path(path).name.startswith(("training", "pretrain"))]


def test_c03_configs_are_found() -> None:
    assert len(CONFIGS) > 60
    kinds = {path: isinstance(load(path, object), LearningConfig) for path in CONFIGS}
    assert [path for path, learns in kinds.items() if learns] == LEARNING


# --------------------------------------------------------------------------------------------------- the command line


def is_word(value: Any) -> bool:
    """Whether a value can stand between commas."""
    return value is None or (isinstance(value, (str, int, float)) and "," not in str(value))


def texts(value: Any) -> Iterator[str]:
    """What a person would type for a value: a text as it is, numbers, lists with commas, and the JSON of anything."""
    if not isinstance(value, str):
        yield json.dumps(resolve(value))
    if value is None or isinstance(value, (str, bool, int, float)):
        yield str(value)
    elif isinstance(value, tuple) and all(is_word(v) for v in value):
        yield ",".join(map(str, value))


def places(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every leaf, and of everything that leaves are in."""
    for name, child in children(value):
        if "." not in name:  # a key with a dot cannot be part of a path
            yield f"{prefix}{name}", child
            yield from places(child, f"{prefix}{name}.")


@pytest.mark.parametrize("path", CONFIGS)
def test_c03_every_leaf_of_a_committed_config_can_be_set_to_its_own_value(path: str) -> None:
    config = load(path, object)
    ways: dict[tuple[int, int], list[str]] = defaultdict(list)
    for place, value in places(config):
        for number, text in enumerate(texts(value)):
            if text == "null" and number == 0 and value is None:
                continue  # ``None`` is what one types; a text may be ``null``
            ways[place.count("."), number] += [f"--{place}", text]
    for arguments in ways.values():  # what is at one depth lies apart
        again, _ = from_command_line(object, ["--config_path", path, *arguments])
        assert json.dumps(resolve(again)) == json.dumps(resolve(config))


# ---------------------------------------------------------------------------------------------------------- networks


def side_for(model: Any) -> int:
    """The side of an image that each level of a network can halve."""
    return max(64, 2 ** len(getattr(model, "keywords", {}).get("filters", ())))


def built(config: LearningConfig, path: str) -> Any:
    """The model of a committed config from random weights, for the bands of its challenge."""
    assert isinstance(config, (TrainingConfig, PretrainConfig))
    check_network(config.model)
    bands = BANDS[Path(path).parts[1]]
    config = dataclasses.replace(config, model=without_weights(config.model))
    torch.manual_seed(0)
    if isinstance(config, PretrainConfig):
        return masked_model(config, bands)
    return build_model(
        bands, config.channels, config.fill, config.normaliser, config.model, config.tasks, config.rgb, config.resize
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("path", [path for path in LEARNING if Path(path).name.startswith("pretrain")])
def test_c57_c63_the_network_of_a_committed_pretraining_is_built_and_guesses(path: str) -> None:
    config = load(path, PretrainConfig)
    side = side_for(config.model)
    image = torch.rand(1, len(BANDS[Path(path).parts[1]]), side, side) + 0.1
    with torch.inference_mode():
        found = built(config, path).eval()(image, torch.Generator().manual_seed(0))
    assert torch.isfinite(found.guessed).all()


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("path", [path for path in LEARNING if Path(path).name.startswith("training")])
def test_c57_c64_the_network_of_a_committed_training_is_built_takes_a_step_and_answers(path: str) -> None:
    """Forwards, backwards, and once with its own optimiser: what learns moves, and every value stays finite."""
    config = load(path, TrainingConfig)
    model, side = built(config, path), side_for(config.model)
    image = torch.rand(2, len(BANDS[Path(path).parts[1]]), side, side) + 0.1
    target = {
        name: torch.randint(len(task.classes), (2, side, side), dtype=torch.uint8)
        for name, task in config.tasks.items()
    }
    model.preprocess.fit(iter(image))
    for freezing in config.freezing:
        if freezing.epochs is None:  # throughout: such parts have no gradients, and nobody waits for them
            freezing.apply(model, 0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = config.optimizer(parameter_groups(model, config))
    loss = config.losses()(model.train()(image), target)["loss"]
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    still = [name for name, p in model.named_parameters() if p.grad is None and p.requires_grad]
    assert not still, f"other processes would wait for the gradients of {still}"
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    with torch.inference_mode():
        out = model.eval()(image[:1])
    assert {name: tuple(v.shape) for name, v in out.items()} == {
        name: (1, task.channels, side, side) for name, task in config.tasks.items()
    }
    assert all(torch.isfinite(v).all() for v in out.values())
