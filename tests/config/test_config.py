"""Config files and overrides: what is refused and how it is said, what a variant keeps, what comes back from JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swath import config as configs
from swath.challenges.kelp.simulate import KelpScenesConfig
from swath.config import absolute, build, digest, leaves, load, locate, override, override_all, relative, resolve
from swath.data.augment.transforms import D4, RandomAffine
from swath.data.samples.samplers import TargetPresence
from swath.data.splits.split import ByArea, ByFold
from swath.errors import ConfigError
from swath.nn.losses.overlap import SoftJaccard
from swath.nn.losses.pixel import CrossEntropy, WeightedSum
from swath.nn.model import Classification
from swath.nn.preprocess.channels import Decibel
from swath.nn.preprocess.normalise import MinMax, ZScore
from swath.prediction.config import InferenceConfig
from swath.prediction.sliding import SlidingConfig
from swath.training.config import DataConfig, TrainingConfig
from swath.training.schedules import OneCycle, Poly, PolyRestart

LOSS = partial(
    WeightedSum, losses={"ce": partial(CrossEntropy), "jaccard": partial(SoftJaccard)}, weights={"ce": 1, "jaccard": 2}
)
TRAINING = TrainingConfig(
    data=DataConfig(
        tiles_path="tiles", split=ByArea(validation_areas=("north",)), augmentation=(partial(D4), partial(RandomAffine, degrees=5.0)),
        sampler=TargetPresence(without=0.7, with_target=0.3),
    ),
    tasks={"water": Classification(loss=LOSS)},
    model=partial(smp.Unet, encoder_name="resnet18", encoder_weights=None),
    channels=partial(Decibel, clip=(-35.0, 5.0)),
    normaliser=partial(ZScore, mean=-15.0, std=6.0),
    schedule=partial(Poly, power=0.5),
)  # fmt: skip
HEAD = "from swath.prediction.scenes import InferenceConfig, SlidingConfig\n"
GOOD = HEAD + "config = InferenceConfig(run_id='r', input_path='in', output_path='out')\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a config file into a project of its own; the package's name is new for each test."""
    monkeypatch.setattr("swath.config.paths.PROJECT_ROOT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    package = f"plans_{tmp_path.name}"

    def to(text: str, name: str = "inference.py") -> Path:
        path = tmp_path / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return to


# ---------------------------------------------------------------------------------------------------------------- paths


def test_c02_a_relative_path_starts_at_the_project_root_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(configs.__file__).resolve().parents[3]
    assert (root / "MLproject").is_file()
    monkeypatch.chdir(tmp_path)
    assert absolute("output/demo") == root / "output" / "demo"
    assert absolute(Path("output/../output/demo")) == absolute("output/demo")
    assert absolute(tmp_path / "x") == (tmp_path / "x").resolve()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute("~/scenes") == tmp_path.resolve() / "scenes"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b c", "..", "d.tif"]), min_size=1, max_size=4))
def test_c02_relative_and_absolute_are_inverse(parts: list[str]) -> None:
    path = absolute("/".join(parts))
    assert absolute(relative(path)) == path
    assert Path(relative(path)).is_absolute() == (not path.is_relative_to(configs.PROJECT_ROOT))


# -------------------------------------------------------------------------------------------------------------- loading


def test_c03_a_config_file_is_loaded_by_relative_and_absolute_path(write: Write) -> None:
    path = write(GOOD)
    assert load(path, InferenceConfig) == load(relative(path), InferenceConfig)
    assert load(path, InferenceConfig).sliding == SlidingConfig()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            "InferenceConfig(run_id='r', input_pth='in', output_path='out')",
            ["`input_pth`", "Did you mean `input_path`?"],
        ),
        ("InferenceConfig(run_id='r', output_path='out')", ["`input_path` of InferenceConfig is missing"]),
        (
            "InferenceConfig(run_id=7, input_path='in', output_path='out')",
            ["`run_id` of InferenceConfig", "string", "7"],
        ),
        ("SlidingConfig(window='large')", ["`window` of SlidingConfig", "integer", "'large'"]),
        ("SlidingConfig(window=256.0)", ["`window` of SlidingConfig", "integer"]),
        ("SlidingConfig(blend='cubic')", ["`blend` of SlidingConfig", "'uniform', 'linear' or 'gaussian'", "cubic"]),
        ("SlidingConfig(overlp=3)", ["unknown field `overlp` in SlidingConfig", "`overlap`"]),
    ],
)
def test_c03_a_wrong_field_is_named_with_its_file_and_the_nearest_name(
    write: Write, call: str, words: list[str]
) -> None:
    path = write(f"{HEAD}config = {call}\n")
    with pytest.raises(ConfigError) as error:
        load(path, InferenceConfig)
    for word in [str(path), *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "found nothing"),
        (HEAD + "config = SlidingConfig()\n", "must be a InferenceConfig, found SlidingConfig"),
        ("config = InferenceConfig(\n", "SyntaxError"),
        ("config = InferenceConfig()\n", "NameError"),
        ("import no_such_module_anywhere\n", "no_such_module_anywhere"),
        ("from .no_such_sibling import config\n", "no_such_sibling"),
        (HEAD + "config = InferenceConfig('r', 'in', 'out')\n", "InferenceConfig"),
    ],
)
def test_c03_a_file_that_is_no_config_says_what_it_is(write: Write, text: str, words: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError, match=words) as error:
        load(path, InferenceConfig)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\x7fELF\x02\x01\x01\x00\x00\xff", ["cannot be imported"]),
        (b"# coding: no_such_coding\n", ["SyntaxError"]),
        (b"x = '\xff'\n", ["SyntaxError"]),
        (b"x = 1 / 0\n", ["line 1", "ZeroDivisionError"]),
        (b"x = {}\nx['y']\n", ["line 2", "KeyError: 'y'"]),
        (b"open('no_such_file')\n", ["line 1", "FileNotFoundError", "no_such_file"]),
        (b"def f(): f()\nf()\n", ["line 1", "RecursionError"]),
        (b"import runpy\nrunpy.run_path(__file__)\n", ["line 2", "RecursionError"]),
        (b"import sys\nsys.exit(3)\n", ["line 2", "SystemExit: 3"]),
        (b"raise Exception\n", ["line 1", "Exception"]),
        (b"x = " + b"(" * 5000 + b")" * 5000, ["cannot be imported"]),
        (HEAD.encode() + b"config = InferenceConfig(run_id='r', input_path='in', output_path='o', threshold=[])", ["`threshold"]),
    ],
)  # fmt: skip
def test_c129_a_config_file_that_fails_in_any_way_is_named(write: Write, text: bytes, words: list[str]) -> None:
    path = write("")
    path.write_bytes(text)
    with pytest.raises(ConfigError) as error:
        load(path, InferenceConfig)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_c129_a_config_file_that_imports_itself_is_named(write: Write) -> None:
    path = write("")
    path.write_text(f"from {path.parent.name}.{path.stem} import config\n")
    with pytest.raises(ConfigError, match=r"inference\.py: cannot be imported \(line 1\): ImportError"):
        load(path, InferenceConfig)


