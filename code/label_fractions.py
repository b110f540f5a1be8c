"""Train on nested parts of the labels: child runs of one parent, and the curve of scores over the share of the labels.

A second start does only what is missing: trainings that are done, in this parent or an earlier one, are found again.
"""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath import tracking
from swath.data.tables import read_table
from swath.scoring.report import UNITS
from swath.studies.current import asking
from swath.studies.label_fractions import LabelFractionResults, LabelFractionsConfig, Part, parts
from swath.studies.pipeline import PRELOAD
from swath.training.model_record import fetch_tiles


def one_part(run: tracking.Run, config: LabelFractionsConfig, part: Part) -> str:
    """The run id of the training on one part, done before or now."""
    parameters = part.parameters(config)
    step = tracking.ChildStep(entry_point="training", parameters=parameters, name=part.name)
    return tracking.ensure_step(run, step, asking(parameters))


def main() -> None:
    config, config_path = configs.from_command_line(LabelFractionsConfig)
    plan = list(parts(config))
    tracking.warm_up(PRELOAD)
    results = LabelFractionResults(config)
    with tracking.run(config, config_path, config.name, kind="label-fractions") as run:
        for number, part in enumerate(plan):
            run_id = one_part(run, config, part)
            run.log_params({f"run_id.{part.name}": run_id})
            folder = run.scratch / str(number)
            folder.mkdir()
            units = tracking.fetch(run_id, f"{config.side}/{UNITS}", folder)
            tiles = fetch_tiles(run_id, tracking.fetch)
            results.add(part, read_table(units, ("key", "task", "matrix"), "training"), tiles)
        for step, values in results.metrics():
            run.log_metrics(values, step)
        for path in results.write(configs.absolute(config.output_path)):
            run.log_file(path)
        run.log_picture(results.picture(), "label_fractions.png")
        print(results.text())


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
