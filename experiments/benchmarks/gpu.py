"""On a GPU: training fed from disk against training fed from device memory, and maps of scenes against the forward pass.

    python experiments/benchmarks/gpu.py --rounds 5
    python experiments/benchmarks/gpu.py --precision bf16 --channels-last --compile
    python experiments/benchmarks/gpu.py --device cpu --tiny      # does it run at all

Samples/s of the same training step on batches of the loader (memory-mapped cache, pinned) and on one batch that stays
on the device; MPix/s of `Model -> classes` over a scene, reading and writing included, and of the forward pass alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
from rounds import CACHE, in_turn, row, write

from training import WARM, make_config


def wait(device: torch.device) -> None:
    """Until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(training: Any, batches: Iterable[Any], steps: int, samples: int) -> float:
    """Samples per second of `steps` steps after the warm-up; losses are fetched as in a training."""
    from swath.training.loss_log import LossLog

    log, started = LossLog(), 0.0
    for step, batch in enumerate(islice(batches, steps), start=1):
        log.add(step, training.learner.step(batch, step), batch["key"])
        if step % training.config.log_every == 0:
            log.fetch()
        if step == WARM:
            wait(training.device)
            started = time.perf_counter()
    wait(training.device)
    return (steps - WARM) * samples / (time.perf_counter() - started)


def feeding(given: argparse.Namespace, config: Any) -> dict[str, Callable[[], float]]:
    """Training steps on batches from the loader, and on one that is on the device already."""
    from swath.training.loop import Reports
    from swath.training.trainer import build_training

    training = build_training(config, Reports.none())
    device = training.device
    batch = next(iter(training.batches.training_loader(0)))
    there = batch | {
        "image": batch["image"].to(device),
        "target": {t: v.to(device) for t, v in batch["target"].items()},
    }

    def disk() -> float:
        return rate(training, training.batches.training_loader(0), given.steps, given.batch)

    def memory() -> float:
        return rate(training, repeat(there), given.steps, given.batch)

    return {"from disk": disk, "from the device": memory}


def mapping(given: argparse.Namespace, config: Any) -> dict[str, Callable[[], float]]:
    """A scene from file to files, and the forward pass over as many pixels."""
    from swath.distributed import device_of
    from swath.geo.grid import Grid
    from swath.geo.layout import RasterSpec
    from swath.geo.raster_writer import RasterWriter
    from swath.geo.windows import strips
    from swath.nn.model import build_model
    from swath.nn.tta import predictor
    from swath.prediction.rasters import scene_output
    from swath.prediction.scenes import ScenePredictor
    from swath.prediction.sliding import SlidingConfig

    device = device_of(given.device)
    model = build_model(("vh", "vv"), config.channels, config.fill, config.normaliser, config.model, config.tasks)
    layout = torch.channels_last if given.channels_last else torch.contiguous_format
    model = model.eval().to(device).to(memory_format=layout)
    sliding = SlidingConfig(window=given.window, overlap=32, batch=given.batch)
    scene, side = CACHE / f"gpu_{given.scene}.tif", given.scene
    if not scene.is_file():
        from affine import Affine

        place = Grid(None, Affine(1, 0, 0, 0, -1, 0), (side, side))
        with RasterWriter(scene, RasterSpec(grid=place, bands=("vh", "vv"), dtype="float32", nodata=-99999.0)) as file:
            for strip in strips((side, side), 2**22):
                file.write(torch.rand(2, *strip.shape).numpy(), strip)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(given.precision)
    network = torch.compile(model) if given.compile else model

    def scenes() -> float:
        predict = predictor(network, sliding.tta, device)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                work = ScenePredictor(bands=("vh", "vv"), predict=predict, tasks=config.tasks, sliding=sliding)
                work(scene, scene_output(Path(folder), "area", "scene"))
            return side * side / 1e6 / (time.perf_counter() - started)

    def forward() -> float:
        images = torch.rand(given.batch, 2, given.window, given.window, device=device).to(memory_format=layout)
        count = max(1, side * side // images[:, 0].numel())
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            network(images)
            wait(device)
            started = time.perf_counter()
            for _ in range(count):
                network(images)
            wait(device)
        return count * images[:, 0].numel() / 1e6 / (time.perf_counter() - started)

    return {"scene": scenes, "forward": forward}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--device", default="cuda")
    options.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "fp16"))
    options.add_argument("--channels-last", action="store_true")
    options.add_argument("--compile", action="store_true")
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--crop", type=int, default=256)
    options.add_argument("--encoder", default="resnet50")
    options.add_argument("--scene", type=int, default=8192)
    options.add_argument("--window", type=int, default=512)
    options.add_argument("--tiny", action="store_true", help="seconds on a CPU, for a look at whether all runs")
    given = options.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("no GPU that this PyTorch can use; `--device cpu --tiny` shows that the script runs")
    tiles = 16 if given.tiny else 512
    if given.tiny:
        given.steps, given.batch, given.crop, given.encoder, given.scene, given.window = 12, 2, 64, "resnet18", 256, 128
        given.workers = 0
    config = make_config(tiles, given.steps, given.batch, given.crop, given.encoder, tempfile.mkdtemp())
    config = replace(
        config, device=given.device, precision=given.precision, channels_last=given.channels_last, compile=given.compile,
        data=replace(config.data, workers=given.workers),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as output:
        found = in_turn(feeding(given, replace(config, output_path=output)) | mapping(given, config), given.rounds)
    pairs = [("from disk", "from the device", ">= 0.95", "samples/s"), ("scene", "forward", ">= 0.95", "MPix/s")]
    rows = [row(f"{a} / {b}", found[a], found[b], target, unit) for a, b, target, unit in pairs]
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu"
    write("gpu", rows, device=name, **{k: v for k, v in vars(given).items() if k != "device"})


if __name__ == "__main__":
    main()
