"""Programs of test_scene_inference.py that need a process of their own: ranks, a kill, a full disk, peak memory."""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from torch import Tensor

from experiments.benchmarks.rounds import peak
from swath.distributed import on_all_ranks
from swath.errors import SwathError
from swath.nn.model import Classification, SegmentationModel
from swath.nn.preprocess.channels import Bands, Fill, Preprocess
from swath.nn.preprocess.normalise import ZScore
from swath.nn.tta import predictor
from swath.prediction.rasters import scene_output
from swath.prediction.scenes import ScenePredictor
from swath.prediction.sliding import SlidingConfig
from swath.steps.memory import keep_freed_memory
from tests.dask_cluster import free_port
from tests.limits import limit_file_size
from tests.synthetic import TinyNet

BANDS = ("vh", "vv")
WATER = {"water": Classification()}


def tiny(counted: list[int] | None = None, seconds: float = 0.0) -> Callable[[Tensor], dict[str, Tensor]]:
    """A small convolutional model as a function to probabilities; notes the windows per call and takes its time."""
    torch.manual_seed(1)
    preprocess = Preprocess(Bands(BANDS), Fill(2), ZScore(2, mean=0.2, std=0.5))
    model = predictor(SegmentationModel(preprocess, TinyNet(2, 2), WATER).eval(), "off", torch.device("cpu"))

    def predict(image_BCHW: Tensor) -> dict[str, Tensor]:
        time.sleep(seconds)
        if counted is not None:
            counted.append(len(image_BCHW))
        return model(image_BCHW)

    return predict


def work(
    predict: Callable[[Tensor], dict[str, Tensor]], window: int = 32, overlap: int = 12, probabilities: bool = True
) -> ScenePredictor:
    sliding = SlidingConfig(window=window, overlap=overlap, batch=2)
    return ScenePredictor(bands=BANDS, predict=predict, tasks=WATER, sliding=sliding, probabilities=probabilities)


def as_rank(_: int, image: str, folder: str) -> None:
    """Predict one scene with all ranks; then a scene that is not there, and a failure of the last rank alone."""
    counted: list[int] = []
    world, rank = idist.get_world_size(), idist.get_rank()
    work(tiny(counted))(Path(image), scene_output(Path(folder), f"ranks{world}", "scene"))
    (Path(folder) / f"{world}_{rank}.json").write_text(json.dumps(sum(counted)))
    refused = 0
    for attempt in (lambda: work(tiny())(Path("gone.tif"), scene_output(Path(folder), "no", "x")), lambda: fail(rank)):
        try:
            attempt()
        except SwathError:
            refused += 1
    assert refused == 2


def fail(rank: int) -> None:
    def give_up() -> None:
        if rank == idist.get_world_size() - 1:
            raise SwathError("no more disk here")

    on_all_ranks(give_up)


def ranks(image: str, folder: str) -> None:
    for count in (2, 4):
        with idist.Parallel(
            backend="gloo", nproc_per_node=count, start_method="fork", master_port=free_port()
        ) as parallel:
            parallel.run(as_rank, image, folder)


def slowly(image: str, folder: str) -> None:
    work(tiny(seconds=0.2))(Path(image), scene_output(Path(folder), "area", "scene"), "same")


def full_disk(image: str, folder: str) -> list[str]:
    """What is said when the disk is full at the first strip, and when all strips are there but not the raster."""
    said = []
    for limit, kind in ((1_000, ScenePredictor), (9_500, FullWhenJoining)):
        limit_file_size(limit)
        predictor = work(tiny())
        parts = {field.name: getattr(predictor, field.name) for field in dataclasses.fields(predictor)}
        try:
            kind(**parts)(Path(image), scene_output(Path(folder), "area", "scene"), "same")
        except SwathError as error:
            said.append(str(error))
    limit_file_size(9_500)
    return said


class FullWhenJoining(ScenePredictor):
    """The disk is full when strips become a raster."""

    def _join(self, *given: Any) -> None:
        limit_file_size(300)
        super()._join(*given)


def peaks(folder: str, *images: str) -> list[float]:
    """Peak memory in megabytes after each scene; it can only grow, so the smallest scene goes first, and once before
    it counts: caches fill, and freed blocks find their places.
    """
    found = []
    for image in (images[0], *images):
        work(tiny(), 512, 32)(Path(image), scene_output(Path(folder) / "peak", "area", Path(image).stem))
        found.append(peak())
    return found[1:]


def faults() -> int:
    """Pages that the system clears when 64 MB are taken again, once blocks have found their places."""
    for _ in range(20):
        torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def report(image: str, folder: str, *tall: str) -> None:
    """All of it in one process, as starting one takes longer than its work."""
    found: dict[str, object] = {"faults": [faults(), keep_freed_memory() and faults()]}
    ranks(image, folder)  # forks, which a process must not after GDAL has started threads
    found["peaks"] = peaks(folder, *tall)
    found["full_disk"] = full_disk(image, f"{folder}/full")
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "slowly":
        slowly(*sys.argv[2:])
    elif sys.argv[1] == "peaks":
        keep_freed_memory()
        print(json.dumps({"peaks": peaks(*sys.argv[2:])}))
    else:
        report(*sys.argv[2:])