def test_c129_what_is_no_python_file_is_no_config(write: Write) -> None:
    path = write(GOOD)
    beside = path.with_suffix(".txt")
    beside.write_text("not the config of that name")
    with pytest.raises(ConfigError, match=r"inference\.txt: no Python file. Name a config file, which ends in \.py"):
        load(beside, InferenceConfig)
    with pytest.raises(ConfigError, match=rf"config_path={path.parent}: is a folder. Name a config file"):
        load(path.parent, InferenceConfig)
    dotted = write(GOOD, "inference.v2.py")
    assert load(dotted, InferenceConfig).run_id == "r"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\0b", "no file can be called so"),
        ("~nobody_of_this_name/x", "no file can be called so"),
        ("x/" + "y" * 300, "a name of 300 bytes; file systems take 255"),
    ],
)
def test_c129_a_path_that_no_file_system_takes_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        absolute(text)


def test_c129_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ConfigError, match="no file can be called so"):
        absolute(tmp_path / "a")


def test_c129_a_module_that_fails_when_it_is_imported_names_what_was_typed(write: Write) -> None:
    path = write("raise SystemExit(3)\n", "leaving.py")
    name = f"{path.parent.name}.leaving:Net"
    with pytest.raises(ConfigError, match=f"{name}: cannot be imported: 3. Write it as `module:Class`"):
        locate(name)


def test_c129_a_class_that_does_not_tell_its_parameters_takes_any_keyword() -> None:
    assert override(TRAINING, "model", "builtins:dict").model.func is dict


def test_c03_a_missing_file_names_the_nearest_one(write: Write) -> None:
    path = write(GOOD)
    with pytest.raises(ConfigError, match=r"no such file.*Did you mean inference.py"):
        load(path.with_name("inferense.py"), InferenceConfig)
    with pytest.raises(ConfigError, match="no such file"):
        load("no/such/folder/config.py", InferenceConfig)


