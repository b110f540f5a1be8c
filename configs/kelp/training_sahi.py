"""Slices of 128 px seen at 320 px, so that small patches are large: the second place's try of SAHI.

mlflow run . --env-manager local -P config_path=configs/kelp/training_sahi.py

Cut the slices first (generate_tiles_sahi.py, generate_tiles_stats_sahi.py). Published for their
pipeline: 0.6848 on the public test tiles, less than without slices. Map with slices that overlap,
by -P sliding.window=128 -P sliding.overlap=64 in inference. Hours on a GPU.

Differences to theirs: those of training_k_best.py; where a slice reaches beyond its tile, labels
are ignored, and theirs were background; weights are those of the tile that a slice is of, where
theirs belonged to other slices; maps are means of probabilities, not of hard labels.
"""

from dataclasses import replace

from swath.nn.resizing import Resize

from .training_k_best import config as best

config = replace(
    best,
    data=replace(best.data, tiles_path="output/kelp/tiles_sahi", validation_batch=16),
    resize=Resize(factor=320 / 128),
    epochs=10,
)
