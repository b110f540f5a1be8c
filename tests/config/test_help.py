"""``--help`` of every entry point: at once, from the sources alone, and complete."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swath.config.help import page
from tests.conftest import Script, child_environment

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "code").glob("*.py"))
HEAVY = {"torch", "mlflow", "ignite", "pydantic", "numpy", "pandas", "rasterio", "segmentation_models_pytorch"}


def config_class(script: Path) -> type:
    """The class that a script hands to ``from_command_line``, imported."""
    (call,) = [
        node
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", "") == "from_command_line" or getattr(node.func, "id", "") == "preparation")
    ]
    return getattr(importlib.import_module(script.stem), ast.unparse(call.args[0]))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_c03_help_imports_nothing_heavy(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(script), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "ast" in imported  # the list is one
    assert not imported & HEAVY
    assert (ast.get_docstring(ast.parse(script.read_text())) or "?") in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_c03_help_lists_what_the_config_class_has(script: Path) -> None:
    shown = page(script).splitlines()
    listed = [line.split()[0].removeprefix("--") for line in shown if line.startswith("  --")]
    fields = dataclasses.fields(config_class(script))
    assert {name for name in listed if "." not in name} == {f.name for f in fields} | {"config_path"}
    for i, line in enumerate(shown):
        if line.startswith("  --") and "." not in line.split()[0]:
            assert shown[i + 1].startswith("      "), f"no meaning: {line}"


def test_c03_help_shows_the_values_of_a_config_file_through_its_bases(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(
        "config = TilesConfig(input_path='in', output_path='out', tiling=ConstantSize(size=64, min_overlap=8))\n"
    )
    variant = tmp_path / "variant.py"
    variant.write_text("from .base import config as base\nconfig = replace(base, output_path='other')\n")
    shown = page(ROOT / "code" / "generate_tiles.py", variant)
    assert "--input_path  path ['in']" in shown
    assert "--output_path  path ['other']" in shown
    assert "--tiling.size  int 1..65536 [64] (ConstantSize)" in shown
    assert "--tiling.stride  int 1..65536 [2048] (ConstantStride)" in shown
    assert "--executor  str ['threads']" in shown


AGAIN = """
import runpy, sys
from contextlib import suppress
for line in sys.argv[1].splitlines():
    sys.argv = line.split()
    with suppress(SystemExit):
        runpy.run_path(sys.argv[0], run_name="__main__")
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.system
def test_a_preparation_with_nothing_new_to_do_does_not_import_pytorch(
    script: Script, raw: Path, tmp_path: Path
) -> None:
    """Starting a step costs MLflow and tables, no more: networks and engines come with the first item to do."""
    at = {name: str(tmp_path / name) for name in ("scenes", "masks", "tiles", "polygons")}
    steps: list[tuple[str, dict[str, object]]] = [
        ("generate_3b_images", {"input_path": raw, "output_path": at["scenes"]}),
        ("rasterize", {"input_path": raw, "output_path": at["masks"]}),
        ("generate_tiles", {"input_path": at["scenes"], "masks_path": at["masks"], "output_path": at["tiles"]}),
        ("generate_tiles_stats", {"input_path": at["tiles"]}),
        ("polygonize", {"input_path": at["masks"], "output_path": at["polygons"]}),
    ]
    lines = []
    for name, paths in steps:
        config = f"configs/demo/{name}.py"
        assert script(name, config, **paths) == 0
        options = " ".join(f"--{field} {value}" for field, value in paths.items())
        lines.append(f"{ROOT / 'code' / name}.py --config_path {config} {options}")
    command = [sys.executable, "-c", AGAIN, "\n".join(lines)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=child_environment(tmp_path / "again.db")
    )
    assert done.stdout.count(": 0 of ") == len(steps), done.stdout + done.stderr
    loaded = set(done.stdout.rpartition("loaded: ")[2].split())
    assert "mlflow" in loaded
    assert not loaded & {
        "torch",
        "ignite",
        "torchvision",
        "segmentation_models_pytorch",
        "timm",
        "sklearn",
        "distributed",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_c03_help_to_a_reader_that_leaves_is_no_error(script: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)  # nobody will ever read: head may be that quick
    done = subprocess.run(
        [sys.executable, str(script), "--help"],
        cwd=tmp_path,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.system
@pytest.mark.parametrize("arguments", [["--help"], []], ids=["help", "work"])
def test_c03_output_to_a_reader_that_leaves_ends_a_script_without_a_traceback(
    tmp_path: Path, arguments: list[str]
) -> None:
    program = (
        "from swath import config, tracking\n"
        "from swath.config.command_line import from_command_line\n"
        "from swath.data.tiles.cutting import TilesConfig\n"
        "def main():\n"
        "    from_command_line(TilesConfig)\n"
        "    print('x' * 100_000)\n"
        "raise SystemExit(tracking.cli(main))\n"
    )
    read, write = os.pipe()
    os.close(read)
    config = ["--config_path", str(ROOT / "configs/demo/generate_tiles.py")]
    done = subprocess.run(
        [sys.executable, "-c", program, *config, *arguments], cwd=ROOT, env=child_environment(tmp_path / "mlflow.db"),
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == (0 if arguments else 141)