def test_c03_a_variant_states_its_difference_to_a_relative_import(write: Write) -> None:
    write(GOOD)
    small = write(
        "from dataclasses import replace\nfrom .inference import config as base\nconfig = replace(base, input_path='small')\n",
        "small.py",
    )
    deeper = write(
        "from dataclasses import replace\nfrom ..small import config as base\nconfig = replace(base, run_id='new')\n",
        "deeper/inference.py",
    )
    assert load(small, InferenceConfig).input_path == "small"
    found = load(deeper, InferenceConfig)
    assert (found.run_id, found.input_path, found.output_path) == ("new", "small", "out")


def test_c03_a_variant_is_checked_as_well(write: Write) -> None:
    write(GOOD)
    text = "from dataclasses import replace\nfrom .inference import config as base\nconfig = replace(base, {})\n"
    with pytest.raises(ConfigError, match=r"unknown field `runid` in InferenceConfig. Did you mean `run_id`"):
        load(write(text.format("runid='x'"), "unknown.py"), InferenceConfig)
    with pytest.raises(ConfigError, match="`score_prefix`"):
        load(write(text.format("score_prefix=3"), "typed.py"), InferenceConfig)


def test_c03_files_of_one_name_outside_the_project_do_not_collide(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inference.py").write_text(GOOD.replace("'r'", f"'{name}'"))
    found = [load(tmp_path / name / "inference.py", InferenceConfig).run_id for name in ("one", "two", "one")]
    assert found == ["one", "two", "one"]


def test_c03_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TRAINING.epochs = 3  # type: ignore[misc]


FACTORIES = """
from functools import partial
from swath.training.config import DataConfig, TrainingConfig
from swath.nn.model import Classification
from swath.training.schedules import Poly
from swath.nn.losses.pixel import CrossEntropy
class Net:
    def __init__(self, in_channels, classes): ...
config = TrainingConfig(data=DataConfig(tiles_path="t"), tasks={{"water": Classification({loss})}}, model={model}, {rest})
"""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rest": "schedule=partial(Poly, pover=2)"}, ["schedule", "takes no `pover`", "`power`"]),
        ({"loss": "loss=partial(CrossEntropy, class_weigths=(1.0,))"}, ["tasks.water.loss", "`class_weights`"]),
        ({"model": "partial(lambda in_channels, classes: None)"}, ["model", "lambda"]),
        ({"model": "lambda in_channels, classes: None"}, ["model", "lambda"]),
        ({"rest": "channels=Net(1, 2)"}, ["channels"]),
        ({"model": "3"}, ["`model` of TrainingConfig"]),
    ],
)
def test_c03_what_cannot_be_built_later_is_refused_at_loading(
    write: Write, changes: dict[str, str], words: list[str]
) -> None:
    parts = {"loss": "", "model": "partial(Net)", "rest": ""} | changes
    path = write(FACTORIES.format(**parts), "training.py")
    with pytest.raises(ConfigError) as error:
        load(path, TrainingConfig)
    for word in ["training.py", *words]:
        assert word in str(error.value)


def test_c03_factories_that_fit_are_accepted(write: Write) -> None:
    path = write(FACTORIES.format(loss="", model="partial(Net)", rest="schedule=partial(Poly, power=2)"), "training.py")
    assert load(path, TrainingConfig).schedule()(1, 2) == 0.25


# ------------------------------------------------------------------------------------------------------------ overrides


