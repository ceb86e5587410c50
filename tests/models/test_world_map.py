"""The map of what was shown: cells are looked up by one pose, however many steps ago they were first seen."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.agent_flow import AgentFlow, AgentFlowConfig
from models.carry_world_model import CarryWorldModel
from models.interface import Rollout
from models.warp import UNKNOWN, WarpWorldModel, warp_chunk
from models.world_map import empty_map, map_size, memorise, recall
from scenes.grid import CLASS_ID, FREE, MINI, OCC3D, is_agent
from scenes.motion import accumulate
from tests.models.small import GRID

CAR = CLASS_ID["car"]


def town(seed: int = 0, batch: int = 1) -> Tensor:
    """Random ground and blocks without agents, uint8 (B, X, Y, Z)."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.full((batch, *GRID.shape), FREE, dtype=torch.uint8)
    frame[..., 0] = torch.randint(11, 15, frame.shape[:3], generator=generator, dtype=torch.uint8)
    blocks = torch.rand(frame.shape[:3], generator=generator) < 0.2
    frame[..., 1][blocks] = CLASS_ID["manmade"]
    return frame


def shown(frame: Tensor, pose: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Rollout:
    """A rollout that has shown one frame from this pose."""
    rollout = Rollout(empty_map(GRID, len(frame), frame.device))
    memorise(rollout, frame, torch.tensor([pose], dtype=torch.float64).expand(len(frame), -1), GRID)
    return rollout


@pytest.mark.parametrize("grid", [GRID, MINI, OCC3D])
def test_the_grid_fits_however_it_is_turned(grid: object) -> None:
    assert map_size(MINI) >= math.sqrt(2) * 96
    assert map_size(OCC3D) >= math.sqrt(2) * 200
    assert map_size(GRID) % 2 == 0


@settings(max_examples=20, deadline=None)
@given(x=st.floats(-1e4, 1e4), y=st.floats(-1e4, 1e4), yaw=st.floats(-3.1, 3.1))
def test_a_first_frame_is_kept_as_it_is(x: float, y: float, yaw: float) -> None:
    frame, pose = town(), (x, y, yaw)
    rollout = shown(frame, pose)
    assert torch.equal(recall(rollout, torch.tensor([[pose]], dtype=torch.float64), GRID)[:, 0], frame)


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(-1, 2), st.floats(-0.5, 0.5), st.floats(-0.3, 0.3)), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_many_steps_lose_no_more_than_one(steps: list[tuple[float, float, float]], seed: int) -> None:
    """Carried along step by step, what the first frame saw is found where one warp by the composed pose has it."""
    frame = town(seed).unsqueeze(1).expand(-1, 2, -1, -1, -1)
    flow = AgentFlow(GRID, 2, AgentFlowConfig())
    models = CarryWorldModel(flow), WarpWorldModel(GRID)
    start = torch.zeros(1, 2, 3), torch.zeros(1, dtype=torch.int64)
    rollouts = [model.start(frame, *start) for model in models]
    for step in steps:
        motion = torch.tensor([[step, step]]) + torch.tensor((0.0131, 0.0073, 0.0))  # or points fall between two columns
        carried, warped = (model.advance(rollout, motion).voxels for model, rollout in zip(models, rollouts, strict=True))
        assert carried is not None
        assert warped is not None
        still = warped != FREE  # beyond what it saw the warp is free, and the map may have moved on
        # At the border of what was seen a column may fall to either side.
        assert int((carried != warped)[still].sum()) <= 0.02 * int(still.sum())


def test_frame_by_frame_a_street_would_wander_off() -> None:
    """What the map is for: warped from frame to frame, a third of the ground is wrong after six steps."""
    frame = current = town()
    pose = torch.zeros(1, 3, dtype=torch.float64)
    rollout, motion = shown(frame), torch.tensor([[[1.4, 0.2, 0.2]]])
    for _ in range(6):
        current = warp_chunk(current, motion, GRID)[:, 0]
        pose = accumulate(motion, pose)[:, 0]
    once = recall(rollout, pose.unsqueeze(1), GRID)[:, 0]
    ground, warped = once[..., 0], current[..., 0]
    known = (ground != UNKNOWN) & (warped != UNKNOWN)
    assert float((ground != warped)[known].float().mean()) > 0.33


def test_a_place_is_found_again() -> None:
    """The ego turns round and comes back within the map: what it then sees is what was there."""
    frame = town()
    rollout = shown(frame)
    poses = accumulate(torch.tensor([[[3.0, 0.0, 0.4]] * 3]))[0]
    for pose in poses:
        known = recall(rollout, pose[None, None], GRID)[:, 0]
        memorise(rollout, known.masked_fill(known == UNKNOWN, FREE), pose[None], GRID)
    again = recall(rollout, torch.zeros(1, 1, 3, dtype=torch.float64), GRID)[:, 0]
    known = again != UNKNOWN  # the map has scrolled, and let go of its far edge
    assert float(known.float().mean()) > 0.9
    assert float((again == frame)[known].float().mean()) > 0.995


def test_new_content_replaces_old() -> None:
    """A frame that differs is what is recalled from then on, cell by cell, where map and grid lie upon each other."""
    rollout, other = shown(town(0)), town(1)
    memorise(rollout, other, torch.zeros(1, 3, dtype=torch.float64), GRID)
    assert torch.equal(recall(rollout, torch.zeros(1, 1, 3, dtype=torch.float64), GRID)[:, 0], other)


def test_worlds_do_not_mix() -> None:
    frames = town(3, batch=2)
    both = Rollout(empty_map(GRID, 2, frames.device))
    poses = torch.tensor([[0.0, 0.0, 0.0], [5.0, 1.0, 0.5]], dtype=torch.float64)
    memorise(both, frames, poses, GRID)
    later = poses + torch.tensor([2.3, -0.7, 0.2])
    memorise(both, town(4, batch=2), later, GRID)
    for world in (0, 1):
        alone = Rollout(empty_map(GRID, 1, frames.device))
        memorise(alone, frames[world : world + 1], poses[world : world + 1], GRID)
        memorise(alone, town(4, batch=2)[world : world + 1], later[world : world + 1], GRID)
        assert all(torch.equal(alone[name][0], both[name][world]) for name in ("map", "map_pose"))


def test_agents_out_of_view_are_forgotten() -> None:
    """A car that the ego left behind is unknown when it comes back; the ground under it is known."""
    frame = town()
    frame[:, 2:6, 14:17, 1] = CAR
    rollout = shown(frame)
    away = torch.tensor([[4.8, 0.0, 0.0]], dtype=torch.float64)
    seen = recall(rollout, away[:, None], GRID)[:, 0]
    assert not bool(is_agent(seen).any())
    memorise(rollout, seen.masked_fill(seen == UNKNOWN, FREE), away, GRID)
    again = recall(rollout, torch.zeros(1, 1, 3, dtype=torch.float64), GRID)[0, 0]
    assert bool((again[2:6, 14:17, 1] == UNKNOWN).all())
    assert torch.equal(again[2:6, 14:17, 0], frame[0, 2:6, 14:17, 0])
