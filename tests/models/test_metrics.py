"""Metrics against counting by hand, and the properties they must have."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import metrics
from models.warp import warp
from scenes.grid import CLASS_ID, FREE, MINI, Grid

SMALL = Grid(shape=(12, 12, 3), voxel=1.0, origin=(-6.0, -6.0, -1.0))


def test_confusion_counts_pairs() -> None:
    truth = torch.tensor([0, 0, 1, 2, 2], dtype=torch.uint8)
    prediction = torch.tensor([0, 1, 1, 2, 0], dtype=torch.uint8)
    assert metrics.confusion(truth, prediction, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    mask = torch.tensor([True, False, True, False, False])
    assert metrics.confusion(truth, prediction, 3, mask).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_iou_by_hand_and_the_papers_variant() -> None:
    matrix = torch.tensor([[6, 2, 0], [0, 0, 0], [1, 0, 91]])  # class 1 is predicted but never true; 2 is free
    iou = metrics.class_iou(matrix)
    assert iou[0] == pytest.approx(6 / 9)
    assert math.isnan(iou[1])
    assert metrics.miou(matrix) == pytest.approx(6 / 9)
    assert metrics.miou_papers(matrix) == pytest.approx((6 / 9 + 1) / 2)
    assert metrics.iou_occupied(matrix) == pytest.approx(8 / 9)
    assert metrics.accuracy(matrix) == pytest.approx(97 / 100)


def test_nothing_counted_is_nan_not_a_number_that_looks_good() -> None:
    empty = torch.zeros(18, 18, dtype=torch.int64)
    assert all(math.isnan(value) for value in (metrics.miou(empty), metrics.accuracy(empty), metrics.iou_occupied(empty)))


def test_bad_input_is_refused() -> None:
    occupancy = torch.zeros(2, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="one shape"):
        metrics.confusion(occupancy, occupancy[:1], 18)
    with pytest.raises(ValueError, match="below 18"):
        metrics.confusion(occupancy, occupancy + 200, 18)
    with pytest.raises(ValueError, match="code ids"):
        metrics.codebook_use(torch.tensor([[4]]), 4)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 18))
def test_confusion_adds_up_and_agrees_with_sets(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth, prediction = torch.randint(classes, (2, 4, 50), generator=generator).to(torch.uint8)
    whole = metrics.confusion(truth, prediction, classes)
    parts = sum(metrics.confusion(truth[i], prediction[i], classes) for i in range(4))
    assert torch.equal(whole, parts)
    for c, iou in enumerate(metrics.class_iou(whole).tolist()):
        either = ((truth == c) | (prediction == c)).sum()
        both = ((truth == c) & (prediction == c)).sum()
        assert math.isnan(iou) if not (truth == c).any() else iou == pytest.approx(float(both / either))
    assert metrics.miou(metrics.confusion(truth, truth, classes)) == 1.0 or bool((truth == classes - 1).all())


def test_codebook_use_and_perplexity() -> None:
    even = torch.stack((torch.arange(8), torch.zeros(8, dtype=torch.int64)), dim=-1)
    use, perplexity = metrics.codebook_use(even, 8)
    assert use == pytest.approx((1 + 1 / 8) / 2)
    assert perplexity == pytest.approx((8 + 1) / 2)


def test_histogram_distance_ignores_free_and_ranges_from_0_to_1() -> None:
    a = metrics.class_histogram(torch.tensor([0, 0, 1, FREE], dtype=torch.uint8), 18)
    b = metrics.class_histogram(torch.tensor([0, 1] + [FREE] * 9, dtype=torch.uint8), 18)
    c = metrics.class_histogram(torch.tensor([2], dtype=torch.uint8), 18)
    assert metrics.histogram_distance(a, a) == 0
    assert metrics.histogram_distance(a, b) == pytest.approx(2 / 3 - 1 / 2)
    assert metrics.histogram_distance(a, c) == 1
    assert metrics.histogram_distance(a, torch.zeros(18, dtype=torch.int64)) == 1


def _carried(frames: int, motion: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    occupancy = torch.randint(11, 18, (1, *SMALL.shape), generator=generator).to(torch.uint8)
    out = [occupancy]
    for _ in range(frames):
        out.append(warp(out[-1], motion, SMALL, FREE))
    return torch.stack(out, dim=1)


def test_flicker_is_zero_for_a_world_carried_along_and_counts_changes_at_the_border() -> None:
    motion = torch.tensor([[1.0, 0.0, 0.0]])
    frames = _carried(4, motion)
    motions = motion[None].expand(1, 4, 3)
    counts = metrics.flicker_counts(frames, motions, SMALL, chunk_frames=2)
    assert counts[:, 0].tolist() == [0, 0]
    assert (counts[:, 1] > 0).all()
    frames[0, 3] = FREE  # a whole frame drops out, at a border, and its copy follows within the chunk
    frames[0, 4] = CLASS_ID["car"]  # agents are not flicker
    changed, counted = metrics.flicker_counts(frames, motions, SMALL, chunk_frames=2).T.tolist()
    assert changed[0] == 0
    assert changed[1] > counted[1] / 4
    with pytest.raises(ValueError, match="motions need"):
        metrics.flicker_counts(frames[:, :2], motions, SMALL, 2)


def test_flicker_of_a_still_world_on_the_mini_grid() -> None:
    frames = torch.full((1, 3, *MINI.shape), FREE, dtype=torch.uint8)
    frames[:, :, :, :, 0] = CLASS_ID["terrain"]
    frames[:, 1:, 10, 10, 0] = CLASS_ID["sidewalk"]
    counts = metrics.flicker_counts(frames, torch.zeros(1, 2, 3), MINI, chunk_frames=2)
    assert counts.tolist() == [[0, 96 * 96], [1, 96 * 96]]
