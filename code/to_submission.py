"""Predictions to the file that a challenge takes, reopened and checked."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath import tracking
from swath.challenges.protocols import SubmissionWriter
from swath.steps.run import run_stages


def main() -> None:
    config, config_path = configs.from_command_line(SubmissionWriter)  # type: ignore[type-abstract]
    ledger, decides, stages = config.ledger(), config.decides(), config.stages()
    jobs = [job for stage in stages for job in stage]
    with tracking.run(config, config_path, "to_submission") as run:
        ledger.prepare(jobs, config.replace, tracking.provenance(config_path))
        made = config.submit(run_stages(ledger, stages))
        run.log_metrics({f"submission/{name}": value for name, value in made.metrics.items()})
        run.log_file(made.archive)
        if made.picture is not None:
            run.log_picture(made.picture, "map.png")
        ledger.complete(jobs, run.id, made.written, decides)
    for line in made.lines:
        print(line)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