def as_json(resolved: object) -> str:
    """Text that tells 1 from 1.0, and tuples not from lists."""
    return json.dumps(resolved, sort_keys=True)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("epochs", "3", 3),
        ("seed", "-1", -1),
        ("clip_norm", "1", 1.0),
        ("clip_norm", "1e-3", 0.001),
        ("clip_norm", "None", None),
        ("no_decay", "True", True),
        ("no_decay", "true", True),
        ("name", "17", "17"),
        ("name", "a, b", "a, b"),
        ("name", "None", None),
        ("output_path", "123", "123"),
        ("precision", "bf16", "bf16"),
        ("data.crop", "128", 128),
        ("data.crop", "None", None),
        ("data.tiles_path", "some/where", "some/where"),
        ("data.split.validation_areas", "a,b", ("a", "b")),
        ("data.split.validation_areas", "a", ("a",)),
        ("data.split.validation_areas", '["a", "b"]', ("a", "b")),
        ("data.split.validation_areas", "2015, 2016", ("2015", "2016")),
        ("data.split.validation_areas", "", ()),
        ("data.split.validation_areas.0", "south", "south"),
        ("data.sampler.with_target", "0.9", 0.9),
        ("data.augmentation.1.degrees", "30", 30.0),
        ("data.augmentation.1.scale", "0.8,1.25", (0.8, 1.25)),
        ("validation.unit", "iterations", "iterations"),
        ("tasks.water.weight", "0.5", 0.5),
        ("tasks.water.classes.1", "sea", "sea"),
        ("tasks.water.loss.weights.jaccard", "3", 3),
        ("tasks.water.loss.weights.jaccard", "0.5", 0.5),
        ("tasks.water.loss.losses.ce.class_weights", "0.1,2", (0.1, 2.0)),
        ("tasks.water.loss.losses.ce.label_smoothing", "0.1", 0.1),
        ("model.encoder_name", "resnet34", "resnet34"),
        ("model.decoder_channels", "32,16,8,8,8", (32, 16, 8, 8, 8)),
        ("optimizer.lr", "2e-3", 0.002),
        ("channels.bands", "vh,vv", ("vh", "vv")),
        ("normaliser.mean", "-17,-10", (-17.0, -10.0)),
        ("normaliser.mean", "None", None),
        ("schedule.power", "2", 2.0),
    ],
)
def test_c03_any_leaf_can_be_set(path: str, text: str, expected: object) -> None:
    before = as_json(resolve(TRAINING))
    expected_form = resolve(TRAINING)
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place = expected_form
    for part in parents:
        place = place[part]
    place[last] = expected
    assert as_json(resolve(override(TRAINING, path, text))) == as_json(expected_form)
    assert as_json(resolve(TRAINING)) == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("epoch", ["epoch", "`epochs`"]),
        ("data.crp", ["data.crp", "`crop`"]),
        ("data.crop.x", ["data.crop.x", "no field `x`"]),
        ("tasks.watr.weight", ["`watr`", "`water`"]),
        ("tasks.water.wieght", ["`weight`"]),
        ("tasks.water.classes.7", ["`7`", "Known: 0, 1"]),
        ("tasks.water.loss.losses.jacard.classes", ["`jacard`", "`jaccard`"]),
        ("data.augmentation.1.degree", ["`degrees`"]),
        ("data.augmentation.2.degrees", ["`2`"]),
        ("optimizer.weight_dcay", ["`weight_decay`"]),
        ("schedule.pover", ["`power`"]),
        ("nonsense", ["`nonsense`"]),
    ],
)
def test_c03_a_wrong_name_answers_with_the_nearest_right_one(path: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        override(TRAINING, path, "1")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("epochs", "many", "int"),
        ("epochs", "1.5", "int"),
        ("epochs", "None", "int"),
        ("epochs", "true", "int"),
        ("no_decay", "1", "bool"),
        ("data", "5", "DataConfig"),
        ("data.crop", "1,2", "int | None"),
        ("validation.unit", "weeks", "iterations"),
        ("tasks.water.weight", "heavy", "float"),
        ("data.augmentation.1.degrees", "steep", "float"),
        ("data.augmentation.1.scale", "1", "tuple"),
        ("data.augmentation.1.scale", "1,2,3", "tuple"),
        ("tasks.water.loss.weights.jaccard", "heavy", "float"),
        ("schedule.power", "None", "float"),
        ("optimizer.lr", "fast", "float"),
    ],
)
def test_c03_a_wrong_type_says_what_is_expected(path: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        override(TRAINING, path, text)
    assert path in str(error.value)
    assert f"expected {expected}" in str(error.value) or (
        expected in str(error.value) and "expected" in str(error.value)
    )
    assert repr(text) in str(error.value)


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=20), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
def test_c03_values_are_read_back_as_they_are_written(text: str, number: int, real: float) -> None:
    changed = override(override(override(TRAINING, "output_path", text), "seed", str(number)), "clip_norm", repr(real))
    assert (changed.output_path, changed.seed, changed.clip_norm) == (text, number, real)


