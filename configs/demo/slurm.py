"""A job script that trains the demo's model on one GPU; every entry point works the same way.

mlflow run . -e slurm --env-manager local -P entry_point=training -P gpus=1 -P time=02:00:00
"""

from swath.studies.slurm import SlurmConfig

config = SlurmConfig(entry_point="training", gpus=1, time="02:00:00", output_path="output/demo/training.sh")
