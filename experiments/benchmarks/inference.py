"""Whole-scene inference against the forward pass alone and against MONAI's sliding windows: speed and peak memory.

    python experiments/benchmarks/inference.py --size 4096 --rounds 5

The same scene (2 float32 bands), the same Unet mobilenet_v2 with the same weights, 512 px windows in batches of 4. Every
measurement is a process of its own, in turn (A B C A B C ...), after one warm-up round; a process reports its seconds,
its peak memory and that of its start. Swath's seconds include reading the scene and writing both rasters with overviews; those of the
others do not write. MONAI lives in an environment of its own below output/benchmarks, made on the first start.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rounds import CACHE, ROOT, peak, python_with, row, value, write

BANDS = ("vh", "vv")
WINDOW, OVERLAP, BATCH = 512, 32, 4


# ------------------------------------------------------------------------------------------------------------- one process


def network() -> Any:
    """Unet mobilenet_v2 with weights that depend on nothing but the seed."""
    import segmentation_models_pytorch as smp
    import torch

    torch.manual_seed(0)
    return smp.Unet("mobilenet_v2", encoder_weights=None, in_channels=2, classes=2).eval()


def forward(scene: Path) -> float:
    """Seconds of the forward pass over the scene's pixels, each once: nothing read, blended or written. As swath sets it up."""
    import torch

    from swath.steps.memory import keep_freed_memory

    keep_freed_memory()
    return bare(network().to(memory_format=torch.channels_last), scene)


def forward_as_is(scene: Path) -> float:
    """The same with torch's own memory layout and the C library's own ways, as a plain script has it."""
    return bare(network(), scene)


def bare(net: Any, scene: Path) -> float:
    """Seconds of a network over as many batches as the scene has pixels."""
    import torch

    pixels = int(scene.stem.split("_")[1]) * int(scene.stem.split("_")[2])
    batch = torch.randn(BATCH, 2, WINDOW, WINDOW)
    with torch.inference_mode():
        net(batch)
        count = max(1, round(pixels / batch[:, 0].numel()))
        started = time.perf_counter()
        for _ in range(count):
            net(batch).softmax(dim=1)
        return (time.perf_counter() - started) * pixels / (count * batch[:, 0].numel())


def ours(scene: Path, tta: str = "off") -> float:
    """Seconds of swath: read, predict, blend, write classes and probabilities with overviews."""
    import torch

    from swath.nn.model import Classification, SegmentationModel
    from swath.nn.preprocess.channels import Bands, Fill, Preprocess
    from swath.nn.preprocess.normalise import ZScore
    from swath.nn.tta import predictor
    from swath.prediction.rasters import scene_output
    from swath.prediction.scenes import ScenePredictor
    from swath.prediction.sliding import SlidingConfig
    from swath.steps.memory import keep_freed_memory

    keep_freed_memory()  # as the entry point does
    tasks = {"water": Classification()}
    model = SegmentationModel(Preprocess(Bands(BANDS), Fill(2), ZScore(2, mean=0.0, std=1.0)), network(), tasks).eval()
    sliding = SlidingConfig(window=WINDOW, overlap=OVERLAP, blend="uniform", batch=BATCH, tta=tta)  # type: ignore[arg-type]
    predict = predictor(model, sliding.tta, torch.device("cpu"))
    predict(torch.randn(BATCH, 2, WINDOW, WINDOW))
    work = ScenePredictor(bands=BANDS, predict=predict, tasks=tasks, sliding=sliding)
    started = time.perf_counter()
    work(scene, scene_output(CACHE / "out", "area", scene.stem))
    return time.perf_counter() - started


def peer(scene: Path) -> float:
    """Seconds of MONAI's sliding_window_inference: read, predict, blend; the result stays in memory."""
    import rasterio
    import torch
    from monai.inferers import sliding_window_inference

    net = network()
    with torch.inference_mode():
        net(torch.randn(BATCH, 2, WINDOW, WINDOW))
        started = time.perf_counter()
        with rasterio.open(scene) as file:
            image = torch.from_numpy(file.read())[None]
        sliding_window_inference(
            image, (WINDOW, WINDOW), BATCH, lambda x: net(x).softmax(dim=1), overlap=OVERLAP / WINDOW, mode="constant"
        )
        return time.perf_counter() - started


MEASUREMENTS = {
    "forward": forward,
    "forward as is": forward_as_is,
    "ours": ours,
    "ours d4": lambda scene: ours(scene, "d4"),
    "monai": peer,
}


