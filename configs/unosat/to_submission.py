"""One shapefile per area: dates merged by mean probability, polygonised, packed and checked.

mlflow run . -e to_submission --env-manager local -P config_path=configs/unosat/to_submission.py

The challenge of 2019 wanted the names 38RNV_Samawah, 38SLD_Tikrit, 38SMB_Bagdad and 38SME_Kirkouk:
set names={"38RNV": "38RNV_Samawah", ...} where your folders are named by the codes alone.
"""

from swath.challenges.unosat.submission import SubmissionConfig

config = SubmissionConfig(
    input_path="output/unosat/predictions/probabilities",
    output_path="output/unosat/submission",
    scenes_path="output/unosat/scenes/test",
)
