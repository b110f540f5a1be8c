"""Texts of a command line: each is read as the type that is declared for its leaf, by old names, too."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swath.config import Factory, build, configclass, load, override, resolve
from swath.config.reading import described
from swath.data.augment.transforms import D4
from swath.errors import ConfigError
from swath.training.schedules import Poly, PolyRestart


@configclass
class Sea:
    """A part."""

    depth: float = 1.0
    """Metres."""


@configclass
class Land:
    """Another part."""

    height: float
    """Metres, without a default."""


@configclass
class Everything:
    """A leaf of every type."""

    text: str = "a"
    maybe: str | None = None
    flag: bool = False
    whole: int = 1
    real: float = 1.0
    bound: float | None = None
    one_of: Literal["a", 4] = "a"
    names: tuple[str, ...] = ()
    some: tuple[str, ...] | None = None
    colours: tuple[str | None, ...] | None = None
    years: tuple[int, ...] = ()
    pair: tuple[float, str] = (0.0, "a")
    pairs: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    either: bool | tuple[Literal["x", "y z"], ...] = False
    number: float | tuple[float, ...] = 0.0
    sequence: Sequence[int] = ()
    table: dict[str, float] = field(default_factory=dict)
    tables: Mapping[str, dict[str, str]] = field(default_factory=dict)
    part: Sea | Land | None = None
    parts: dict[str, Sea | Land] = field(default_factory=lambda: {"sea": Sea()})
    build: Factory = partial(Poly)
    perhaps: Factory | None = None
    more: tuple[Factory, ...] = ()
    anything: Any = None


START = Everything()
NONE_IS_NONE = ("maybe", "bound", "some", "colours", "part", "perhaps", "anything")


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("text", "None", "None"), ("text", '"a"', '"a"'), ("text", "[1]", "[1]"), ("text", "", ""),
        ("maybe", "null", "null"), ("maybe", "2015", "2015"), ("maybe", "true", "true"),
        ("flag", "true", True), ("flag", "False", False), ("whole", "-7", -7),
        ("real", "2", 2.0), ("real", "inf", math.inf), ("real", "-inf", -math.inf), ("real", "-Infinity", -math.inf),
        ("bound", "1e-3", 0.001), ("bound", "null", None), ("one_of", "4", 4), ("one_of", "a", "a"),
        ("names", "2015,2016", ("2015", "2016")), ("names", "north", ("north",)), ("names", "None", ("None",)),
        ("names", '["a, b", "c"]', ("a, b", "c")), ("names", "", ()), ("names", "a,", ("a",)), ("names", "true", ("true",)),
        ("some", "null", None), ("some", "a b, c", ("a b", "c")),
        ("colours", "None, vh, vv", (None, "vh", "vv")), ("colours", '[null, "vh"]', (None, "vh")),
        ("years", "2015, 2016", (2015, 2016)), ("years", "3", (3,)), ("years", "[]", ()),
        ("pair", "2, 3", (2.0, "3")), ("pairs", "[[1, 2], [3, 4]]", ((1.0, 2.0), (3.0, 4.0))), ("pairs.0", "5,6", ((5.0, 6.0),)),
        ("either", "True", True), ("either", "x, y z", ("x", "y z")), ("number", "-3", -3.0), ("number", "-3,4", (-3.0, 4.0)),
        ("sequence", "1,2", (1, 2)), ("table", '{"a": 1}', {"a": 1.0}), ("tables", '{"a": {"b": "1"}}', {"a": {"b": "1"}}),
        ("part", f"{__name__}:Sea", Sea()), ("part", json.dumps(resolve(Land(height=3))), Land(height=3)),
        ("parts", json.dumps(resolve({"a": Land(height=3)})), {"a": Land(height=3)}), ("parts.sea.depth", "3", {"sea": Sea(depth=3)}),
        ("parts.sea", json.dumps(resolve(Land(height=3))), {"sea": Land(height=3)}), ("part.depth", "4", None),
        ("anything", "1,2", "1,2"), ("anything", "[1, [2]]", (1, (2,))), ("anything", "some", "some"), ("anything", "true", True),
        *((name, "None", None) for name in NONE_IS_NONE),
    ],
)  # fmt: skip
def test_c03_a_text_is_read_as_the_declared_type(path: str, text: str, expected: Any) -> None:
    if path == "part.depth":
        with pytest.raises(ConfigError, match=r"no field `depth`"):  # of two classes, neither is meant
            override(START, path, text)
        return
    found = getattr(override(START, path, text), path.split(".")[0])
    assert found == expected
    assert json.dumps(resolve(found)) == json.dumps(resolve(expected))  # 1 is not 1.0, nor True


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("flag", "1", "bool"), ("flag", "yes", "bool"), ("whole", "1.0", "int"), ("whole", "None", "int"), ("real", "true", "float"),
        ("real", "None", "float"), ("bound", "high", "float | None"), ("one_of", "b", "'a' | 4"), ("one_of", "None", "'a' | 4"),
        ("names", "[1, 2]", "tuple[str, ...]"), ("years", "1.5", "tuple[int, ...]"), ("years", "None", "tuple[int, ...]"),
        ("pair", "1", "tuple[float, str]"), ("pair", "[1, 2]", "tuple[float, str]"), ("pairs", "1,2", "tuple[tuple[float, float], ...]"),
        ("either", "z", "bool | tuple['x' | 'y z', ...]"), ("table", "a=1", "dict[str, float]"), ("table", '{"a": "b"}', "dict[str, float]"),
        ("part", "5", f"one of {__name__}:Sea, {__name__}:Land, None"), ("part", "swath.training.schedules:Poly", f"one of {__name__}:Sea"),
        ("part", "{}", "one of"), ("build", "5", "`module:Class`"), ("build", "None", "`module:Class`"), ("build", "", "`module:Class`"),
        ("perhaps", "Poly", "`module:Class` | None"), ("build", json.dumps(resolve(Poly())), "`module:Class`"), ("part", json.dumps(resolve(partial(Sea))), "one of"),
    ],
)  # fmt: skip
def test_c03_what_a_text_should_have_been_is_said_in_words(path: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        override(START, path, text)
    assert f"{path}={text}: expected {expected}" in str(error.value)
    assert f", got {text!r}" in str(error.value)


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("part", f"{__name__}:Land", r"part=.*:Land: field `height` of Land is missing. Choose it in a config file"),
        ("part", json.dumps({"_target_": f"{__name__}:Sea", "dept": 3}), r"unknown field `dept` in Sea"),
        ("part", json.dumps({"_target_": f"{__name__}:Sea", "depth": "x"}), r"`depth` of Sea: .* number"),
        ("build", "math:pi", r"build=math:pi: is 3.14\d*, not something to call. Write it as `module:Class`"),
        ("build", "no_such:Thing", r"build=no_such:Thing: cannot be imported: .*Write it as `module:Class`"),
        ("build", '{"_target_": "no_such:Thing"}', r"no_such:Thing: cannot be imported"),
        ("more", "swath.data.augment.transforms:D5", r"more=.*D5: cannot be imported"),
    ],
)  # fmt: skip
def test_c03_what_cannot_be_made_says_why(path: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override(START, path, text)


@given(
    st.lists(st.floats(allow_nan=False)),
    st.floats(allow_nan=False),
    st.integers(),
    st.dictionaries(st.text(), st.floats(allow_nan=False)),
)
def test_c03_numbers_of_any_size_come_back(
    reals: list[float], real: float, whole: int, table: dict[str, float]
) -> None:
    found = override(override(START, "real", str(real)), "whole", str(whole))
    found = override(override(found, "number", json.dumps(reals)), "table", json.dumps(table))
    assert (found.real, found.whole, found.number, found.table) == (real, whole, tuple(reals), table)
    if reals:
        assert override(START, "number", ",".join(map(str, reals))).number == (tuple(reals) if reals[1:] else reals[0])
    assert math.isnan(override(START, "real", "nan").real)


def test_c03_things_to_build_are_read_from_their_names_and_their_json() -> None:
    assert [one.func for one in override(START, "more", "swath.data.augment.transforms:D4").more] == [D4]
    changed = override(START, "build", json.dumps(resolve(partial(PolyRestart, power=0.5))))
    assert (changed.build.func, changed.build.keywords) == (PolyRestart, {"power": 0.5})
    changed = override(changed, "build", "swath.training.schedules:Poly")  # a name keeps what fits, JSON says all
    assert (changed.build.func, changed.build.keywords) == (Poly, {"power": 0.5})
    changed = override(changed, "build", json.dumps(resolve(partial(Poly))))
    assert changed.build.keywords == {}
    forms = resolve(override(START, "more", json.dumps(resolve((partial(D4), partial(Poly, power=3))))))
    assert forms["more"][1]["power"] == 3


def untyped(count=3, rate=0.5, name="a", nothing=None, **others):  # type: ignore[no-untyped-def]
    return count, rate, name, nothing, others


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("0.count", "4", 4), ("0.rate", "1", 1.0), ("0.name", "17", "17"), ("0.name", "None", "None"), ("0.nothing", "17", 17),
        ("0.nothing", "17 m", "17 m"), ("0.size", "[1]", (1,)), ("0.pair", "3,4", (3, 4)), ("1.weight", "0.5", 0.5), ("1.weight", "3", 3),
    ],
)  # fmt: skip
def test_c03_where_no_type_is_declared_the_value_there_decides(path: str, text: str, expected: Any) -> None:
    value = (partial(untyped, count=1, rate=0.1, name="b", pair=(1, 2)), {"weight": 1})
    changed = override(value, path, text)
    found = resolve(changed)[int(path[0])][path[2:]]
    assert json.dumps(found) == json.dumps(resolve(expected))
    with pytest.raises(ConfigError, match=r"0.count=x: expected int"):
        override(value, "0.count", "x")
    with pytest.raises(ConfigError, match=r"1.weight=x: expected int | float"):
        override(value, "1.weight", "x")


def test_c03_a_type_in_words() -> None:
    assert described(int | None) == "int | None"
    assert described(list[Sequence[float]]) == "list[tuple[float, ...]]"
    assert described(dict[str, tuple[int, int]] | Sea) == f"one of dict[str, tuple[int, int]], {__name__}:Sea"
    assert described(Factory) == "`module:Class`"


# ------------------------------------------------------------------------------------------------------------- old names


@pytest.mark.parametrize(
    "text",
    ["swath.nn.schedules:PolyRestart", '{"_target_": "swath.nn.schedules:PolyRestart", "_partial_": true}'],
)
def test_c03_an_old_name_of_a_class_is_taken_with_one_warning(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "swath.config"):
        assert override(START, "build", text).build.func is PolyRestart
    (said,) = caplog.messages
    assert "build: swath.nn.schedules:PolyRestart is swath.training.schedules:PolyRestart now" in said
    caplog.clear()
    assert build({"_target_": "swath.nn.schedules:Poly", "_partial_": True}).func is Poly  # records stay silent
    override(START, "text", "swath.nn.schedules:Poly")
    override(START, "build", "swath.training.schedules:Poly")
    assert not caplog.messages


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`depth` of Sea was `soundings` once."""
    monkeypatch.setattr("swath.config.moved.FIELDS", {f"{__name__}:Sea": {"soundings": "depth", "gone": "nowhere"}})


