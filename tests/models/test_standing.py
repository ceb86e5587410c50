"""What stood in the history still stands, wherever the ego goes and whatever is imagined."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.interface import Rollout
from models.standing import keep_standing, nothing_stands
from models.warp import WarpWorldModel
from scenes.grid import FREE, STATIC_OBSTACLES
from scenes.render import render
from tests.models.small import GRID, make_model, make_street

MODEL = make_model()
STREET = make_street()


@settings(max_examples=8, deadline=None)
@given(moves=st.lists(st.tuples(st.floats(-1, 3), st.floats(-0.3, 0.3), st.floats(-0.2, 0.2)), min_size=1, max_size=4))
def test_what_stood_still_stands(moves: list[tuple[float, float, float]]) -> None:
    times = 2.0 + 0.25 * torch.arange(4, dtype=torch.float64)
    history = render(STREET, STREET.ego_poses(0, times), times, GRID, ego=0).unsqueeze(0)
    still, seeds = torch.zeros(1, 4, 3), torch.tensor([7])
    rollout, photograph = MODEL.start(history, still, seeds), WarpWorldModel(GRID).start(history, still, seeds)
    before = rollout["standing"].clone()
    obstacles = torch.tensor(STATIC_OBSTACLES, dtype=torch.uint8)
    assert torch.equal(before != FREE, torch.isin(history[:, -1], obstacles))
    for move in moves:
        motion = torch.tensor(move).expand(1, 2, 3)
        shown, true = (
            model.advance(state, motion).voxels for model, state in ((MODEL, rollout), (WarpWorldModel(GRID), photograph))
        )
        assert shown is not None
        assert true is not None
        assert bool((shown[torch.isin(true, obstacles)] != FREE).all())
    assert torch.equal(rollout["standing"], before)  # nothing that was imagined is added


def test_without_a_history_nothing_is_added() -> None:
    rollout = Rollout(nothing_stands(GRID, 2, torch.device("cpu")) | {"above_poses": torch.ones(2, 4, 3, dtype=torch.float64)})
    voxels = torch.randint(0, 18, (2, 2, *GRID.shape), dtype=torch.uint8)
    assert torch.equal(keep_standing(rollout, voxels, torch.ones(2, 2, 3), GRID), voxels)
