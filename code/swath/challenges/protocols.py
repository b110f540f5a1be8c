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

from swath.config import configclass
from swath.data.tables import SCENES, write_table
from swath.steps.config import Step
from swath.steps.job import Job, Report


@configclass
class SceneMaker(Step, ABC):
    """Config of `generate_demo_scenes`: raw data in a challenge's layout, made up. Each challenge has a class of its own."""

    step_name = "generate_demo_scenes"

    output_path: str
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

    output_path: str
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
        return Report()


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was written to be handed in: the file, what its check found, lines to print, and a picture if there is one."""

    archive: Path
    metrics: Mapping[str, float]
    lines: Sequence[str]
    picture: NDArray[np.uint8] | None = None


@configclass
class SubmissionWriter(ABC):
    """Config of `to_submission`: predictions to the file that a challenge takes. Each challenge has a class of its own."""

    @abstractmethod
    def submit(self) -> Submission:
        """Write the file, reopen and check it."""
