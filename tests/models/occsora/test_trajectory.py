"""The trajectory that conditions a clip, from ego motion."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.occsora.trajectory import trajectory_from_motion
from scenes.motion import motion_from_poses


def test_straight_and_still() -> None:
    motion = torch.zeros(2, 32, 3)
    motion[1, 1:, 0] = 4.0
    found = trajectory_from_motion(motion)
    assert found.dtype == torch.float32
    assert not found[0].any()
    torch.testing.assert_close(found[1, :, 0], 4.0 * torch.arange(32))
    assert not found[1, :, 1].any()


def test_a_left_turn_is_a_quarter_of_a_circle() -> None:
    """In the first ego frame: 20 m ahead and 20 m to the left, all the way on the circle."""
    angle = torch.linspace(0, math.pi / 2, 32, dtype=torch.float64)
    poses = torch.stack((20 * angle.sin(), 20 - 20 * angle.cos(), angle), dim=-1)
    found = trajectory_from_motion(motion_from_poses(poses))
    torch.testing.assert_close(found[-1], torch.tensor([20.0, 20.0]), atol=1e-3, rtol=0)
    radius = (found - torch.tensor([0.0, 20.0])).norm(dim=-1)
    torch.testing.assert_close(radius, torch.full((32,), 20.0), atol=1e-3, rtol=0)


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(-3, 3))
def test_what_led_to_the_first_frame_plays_no_part(x: float, y: float, yaw: float) -> None:
    """Wherever in the world and however the clip begins, the trajectory is the same."""
    motion = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    other = motion.clone()
    other[0] = torch.tensor([x, y, yaw])
    torch.testing.assert_close(trajectory_from_motion(other), trajectory_from_motion(motion), atol=1e-4, rtol=1e-4)
