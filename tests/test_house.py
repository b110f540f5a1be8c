"""House rules that a test can hold: who imports whom, who opens files, how long things are, what is never said."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capabilities import DOCUMENT, with_table

ROOT = Path(__file__).resolve().parents[1]
CODE = ROOT / "code"
FLOORS = (
    ("errors", "interrupt", "labels", "notices", "version"), ("config", "files", "contents", "distributed"), ("geo",), ("steps",), ("figures",), ("data",), ("nn",),
    ("eda", "scoring"), ("training",), ("prediction",), ("studies",), ("baselines", "export"), ("challenges",), ("entry_point",),
)  # fmt: skip
"""Packages and modules of swath from the lowest floor up. Imports go down; config, files and distributed also among each
other, packages of one floor never. `tracking` stands beside them and is for scripts and what they share, `entry_point`.
"""
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FORBIDDEN_NAMES = {"utils", "common", "helpers", "manager"}
OPENERS = {"pyogrio": "swath/geo/vector.py", "h5netcdf": "swath/geo/netcdf.py"}


def modules() -> list[Path]:
    return sorted(CODE.rglob("*.py"))


def scripts() -> list[Path]:
    return sorted(CODE.glob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(name: str) -> str | None:
    """The package of swath that a dotted name lies in."""
    parts = name.split(".")
    return parts[1] if parts[0] == "swath" and len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CODE).as_posix())
def test_imports_go_down(path: Path) -> None:
    inside = path.relative_to(CODE).parts
    for name in imports(path):
        assert not name.startswith("configs"), f"swath and scripts never import configs: {name}"
        if inside[0] != "swath":
            assert name.split(".")[0] not in {p.stem for p in scripts()}, f"{path}: scripts never import scripts"
            continue
        own, theirs = inside[1].removesuffix(".py"), package_of(name)
        assert name.split(".")[0] != "mlflow" or own == "tracking", f"{path}: only tracking imports mlflow"
        if theirs is None or theirs == own:
            continue
        if theirs == "tracking":
            assert own == "entry_point", f"{path}: tracking is for scripts"
            continue
        if own == "tracking":
            assert FLOOR[theirs] <= FLOOR["files"], f"{path}: tracking imports {name}, which is not below it"
        else:
            below = FLOOR[theirs] < FLOOR[own] or FLOOR[theirs] == FLOOR[own] == FLOOR["files"]
            assert below, f"{path}: {own} imports {name}, which is not below it"
    if inside[:2] == ("swath", "geo"):
        assert not any(name.split(".")[0] in ("torch", "ignite") for name in imports(path)), f"{path}: no torch in geo"


def at_run_time(path: Path) -> Iterator[str]:
    """Dotted names of what a module imports but for type checkers, which are no arrows."""
    tree = ast.parse(path.read_text())
    for_checkers = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_checkers:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str | None:
    """The module of swath that a dotted name is, or lies in."""
    for known in (name, name.rpartition(".")[0]):
        if known.startswith("swath.") and (CODE / Path(*known.split("."))).with_suffix(".py").is_file():
            return known
    return None


def test_imports_have_no_circle() -> None:
    graph = {
        ".".join(path.relative_to(CODE).with_suffix("").parts): set(filter(None, map(module_of, at_run_time(path))))
        for path in modules()
        if "swath" in path.parts
    }
    seen: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' > '.join((*trail, name))}"
        if name not in seen:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            seen[name] = 1

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CODE).as_posix())
def test_one_module_opens_files_of_a_kind(path: Path) -> None:
    here = path.relative_to(CODE).as_posix()
    text = path.read_text()
    opens = here in ("swath/geo/sources.py", "swath/geo/raster_writer.py")
    assert opens or "rasterio.open(" not in text, (
        f"{here}: rasters are opened in geo/sources.py and geo/raster_writer.py"
    )
    for call in ("gpd.read_file(", "pyogrio.write", ".to_file("):
        assert here == OPENERS["pyogrio"] or call not in text, f"{here}: vectors are opened in geo/vector.py"
    renames = here in (
        "swath/files.py",
        "swath/geo/vector.py",
        "swath/geo/raster_writer.py",
    )  # sets of files, a part's copy
    assert renames or "os.replace(" not in text, f"{here}: files get their names by files.atomic_write"
    makes_figures = any(
        name.startswith(("matplotlib.figure", "matplotlib.backends", "matplotlib.pyplot")) for name in imports(path)
    )
    assert here == "swath/figures/charts.py" or not makes_figures, f"{here}: figures are made in figures/charts.py"
    reads_netcdf = any(name.split(".")[0] in ("h5netcdf", "h5py", "xarray", "netCDF4") for name in imports(path))
    assert here == OPENERS["h5netcdf"] or not reads_netcdf, f"{here}: NetCDF files are opened in geo/netcdf.py"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CODE).as_posix())
def test_no_hidden_inputs(path: Path) -> None:
    """swath reads no environment variables; names say what a module is about."""
    assert path.stem not in FORBIDDEN_NAMES
    text = path.read_text()
    for reading in ("os.environ.get", "os.environ[", "os.getenv", "eval(", "exec("):
        assert reading not in re.sub(r"\w+eval\(|\.eval\(", "", text), f"{path}: {reading}"


def statements_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs when a module is imported."""
    for node in body:
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from statements_at_import(node.body)


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CODE).as_posix())
def test_importing_changes_nothing(path: Path) -> None:
    """No environment variable, GDAL setting or filter of warnings changes for everybody because a module was imported."""
    for node in statements_at_import(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            raise AssertionError(f"{path}: {ast.unparse(node)} runs at import")
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            assert not any("environ" in ast.unparse(target) for target in targets), f"{path}: {ast.unparse(node)}"


def test_the_ignore_value_is_written_once() -> None:
    bound = [
        path.relative_to(CODE).as_posix()
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "IGNORE" for t in node.targets)
    ]
    assert bound == ["swath/labels.py"]
    assert not list(imports(CODE / "swath/labels.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    yield from (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef))


def nodes(function: ast.FunctionDef) -> int:
    """Size of a function that no line break changes: nodes of its syntax tree."""
    return sum(1 for _ in ast.walk(function))


def test_sizes_stay_readable() -> None:
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for path in modules() for node in functions(path))
    assert lengths[len(lengths) // 2] <= 13, "median function"
    assert lengths[int(0.9 * len(lengths))] <= 40, "nine in ten functions"
    sizes = sorted((nodes(f), f.name, p.relative_to(CODE).as_posix()) for p in modules() for f in functions(p))
    assert sizes[int(0.9 * len(sizes))][0] < 228, "nine in ten functions, in nodes of the syntax tree"
    assert not [size for size in sizes if size[0] > 400], "functions of more than 400 nodes"
    limits = {p: 95 if p in scripts() else 350 for p in modules()}
    long = {p.relative_to(CODE).as_posix(): n for p in modules() if (n := len(p.read_text().splitlines())) > limits[p]}
    assert not long, f"scripts of more than 95 lines, modules of more than 350: {long}"


def test_no_public_name_stands_for_two_things() -> None:
    """Below the challenges a name is one function or class, whatever module it is looked for in."""
    homes: dict[str, list[str]] = {}
    for path in modules():
        inside = path.relative_to(CODE)
        if inside.parts[0] != "swath" or inside.parts[1] == "challenges":
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(inside.as_posix())
    assert not {name: files for name, files in homes.items() if len(files) > 1}


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CODE).as_posix())
def test_public_things_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path}: what is this module for?"
    public = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")]
    missing = [n.name for n in public if not ast.get_docstring(n) and n.name != "main"]
    assert not missing, f"{path}: no docstring: {missing}"


