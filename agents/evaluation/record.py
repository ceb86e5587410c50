"""Driving one episode and taking down what its record needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from agents.evaluation.episode import Episode, StartState
from agents.planner import Planner, attach
from occworld_env.footprint import look_down
from occworld_env.route import locate
from occworld_env.simulator import Simulator

Array = np.ndarray


def record(env: Any, driver: Planner, place: StartState, world: str, planner: str) -> Episode:
    """Drive from `place` until the episode ends and return its record.

    env: an OccSoraEnv or one with the same simulator, without Gymnasium's wrappers. driver: not attached yet, since what it is
    told is the car of this episode. world, planner: names, for the record.
    """
    options = {"scene": place.scene, "ego": place.ego, "start": place.start, "seed": place.seed}
    observation, info = env.reset(seed=place.seed % 2**31, options=options)
    attach(driver, env).reset()
    sheet = _Sheet(env.simulator)
    steps = max(1, math.floor(place.seconds / env.simulator.step_seconds + 1e-9))
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(driver.act(observation, info))
        sheet.add(env.simulator, float(reward), info)
        if terminated or truncated:
            break
    return sheet.episode(place, world, planner, steps * env.simulator.step_seconds)


class _Sheet:
    """What is taken down step by step; everything is read off the simulator's public state."""

    def __init__(self, simulator: Simulator) -> None:
        state = simulator.state
        self.config, self.grid, self.frame_dt = simulator.config, simulator.grid, simulator.model.dt
        self.route, self.box = (state[name][0].cpu().numpy().copy() for name in ("route", "box"))
        self.route_left = float(state["route_length"][0] - simulator.place().arc[0])
        self.expert = _expert(simulator)
        self.dt = self.frame_dt
        self.poses = [simulator.vehicle.pose.cpu().numpy().copy()]
        self.speed, self.acceleration = [float(simulator.vehicle.speed[0])], [float(simulator.vehicle.acceleration[0])]
        self.frame_poses, self.surfaces = [self.poses[0]], [_surface(simulator, slice(-1, None))]
        self.steps: list[dict[str, Any]] = []

    def add(self, simulator: Simulator, reward: float, info: dict[str, Any]) -> None:
        """Take down a step."""
        path = simulator.path[0].cpu().numpy().copy()
        every = len(path) // simulator.frames
        self.dt = simulator.step_seconds / len(path)
        speed = speeds_along(np.concatenate((self.poses[-1][-1:], path)), self.speed[-1], self.dt)
        self.acceleration += list(np.diff(speed, prepend=self.speed[-1]) / self.dt)
        self.speed += list(speed)
        self.poses.append(path)
        self.frame_poses.append(path[every - 1 :: every])
        self.surfaces.append(_surface(simulator, slice(None)))
        names = ("progress", "collision_class", "offroad", "offroute", "route_completed")
        self.steps.append({"reward": reward} | {name: info[name] for name in names})

    def episode(self, place: StartState, world: str, planner: str, horizon: float) -> Episode:
        """The whole record."""
        ground, obstacle = (np.concatenate(part) for part in zip(*self.surfaces, strict=True))
        told = {name: np.array([step[name] for step in self.steps]) for name in self.steps[0]}
        return Episode(
            world=world,
            planner=planner,
            place=place,
            grid=self.grid,
            box=self.box,
            route=self.route,
            route_left=self.route_left,
            target_speed=self.config.target_speed,
            horizon=horizon,
            dt=self.dt,
            frame_dt=self.frame_dt,
            poses=np.concatenate(self.poses),
            speed=np.array(self.speed),
            acceleration=np.array(self.acceleration),
            frame_poses=np.concatenate(self.frame_poses),
            ground=ground,
            obstacle=obstacle,
            gained=np.concatenate(([0.0], np.cumsum(told.pop("progress")))),
            expert=self.expert,
            **told,
        )


def speeds_along(poses: Array, first: float, dt: float) -> Array:
    """Speed in m/s at the end of each of N intervals of dt seconds between poses (N + 1, 3), `first` at the beginning.

    The bicycle drives each interval along an arc with constant acceleration, so the mean of the speeds at its two ends is the
    arc's length by its time.
    """
    step = np.diff(poses, axis=0)
    turn = (step[:, 2] + math.pi) % (2 * math.pi) - math.pi
    length = np.hypot(step[:, 0], step[:, 1]) / np.sinc(turn / (2 * math.pi))
    speeds = [first]
    for mean in length / dt:
        speeds.append(max(2 * float(mean) - speeds[-1], 0.0))
    return np.array(speeds[1:])


def _surface(simulator: Simulator, frames: slice) -> tuple[Array, Array]:
    """Ground and obstacles, uint8 (F, X, Y) each, of the last chunk's frames."""
    surface = look_down(simulator.state["voxels"][0, frames], simulator.grid)
    return surface.ground.cpu().numpy().copy(), surface.obstacle.cpu().numpy().copy()


def _expert(simulator: Simulator) -> Array:
    """Metres along the route that the recorded driver gains, a frame's time apart from the start on, 0 first."""
    state = simulator.state
    scene, ego, start = simulator.scenes[int(state["scene"][0])], int(state["ego"][0]), float(state["start"][0])
    count = int((scene.ego_span(ego)[1] - start) / simulator.model.dt + 1e-6)
    times = start + simulator.model.dt * torch.arange(max(count, 0) + 1, dtype=torch.float64)
    route, arc = state["route"][:1].cpu(), simulator.place().arc[:1].cpu()
    arcs = [arc]
    for pose in scene.ego_poses(ego, times).cpu()[1:]:
        arcs.append(locate(route, pose.unsqueeze(0), arcs[-1]).arc)
    gained = torch.cat(arcs) - arc
    return gained.numpy()
