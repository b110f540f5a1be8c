"""Leave out an area, or a value of another column, in turn: trainings and maps as child runs, one table of scores."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath import tracking
from swath.data.tables import read_scenes, texts_of
from swath.studies.cross_validation import CrossValidationConfig, CrossValidationResults, Fold, folds
from swath.studies.pipeline import PRELOAD, digest_of


def step(run: tracking.Run, entry_point: str, name: str, parameters: dict[str, str], before: str = "") -> tuple:
    """(run id of a step, done before or now; digest of all that decides its result)."""
    digest, _ = digest_of(entry_point, parameters, before)
    child = tracking.ChildStep(entry_point=entry_point, parameters=parameters, digest=digest, name=name)
    return tracking.ensure_step(run, child), digest


def one_fold(run: tracking.Run, config: CrossValidationConfig, fold: Fold) -> dict[str, str]:
    """Train without the fold's value and map its scenes in every way; the run ids by name."""
    run_id, digest = step(run, "training", fold.name, fold.parameters(config))
    ids = {f"training, {fold.name}": run_id}
    for way in config.maps:
        name = f"{fold.name}, {way}"
        ids[name], _ = step(run, "inference", name, fold.map_parameters(config, way, run_id), digest)
    return ids


def main() -> None:
    config, config_path = configs.from_command_line(CrossValidationConfig)
    tracking.warm_up(PRELOAD)
    scenes = read_scenes(configs.absolute(config.scenes_path))
    plan = list(folds(config, sorted(set(texts_of(scenes, config.column, "column").dropna()))))
    output = configs.absolute(config.output_path)
    with tracking.run(config, config_path, config.title, kind="cross-validation") as run:
        for fold in plan:
            ids = one_fold(run, config, fold)
            run.log_params({f"run_id.{name}": run_id for name, run_id in ids.items()})
        results = CrossValidationResults(config, plan)
        run.log_metrics(results.metrics())
        for path in results.write(output):
            run.log_file(path)
        run.log_picture(results.picture(), "cross_validation.png")
        print(results.text())


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
