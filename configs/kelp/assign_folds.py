"""Ten folds of coasts with equal shares of what tiles are like; tiles whose labels cannot be right are left out.

mlflow run . -e assign_folds --env-manager local -P config_path=configs/kelp/assign_folds.py

A training reads a fold by split=ByColumn(column="split_0", validation=("val",)).
"""

from swath.data.splits.assign import AssignFoldsConfig
from swath.data.splits.folds import GroupFolds

config = AssignFoldsConfig(
    input_path="output/kelp/grouped",
    output_path="output/kelp/folds",
    folds=GroupFolds(
        folds=10,
        by="area",
        strata=("has_target", "almost_all_water", "qa_ok", "high_corrupted"),
        seed=42,
        balance="groups",
    ),
    leave_out=("high_target",),
    sides="original_split",
)
