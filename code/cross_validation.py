"""Leave out an area, or a value of another column, in turn: trainings and maps as child runs, one table of scores."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath import tracking
from swath.data.tables import read_scenes, texts_of
from swath.scoring.report import UNITS
from swath.studies.cross_validation import CrossValidationConfig, CrossValidationResults, Fold, folds
from swath.studies.current import asking
from swath.studies.pipeline import PRELOAD


def step(run: tracking.Run, entry_point: str, name: str, parameters: dict[str, str]) -> str:
    """The run id of a step, done before or now."""
    child = tracking.ChildStep(entry_point=entry_point, parameters=parameters, name=name)
    return tracking.ensure_step(run, child, asking(parameters))


def one_fold(run: tracking.Run, config: CrossValidationConfig, fold: Fold) -> tuple[str, dict[str, str]]:
    """Train without the fold's value and map its scenes in every way; the run ids of the training and of each way.

    Scenes of `test_path` are mapped, too.
    """
    training = step(run, "training", fold.name, fold.parameters(config))
    maps = {
        way: step(run, "inference", f"{fold.name}, {way}", fold.map_parameters(config, way, training))
        for way in config.maps
    }
    for way in config.maps if config.test_path else ():
        step(run, "inference", f"{fold.name}, {way}, test", fold.test_parameters(config, way, training))
    return training, maps


def main() -> None:
    config, config_path = configs.from_command_line(CrossValidationConfig)
    tracking.warm_up(PRELOAD)
    scenes = read_scenes(configs.absolute(config.scenes_path))
    plan = list(folds(config, sorted(set(texts_of(scenes, config.column, "column").dropna()))))
    output = configs.absolute(config.output_path)
    with tracking.run(config, config_path, config.title, kind="cross-validation") as run:
        results = CrossValidationResults(config)
        for number, fold in enumerate(plan):
            training, maps = one_fold(run, config, fold)
            run.log_params({f"run_id.training, {fold.name}": training})
            for way, run_id in maps.items():
                run.log_params({f"run_id.{fold.name}, {way}": run_id})
                folder = run.scratch / f"{number} {way}"
                folder.mkdir()
                results.add(fold, way, tracking.fetch(run_id, UNITS, folder))
        run.log_metrics(results.metrics())
        for path in results.write(output):
            run.log_file(path)
        run.log_picture(results.picture(), "cross_validation.png")
        print(results.text())


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