def test_every_config_tells_its_command() -> None:
    for path in sorted((ROOT / "configs").rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert "mlflow run ." in text, f"{path}: the docstring gives no command"


def test_mlproject_names_scripts_and_configs_that_exist() -> None:
    import yaml

    project = yaml.safe_load((ROOT / "MLproject").read_text())
    for name, entry in project["entry_points"].items():
        parameters = entry["parameters"]
        assert all(p["type"] == "string" for p in parameters.values()), name
        assert (ROOT / parameters["config_path"]["default"]).is_file(), name
        script = re.search(r"python (\S+)", entry["command"])
        assert script is not None
        path = script[1].replace("{script_path}", parameters.get("script_path", {}).get("default", ""))
        assert (ROOT / path).is_file(), name
    wanted = {
        "main", "pipeline", "cross_validation", "generate_demo_scenes", "import_scenes", "generate_3b_images", "rasterize", "generate_tiles", "generate_test_tiles",
        "generate_tiles_stats", "training", "pretrain", "label_fractions", "inference", "validate", "threshold_search", "ensemble", "postprocess", "merge_tiles", "all_agg_by_city", "polygonize", "to_submission",
    }  # fmt: skip
    assert wanted <= set(project["entry_points"])


def test_nothing_generated_is_committed() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    bad = [
        f
        for f in done.stdout.splitlines()
        if not f.startswith("tests/before_the_move/")  # a record and a state that only an older version can make
        and re.search(r"\.(tif|tiff|npz|pt|safetensors|db|parquet|pyc)$|^output/|^mlruns/", f)
    ]
    assert not bad


def test_c107_list_of_capabilities_is_what_the_tests_say() -> None:
    text = DOCUMENT.read_text()
    assert with_table(text) == text, "run `python -m tests.capabilities`"


SENSOR_WORDS = re.compile(
    r"(?<![a-z0-9])(vh|vv|hh|hv|3b|s[1-6][a-d]|backscatter|sentinel|landsat|radar|polari[sz]ation|unosat|ai4arctic|autoice|"
    r"kelp|reflectance|generate_3b_images|sea.ice)(?![a-z0-9])"
)
ABOUT_SENSORS = ("swath/nn/preprocess/", "swath/challenges/", "swath/config/moved.py")
"""Formulas over named bands, and what is special about one challenge."""


def words_that_work(path: Path) -> Iterator[str]:
    """Names and texts of a module, but for docstrings: what the code does, not what it is an example of."""
    tree = ast.parse(path.read_text())
    told = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value
        elif isinstance(node, (ast.Name, ast.arg, ast.Attribute, ast.FunctionDef, ast.ClassDef)):
            yield getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "attr", None) or node.name


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CODE).as_posix())
def test_nothing_below_the_challenges_knows_a_sensor(path: Path) -> None:
    here = path.relative_to(CODE).as_posix()
    if not here.startswith("swath/") or here.startswith(ABOUT_SENSORS):
        return
    found = {word for word in words_that_work(path) if SENSOR_WORDS.search(word)}
    assert not found, f"{here}: belongs into a challenge, or into a config: {found}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CODE).as_posix())
def test_kelp_stands_in_its_own_folder(path: Path) -> None:
    """Not even in a comment elsewhere: what other optical data can use is described for them."""
    is_own = "challenges/kelp/" in path.as_posix()
    assert is_own or "kelp" not in path.read_text().lower()
