"""What the agent sees: a bird's eye image, code ids or the voxels themselves, beside a vector about the ego and its task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import gather_columns
from models.warp import lattice
from occworld_env.config import EnvConfig
from occworld_env.constant import constant
from occworld_env.footprint import PEDESTRIAN, STATIC, VEHICLE, Reach, Surface
from occworld_env.route import RoutePlace, points_at
from occworld_env.vehicle import Vehicle
from scenes.grid import DRIVABLE, FREE, Grid
from scenes.motion import to_local

BEV_CHANNELS = ("drivable", "other_flat", "static_obstacle", "vehicle", "vulnerable", "route", "agents_before")
ROUTE_AHEAD = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0)  # metres along the route
YAW_RATE_SCALE = 1.5  # rad/s
LIGHT_RANGE = 50.0  # metres
VECTOR_FIELDS = (
    "speed",
    "acceleration",
    "steering",
    "yaw_rate",
    "target_speed",
    "target_lane",
    "deviation",
    "heading",
    "route_left",
    "light_distance",
    "light_red",
    "light_yellow",
    "light_green",
    *(f"route_{axis}_{distance:.0f}" for distance in ROUTE_AHEAD for axis in "xy"),
)


@dataclass(frozen=True)
class Task:
    """What the ego is to do, for B worlds.

    Attributes:
        routes: world points (B, M, 2).
        place: where the ego is along its route.
        left: metres of route ahead (B,).
        target_speed: m/s (B,).
        target_lane: lanes to the left of the route, -1, 0 or 1 (B,).
        light_distance: metres to the next traffic light on the route, infinity where none is known (B,).
        light_state: 0 unknown, 1 red, 2 yellow, 3 green (B,).
    """

    routes: Tensor
    place: RoutePlace
    left: Tensor
    target_speed: Tensor
    target_lane: Tensor
    light_distance: Tensor
    light_state: Tensor


def vector(vehicle: Vehicle, task: Task, config: EnvConfig, grid: Grid) -> Tensor:
    """The entries of VECTOR_FIELDS, float32 (B, 29) in [-1, 1].

    speed and target_speed in parts of the car's largest, acceleration of its braking, steering of its stop, yaw_rate of
    YAW_RATE_SCALE; deviation (positive: ego left of the route) of the off-route limit, heading (ego minus route) of pi;
    route_left of 100 m; light_distance of LIGHT_RANGE, 1 where no light is known within it, the three light flags then 0;
    route_x_d, route_y_d: the point d metres ahead on the route in the ego frame, in parts of half the grid.
    """
    bicycle = config.bicycle
    near = task.light_distance < LIGHT_RANGE
    parts = [
        vehicle.speed / bicycle.max_speed,
        vehicle.acceleration / bicycle.max_braking,
        vehicle.steering / bicycle.max_steering,
        vehicle.yaw_rate / YAW_RATE_SCALE,
        task.target_speed / bicycle.max_speed,
        task.target_lane.double(),
        task.place.lateral / config.offroute_distance,
        task.place.heading / torch.pi,
        task.left / 100.0,
        (task.light_distance / LIGHT_RANGE).clamp(max=1.0),
        *(((task.light_state == state) & near).double() for state in (1, 2, 3)),
    ]
    arcs = task.place.arc.unsqueeze(-1) + constant(ROUTE_AHEAD, torch.float64, vehicle.pose.device)
    ahead = to_local(vehicle.pose, points_at(task.routes, arcs)[0]) / (grid.shape[0] * grid.voxel / 2)
    return torch.cat((torch.stack(parts, dim=-1), ahead.flatten(1)), dim=-1).clamp(-1.0, 1.0).to(torch.float32)


def bev(now: Surface, before: Surface, moved: Tensor, corridor: Tensor, reach: Reach) -> Tensor:
    """The image of BEV_CHANNELS, uint8 (B, 7, X, Y), 0 or 255: axis 1 is ego forward, axis 2 ego left, as in the grid.

    now, before: surfaces (B, X, Y) of the last frame and of the one before. moved: motion (B, 3) between the two.
    corridor: uint8 (B, X, Y), 1 on the route. `agents_before` is carried into the last frame, so that what moves shows.
    """
    kind = reach.kinds[now.obstacle.long()]
    drivable = now.ground == DRIVABLE
    image = torch.stack(
        (
            drivable,
            (now.ground != FREE) & ~drivable,
            kind == STATIC,
            kind == VEHICLE,
            kind >= PEDESTRIAN,
            corridor.bool(),
            _carried(reach.kinds[before.obstacle.long()] > STATIC, moved, reach.grid),
        ),
        dim=1,
    )
    return image.to(torch.uint8) * 255


def _carried(raster: Tensor, moved: Tensor, grid: Grid) -> Tensor:
    """Raster bool (B, X, Y) of one frame as it lies in the next one, which is at pose moved (B, 3) in it."""
    return gather_columns(raster.unsqueeze(-1), moved.unsqueeze(1), lattice(grid), 0).squeeze((1, 4))
