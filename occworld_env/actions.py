"""What an action means: each of the three action types becomes a command to the car, for B worlds at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from occworld_env.config import EnvConfig
from occworld_env.constant import constant
from occworld_env.route import points_at
from occworld_env.vehicle import Command, Vehicle, substeps
from scenes.motion import compose, relative, to_local, wrap_angle

META_ACTIONS = ("LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER")  # highway-env's names and order
LANE_WIDTH = 3.5  # metres to the side that a lane change moves the target
SPEED_STEP = 2.5  # m/s that FASTER and SLOWER change the target by
MAX_YAW_RATE = 1.5  # rad/s at which the yaw of a `trajectory` action has the value 1
_CURVE_COMFORT = 2.5  # lateral acceleration in m/s^2 that the controller slows down to in curves


@dataclass(frozen=True)
class Task:
    """What the meta actions' controller follows.

    Attributes:
        routes: world points (B, M, 2).
        arc: metres along the route at the start of the step (B,).
        lane: lanes to the left of the route to drive in, -1, 0 or 1, int64 (B,).
        target_speed: m/s (B,).
    """

    routes: Tensor
    arc: Tensor
    lane: Tensor
    target_speed: Tensor


def action_shape(kind: str, frames: int) -> tuple[int, ...]:
    """Shape of one world's action of type `kind` for chunks of `frames` frames; () is an index into META_ACTIONS."""
    return {"control": (2,), "trajectory": (frames, 3), "discrete": ()}[kind]


def check_action(action: Tensor, kind: str, num_worlds: int, frames: int) -> Tensor:
    """The action as float64, or int64 for `discrete`; raises ValueError on a wrong shape, on NaN and on unknown indices.

    Values outside [-1, 1] are clipped.
    """
    shape = (num_worlds, *action_shape(kind, frames))
    if tuple(action.shape) != shape:
        raise ValueError(f"action: expected shape {shape} for {kind!r} actions, found {tuple(action.shape)}")
    if kind == "discrete":
        if action.is_floating_point() or action.dtype == torch.bool:
            raise ValueError(f"action: expected integers below {len(META_ACTIONS)}, found {action.dtype}")
        if action.device.type == "cpu" and bool(((action < 0) | (action >= len(META_ACTIONS))).any()):
            raise ValueError(f"action: expected integers from 0 to {len(META_ACTIONS) - 1}, found {action.tolist()}")
        return action.to(torch.int64).clamp(0, len(META_ACTIONS) - 1)
    if action.device.type == "cpu" and not bool(torch.isfinite(action).all()):  # no wait for the GPU: there NaN becomes 0
        raise ValueError("action: expected finite numbers in [-1, 1], found NaN or infinity")
    return action.to(torch.float64).nan_to_num(0.0).clamp(-1.0, 1.0)


def control_command(action: Tensor, config: EnvConfig) -> Command:
    """Command of `control` actions (B, 2): acceleration, 1 the strongest, -1 full braking, and steering, 1 full left."""
    bicycle = config.bicycle
    pedal, wheel = action[:, 0], action[:, 1] * bicycle.max_steering
    acceleration = torch.where(pedal >= 0, pedal * bicycle.max_acceleration, pedal * bicycle.max_braking)
    return lambda index, vehicle: (acceleration, wheel)


def trajectory_scale(frames: int, frame_dt: float, config: EnvConfig, device: torch.device | str = "cpu") -> Tensor:
    """Poses (F, 3), metres and radians in the ego frame at the step's start, that a `trajectory` action of ones asks for.

    Yaw ends at pi, beyond which a heading would have two names; the distance to the side where no car can be further away.
    """
    time = torch.arange(1, frames + 1, dtype=torch.float64, device=device) * frame_dt
    ahead = time * config.bicycle.max_speed
    aside = (0.5 * config.max_lateral_acceleration * time**2).minimum(ahead)
    return torch.stack((ahead, aside, (time * MAX_YAW_RATE).clamp(max=math.pi)), dim=-1)


def trajectory_action(poses: Tensor, frame_dt: float, config: EnvConfig) -> Tensor:
    """The `trajectory` action, float32 (..., F, 3), that asks for poses (..., F, 3), given as in `trajectory_scale`."""
    scale = trajectory_scale(poses.shape[-2], frame_dt, config, poses.device)
    return (poses.to(torch.float64) / scale).clamp(-1, 1).to(torch.float32)


