"""SE(2): the laws of a group, and poses that come back from their motions."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from scenes.motion import (
    accumulate,
    compose,
    interpolate,
    inverse,
    motion_from_poses,
    planar_pose,
    planar_pose_of_quaternion,
    relative,
    to_local,
    transform,
    wrap_angle,
)

coordinate = st.floats(-1e4, 1e4)
angle = st.floats(-20.0, 20.0)
pose = st.tuples(coordinate, coordinate, angle).map(lambda values: torch.tensor(values, dtype=torch.float64))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-6) -> bool:
    """Equal positions, and equal directions whatever full turns lie between."""
    turn = wrap_angle(a[..., 2] - b[..., 2]).abs()
    return bool(((a[..., :2] - b[..., :2]).abs() < tolerance).all() and (turn < tolerance).all())


@given(a=pose, b=pose, c=pose)
def test_composition_is_associative_and_invertible(a: Tensor, b: Tensor, c: Tensor) -> None:
    assert close(compose(compose(a, b), c), compose(a, compose(b, c)))
    assert close(compose(a, inverse(a)), torch.zeros(3, dtype=torch.float64))
    assert close(compose(inverse(a), a), torch.zeros(3, dtype=torch.float64))
    assert close(relative(a, b), compose(inverse(a), b))
    assert close(compose(a, relative(a, b)), b)


@given(a=pose, b=pose, x=coordinate, y=coordinate)
def test_points_move_as_frames_do(a: Tensor, b: Tensor, x: float, y: float) -> None:
    point = torch.tensor([[x, y]], dtype=torch.float64)
    assert torch.allclose(transform(compose(a, b), point), transform(a, transform(b, point)), atol=1e-6)
    assert torch.allclose(to_local(a, transform(a, point)), point, atol=1e-6)


@given(value=st.floats(-100, 100))
def test_angles_wrap_to_half_a_turn_and_keep_their_direction(value: float) -> None:
    wrapped = float(wrap_angle(torch.tensor(value, dtype=torch.float64)))
    assert -math.pi <= wrapped <= math.pi
    assert math.isclose(math.cos(wrapped), math.cos(value), abs_tol=1e-9)
    assert math.isclose(math.sin(wrapped), math.sin(value), abs_tol=1e-9)


@given(seed=st.integers(0, 1000), far=st.floats(0, 1e5))
def test_poses_come_back_from_their_motion_far_from_the_origin(seed: int, far: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    poses = torch.randn(2, 30, 3, dtype=torch.float64, generator=generator).cumsum(1)
    poses[..., 0] += far
    motion = motion_from_poses(poses)
    assert motion.dtype == torch.float32
    assert not motion[:, 0].any()
    again = accumulate(motion[:, 1:], poses[:, 0])
    assert close(again, poses[:, 1:], tolerance=1e-3)


def test_ten_minutes_of_steps_lose_no_precision() -> None:
    motion = torch.tensor([2.5, 0.0, 2 * math.pi / 400], dtype=torch.float32).repeat(2400, 1)
    poses = accumulate(motion)
    step_by_step = torch.zeros(3, dtype=torch.float64)
    for move in motion.double():
        step_by_step = compose(step_by_step, move)
    assert close(poses[-1], step_by_step, tolerance=1e-6)
    assert close(accumulate(motion[1200:], poses[1199])[-1], poses[-1], tolerance=1e-6)


def test_motion_of_a_single_frame_is_zero() -> None:
    assert torch.equal(motion_from_poses(torch.ones(1, 3)), torch.zeros(1, 3))


@given(a=pose, b=pose, weight=st.floats(0, 1))
def test_interpolation_goes_straight_and_turns_the_short_way(a: Tensor, b: Tensor, weight: float) -> None:
    between = interpolate(torch.stack((a, b)), torch.tensor([weight], dtype=torch.float64))[0]
    assert torch.allclose(between[:2], a[:2] + weight * (b[:2] - a[:2]), atol=1e-6)
    whole = abs(float(wrap_angle(b[2] - a[2])))
    assert abs(float(wrap_angle(between[2] - a[2]))) <= whole + 1e-6
    ends = interpolate(torch.stack((a, b)), torch.tensor([-3.0, 0.0, 1.0, 9.0], dtype=torch.float64))
    assert close(ends, torch.stack((a, a, b, b)))


@given(pose=pose, pitch=st.floats(-1.4, 1.4), roll=st.floats(-3.0, 3.0), scale=st.floats(0.5, 2.0))
def test_the_planar_part_of_a_pose_in_space_is_where_its_x_axis_points(
    pose: Tensor, pitch: float, roll: float, scale: float
) -> None:
    turn = Rotation.from_euler("ZYX", [float(pose[2]), pitch, roll])
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.from_numpy(turn.as_matrix())
    matrix[:3, 3] = torch.tensor([*pose[:2].tolist(), 5.0], dtype=torch.float64)
    assert close(planar_pose(matrix.expand(2, 4, 4)), pose.expand(2, 3))
    assert close(planar_pose(matrix[:3]), pose)
    quaternion = torch.from_numpy(turn.as_quat()).roll(1) * scale  # scipy has w last
    assert close(planar_pose_of_quaternion(matrix[:3, 3], quaternion), pose)
