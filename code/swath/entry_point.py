"""What scripts of preparation steps share: from the command line to a run with a step's results in it."""

from __future__ import annotations

from dataclasses import dataclass

from swath.config import from_command_line
from swath.notices import collected, note
from swath.steps.config import Step


@dataclass(frozen=True)
class Preparation:
    """The `main` of a script whose config is a `Step`. MLflow is imported when the config is found to be right."""

    kind: type[Step]

    def __call__(self) -> None:
        """Do the step that the command line names."""
        config, config_path = from_command_line(self.kind)
        from swath import tracking
        from swath.steps.run import run_step

        with collected() as left_out:
            jobs, ledger = config.jobs(), config.ledger()
        with tracking.run(config, config_path, config.step_name) as run:
            note(left_out)
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

    def start(self) -> int:
        """Do it as a program; return the exit status."""
        from swath.tracking import cli

        return cli(self)


def preparation(kind: type[Step]) -> Preparation:
    """The `main` of a script for a step whose config is of this class, or of one below it."""
    return Preparation(kind)