def trajectory_command(action: Tensor, start: Vehicle, frame_dt: float, config: EnvConfig) -> Command:
    """Command of `trajectory` actions (B, F, 3): for each frame the acceleration and the arc that lead to its pose.

    A car on its rear axle has two degrees of freedom and a pose has three, so the arc meets position and heading half way
    where they do not agree, and the acceleration place and speed: to be at each place in time whatever the speed is then, the
    speed would have to swing about the wanted one for ever. What the bounds of the car forbid is followed as far as they allow.
    """
    target = compose(start.pose.unsqueeze(1), action * trajectory_scale(action.shape[1], frame_dt, config, action.device))
    speeds = _speeds(start.pose, target, frame_dt)
    count = substeps(frame_dt)
    current: list[tuple[Tensor, Tensor]] = []

    def command(index: int, vehicle: Vehicle) -> tuple[Tensor, Tensor]:
        if index % count == 0:
            frame = index // count
            length, turn = _arc(relative(vehicle.pose, target[:, frame]))
            behind = length - (vehicle.speed + speeds[:, frame]) / 2 * frame_dt
            acceleration = (speeds[:, frame] - vehicle.speed) / frame_dt + behind / frame_dt**2
            steering = torch.atan(config.bicycle.wheelbase * turn / length.clamp(min=1e-2))
            current[:] = [(acceleration, torch.where(length > 1e-2, steering, torch.zeros_like(steering)))]
        return current[0]

    return command


def _speeds(start: Tensor, target: Tensor, frame_dt: float) -> Tensor:
    """Speed (B, F) in m/s that poses (B, F, 3) after a pose (B, 3) stand for: at each the mean of before and after it."""
    before = torch.cat((start.unsqueeze(1), target[:, :-1]), dim=1)
    speed = _arc(relative(before, target))[0] / frame_dt
    if speed.shape[1] == 1:
        return speed
    between = (speed[:, 1:] + speed[:, :-1]) / 2
    last = speed[:, -1:] + (speed[:, -1:] - speed[:, -2:-1]) / 2
    return torch.cat((between, last.clamp(min=0.0)), dim=1)


def _arc(goal: Tensor) -> tuple[Tensor, Tensor]:
    """Length in m and turn in rad (...) of the arc that leads to goal (..., 3) in the ego frame; 0 m where it is behind."""
    chord = goal[..., :2].norm(dim=-1)
    forward = goal[..., 0] > 0
    bearing = torch.where(forward & (chord > 0.05), torch.atan2(goal[..., 1], goal[..., 0].clamp(min=1e-6)), goal[..., 2] / 2)
    turn = bearing.clamp(-1.5, 1.5) + goal[..., 2] / 2
    return torch.where(forward, chord, torch.zeros_like(chord)) / torch.sinc(turn / (2 * torch.pi)), turn


def change_task(task: Task, action: Tensor, config: EnvConfig) -> Task:
    """The task after meta actions (B,): another lane, or another target speed, both within bounds."""
    names = ("LANE_LEFT", "LANE_RIGHT", "FASTER", "SLOWER")
    left, right, faster, slower = (action == META_ACTIONS.index(name) for name in names)
    lane = (task.lane + left.long() - right.long()).clamp(-1, 1)
    speed = task.target_speed + SPEED_STEP * (faster.double() - slower.double())
    return Task(task.routes, task.arc, lane, speed.clamp(0.0, config.bicycle.max_speed))


def follow_command(task: Task, start: Vehicle, config: EnvConfig) -> Command:
    """Command that follows the route beside its line: pure pursuit, and a speed that suits the curve ahead."""
    bicycle = config.bicycle
    ahead = task.arc.unsqueeze(-1) + constant((0.0, 4.0, 8.0, 12.0, 16.0), torch.float64, task.arc.device)
    direction = points_at(task.routes, ahead)[1]
    yaw = torch.atan2(direction[..., 1], direction[..., 0])
    bend = (wrap_angle(yaw[:, 2:] - yaw[:, :-2]).abs() / 8.0).amax(-1)
    speed_limit = task.target_speed.minimum((_CURVE_COMFORT / bend.clamp(min=1e-4)).sqrt())

    def command(index: int, vehicle: Vehicle) -> tuple[Tensor, Tensor]:
        travelled = (vehicle.pose[:, :2] - start.pose[:, :2]).norm(dim=-1)
        look = (task.arc + travelled + vehicle.speed.clamp(5.0, 15.0)).unsqueeze(-1)
        point, along = points_at(task.routes, look)
        left = torch.stack((-along[..., 1], along[..., 0]), dim=-1)
        goal = to_local(vehicle.pose, point + left * (task.lane * LANE_WIDTH)[:, None, None]).squeeze(1)
        curvature = 2 * goal[:, 1] / goal.square().sum(-1).clamp(min=1.0)
        return (speed_limit - vehicle.speed).clamp(-4.0, 2.0), torch.atan(bicycle.wheelbase * curvature)

    return command
