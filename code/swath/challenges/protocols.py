"""What a challenge's own steps have in common, so that one script starts those of any challenge.

The config of such a step knows its work: an entry point takes any config file that binds one of these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.config import NotDecisive, OutputPath, absolute, configclass, inputs_of
from swath.contents import contents_below
from swath.data.tables import SCENES, write_table
from swath.steps.config import Step, ledger_of
from swath.steps.job import Job, Report
from swath.steps.ledger import Ledger


@configclass
class SceneMaker(Step, ABC):
    """Config of `generate_demo_scenes`: raw data in a challenge's layout, made up. Each challenge has a class of its own."""

    step_name = "generate_demo_scenes"

    output_path: OutputPath
    """Folder of the data."""

    @abstractmethod
    def scenes_to_make(self, output: Path) -> Sequence[Job]:
        """A job per scene or area."""

    def jobs(self) -> Sequence[Job]:
        """A job per scene or area."""
        return self.scenes_to_make(self.output)


@configclass
class SceneImport(Step, ABC):
    """Config of `import_scenes`: a challenge's files to scenes. Each challenge has a class of its own."""

    step_name = "import_scenes"

    output_path: OutputPath
    """Folder for scenes.parquet and the rasters that it lists."""

    @abstractmethod
    def scenes_to_import(self, output: Path) -> Sequence[Job]:
        """A job per scene; its result is its row of scenes.parquet."""

    def jobs(self) -> Sequence[Job]:
        """A job per scene."""
        return self.scenes_to_import(self.output)

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write scenes.parquet."""
        write_table(self.output / SCENES, list(results.values()))
        return Report(written=[self.output / SCENES])


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was written to be handed in: the file, what its check found, lines to print, and a picture if there is one."""

    archive: Path
    metrics: Mapping[str, float]
    lines: Sequence[str]
    written: Sequence[Path]
    """All files that belong to it, the archive among them."""
    picture: NDArray[np.uint8] | None = None


@configclass
class SubmissionWriter(ABC):
    """Config of `to_submission`: predictions to the file that a challenge takes. Each challenge has a class of its own."""

    replace: NotDecisive[bool] = False
    """Write it again in place, also where output_path holds a submission of other settings, which is an error else."""

    @property
    def output(self) -> Path:
        """The folder of the submission and of its ledger."""
        return absolute(self.output_path)  # type: ignore[attr-defined]

    def ledger(self) -> Ledger:
        """What is known of the submission in its folder."""
        return ledger_of("to_submission", self, self.output)

    def decides(self) -> Any:
        """The contents of all inputs, without what an earlier submission left among them."""
        own = self.ledger().left()
        return {name: contents_below(places, own) for name, places in inputs_of(self).items()}

    def stages(self) -> Sequence[Sequence[Job]]:
        """Jobs before `submit`, in stages that each need what the one before it left. Those that are done are kept."""
        return ()

    def made_by(self) -> str | None:
        """The id of the run that wrote what these settings and inputs give, whole and unchanged; None where there is none."""
        jobs = [job for stage in self.stages() for job in stage]
        return self.ledger().made_by(jobs, self.decides())

    @abstractmethod
    def submit(self, results: Mapping[str, Any]) -> Submission:
        """Write the file, reopen and check it. `results`: of each job of `stages`, by its key."""
