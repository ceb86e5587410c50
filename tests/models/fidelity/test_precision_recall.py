"""Precision and recall of sets that are equal, disjoint, and one inside the other."""

from __future__ import annotations

import pytest
import torch

from models.fidelity.precision_recall import CONFIDENCE, TooFewClips, inside_ellipsoid, inside_neighbours


def normals(count: int, size: int, seed: int, frames: int = 1) -> torch.Tensor:
    return torch.randn(count, frames, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("inside", [inside_ellipsoid, inside_neighbours])
def test_equal_sets_and_disjoint_ones(inside) -> None:  # type: ignore[no-untyped-def]
    a = normals(200, 3, 0)
    assert float(inside(a, a).mean()) >= CONFIDENCE - 0.03
    assert float(inside(a + 100, a).mean()) == 0
    assert float(inside(a, a + 100).mean()) == 0


@pytest.mark.parametrize("inside", [inside_ellipsoid, inside_neighbours])
def test_a_narrow_set_has_precision_and_no_recall(inside) -> None:  # type: ignore[no-untyped-def]
    """What a generator does that knows one scene only."""
    wide, narrow = normals(200, 3, 0), 0.01 * normals(200, 3, 1)
    assert float(inside(narrow, wide).mean()) > 0.95
    assert float(inside(wide, narrow).mean()) < 0.05


def test_the_ellipsoid_holds_the_share_it_should_of_a_normal_distribution_in_any_axes() -> None:
    mixing = normals(4, 4, 5)[:, 0]
    reference, fresh = normals(4000, 4, 0) @ mixing + 7, normals(4000, 4, 1) @ mixing + 7
    assert float(inside_ellipsoid(fresh, reference).mean()) == pytest.approx(CONFIDENCE, abs=0.015)
    assert float(inside_ellipsoid(fresh, reference, confidence=0.5).mean()) == pytest.approx(0.5, abs=0.03)


def test_a_direction_in_which_the_reference_does_not_vary() -> None:
    reference = normals(4000, 3, 0)
    reference[..., 2] = 1.0
    fresh = normals(4000, 3, 1)
    fresh[..., 2] = 1.0
    assert float(inside_ellipsoid(fresh, reference).mean()) == pytest.approx(CONFIDENCE, abs=0.015)
    fresh[..., 2] = 1.1
    assert float(inside_ellipsoid(fresh, reference).mean()) == 0


def test_neighbours_by_hand() -> None:
    reference = torch.tensor([0.0, 1.0, 2.0, 10.0]).reshape(4, 1, 1)  # radii with k = 1: 1, 1, 1, 8
    sample = torch.tensor([-1.0, -1.5, 3.0, 2.5, 18.0, 18.5]).reshape(6, 1, 1)
    assert inside_neighbours(sample, reference, neighbours=1).tolist() == [1, 0, 1, 1, 1, 0]


def test_frames_of_one_clip_are_no_neighbours() -> None:
    """Clips of 8 equal frames: were they neighbours of each other, every radius would be 0 and nothing fresh inside."""
    a, b = (normals(60, 2, seed).expand(-1, 8, -1) for seed in (0, 1))
    assert float(inside_neighbours(b, a).mean()) > 0.8


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(TooFewClips, match="more than 3 reference clips, found 3"):
        inside_neighbours(normals(9, 2, 0), normals(3, 2, 0))
    with pytest.raises(TooFewClips, match="more than 5 reference clips, found 5"):
        inside_ellipsoid(normals(9, 5, 0), normals(5, 5, 0, frames=10))
