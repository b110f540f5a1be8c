"""Configuration of inference."""

from __future__ import annotations

from dataclasses import field

from swath.config import InputPath, NotDecisive, OutputPath, configclass
from swath.config.ranges import Count
from swath.data.leakage.leaks import LeakKind
from swath.distributed import Launcher
from swath.nn.tta import Precision
from swath.prediction.sliding import SlidingConfig
from swath.scoring.config import ScoringConfig


@configclass
class InferenceConfig:
    """Predict whole scenes with the model of a training run; with labels, score them."""

    run_id: str
    """Id of the training run; or runs:/<id>/<artifact>, models:/<name>/<version>, models:/<name>@<alias>, or a folder that
    holds a model record. A file of weights in one of them (.safetensors) takes these."""
    weights: str = "best"
    """Which of the weights that the training kept: best, last, swa, or the name of a metric of validation.also."""
    trust: NotDecisive[tuple[str, ...]] = ()
    """Modules beside swath's, the project's own and those of its libraries that the model's record may have classes and
    functions of: -P trust=my_networks. They run when the record is read."""
    input_path: InputPath
    """Folder of scenes with a scenes.parquet, any folder of GeoTIFFs, or one GeoTIFF."""
    areas: tuple[str, ...] | None = None
    """Areas to predict; None takes all."""
    only: dict[str, tuple[str, ...]] | None = None
    """Scenes to predict by their columns, values as texts: {"date": ("20150102",)}; None takes all."""
    output_path: OutputPath
    """Folder for classes/<area>/<key>.tif and probabilities/<area>/<key>.tif; all processes must see it."""
    probabilities: bool = True
    """Write probabilities too; search of thresholds, ensembles and calibration read them."""
    labels_path: InputPath | None = None
    """Folder of label rasters; scores are logged when it is given."""
    sliding: SlidingConfig = SlidingConfig()
    """Windows, overlap, blending, test-time augmentation."""
    threshold: float | str | None = None
    """Probability from which on (>=) a task of two classes is its second one; None takes the more probable class. Or where
    `threshold_search` left the best one: its output_path, or runs:/<id>; scenes that it was searched on are then refused
    as their test."""
    tuned_on: tuple[str, ...] = ()
    """Keys of the scenes that the threshold was searched on; known by itself when `threshold` names a search."""
    previews: Count = 8
    """Pictures to log of the first so many scenes: image with the map's outline, or, with labels of the scene's size, image,
    image + prediction, prediction, image + label and label, with the score and a legend."""
    score_prefix: str = "test"
    """Scores are logged as <score_prefix>/iou_water and so on."""
    also_score: dict[str, InputPath] = field(default_factory=dict)
    """Other labels of the same scenes, such as finer ones, beside those of `labels_path`: name to folder. The maps are
    brought to their grid, scores logged as <name>/iou_water, reports written to <output_path>/<name>."""
    allow_selection_set: bool = False
    """Score scenes that the training selected its weights on; the run is then marked as such."""
    allow_leaks: bool | tuple[LeakKind, ...] = False
    """Score scenes that leak from the training, in all ways or those named; the run is then marked as such."""
    scoring: ScoringConfig = ScoringConfig()
    """Blocks, intervals and conditions of the scores."""
    device: NotDecisive[str | None] = None
    """Device such as cpu or cuda; None takes the GPU when there is one."""
    precision: Precision = "fp32"
    """Arithmetic of the network: fp32, or bf16, which is faster on recent GPUs and less exact."""
    launcher: NotDecisive[Launcher] = "auto"
    """Who starts several processes: auto (torchrun, or nobody) or slurm (srun). They share each scene."""
    replace: NotDecisive[bool] = False
    """Predict all again in place, also where output_path holds maps of other settings, which is an error else."""
