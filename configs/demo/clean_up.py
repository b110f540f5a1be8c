"""Show which runs of the demo's experiment would go: all but the 10 newest of a kind, the 3 best and what these need.

mlflow run . -e clean_up --env-manager local --experiment-name demo

Nothing is changed without -P dry_run=False. Runs that are marked as deleted can be brought back with
`mlflow runs restore`, until -P purge=True removes their files for good. The tag `swath.keep` holds a run.
"""

from swath.tracking.retention import CleanUpConfig

config = CleanUpConfig()