def measured(name: str, scene: Path) -> dict[str, float]:
    """What one process finds: seconds, peak memory and memory at its start in megabytes."""
    import rasterio  # noqa: F401 - part of the start
    import segmentation_models_pytorch  # noqa: F401

    if name.startswith("ours"):
        import swath.prediction.scenes  # noqa: F401
    start = peak()
    seconds = MEASUREMENTS[name](scene)
    return {"seconds": seconds, "start": start, "peak": peak()}


# ------------------------------------------------------------------------------------------------------------- the rounds


def in_a_process(name: str, scene: Path) -> dict[str, float]:
    """One measurement in a process of its own."""
    python = python_with("monai") if name == "monai" else Path(sys.executable)
    command = [str(python), str(Path(__file__).resolve()), "--measure", name, "--scene", str(scene)]
    path = os.pathsep.join([str(ROOT / "code"), str(ROOT)])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def make_scene(height: int, width: int) -> Path:
    """Noise with structure, 2 float32 bands, written strip by strip."""
    import numpy as np
    import rasterio

    path = CACHE / f"scene_{height}_{width}.tif"
    if path.is_file():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    part, rng = path.with_suffix(".part"), np.random.default_rng(0)
    profile = {"driver": "GTiff", "count": 2, "height": height, "width": width, "dtype": "float32", "tiled": True}
    with rasterio.open(
        part, "w", crs="EPSG:32633", transform=rasterio.Affine(10, 0, 4e5, 0, -10, 4e6), **profile
    ) as file:
        file.descriptions = BANDS
        for row in range(0, height, 512):
            rows = min(512, height - row)
            coarse = rng.normal(size=(2, 16, -(-width // 32))).repeat(32, axis=1).repeat(32, axis=2)[:, :rows, :width]
            noise = rng.normal(0, 0.3, (2, rows, width))
            file.write((coarse + noise).astype(np.float32), window=rasterio.windows.Window(0, row, width, rows))
    part.rename(path)
    return path


def against(name: str, mine: list[dict[str, float]], other: list[dict[str, float]], pixels: int, target: str) -> Any:
    """A row: MPix/s of ours and of the peer, and memory above the start."""
    speeds = [[pixels / 1e6 / one["seconds"] for one in side] for side in (mine, other)]
    return row(
        name, *speeds, target, "MPix/s", [max(one["peak"] - one["start"] for one in side) for side in (mine, other)]
    )


def compare(scene: Path, names: list[str], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every measurement in turn, `rounds` times after a warm-up round that does not count."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            one = in_a_process(name, scene)
            print(
                f"round {number} {name}: {one['seconds']:.1f} s, {one['peak'] - one['start']:.0f} MB", file=sys.stderr
            )
            if number:
                found[name].append(one)
    return found


def share_of_overlap(length: int) -> float:
    """Pixels of the scene by pixels that windows compute, along one axis."""
    from swath.geo.windows import constant_stride_offsets

    return length / (len(constant_stride_offsets(length, WINDOW, WINDOW - OVERLAP, "shift")) * WINDOW)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="side of the square scene in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--d4", action="store_true", help="with eight views too")
    parser.add_argument("--tall", type=int, default=0, help="a scene of this many rows too, for the peak memory")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure, given.scene)))
        return
    scene, pixels = make_scene(given.size, given.size), given.size**2
    names = ["forward", "ours", "forward as is", "monai", *(["ours d4"] if given.d4 else [])]
    found = compare(scene, names, given.rounds)
    limit = share_of_overlap(given.size) ** 2
    goal = f">= {0.95 * limit:.3f}"  # 0.95 of what overlap leaves
    rows = [
        against("scene / forward pass alone", found["ours"], found["forward"], pixels, goal),
        against("scene / forward pass of a plain script", found["ours"], found["forward as is"], pixels, goal),
        against("scene / MONAI, constant, overlap 32", found["ours"], found["monai"], pixels, ">= 1"),
        *([against("scene with 8 views / without", found["ours d4"], found["ours"], pixels, "")] if given.d4 else []),
    ]
    if given.tall:
        tall = in_a_process("ours", make_scene(given.tall, given.size))
        growth = tall["peak"] - max(one["peak"] for one in found["ours"])
        rows.append(value(f"peak memory of {given.tall} rows less that of {given.size}", [growth], "<= 50", "MB"))
    write("inference", rows, size=given.size, rounds=given.rounds, network="Unet mobilenet_v2", state="warm")


if __name__ == "__main__":
    main()
