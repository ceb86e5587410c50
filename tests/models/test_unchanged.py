"""Windows that meet without a seam, and change nothing but that."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.unchanged import keep_unchanged
from models.warp import UNKNOWN, warp_chunk
from scenes.grid import FREE, is_agent
from scenes.render import render
from tests.models.small import GRID, make_street

STREET = make_street()
MOVES = st.lists(st.tuples(st.floats(-1, 3), st.floats(-0.3, 0.3), st.floats(-0.2, 0.2)), min_size=1, max_size=4)


def frames(begin: float, count: int) -> Tensor:
    """True frames of a street with agents, (1, count, X, Y, Z)."""
    times = begin + 0.25 * torch.arange(count, dtype=torch.float64)
    return render(STREET, STREET.ego_poses(0, times), times, GRID, ego=0).unsqueeze(0)


def disturbed(occupancy: Tensor, seed: int) -> Tensor:
    """The same with a tenth of the cells of other classes, none of an agent."""
    draw = torch.Generator().manual_seed(seed)
    other = torch.randint(11, GRID.num_classes, occupancy.shape, generator=draw, dtype=torch.uint8)
    chosen = (torch.rand(occupancy.shape, generator=draw) < 0.1) & ~is_agent(occupancy)
    return torch.where(chosen, other, occupancy)


@settings(max_examples=10, deadline=None)
@given(moves=MOVES, seed=st.integers(0, 99))
def test_a_still_world_goes_on_as_it_was_shown(moves: list[tuple[float, float, float]], seed: int) -> None:
    """A window that decodes a frame badly, and carries it along, shows what was shown, carried along, but for agents."""
    motion, shown = torch.tensor(moves).unsqueeze(0), frames(2.0, 1)[:, 0]
    last = disturbed(shown, seed)
    found = keep_unchanged(warp_chunk(last, motion, GRID, fill=FREE), last, shown, motion, GRID)
    expected = warp_chunk(shown, motion, GRID)
    seen = (expected != UNKNOWN) & ~is_agent(expected)
    assert torch.equal(found[seen], expected[seen])
    assert not bool(((found != warp_chunk(last, motion, GRID, fill=FREE)) & (expected == UNKNOWN)).any())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_what_changes_is_shown(seed: int) -> None:
    """Where the window changes its mind, and wherever an agent is or was, the new frames decide."""
    shown, new, motion = frames(2.0, 1)[:, 0], frames(2.25, 3), torch.zeros(1, 3, 3)
    last = disturbed(shown, seed)
    found = keep_unchanged(new, last, shown, motion, GRID)
    changed = (new != last.unsqueeze(1)) | is_agent(new) | is_agent(shown).unsqueeze(1)
    assert torch.equal(found[changed], new[changed])
    assert bool(is_agent(new).any())