@pytest.mark.usefixtures("renamed")
def test_c03_an_old_name_of_a_field_is_taken_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    form = {"_target_": f"{__name__}:Sea", "soundings": 3.0}
    ways = {
        "set": lambda: override(Sea(), "soundings", "3"),
        "below": lambda: override(START, "parts.sea.soundings", "3").parts["sea"],
        "in JSON": lambda: override(START, "part", json.dumps(form)).part,
        "record": lambda: build(form),
        "factory": lambda: build(form | {"_partial_": True})(),
        "partial": lambda: override({"sea": partial(Sea)}, "sea.soundings", "3")["sea"](),
        "class": lambda: Sea(soundings=3.0),  # type: ignore[call-arg]
    }
    for name, way in ways.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING, "swath.config"):
            assert way() == Sea(depth=3.0), name
        (said,) = caplog.messages
        assert f"`soundings` of {__name__}:Sea is `depth` now" in said, name
    for wrong in ("gone", "sounding"):
        with pytest.raises(ConfigError, match=f"no field `{wrong}` there"):
            override(Sea(), wrong, "3")
        with pytest.raises(ValueError, match=wrong):
            Sea(**{wrong: 3.0})


def test_c03_a_config_file_takes_an_old_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("swath.config.moved.FIELDS", {"swath.prediction.sliding:SlidingConfig": {"margin": "overlap"}})
    file = tmp_path / "sliding.py"
    file.write_text(
        "from dataclasses import replace\nfrom swath.prediction.sliding import SlidingConfig\n"
        "config = replace(SlidingConfig(margin=16), margin=32)\n"
    )
    with caplog.at_level(logging.WARNING, "swath.config"):
        assert load(file, object).overlap == 32  # type: ignore[attr-defined]
    assert len(caplog.messages) == 2