def test_c03_another_class_keeps_the_keywords_that_fit() -> None:
    changed = override(TRAINING, "schedule", "swath.training.schedules:PolyRestart")
    assert (changed.schedule.func, changed.schedule.keywords) == (PolyRestart, {"power": 0.5})
    assert override(TRAINING, "schedule", "swath.training.schedules:OneCycle").schedule.keywords == {}
    assert override(TRAINING, "schedule", "swath.training.schedules:OneCycle").schedule.func is OneCycle
    changed = override(TRAINING, "normaliser", "swath.nn.preprocess.channels:MinMax")
    assert (changed.normaliser.func, changed.normaliser.keywords) == (MinMax, {})
    changed = override(TRAINING, "model", "segmentation_models_pytorch:FPN")
    assert changed.model.func is smp.FPN
    assert changed.model.keywords == {"encoder_name": "resnet18", "encoder_weights": None}
    changed = override(TRAINING, "optimizer", "torch.optim:SGD")
    assert (changed.optimizer.func, set(changed.optimizer.keywords)) == (torch.optim.SGD, {"lr", "weight_decay"})
    changed = override(TRAINING, "tasks.water.loss.losses.jaccard", "swath.nn.losses.pixel:Dice")
    assert set(changed.tasks["water"].loss().losses) == {"ce", "jaccard"}


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module:Thing",
        "swath.nn.losses.pixel:Lose",
        "swath.nn.losses.pixel",
        "Dice",
        "",
        ":",
        ".losses:Dice",
        "math:pi",
    ],
)
def test_c03_a_class_that_is_not_there_is_an_error_that_tells_the_form(name: str) -> None:
    with pytest.raises(ConfigError, match="module:Class"):
        override(TRAINING, "schedule", name)


def test_c03_locate_finds_nested_names() -> None:
    assert locate("swath.prediction.scenes:SlidingConfig") is SlidingConfig
    assert locate("pathlib:Path.cwd")() == Path.cwd()


def test_c03_a_partial_with_positional_arguments_can_be_overridden() -> None:
    changed = override({"schedule": partial(WeightedSum, {"ce": CrossEntropy})}, "schedule.losses", '{"ce": 1}')
    assert resolve(changed)["schedule"]["losses"] == {"ce": 1}
    assert changed["schedule"].args == ()


# --------------------------------------------------------------------------------------------------- JSON, digest, report


def test_c03_resolve_and_build_are_inverse() -> None:
    resolved = resolve(TRAINING)
    assert json.loads(json.dumps(resolved)) == resolved
    again = build(json.loads(json.dumps(resolved)))
    assert isinstance(again, TrainingConfig)
    assert resolve(again) == resolved
    assert again.data.sampler == TRAINING.data.sampler
    assert again.tasks["water"].classes == ("background", "water")
    assert again.schedule.func is Poly  # a partial of a dataclass stays one
    assert again.schedule()(1, 2) == 0.5**0.5
    assert again.data.augmentation[1].keywords == {"degrees": 5.0}


def test_c03_build_checks_what_it_builds() -> None:
    resolved = resolve(SlidingConfig())
    assert build(resolved) == SlidingConfig()
    with pytest.raises((ConfigError, ValueError), match="window"):
        build({**resolved, "window": "large"})


def test_c03_the_demo_resolves_and_builds() -> None:
    config = load("configs/demo/training.py", TrainingConfig)
    assert resolve(build(resolve(config))) == resolve(config)


def test_c03_what_has_no_json_form_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"config.model.*lambda"):
        resolve(dataclasses.replace(TRAINING, model=partial(lambda in_channels, classes: None)))
    with pytest.raises(ConfigError, match=r"config.a.b"):
        resolve({"a": {"b": {1, 2}}})


def test_c04_leaves_are_flat_names_to_plain_values() -> None:
    flat = leaves(resolve(TRAINING))
    assert flat["data.crop"] == 256
    assert flat["model"].startswith("segmentation_models_pytorch")
    assert flat["model"].endswith(":Unet")
    assert flat["model.encoder_name"] == "resnet18"
    assert flat["tasks.water.loss.weights.jaccard"] == 2
    assert not any("_target_" in name for name in flat)
    assert not any(isinstance(value, dict) and value for value in flat.values())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("epochs", "21"), ("data.crop", "None"), ("data.split.validation_areas", "south"), ("schedule.power", "0.51"),
        ("tasks.water.loss.weights.jaccard", "3"), ("schedule", "swath.training.schedules:PolyRestart"),
    ],
)  # fmt: skip
def test_c04_the_digest_changes_with_a_value_and_only_then(path: str, text: str) -> None:
    changed = override(TRAINING, path, text)
    assert digest(changed) != digest(TRAINING)
    assert digest(build(resolve(changed))) == digest(changed)
    assert len(digest(changed)) == 12


