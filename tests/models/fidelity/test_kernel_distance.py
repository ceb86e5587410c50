"""The kernel distance by hand, and that it is 0 on average between sets of one distribution."""

from __future__ import annotations

import pytest
import torch

from models.fidelity.kernel_distance import kernel_distance, one_of_each, squared_mmd


def test_by_hand() -> None:
    a, b = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]])
    # k = (x . y / 2 + 1)^3: within a 1, within b (4 / 2 + 1)^3 = 27, between a and b 1.
    assert float(squared_mmd(a, b)) == pytest.approx(1 + 27 - 2)


def test_unbiased_where_both_sets_are_of_one_distribution_and_larger_where_they_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([squared_mmd(*torch.randn(2, 16, 4, generator=generator)) for _ in range(2000)])
    spread = found.std() / len(found) ** 0.5
    assert abs(float(found.mean())) < 4 * float(spread)
    assert bool((found < 0).any())
    moved = torch.stack([squared_mmd(a, b + 0.5) for a, b in torch.randn(200, 2, 16, 4, generator=generator)])
    assert float(moved.mean()) > 20 * float(spread)


def test_frames_of_one_clip_do_not_count_as_independent() -> None:
    """Clips whose frames are all alike: with frames taken as samples, two sets of one distribution would seem far apart."""
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(2, 12, 1, 4, generator=generator).expand(-1, -1, 16, -1) for _ in range(200)]
    by_clip = torch.tensor([kernel_distance(a, b, subsets=2)[0] for a, b in clips])
    by_frame = torch.stack([squared_mmd(a.flatten(0, 1), b.flatten(0, 1)) for a, b in clips])
    assert abs(float(by_clip.mean())) < 4 * float(by_clip.std()) / len(clips) ** 0.5
    assert float(by_frame.mean()) > 4 * float(by_frame.std()) / len(clips) ** 0.5


def test_one_of_each_takes_no_clip_twice() -> None:
    features = torch.arange(10.0).reshape(10, 1, 1).expand(10, 3, 1)
    drawn = one_of_each(features, 6, torch.Generator().manual_seed(0))
    assert len(drawn.unique()) == 6


def test_sets_of_one_are_refused() -> None:
    with pytest.raises(ValueError, match="two features or more"):
        squared_mmd(torch.zeros(1, 3), torch.zeros(4, 3))
