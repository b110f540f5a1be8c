"""The whole demo: scenes, tiles, training, maps, shapefiles.

mlflow run . -e pipeline --env-manager local     (or: make demo)

About four minutes on two CPU cores; a second start does only what is missing.
"""

from swath.studies.pipeline import PipelineConfig, PipelineStep

config = PipelineConfig(
    name="demo",
    steps=(
        PipelineStep(entry_point="generate_demo_scenes", config_path="configs/demo/generate_demo_scenes.py"),
        PipelineStep(entry_point="generate_3b_images", config_path="configs/demo/generate_3b_images.py"),
        PipelineStep(
            entry_point="generate_3b_images",
            config_path="configs/demo/generate_3b_images_test.py",
            name="generate_3b_images_test",
        ),
        PipelineStep(entry_point="rasterize", config_path="configs/demo/rasterize.py"),
        PipelineStep(entry_point="rasterize", config_path="configs/demo/rasterize_test.py", name="rasterize_test"),
        PipelineStep(entry_point="generate_tiles", config_path="configs/demo/generate_tiles.py"),
        PipelineStep(entry_point="generate_tiles_stats", config_path="configs/demo/generate_tiles_stats.py"),
        PipelineStep(entry_point="training", config_path="configs/demo/training.py"),
        PipelineStep(
            entry_point="inference", config_path="configs/demo/inference.py", parameters={"run_id": "{training}"}
        ),
        PipelineStep(
            entry_point="to_submission",
            config_path="configs/demo/to_submission.py",
            parameters={"output_path": "output/demo/submission"},
        ),
    ),
    results={
        "shapefiles": "output/demo/submission",
        "picture": "output/demo/submission/map.png",
        "scores": "output/demo/predictions/scores.txt",
    },
)
