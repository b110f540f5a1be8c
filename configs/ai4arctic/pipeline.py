"""Generated NetCDF scenes to a checked submission: import at 200 m, training, charts, scores, one NetCDF file.

mlflow run . -e pipeline --env-manager local -P config_path=configs/ai4arctic/pipeline.py

About three minutes on two CPU cores; a second start does only what is missing.
"""

from swath.studies.pipeline import PipelineConfig, PipelineStep

FOLDER = "output/ai4arctic/demo"
TRUTH = f"{FOLDER}/input/truth"

config = PipelineConfig(
    name="sea ice",
    steps=(
        PipelineStep(
            entry_point="generate_demo_scenes",
            config_path="configs/ai4arctic/generate_demo_scenes.py",
            parameters={"output_path": f"{FOLDER}/input"},
        ),
        PipelineStep(
            entry_point="import_scenes",
            config_path="configs/ai4arctic/import_scenes.py",
            parameters={"input_path": f"{FOLDER}/input/train", "output_path": f"{FOLDER}/train", "factor": "5"},
        ),
        PipelineStep(
            entry_point="import_scenes",
            config_path="configs/ai4arctic/import_scenes_test.py",
            name="import_scenes_test",
            parameters={
                "input_path": f"{FOLDER}/input/test", "labels_path": TRUTH, "output_path": f"{FOLDER}/test", "factor": "5",
            },
        ),
        PipelineStep(
            entry_point="import_scenes",
            config_path="configs/ai4arctic/import_scenes_official.py",
            name="import_scenes_official",
            parameters={
                "input_path": f"{FOLDER}/input/test", "labels_path": TRUTH, "output_path": f"{FOLDER}/official",
            },
        ),
        PipelineStep(
            entry_point="generate_tiles",
            config_path="configs/ai4arctic/generate_tiles_scenes.py",
            parameters={
                "input_path": f"{FOLDER}/train", "masks_path": f"{FOLDER}/train/labels", "output_path": f"{FOLDER}/whole",
            },
        ),
        PipelineStep(
            entry_point="generate_tiles_stats",
            config_path="configs/ai4arctic/generate_tiles_stats_scenes.py",
            parameters={"input_path": f"{FOLDER}/whole"},
        ),
        PipelineStep(entry_point="training", config_path="configs/ai4arctic/training_demo.py"),
        PipelineStep(
            entry_point="inference",
            config_path="configs/ai4arctic/inference.py",
            parameters={
                "run_id": "{training}", "input_path": f"{FOLDER}/test", "labels_path": f"{FOLDER}/test/labels",
                "also_score.official": f"{FOLDER}/official/labels", "output_path": f"{FOLDER}/predictions",
                "sliding.window": "128", "sliding.overlap": "32", "sliding.tta": "flips",
            },
        ),
        PipelineStep(
            entry_point="to_submission",
            config_path="configs/ai4arctic/to_submission.py",
            parameters={
                "input_path": f"{FOLDER}/predictions/classes", "scenes_path": f"{FOLDER}/test",
                "output_path": f"{FOLDER}/submission",
            },
        ),
    ),
    results={
        "submission": f"{FOLDER}/submission/submission.nc",
        "scores": f"{FOLDER}/predictions/scores.txt",
        "at 80 m": f"{FOLDER}/predictions/official/scores.txt",
    },
)  # fmt: skip
