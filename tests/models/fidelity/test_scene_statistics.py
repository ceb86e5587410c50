"""Histograms of frames, counted by hand."""

from __future__ import annotations

import torch

from models.fidelity.colour_map import colour_map, top_classes
from models.fidelity.scene_statistics import frame_histograms, frame_vector
from scenes.clip import Clip
from scenes.grid import CLASS_ID, DRIVABLE, FREE, Grid

SMALL = Grid((10, 10, 3), 1.0, (-5.0, -5.0, -1.0))
CAR, PEDESTRIAN = CLASS_ID["car"], CLASS_ID["pedestrian"]


def street() -> torch.Tensor:
    """Two frames: a road with a car of 8 m2 and a pedestrian of 1 m2, then the road alone."""
    frames = torch.full((2, *SMALL.shape), FREE, dtype=torch.uint8)
    frames[..., 0] = DRIVABLE
    frames[0, 2:6, 4:6, 1:] = CAR
    frames[0, 8, 8, 1] = PEDESTRIAN
    return frames


def test_by_hand() -> None:
    found = frame_histograms(street(), SMALL)
    assert found["classes"][:, DRIVABLE].tolist() == [100, 100]
    assert found["classes"][:, CAR].tolist() == [16, 0]
    assert found["classes"].sum(1).tolist() == [300, 300]
    assert found["heights"].tolist() == [[100, 9, 8], [100, 0, 0]]
    assert found["agents"].tolist() == [[0, 1, 0, 0, 1, 0, 0, 0], [0] * 8]  # areas from 1 to below 2 and 8 to below 16 m2


def test_vectors_are_roots_of_shares(true_clips: list[Clip], grid: Grid) -> None:
    histograms = frame_histograms(true_clips[0].occupancy, grid)
    squares = frame_vector(histograms).square()
    for first, size in ((0, 17), (17, 8)):
        assert torch.allclose(squares[:, first : first + size].sum(1), torch.ones(6))
    occupied = 1 - histograms["classes"][:, FREE] / histograms["classes"].sum(1)
    assert torch.allclose(squares[:, -2], occupied)
    empty = frame_vector(frame_histograms(torch.full((1, *grid.shape), FREE, dtype=torch.uint8), grid))
    assert not empty.any()


def test_the_map_shows_what_is_on_top() -> None:
    above = top_classes(street(), SMALL)
    assert above[0, 3, 5] == CAR
    assert above[1, 3, 5] == DRIVABLE
    image = colour_map(street(), SMALL)
    assert image.shape == (2, 3, 10, 10)
    assert torch.allclose((image[0, :, 3, 5] + 1) * 127.5, torch.tensor(SMALL.colours[CAR]).float(), atol=1e-3)
    assert top_classes(torch.full((1, 1, 1, 3), FREE, dtype=torch.uint8), SMALL).item() == FREE
