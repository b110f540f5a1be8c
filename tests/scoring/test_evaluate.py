"""Evaluation by several views of each tile: the very probabilities of inference, merged and scored."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from swath.data.samples.dataset import collate
from swath.geo.grid import Window
from swath.labels import IGNORE
from swath.nn.losses.pixel import CrossEntropy, TaskLosses
from swath.nn.losses.regression import MeanSquaredError
from swath.nn.model import Classification, Regression, SegmentationModel, Task, predict_classes
from swath.nn.preprocess.channels import Bands, Fill, Preprocess
from swath.nn.preprocess.normalise import ZScore
from swath.nn.tta import Merge, Views, predictor
from swath.scoring.evaluate import evaluate
from tests.synthetic import TinyNet, echoes, labels

TASKS: dict[str, Task] = {
    "ice": Regression(classes=("0", "50", "100")),
    "floe": Classification(classes=("none", "some", "large")),
    "water": Classification(),
}
CPU = torch.device("cpu")


def model() -> SegmentationModel:
    torch.manual_seed(3)
    preprocess = Preprocess(Bands(("vh", "vv")), Fill(2), ZScore(2, mean=0.2, std=0.05))
    return SegmentationModel(preprocess, TinyNet(2, sum(task.channels for task in TASKS.values())), TASKS).eval()


def batches(size: int) -> list[dict[str, Any]]:
    samples = []
    for number in range(6):
        target = {task: labels((24, 32), len(t.classes), seed=number) for task, t in TASKS.items()}
        image = echoes((2, 24, 32), seed=number)
        samples.append({"image": image, "target": target, "key": str(number), "window": Window(0, 0, 24, 32)})
    return [collate(samples[start : start + size]) for start in range(0, 6, size)]


def losses() -> TaskLosses:
    made: dict[str, torch.nn.Module] = {"ice": MeanSquaredError(), "floe": CrossEntropy(), "water": CrossEntropy()}
    return TaskLosses(made, dict.fromkeys(made, 1.0))


@pytest.mark.parametrize("merge", get_args(Merge))
@pytest.mark.parametrize("tta", get_args(Views))
def test_c92_validation_counts_the_classes_that_inference_predicts(tta: Views, merge: Merge) -> None:
    net = model()
    found = evaluate(net, batches(4), TASKS, losses(), tta=tta, merge=merge)  # type: ignore[arg-type]
    predict = predictor(net, tta, CPU, merge)
    sums = {task: np.zeros((len(t.classes),) * 2, np.int64) for task, t in TASKS.items()}
    for batch in batches(3):
        predicted = predict_classes(predict(batch["image"]), TASKS)
        for task, target in batch["target"].items():
            valid = (target != IGNORE).numpy()
            true, guess = target.numpy()[valid], predicted[task].numpy()[valid]
            sums[task] += confusion_matrix(true, guess, labels=range(len(TASKS[task].classes)))
    for task in TASKS:
        np.testing.assert_array_equal(found.matrices[task], sums[task])


def test_c92_views_change_scores_but_not_losses() -> None:
    net = model()
    plain, turned = (evaluate(net, batches(2), TASKS, losses(), tta=tta) for tta in ("off", "d4"))  # type: ignore[arg-type]
    assert any((plain.matrices[task] != turned.matrices[task]).any() for task in TASKS)
    assert plain.losses == turned.losses
