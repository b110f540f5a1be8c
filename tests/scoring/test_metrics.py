"""Scores: scikit-learn as oracle, names that say what they average, independence of how pixels were cut."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import nn
from torch.utils.data import DataLoader

from swath.labels import IGNORE
from swath.nn.losses.overlap import Dice
from swath.nn.losses.pixel import CrossEntropy, TaskLosses, WeightedSum
from swath.nn.model import Classification, SegmentationModel
from swath.nn.preprocess.channels import Bands, Fill, Preprocess
from swath.nn.preprocess.normalise import ZScore
from swath.scoring.evaluate import evaluate
from swath.scoring.metrics import best_threshold, confusion_matrix, named, scores, threshold_histogram, tile_means
from swath.scoring.report import ScoreReport
from swath.scoring.scenes import SceneScore
from swath.scoring.table import ScoreTable
from tests.synthetic import PixelNet, grid, labels

NAMES = ("land", "ice", "water")


def counted(task: str, matrix: np.ndarray) -> SceneScore:
    """A scored scene of one block."""
    return SceneScore({task: matrix[None, None]}, grid((8, 8)), 8, {})


def drawn(seed: int, classes: int = 3, size: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """(predicted, truth) with every class in both, a fifth of the truth ignored."""
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randint(0, classes, (size,), generator=generator)
    truth = labels((size,), classes, seed=seed)
    predicted[:classes] = torch.arange(classes)
    truth[:classes] = torch.arange(classes)
    return predicted, truth


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 5))
def test_c74_confusion_matrix_equals_sklearn(seed: int, classes: int) -> None:
    predicted, truth = drawn(seed, classes)
    valid = truth != IGNORE
    found = confusion_matrix(predicted, truth, classes)
    np.testing.assert_array_equal(found, sk.confusion_matrix(truth[valid], predicted[valid], labels=range(classes)))
    assert found.dtype == torch.int64


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999))
def test_c74_scores_equal_sklearn_to_1e_9(seed: int) -> None:
    predicted, truth = drawn(seed)
    y, p = truth[truth != IGNORE].numpy(), predicted[truth != IGNORE].numpy()
    found = scores(confusion_matrix(predicted, truth, 3).numpy(), NAMES)
    iou, f1 = sk.jaccard_score(y, p, average=None), sk.f1_score(y, p, average=None)
    expected = {
        "accuracy": sk.accuracy_score(y, p),
        "iou_fg": sk.jaccard_score(y > 0, p > 0) if _binary(y, p) else None,
        "iou_macro_bg": iou.mean(), "iou_macro_fg": iou[1:].mean(),
        "f1_macro_bg": sk.f1_score(y, p, average="macro"), "f1_macro_fg": f1[1:].mean(),
        "f1_weighted": sk.f1_score(y, p, average="weighted"), "r2": sk.r2_score(y, p),
    }  # fmt: skip
    precision, recall = (s(y, p, average=None) for s in (sk.precision_score, sk.recall_score))
    for k, name in enumerate(NAMES):
        expected |= {f"iou_{name}": iou[k], f"f1_{name}": f1[k]}
        expected |= {f"precision_{name}": precision[k], f"recall_{name}": recall[k]}
    for name, value in expected.items():
        if value is not None:
            assert found[name] == pytest.approx(value, abs=1e-9), name
    assert set(expected) | {"f1_fg", "precision_fg", "recall_fg"} == set(found)


def _binary(y: np.ndarray, p: np.ndarray) -> bool:
    """Whether no foreground class was taken for another: only then is "foreground" a binary question."""
    return not ((y > 0) & (p > 0) & (y != p)).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999))
def test_c75_foreground_scores_of_a_binary_task_equal_sklearn_to_1e_9(seed: int) -> None:
    predicted, truth = drawn(seed, 2)
    y, p = truth[truth != IGNORE].numpy(), predicted[truth != IGNORE].numpy()
    found = scores(confusion_matrix(predicted, truth, 2).numpy(), ("background", "water"))
    assert found["f1_fg"] == pytest.approx(sk.f1_score(y, p), abs=1e-9)
    assert found["iou_fg"] == pytest.approx(sk.jaccard_score(y, p), abs=1e-9)
    assert found["f1_fg"] == found["f1_water"]
    assert found["iou_fg"] == found["iou_water"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999))
def test_c75_foreground_of_several_classes_is_all_of_them_against_class_0(seed: int) -> None:
    predicted, truth = drawn(seed, 4)
    y, p = truth[truth != IGNORE].numpy() > 0, predicted[truth != IGNORE].numpy() > 0
    found = scores(confusion_matrix(predicted, truth, 4).numpy(), ("a", "b", "c", "d"))
    assert found["f1_fg"] == pytest.approx(sk.f1_score(y, p), abs=1e-9)
    assert found["iou_fg"] == pytest.approx(sk.jaccard_score(y, p), abs=1e-9)


def test_c75_macro_with_background_is_shown_beside_the_foreground_score() -> None:
    matrix = np.array([[3_328_333, 5_000], [5_000, 12_141]])
    found = scores(matrix, ("background", "kelp"))
    assert round(found["f1_fg"], 4) == 0.7083
    assert round(found["f1_background"], 4) == 0.9985
    assert round(found["f1_macro_bg"], 4) == 0.8534
    assert "f1" not in found
    table = ScoreTable({"kelp": Classification(classes=("background", "kelp"))})
    table.add("scene", "area", counted("kelp", matrix))
    shown = table.metrics("test")
    assert {round(shown[f"test/{n}"], 4) for n in ("f1_fg", "f1_macro_bg")} == {0.7083, 0.8534}
    frame = table.frame()
    assert frame["f1_fg"].tolist() == [pytest.approx(found["f1_fg"])] * 3
    assert frame["f1_macro_bg"].tolist() == [pytest.approx(found["f1_macro_bg"])] * 3
    assert "0.708" in ScoreReport(table).text()


def test_c77_a_class_neither_there_nor_predicted_has_no_score() -> None:
    found = scores(np.array([[5, 1, 0], [2, 4, 0], [0, 0, 0]]), NAMES)
    assert not {f"{kind}_water" for kind in ("iou", "f1", "precision", "recall")} & set(found)
    assert found["iou_macro_bg"] == pytest.approx((found["iou_land"] + found["iou_ice"]) / 2)
    assert found["iou_macro_fg"] == pytest.approx(found["iou_ice"])
    assert found["f1_macro_bg"] == pytest.approx((found["f1_land"] + found["f1_ice"]) / 2)


def test_c77_a_missed_class_scores_0_and_an_invented_one_too() -> None:
    missed = scores(np.array([[5, 0], [3, 0]]), ("background", "water"))
    assert (missed["iou_fg"], missed["f1_fg"], missed["recall_water"]) == (0, 0, 0)
    assert "precision_water" not in missed
    invented = scores(np.array([[5, 2], [0, 0]]), ("background", "water"))
    assert (invented["iou_fg"], invented["f1_fg"], invented["precision_water"]) == (0, 0, 0)
    assert "recall_water" not in invented


def test_c77_nothing_labelled_gives_no_scores_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert scores(np.zeros((2, 2), np.int64), ("background", "water")) == {}
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_c77_scenes_without_target_count_over_the_set_not_one_by_one() -> None:
    table = ScoreTable({"water": Classification()})
    table.add("dry", "a", counted("water", np.array([[100, 0], [0, 0]])))
    table.add("wet", "b", counted("water", np.array([[80, 5], [5, 10]])))
    assert table.metrics("test")["test/iou_fg"] == pytest.approx(10 / 20)
    rows = table.frame().set_index("name")
    assert np.isnan(rows.loc["dry", "iou_fg"])
    assert rows.loc["all", "iou_fg"] == pytest.approx(0.5)
    assert list(table.frame()["of"]) == ["all", "area", "area", "scene", "scene"]
    assert "nan" in ScoreReport(table).text()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12))
def test_c77_means_over_tiles_leave_out_tiles_without_foreground_or_say_how_they_count(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.random((2, count, 30)) < rng.choice([0, 0.2], (2, count, 1))
    matrices = np.stack([sk.confusion_matrix(t, p, labels=[0, 1]) for t, p in zip(truth, guess, strict=True)])
    matrices = np.concatenate([matrices, np.zeros((2, 2, 2), int)])  # nothing labelled: never counts
    pairs = [(t, p) for t, p in zip(truth, guess, strict=True) if t.any() or p.any()]
    found, kind = tile_means(matrices), tile_means(matrices, empty="one")
    assert found["tile_mean_tiles"] == len(pairs)
    assert kind["tile_mean_tiles_empty1"] == count
    assert ("iou_fg_tile_mean" in found) == bool(pairs)
    if pairs:
        assert found["iou_fg_tile_mean"] == pytest.approx(np.mean([sk.jaccard_score(t, p) for t, p in pairs]))
        assert found["f1_fg_tile_mean"] == pytest.approx(np.mean([sk.f1_score(t, p) for t, p in pairs]))
    ones = [sk.jaccard_score(t, p, zero_division=1) for t, p in zip(truth, guess, strict=True)]
    assert kind["iou_fg_tile_mean_empty1"] == pytest.approx(np.mean(ones))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.lists(st.integers(0, 400), max_size=6))
def test_c79_matrix_does_not_depend_on_how_pixels_are_cut(seed: int, cuts: list[int]) -> None:
    predicted, truth = drawn(seed)
    edges = [0, *sorted(cuts), 400]
    parts = sum(confusion_matrix(predicted[a:b], truth[a:b], 3) for a, b in pairwise(edges))
    assert torch.equal(torch.as_tensor(parts), confusion_matrix(predicted, truth, 3))


def samples(count: int) -> list[dict[str, object]]:
    out: list[dict[str, object]] = []
    for i in range(count):
        image = torch.randn(2, 12, 10, generator=torch.Generator().manual_seed(i))
        target = labels((12, 10), 2, ignored=(i % 5) / 4, seed=i)  # every fifth sample has no label at all
        out.append({"image": image, "target": {"water": target}, "key": f"tile {i}"})
    return out


def segmenter(classes: int = 2) -> nn.Module:
    torch.manual_seed(3)
    preprocess = Preprocess(Bands(("vh", "vv")), Fill(2), ZScore(2, 0.0, 1.0))
    tasks = {"water": Classification(classes=tuple(f"c{i}" for i in range(classes)))}
    return SegmentationModel(preprocess, PixelNet(2, classes), tasks)


def test_c79_evaluation_is_the_same_for_batches_of_1_4_and_25_and_any_order() -> None:
    data, tasks, model = samples(25), {"water": Classification()}, segmenter()
    losses = TaskLosses({"water": CrossEntropy()}, {"water": 1.0})
    found = [
        evaluate(model, DataLoader(data, batch), tasks, losses).metrics("validation", tasks)  # type: ignore[arg-type]
        for batch in (1, 4, 25)
    ]
    found.append(evaluate(model, DataLoader(data[::-1], 7), tasks, losses).metrics("validation", tasks))  # type: ignore[arg-type]
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, value in found[0].items():
            assert other[name] == pytest.approx(value, rel=1e-5 if "loss" in name else 1e-12)


def overlap_losses() -> TaskLosses:
    """A loss whose value on a batch is not the mean of its values on the samples."""
    return TaskLosses({"water": Dice()}, {"water": 1.0})


def test_c79_an_overlap_loss_is_the_same_for_all_batches_too() -> None:
    data, tasks, model = samples(25), {"water": Classification()}, segmenter()
    found = [evaluate(model, DataLoader(data, batch), tasks, overlap_losses()).losses for batch in (1, 4, 25)]  # type: ignore[arg-type]
    sums = np.zeros(2)
    for image, target in ((s["image"][None], s["target"]["water"][None]) for s in data):  # type: ignore[index]
        with torch.no_grad():
            pixels = int((target != IGNORE).sum())
            sums += pixels * float(Dice()(model(image)["water"], target)), pixels
    assert found[0]["loss"] == pytest.approx(sums[0] / sums[1], rel=1e-5)
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)


def test_c79_c82_counts_by_tile_are_those_of_the_tile_alone_and_sum_to_the_whole() -> None:
    data, tasks, model = samples(25), {"water": Classification()}, segmenter()
    whole = evaluate(model, DataLoader(data, 4), tasks, overlap_losses())  # type: ignore[arg-type]
    assert list(whole.units) == sorted(s["key"] for s in data)  # type: ignore[type-var]
    for sample in data[:7]:
        alone = evaluate(model, DataLoader([sample], 1), tasks, overlap_losses())  # type: ignore[arg-type]
        unit = whole.units[sample["key"]]  # type: ignore[index]
        np.testing.assert_array_equal(unit.matrices["water"], alone.matrices["water"])
        if unit.matrices["water"].any():
            assert unit.mean_losses == pytest.approx({"loss_water": alone.losses["loss_water"]}, rel=1e-5)
            assert alone.losses["loss"] == alone.losses["loss_water"]
        else:
            assert unit.mean_losses == alone.losses == {}
    np.testing.assert_array_equal(sum(u.matrices["water"] for u in whole.units.values()), whole.matrices["water"])
    pixels = whole.matrices["water"].sum()
    together = sum(u.losses["water"]["loss_water"] for u in whole.units.values())
    assert whole.losses["loss"] == pytest.approx(together / pixels)
    table = whole.metrics("validation", tasks)
    stack = np.stack([u.matrices["water"] for u in whole.units.values()])
    assert table["validation/iou_fg_tile_mean"] == tile_means(stack)["iou_fg_tile_mean"]


TWO_TASKS = {"ice": Classification(), "floe": Classification()}


def two_task_samples() -> list[dict[str, object]]:
    """Samples of which the even ones have few labels of `ice` and many of `floe`, the odd ones the other way round."""
    out: list[dict[str, object]] = []
    for i in range(6):
        ignored = (0.9, 0.1) if i % 2 == 0 else (0.1, 0.9)
        target = {
            task: labels((12, 10), 2, ignored=share, seed=10 * i + n)
            for n, (task, share) in enumerate(zip(("ice", "floe"), ignored, strict=True))
        }
        image = torch.randn(2, 12, 10, generator=torch.Generator().manual_seed(i))
        out.append({"image": image, "target": target, "key": f"tile {i % 4}"})
    return out


def two_task_losses() -> TaskLosses:
    both = WeightedSum({"ce": partial(CrossEntropy), "dice": partial(Dice)})
    return TaskLosses({"ice": CrossEntropy(), "floe": both}, {"ice": 2.0, "floe": 0.5})


def two_task_segmenter() -> SegmentationModel:
    torch.manual_seed(4)
    preprocess = Preprocess(Bands(("vh", "vv")), Fill(2), ZScore(2, 0.0, 1.0))
    return SegmentationModel(preprocess, PixelNet(2, 4), TWO_TASKS)


@pytest.mark.parametrize("batch", [1, 4])
def test_c60_c79_a_task_s_loss_is_the_mean_over_its_own_labels(batch: int) -> None:
    data, model = two_task_samples(), two_task_segmenter()
    found = evaluate(model, DataLoader(data, batch), TWO_TASKS, two_task_losses())  # type: ignore[arg-type]
    sums = {task: np.zeros(2) for task in TWO_TASKS}
    for sample in data:
        with torch.no_grad():
            logits = model(sample["image"][None])  # type: ignore[index]
        for task in TWO_TASKS:
            target = sample["target"][task]  # type: ignore[index]
            valid = target != IGNORE
            entropy = -logits[task][0].log_softmax(0).gather(0, torch.where(valid, target, 0).long()[None])[0]
            sums[task] += float(entropy[valid].sum()), int(valid.sum())
    means = {task: total / pixels for task, (total, pixels) in sums.items()}
    assert found.losses["loss_ice"] == pytest.approx(means["ice"], rel=1e-5)
    assert found.losses["loss_floe_ce"] == pytest.approx(means["floe"], rel=1e-5)
    assert found.losses["loss"] == pytest.approx(2 * means["ice"] + 0.5 * found.losses["loss_floe"], rel=1e-5)


def test_c60_c79_a_task_s_loss_does_not_change_with_the_labels_of_another() -> None:
    model = two_task_segmenter()
    plain = evaluate(model, DataLoader(two_task_samples(), 3), TWO_TASKS, two_task_losses())  # type: ignore[arg-type]
    without = two_task_samples()
    for sample in without:
        sample["target"]["floe"].fill_(IGNORE)  # type: ignore[index]
    found = evaluate(model, DataLoader(without, 3), TWO_TASKS, two_task_losses())  # type: ignore[arg-type]
    assert found.losses["loss_ice"] == pytest.approx(plain.losses["loss_ice"], rel=1e-6)
    assert found.losses == {"loss": 2 * found.losses["loss_ice"], "loss_ice": found.losses["loss_ice"]}


def test_c79_parts_of_a_tile_are_counted_together() -> None:
    data, tasks, model = samples(6), {"water": Classification()}, segmenter()
    same = [sample | {"key": "tile"} for sample in data]
    found = evaluate(model, DataLoader(same, 4), tasks, overlap_losses())  # type: ignore[arg-type]
    whole = evaluate(model, DataLoader(data, 4), tasks, overlap_losses())  # type: ignore[arg-type]
    assert list(found.units) == ["tile"]
    np.testing.assert_array_equal(found.matrices["water"], whole.matrices["water"])
    assert found.losses == pytest.approx(whole.losses)


def test_c79_shards_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data, tasks, model = samples(25), {"water": Classification()}, segmenter()
    whole = evaluate(model, DataLoader(data, 4), tasks, overlap_losses())  # type: ignore[arg-type]
    for world in (2, 3):
        shards = [evaluate(model, DataLoader(data[r::world], 4), tasks, overlap_losses()) for r in range(world)]  # type: ignore[arg-type]
        monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
        monkeypatch.setattr("swath.scoring.evaluate.all_gather", lambda _, parts=shards: [s.units for s in parts])
        found = evaluate(model, DataLoader(data[:1], 1), tasks, overlap_losses())  # type: ignore[arg-type]
        monkeypatch.undo()
        np.testing.assert_array_equal(found.matrices["water"], whole.matrices["water"])
        assert found.losses == pytest.approx(whole.losses)
        assert list(found.units) == list(whole.units)


def test_c78_evaluation_leaves_out_ignored_pixels() -> None:
    data, tasks = samples(5), {"water": Classification()}
    found = evaluate(segmenter(), DataLoader(data, 2), tasks)  # type: ignore[arg-type]
    labelled = sum(int((s["target"]["water"] != IGNORE).sum()) for s in data)  # type: ignore[index]
    assert int(found.matrices["water"].sum()) == labelled


def test_c74_names_carry_the_task_when_there_are_several() -> None:
    assert named({"iou_water": 0.5}, "validation", "flood", 1) == {"validation/iou_water": 0.5}
    assert named({"iou_water": 0.5}, "validation", "flood", 2) == {"validation/flood/iou_water": 0.5}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.booleans())
def test_c74_best_threshold_equals_trying_all(seed: int, dark: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = labels((30, 20), 2, seed=seed).numpy()
    band = rng.normal(np.where(truth == 1, -3.0, 3.0) * (1 if dark else -1), 4.0).astype(np.float32)
    band[0, :5] = np.nan
    iou, threshold, below = best_threshold(threshold_histogram(band, truth))
    valid = np.isfinite(band) & (truth != IGNORE)
    y, x = truth[valid] == 1, band[valid]
    bits = x.view(np.uint32)
    edges = np.where(x < 0, bits | 0xFFFF, bits & 0xFFFF0000).astype(np.uint32).view(np.float32)  # 7 bits of mantissa
    edges = edges[np.isfinite(edges)]
    rules = [*(x < e for e in edges), *(x >= e for e in edges), np.ones_like(y)]
    assert iou == pytest.approx(max((y & rule).sum() / (y | rule).sum() for rule in rules), abs=1e-9)
    assert below == dark
    assert sk.jaccard_score(y, x < threshold if below else x >= threshold) == pytest.approx(iou, abs=1e-9)