def test_c04_the_sources_of_a_variant_hold_its_base() -> None:
    load("configs/demo/inference_tiles.py", InferenceConfig)
    names = [relative(path) for path in configs.sources("configs/demo/inference_tiles.py")]
    assert {"configs/demo/inference_tiles.py", "configs/demo/inference.py"} <= set(names)


# --------------------------------------------------------------------------------------------------------- command line


def test_c03_the_command_line_is_a_config_file_and_overrides_in_order(write: Write) -> None:
    path = str(write(GOOD))
    arguments = [
        "--config_path",
        path,
        "--sliding.window",
        "64",
        "--sliding.overlap=16",
        "--run_id",
        "--x",
        "--run_id=y",
    ]
    config, where = configs.from_command_line(InferenceConfig, arguments)
    assert where == path
    assert (config.sliding.window, config.sliding.overlap, config.run_id) == (64, 16, "y")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "config_path is missing"),
        (["--config_path"], "--config_path has no value"),
        (["configs/demo/inference.py"], "expected `--field value`"),
        (["--config_path", "PATH", "--sliding.windw", "3"], "`window`"),
        (["--config_path", "PATH", "--sliding.window", "wide"], "expected int"),
    ],
)
def test_c03_a_wrong_command_line_says_what_is_wrong(write: Write, arguments: list[str], words: str) -> None:
    path = str(write(GOOD))
    with pytest.raises(ConfigError, match=words):
        configs.from_command_line(InferenceConfig, [path if a == "PATH" else a for a in arguments])


def test_c03_help_lists_every_field_with_its_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        configs.from_command_line(InferenceConfig, ["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for field in dataclasses.fields(InferenceConfig):
        assert f"--{field.name} " in shown
    assert "--sliding.overlap  int >= 0 [128]" in shown
    assert "--run_id  str [required]" in shown
    assert "Pixels that neighbouring windows share." in shown


def test_c03_field_of_an_optional_part_brings_the_part_with_its_defaults() -> None:
    config = load("configs/demo/training.py", TrainingConfig)
    assert config.validation.early_stopping is None
    changed = override(config, "validation.early_stopping.patience", "7")
    assert changed.validation.early_stopping is not None
    assert changed.validation.early_stopping.patience == 7
    assert changed.validation.early_stopping.min_delta == 0.0
    with pytest.raises(ConfigError, match=r"no field `patienec` there. Did you mean `patience`"):
        override(config, "validation.early_stopping.patienec", "7")


def test_c04_leaves_go_through_lists_of_things_to_build() -> None:
    flat = leaves(resolve(load("configs/demo/training.py", TrainingConfig)))
    assert flat["data.augmentation.0"] == "swath.data.augment.transforms:D4"
    assert flat["channels.clip"] == [-35.0, 5.0]


def test_c03_one_of_several_config_classes_is_chosen_by_name() -> None:
    config = load("configs/demo/training.py", TrainingConfig)
    changed = override(
        override(config, "data.split", "swath.data.splits.split:ByFold"), "data.split.validation_fold", "2"
    )
    assert changed.data.split == ByFold(validation_fold=2)
    assert (
        override(config, "data.sampler", "swath.data.samples.samplers:TargetPresence").data.sampler == TargetPresence()
    )
    with pytest.raises(
        ConfigError, match=r"expected one of swath.data.splits.split:ByArea, swath.data.splits.split:ByFold"
    ):
        override(config, "data.split", "swath.data.samples.samplers:Uniform")
    with pytest.raises(ConfigError, match=r"field `block` of BlockFolds is missing"):
        override(config, "data.split", "swath.data.splits.split:BlockFolds")


@pytest.mark.parametrize("swapped", [False, True])
def test_c03_values_that_fit_only_together_are_given_in_any_order(swapped: bool) -> None:
    plain = load("configs/kelp/generate_demo_scenes.py", KelpScenesConfig)
    assert plain.aois == 30
    pairs = [("tiles", "24"), ("aois", "10")]
    found = override_all(plain, pairs[::-1] if swapped else pairs)
    assert (found.tiles, found.aois) == (24, 10)
    with pytest.raises(ConfigError, match="tiles=24: give each of the 40 places"):
        override_all(plain, [("tiles", "24"), ("aois", "40")])
    assert override_all(plain, [("seed", "1"), ("seed", "2")]).seed == 2
