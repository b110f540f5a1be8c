"""Generated tiles to a checked archive: import, groups, folds, two trainings, threshold, ensemble, archive, scores.

mlflow run . -e pipeline --env-manager local -P config_path=configs/kelp/pipeline.py

About five minutes on two CPU cores; a second start does only what is missing.
"""

from swath.studies.pipeline import PipelineConfig, PipelineStep

FOLDER = "output/kelp/demo"


def step(entry_point: str, config: str = "", **parameters: str) -> PipelineStep:
    """A step with the config of its own name, and these paths."""
    given = {name.replace("__", "."): text for name, text in parameters.items()}
    return PipelineStep(
        entry_point=entry_point, config_path=f"configs/kelp/{config or entry_point}.py", parameters=given
    )


config = PipelineConfig(
    name="kelp",
    steps=(
        step("generate_demo_scenes", output_path=f"{FOLDER}/input"),
        step("import_scenes", input_path=f"{FOLDER}/input", output_path=f"{FOLDER}/scenes"),
        step("group_scenes", input_path=f"{FOLDER}/scenes", output_path=f"{FOLDER}/grouped"),
        step("assign_folds", input_path=f"{FOLDER}/grouped", output_path=f"{FOLDER}/folds"),
        step("generate_tiles", input_path=f"{FOLDER}/folds", output_path=f"{FOLDER}/tiles"),
        step("generate_tiles_stats", input_path=f"{FOLDER}/tiles"),
        step(
            "cross_validation",
            "cross_validation_demo",
            areas='["0", "1"]',
            parameters=f'{{"data.tiles_path": "{FOLDER}/tiles"}}',
            scenes_path=f"{FOLDER}/folds",
            labels_path=f"{FOLDER}/folds",
            test_path=f"{FOLDER}/folds",
            output_path=f"{FOLDER}/two_folds",
        ),
        step(
            "threshold_search",
            input_path=f"{FOLDER}/two_folds/base/*",
            labels_path=f"{FOLDER}/folds",
            output_path=f"{FOLDER}/threshold",
        ),
        step(
            "ensemble",
            input_paths=f"{FOLDER}/two_folds/test/base/*",
            threshold=f"{FOLDER}/threshold",
            output_path=f"{FOLDER}/ensemble",
        ),
        step(
            "to_submission",
            input_path=f"{FOLDER}/ensemble",
            scenes_path=f"{FOLDER}/folds",
            output_path=f"{FOLDER}/submission",
        ),
    ),
    results={
        "archive": f"{FOLDER}/submission/submission.tar",
        "scores": f"{FOLDER}/two_folds/cross_validation.txt",
    },
)
