"""The small world that faults happen to: generated scenes, tiles, a model, maps, and the steps that make them."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from tests.conftest import ROOT
from tests.faults.harness import Case, Ended, Fault, Warm
from tests.synthetic import grid, write_area

TRAINING = '''"""A small training."""
from functools import partial

from swath.data.splits.split import ByArea
from swath.nn.model import Classification
from swath.nn.preprocess.channels import Decibel
from swath.training.config import DataConfig, TrainingConfig, ValidationConfig
from tests.synthetic import PixelNet

config = TrainingConfig(
    data=DataConfig(
        tiles_path={tiles!r}, split=ByArea(validation_areas=("south",)), crop=24, batch=2, samples_per_epoch=6, workers=0,
    ),
    tasks={{"water": Classification()}},
    model=partial(PixelNet),
    channels=partial(Decibel),
    epochs=2,
    log_every=1,
    checkpoint_every=2,
    validation=ValidationConfig(panels=1),
    output_path={output!r},
    device="cpu",
)
'''


@dataclass(frozen=True)
class Command:
    """A script with the config and the settings that it is started with; ``{case}`` stands for the case's folder."""

    script: str
    config: str
    settings: Mapping[str, Any]

    def arguments(self, case: Case) -> list[str]:
        """Its command line in a case's folder."""
        given = {name: str(value).replace("{case}", str(case.folder)) for name, value in self.settings.items()}
        return [
            f"--config_path={self.config.replace('{case}', str(case.folder))}",
            *(f"--{k}={v}" for k, v in given.items()),
        ]


def step(script: str, config: str, **settings: Any) -> Command:
    """A command; ``__`` in the name of a setting stands for a dot."""
    return Command(script, config, {name.replace("__", "."): value for name, value in settings.items()})


DEMO = "configs/demo/{}.py"
TILING = {"tiling__size": 32, "tiling__min_overlap": 4}


def chain(source: str, scenes: str, output: str) -> list[Command]:
    """From raw data to tiles with statistics."""
    return [
        step("generate_3b_images", DEMO.format("generate_3b_images"), executor="serial", input_path=source,
             output_path=f"{output}/scenes"),
        step("rasterize", DEMO.format("rasterize"), executor="serial", input_path=source, output_path=f"{output}/masks"),
        step("generate_tiles", DEMO.format("generate_tiles"), executor="serial", input_path=f"{scenes}/scenes",
             masks_path=f"{scenes}/masks", output_path=f"{output}/tiles", **TILING),
        step("generate_tiles_stats", DEMO.format("generate_tiles_stats"), executor="serial",
             input_path=f"{output}/tiles"),
    ]  # fmt: skip


def steps(run_id: str) -> dict[str, list[Command]]:
    """The commands of each row of the matrix, given the id of a training run; they read ``in`` and write ``out``."""
    maps = {"executor": "serial", "input_path": "{case}/in/maps"}
    return {
        "prepare": chain("{case}/in/raw", "{case}/out", "{case}/out"),
        "train": [step("training", "{case}/in/training.py")],
        "infer": [
            step("inference", DEMO.format("inference"), run_id=run_id, input_path="{case}/in/scenes", areas="None",
                 labels_path="{case}/in/masks", output_path="{case}/out", sliding__window=32, sliding__overlap=8,
                 device="cpu", allow_leaks=True, allow_selection_set=True, threshold="None", previews=1,
                 trust="tests.synthetic"),
        ],
        "submit": [
            step("to_submission", DEMO.format("to_submission"), input_path="{case}/in/maps/probabilities",
                 output_path="{case}/out", scenes_path="{case}/in/scenes", min_area=0),
        ],
        "eda": [step("eda", DEMO.format("eda"), input_path="{case}/in/tiles", scenes_path="{case}/in/scenes",
                     output_path="{case}/out")],
        "polygonize": [step("polygonize", DEMO.format("polygonize"), **maps, output_path="{case}/out")],
        "postprocess": [step("postprocess", DEMO.format("postprocess"), **maps, output_path="{case}/out",
                             labels_path="None")],
        "aggregate": [step("all_agg_by_city", DEMO.format("all_agg_by_city"), **maps, output_path="{case}/out")],
    }  # fmt: skip


class World:
    """Inputs of all steps, made once by the steps themselves, and a folder per case with a copy of them."""

    def __init__(self, folder: Path, warm: Warm) -> None:
        self.folder, self.warm = folder, warm
        self.base = Case(folder / "base")
        self.inputs = self.base.folder / "in"
        self.numbers = itertools.count(1)
        (self.base.folder / "tmp").mkdir(parents=True)
        for i, area in enumerate(("north", "south")):
            write_area(self.inputs / "raw", area, grid((60, 64), (400_000.0 + 20_000 * i, 3_700_000.0)), seed=i)
        self._new_store()
        for command in chain("{case}/in/raw", "{case}/in", "{case}/in"):
            self._make(command)
        self._write_training(self.base)
        self._make(step("training", "{case}/in/training.py"))
        self.run_id = self._newest_run()
        self.commands = steps(self.run_id)
        (infer,) = self.commands["infer"]
        self._make(Command(infer.script, infer.config, {**infer.settings, "output_path": "{case}/in/maps"}))
        shutil.rmtree(self.base.out, ignore_errors=True)

    def _new_store(self) -> None:
        """A store with its tables and an experiment, so that no case has to make them."""
        uri = f"sqlite:///{self.base.database}"
        client = mlflow.MlflowClient(uri)
        client.create_experiment("faults", artifact_location=(self.base.folder / "artifacts").as_uri())

    def _write_training(self, case: Case) -> None:
        text = TRAINING.format(tiles=str(case.folder / "in/tiles"), output=str(case.out))
        (case.folder / "in/training.py").write_text(text)

    def _make(self, command: Command) -> None:
        done = self.warm.start(self.base, command.script, command.arguments(self.base)).wait()
        assert done is not None
        assert done.status == 0, done.said

    def _newest_run(self) -> str:
        with closing(sqlite3.connect(self.base.database)) as store:
            return str(store.execute("SELECT run_uuid FROM runs ORDER BY start_time DESC").fetchone()[0])

    def case(self, name: str = "") -> Case:
        """A new case, with inputs and a store of its own."""
        case = Case(self.folder / (name or f"case{next(self.numbers)}"))
        shutil.copytree(self.inputs, case.folder / "in")
        (case.folder / "tmp").mkdir()
        shutil.copyfile(self.base.database, case.database)
        with closing(sqlite3.connect(case.database)) as store:
            case.runs_before = frozenset(row[0] for row in store.execute("SELECT run_uuid FROM runs"))
        self._write_training(case)
        return case

    def run(
        self, case: Case, commands: Sequence[Command], fault: tuple[int, Fault] | None = None, **constants: Any
    ) -> list[Ended]:
        """Start commands one after the other until one fails; the one with the number `fault[0]` meets a fault."""
        ended: list[Ended] = []
        for number, command in enumerate(commands):
            own = fault[1] if fault and fault[0] == number else Fault(case.out)
            process = self.warm.start(case, command.script, command.arguments(case), own, **constants)
            found = process.wait()
            assert found is not None
            ended.append(found)
            if found.status:
                break
        return ended


__all__ = ["ROOT", "Command", "World", "chain", "step", "steps"]
