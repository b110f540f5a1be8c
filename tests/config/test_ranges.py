"""Ranges of numbers in configs: what lies outside is refused by name when the whole command line is read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest

from swath.config import configclass, override
from swath.config.command_line import from_command_line
from swath.config.ranges import Amount, Count, PositiveCount, Range, Share, check_ranges
from swath.data.tiles.cutting import TilesConfig
from swath.errors import ConfigError
from swath.geo.windows import ConstantSize
from swath.prediction.config import InferenceConfig
from swath.training.config import TrainingConfig
from tests.conftest import ROOT, Script

ALL = sorted((ROOT / "configs").rglob("*.py"))


class Layer:
    """Something to build with a range of its own."""

    def __init__(self, width: PositiveCount = 8, *, share: Share = 0.5) -> None: ...


@configclass
class Inner:
    limits: tuple[Annotated[int, Range(2, 5)], ...] = (2, 5)
    share: Share | None = None


@configclass
class Outer:
    count: Count = 0
    area: Amount = 0.0
    free: float = 0.0
    inner: Inner = Inner()
    layers: tuple[Any, ...] = (partial(Layer),)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.relative_to(ROOT / "configs").as_posix())
def test_c129_every_committed_config_lies_in_its_ranges(path: Path) -> None:
    from swath.config import load

    check_ranges(load(path, object))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("count", "-1", "count=-1: has to be 0 or more. Set it with -P count=<number>."),
        ("area", "-0.5", "area=-0.5: has to be 0 or more"),
        ("area", "inf", "area=inf: has to be finite, and 0 or more"),
        ("area", "nan", "area=nan: has to be finite, and 0 or more"),
        ("inner.share", "1.5", "inner.share=1.5: has to be from 0 to 1"),
        ("inner.limits", "2,6", r"inner.limits=\(2, 6\): has to be from 2 to 5"),
        ("layers.0.width", "0", "layers.0.width=0: has to be 1 or more. Set it with -P layers.0.width=<number>."),
        ("layers.0.share", "-1", r"layers.0.share=-1(\.0)?: has to be from 0 to 1"),
    ],
)
def test_c129_a_number_outside_its_range_is_named(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        check_ranges(override(Outer(), name, text))


@pytest.mark.parametrize(
    ("name", "text"), [("count", "0"), ("area", "1e30"), ("free", "-5"), ("inner.share", "None"), ("inner.share", "1")]
)
def test_c129_the_ends_of_a_range_and_what_has_none_pass(name: str, text: str) -> None:
    check_ranges(override(Outer(), name, text))


def test_c129_fields_that_have_to_fit_are_looked_at_when_all_are_set() -> None:
    path = "configs/demo/generate_tiles.py"
    config, _ = from_command_line(
        TilesConfig, [f"--config_path={path}", "--tiling.size=16", "--tiling.min_overlap=8"]
    )  # fmt: skip
    assert config.tiling == ConstantSize(size=16, min_overlap=8)
    with pytest.raises(ConfigError, match=r"tiling\.min_overlap=32: has to be smaller than tiling\.size=16. Set both"):
        from_command_line(TilesConfig, [f"--config_path={path}", "--tiling.size=16"])
    stride = "swath.geo.windows:ConstantStride"
    with pytest.raises(ConfigError, match=r"tiling\.stride=4096: has to be tiling\.size=2048 at most"):
        from_command_line(TilesConfig, [f"--config_path={path}", f"--tiling={stride}", "--tiling.stride=4096"])


@pytest.mark.parametrize(
    ("kind", "config", "field", "text"),
    [
        (TilesConfig, "generate_tiles", "tiling.size", "0"),
        (TilesConfig, "generate_tiles", "tiling.size", "2147483648"),
        (InferenceConfig, "inference", "sliding.window", "-256"),
        (InferenceConfig, "inference", "sliding.overlap", "-1"),
        (InferenceConfig, "inference", "previews", "-1"),
        (InferenceConfig, "inference", "scoring.confidence", "95"),
        (TrainingConfig, "training", "epochs", "0"),
        (TrainingConfig, "training", "data.batch", "0"),
        (TrainingConfig, "training", "data.crop", "-5"),
        (TrainingConfig, "training", "seed", "-1"),
        (TrainingConfig, "training", "validation.every", "0"),
    ],
)
def test_c129_numbers_that_no_step_can_work_with_are_refused_on_the_command_line(
    kind: type, config: str, field: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{field}={text}(\.0)?: has to be "):
        from_command_line(kind, [f"--config_path=configs/demo/{config}.py", f"--{field}={text}"])


def test_c129_a_script_says_it_in_one_line(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("generate_tiles", "configs/demo/generate_tiles.py", tiling__size=0) == 1
    said = capsys.readouterr().err
    assert "error: tiling.size=0: has to be from 1 to 65536. Set it with -P tiling.size=<number>." in said
    assert "Traceback" not in said
