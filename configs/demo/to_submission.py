"""One shapefile per test area of the demo: dates merged, polygons of at least 1,000 m2, packed and checked.

mlflow run . -e to_submission --env-manager local

Results lie beside the predictions unless -P output_path=<folder> is given.
"""

from swath.challenges.unosat.submission import SubmissionConfig

config = SubmissionConfig(
    input_path="output/demo/predictions/probabilities",
    scenes_path="output/demo/scenes/test",
    min_area=1000.0,
)
