"""Seams where chunks meet, by hand and in true clips that were broken at chunk borders."""

from __future__ import annotations

import math

import pytest
import torch

from models.fidelity.disturbed import voxel_noise
from models.fidelity.seams import border_transitions, seam_ratio
from models.metrics import change_counts, flicker_counts
from scenes.clip import Clip
from scenes.grid import Grid


def test_by_hand() -> None:
    assert border_transitions(5, 2).tolist() == [False, True, False, True, False]
    assert border_transitions(8, 2, first_frames=3).tolist() == [False, False, True, False, True, False, True, False]
    counts = torch.tensor([[[1, 100], [3, 50], [1, 100]], [[3, 100], [3, 50], [3, 100]]])
    assert seam_ratio(counts, 2) == pytest.approx((6 / 100) / (8 / 400))
    assert seam_ratio(counts, 2, first_frames=1) == pytest.approx((8 / 400) / (6 / 100))
    assert math.isnan(seam_ratio(torch.tensor([[[0, 9], [1, 9], [0, 9]]]), 2))


@pytest.mark.parametrize(("frames", "chunk"), [(4, 4), (2, 2), (8, 1)])
def test_clips_without_borders_or_without_an_inside_are_refused(frames: int, chunk: int) -> None:
    with pytest.raises(ValueError, match=f"clips of {frames} frames have no border and inside of chunks of {chunk}"):
        border_transitions(frames - 1, chunk)


def test_chunks_that_do_not_fit_together_are_found(true_clips: list[Clip], grid: Grid) -> None:
    """A fresh disturbance a chunk: within a chunk nothing flickers more, but the next one is disturbed elsewhere."""
    clips = true_clips[:6]
    broken = []
    for number, clip in enumerate(clips):
        still = torch.zeros_like(clip.motion)
        frozen = clip.occupancy[:1].expand_as(clip.occupancy)
        chunks = [voxel_noise(Clip(frozen[i : i + 1], still[:1], clip.dt, ""), grid, 0.05, 10 * number + i) for i in (0, 2, 4)]
        broken.append(torch.cat([chunk.occupancy.expand(2, -1, -1, -1) for chunk in chunks]))
    whole = torch.cat([change_counts(clip.occupancy[None], clip.motion[None, 1:], grid) for clip in clips])
    assert seam_ratio(whole, 2) == pytest.approx(1, abs=0.4)
    noise = torch.cat([change_counts(frames[None], torch.zeros(1, 5, 3), grid) for frames in broken])
    assert noise[:, 1::2, 0].min() > 0
    assert noise[:, ::2, 0].max() == 0


def test_the_counts_are_those_of_flicker(true_clips: list[Clip], grid: Grid) -> None:
    """flicker_counts begins with the frame before a border, so its rows are the same transitions, one later."""
    clip = true_clips[1]
    counts = change_counts(clip.occupancy[None], clip.motion[None, 1:], grid)[0]
    border = torch.arange(5) % 2 == 0
    flicker = flicker_counts(clip.occupancy[None], clip.motion[None, 1:], grid, 2)
    assert flicker.tolist() == [counts[~border].sum(0).tolist(), counts[border].sum(0).tolist()]
    everything = change_counts(clip.occupancy[None], clip.motion[None, 1:], grid, agents=True)[0]
    assert bool((everything >= counts).all())
