"""What scripts of preparation steps share: from the command line to a run with a step's results in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swath.config import from_command_line
from swath.notices import collected, note
from swath.steps.config import Step

if TYPE_CHECKING:
    from swath.scoring.held_out import HeldOutCheck
    from swath.tracking import Run


Check = Callable[[Any], "HeldOutCheck | None"]
"""Takes the config of a step; None where it depends on no model."""


@dataclass(frozen=True)
class Preparation:
    """The `main` of a script whose config is a `Step`. MLflow is imported when the config is found to be right."""

    kind: type[Step]
    check: Check | None = None

    def __call__(self) -> None:
        """Do the step that the command line names."""
        config, config_path = from_command_line(self.kind)
        from swath import tracking
        from swath.steps.run import run_step

        with collected() as left_out:
            jobs, ledger = config.jobs(), config.ledger()
        with tracking.run(config, config_path, config.step_name) as run:
            note(left_out)
            self._check(run, config)
            about = tracking.provenance(config_path)
            results = run_step(ledger, jobs, config, about, run.log_metrics)
            report = config.finish(results)
            ledger.complete(jobs, run.id, report.written)
            run.log_metrics(report.metrics)
            for path in report.files:
                run.log_file(path)
            for artifact, text in report.texts.items():
                run.log_text(text, artifact)
        for line in report.lines:
            print(line)

    def _check(self, run: Run, config: Step) -> None:
        """Mark the run by what its scenes are to the models that it depends on."""
        found = self.check(config) if self.check is not None else None
        if found is None:
            return
        run.set_tags(found.tags(config.step_name))
        for remark in found.notes:
            print(remark)

    def start(self) -> int:
        """Do it as a program; return the exit status."""
        from swath.tracking import cli

        return cli(self)


def preparation(kind: type[Step], check: Check | None = None) -> Preparation:
    """The `main` of a script for a step whose config is of this class, or of one below it.

    `check` says before the work what the step's scenes are to the models that it depends on; it may raise LeakError.
    """
    return Preparation(kind, check)
