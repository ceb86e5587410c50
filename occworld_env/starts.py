"""Where episodes begin: recorded moments of the scenes, encoded once by the world model and kept, so that a reset is a copy."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.interface import Rollout, WorldModel
from occworld_env.collision import collide_at
from occworld_env.config import EnvConfig
from occworld_env.footprint import NO_CLASS, Reach, look_down
from occworld_env.lights import lights_on_route
from occworld_env.loading import scene_numbers
from occworld_env.offroad import offroad_share
from occworld_env.route import locate, route_length
from scenes.grid import CLASSES
from scenes.motion import motion_from_poses, wrap_angle
from scenes.render import render
from scenes.route import resample_route
from scenes.scene import Scene

ATTEMPTS = 100  # moments tried for one start
ATTEMPTS_IN_SCENE = 10  # before another scene is tried
_TOO_FAST = 0.5  # m/s above max_speed at which a recorded ego is not the car of the environment any more
_SHORTEST_ROUTE = 10.0  # metres that a start chosen by the user must have ahead


@dataclass(frozen=True)
class StartKey:
    """A moment of a scene: number of the scene, number of the ego's track, seconds since the scene's first frame."""

    scene: int
    ego: int
    start: float


@dataclass(frozen=True)
class Start:
    """An encoded moment: names of scene and ego, one world of the world model and one of the simulator, counters at zero."""

    key: StartKey
    names: tuple[str, str]
    rollout: Rollout
    state: Rollout


class UnusableStartError(ValueError):
    """A moment at which an episode cannot begin."""


class StartBank:
    """Starts drawn from scenes, encoded when first used; the least recently used one is dropped when there are too many."""

    def __init__(
        self,
        model: WorldModel,
        scenes: Sequence[Scene],
        config: EnvConfig,
        reach: Reach,
        precise: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """precise: makes the context in which the world model encodes."""
        if not scenes:
            raise ValueError("scenes: expected at least one scene, found none")
        self.model, self.scenes, self.config, self.reach, self.precise = model, scenes, config, reach, precise
        self.history = (model.history_frames - 1) * model.dt
        self._slots: dict[int, StartKey] = {}
        self._kept: OrderedDict[StartKey, Start] = OrderedDict()

    def draw(self, rng: np.random.Generator) -> Start:
        """One of the bank's `bank_size` starts, picked by `rng`; which moments they are is decided by `bank_seed` alone."""
        slot = int(rng.integers(self.config.bank_size))
        if slot in self._slots:
            return self.get(self._slots[slot])
        start = self.search(np.random.default_rng((self.config.bank_seed, slot)), {})
        self._slots[slot] = start.key
        return start

    def choose(self, options: Mapping[str, Any], rng: np.random.Generator) -> Start:
        """The start that `options` names: "scene" (name or number), "ego" (track id or number), "start" (seconds in the scene).

        What is not named is drawn by `rng`. Raises ValueError that says what is wrong with what was named.
        """
        named = self._resolve(options)
        if {"scene", "ego", "start"} <= named.keys():
            return self.get(StartKey(**named))
        return self.search(rng, named)

    def search(self, rng: np.random.Generator, named: Mapping[str, Any]) -> Start:
        """A usable start, what is not named drawn by `rng`."""
        problem = "no track that can be the ego"
        scene = named.get("scene", 0)
        for attempt in range(ATTEMPTS):
            if (
                "scene" not in named and attempt % ATTEMPTS_IN_SCENE == 0
            ):  # scenes are read when needed, so not another each time
                scene = int(rng.integers(len(self.scenes)))
            egos = [named["ego"]] if "ego" in named else self._egos(self.scenes[scene])
            if not egos:
                continue
            ego = egos[int(rng.integers(len(egos)))]
            first, last = self._span(scene, ego)
            start = named.get("start", first + 0.5 * int(rng.integers(max(1, math.floor((last - first) / 0.5) + 1))))
            try:
                return self.get(StartKey(scene, ego, start), self.config.min_route, self.config.min_speed)
            except UnusableStartError as error:
                problem = str(error)
        tried = f"{ATTEMPTS} moments of {len(self.scenes)} scenes"
        raise ValueError(f"scenes: no usable start found in {tried}; the last: {problem}")

    def get(self, key: StartKey, min_route: float = _SHORTEST_ROUTE, min_speed: float = 0.0) -> Start:
        """The start at `key`, encoded now if it is not kept; raises UnusableStartError."""
        start = self._kept.get(key)
        if start is None:
            start = self._encode(key, min_route, min_speed)
        else:
            self._check_drive(self.scenes[key.scene], key, start.state.tensors, min_route, min_speed)
        self._kept[key] = start
        self._kept.move_to_end(key)
        while len(self._kept) > self.config.bank_size:
            self._kept.popitem(last=False)
        return start

    def _egos(self, scene: Scene) -> list[int]:
        classes = scene.tracks.classes.tolist()
        return [ego for ego in scene.egos if CLASSES[classes[ego]] in self.config.ego_classes]

    def _span(self, scene: int, ego: int) -> tuple[float, float]:
        """First and last second at which an episode of this ego can begin."""
        first, last = self.scenes[scene].ego_span(ego)
        return first + self.history, last

    def _resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        named: dict[str, Any] = {}
        scene = options.get("scene", 0 if len(self.scenes) == 1 else None)
        if scene is not None:
            names = list(scene_numbers(self.scenes)) if isinstance(scene, str) else [""] * len(self.scenes)
            named["scene"] = _number(scene, names, "scene")
        elif "ego" in options or "start" in options:
            raise ValueError("options: 'ego' and 'start' need 'scene' beside them where there are several scenes")
        if options.get("ego") is not None:
            tracks = self.scenes[named["scene"]].tracks
            named["ego"] = _number(options["ego"], list(tracks.ids), "ego")
            if named["ego"] not in self.scenes[named["scene"]].routes:
                raise ValueError(f"options['ego']: track {options['ego']!r} has no route, so it cannot be the ego")
        if options.get("start") is not None:
            named["start"] = float(options["start"])
        return named

    def _encode(self, key: StartKey, min_route: float, min_speed: float) -> Start:
        scene, model = self.scenes[key.scene], self.model
        first, last = self._span(key.scene, key.ego)
        if not first - 1e-6 <= key.start <= last + 1e-6:
            where = f"{scene.name}, ego {scene.tracks.ids[key.ego]}"
            if last < first:
                there, needed = last - first + self.history, f"{self.history:.2f} s of history"
                raise UnusableStartError(f"{where}: is there for {there:.2f} s, and the world model needs {needed}")
            raise UnusableStartError(f"{where}: expected a start from {first:.2f} s to {last:.2f} s, found {key.start:.2f} s")
        times = key.start + model.dt * torch.arange(1 - model.history_frames, 1, dtype=torch.float64)
        poses = scene.ego_poses(key.ego, times.clamp(min=0.0)).cpu()
        state = self._vehicle_state(scene, key, poses)
        self._check_drive(scene, key, state, min_route, min_speed)
        occupancy = render(scene, poses, times, model.grid, ego=key.ego).to(self.reach.device)
        state.update(self._sight(occupancy, poses))
        self._check_place(scene, key, state)
        device = self.reach.device
        seeds = torch.zeros(1, dtype=torch.int64, device=device)
        with torch.no_grad(), self.precise():
            rollout = model.start(occupancy.unsqueeze(0), motion_from_poses(poses).unsqueeze(0).to(device), seeds)
        if "codes" in rollout.tensors:
            state["codes"] = rollout["codes"].clone()
        names = scene.name, scene.tracks.ids[key.ego]
        return Start(key, names, rollout, Rollout({name: tensor.to(device) for name, tensor in state.items()}))

    def _vehicle_state(self, scene: Scene, key: StartKey, poses: Tensor) -> dict[str, Tensor]:
        """Car, route and lights of one world, each (1, ...); raises UnusableStartError where the car cannot be as fast."""
        model, bicycle = self.model, self.config.bicycle
        velocity = (poses[1:, :2] - poses[:-1, :2]).norm(dim=-1) / model.dt
        if len(poses) < 2:
            velocity = poses.new_zeros(1)
        if (fast := float(velocity[-1])) > bicycle.max_speed + _TOO_FAST:
            where = f"{scene.name}, ego {scene.tracks.ids[key.ego]}, {key.start:.2f} s"
            needed = f"bicycle=Bicycle(max_speed={math.ceil(fast)}) allows it"
            raise UnusableStartError(f"{where}: the ego drives at {fast:.1f} m/s, max_speed is {bicycle.max_speed:g}; {needed}")
        speed = velocity[-1:].clamp(max=bicycle.max_speed)
        turn = wrap_angle(poses[-1:, 2] - poses[-2:-1, 2]) / model.dt if len(poses) > 1 else poses.new_zeros(1)
        turn = torch.where(speed > 1.0, turn, torch.zeros_like(turn))
        steering = torch.atan(bicycle.wheelbase * turn / speed.clamp(min=1.0))
        gain = ((velocity[-1:] - velocity[-2:-1]) / model.dt) if len(velocity) > 1 else torch.zeros_like(speed)
        size = scene.tracks.sizes[key.ego].to("cpu", torch.float64)
        box = torch.stack((size[0], size[1], scene.tracks.rear_axle[key.ego].to("cpu", torch.float64)))
        route = resample_route(scene.routes[key.ego].cpu())
        arcs, states = lights_on_route(scene, route, key.start, model.dt * model.chunk_frames)
        pose = poses[-1:]
        one = torch.ones(1, dtype=torch.int64)
        return {
            "pose": pose,
            "speed": speed,
            "acceleration": gain.clamp(-bicycle.max_braking, bicycle.max_acceleration),
            "steering": steering.clamp(-bicycle.max_steering, bicycle.max_steering),
            "yaw_rate": turn,
            "box": box.unsqueeze(0),
            "route": route.unsqueeze(0),
            "route_length": route_length(route.unsqueeze(0)),
            "arc": locate(route.unsqueeze(0), pose).arc,
            "lane": 0 * one,
            "target_speed": torch.full((1,), self.config.target_speed, dtype=torch.float64),
            "light_arcs": arcs.unsqueeze(0),
            "light_states": states.unsqueeze(0),
            "steps": 0 * one,
            "scene": key.scene * one,
            "ego": key.ego * one,
            "start": torch.full((1,), key.start, dtype=torch.float64),
        }

    def _sight(self, occupancy: Tensor, poses: Tensor) -> dict[str, Tensor]:
        """What the ego sees in the history (T, X, Y, Z): its last two frames from above, its last chunk, the last motion."""
        frames = self.model.chunk_frames
        two = [max(len(occupancy) - 2, 0), len(occupancy) - 1]
        surface = look_down(occupancy[two], self.model.grid)
        return {
            "ground": surface.ground.unsqueeze(0),
            "obstacle": surface.obstacle.unsqueeze(0),
            "moved": motion_from_poses(poses)[-1:],
            "voxels": occupancy[-frames:].unsqueeze(0),
        }

    def _check_drive(
        self, scene: Scene, key: StartKey, state: Mapping[str, Tensor], min_route: float, min_speed: float
    ) -> None:
        """Raise UnusableStartError where the ego is too slow, off its route, or near its end."""
        place = locate(state["route"], state["pose"])
        left, aside = float(state["route_length"] - place.arc), float(place.lateral.abs())
        where = f"{scene.name}, ego {scene.tracks.ids[key.ego]}, {key.start:.2f} s"
        if left < min_route:
            raise UnusableStartError(f"{where}: the route goes on for {left:.1f} m, expected {min_route:.1f} m or more")
        knows_speed = self.model.history_frames > 1  # one frame of history says nothing of it
        if knows_speed and (speed := float(state["speed"])) < min_speed:
            raise UnusableStartError(f"{where}: the ego drives at {speed:.1f} m/s, expected min_speed = {min_speed:g} or more")
        if aside > self.config.offroute_distance:
            raise UnusableStartError(f"{where}: the ego is {aside:.1f} m from its route")

    def _check_place(self, scene: Scene, key: StartKey, state: Mapping[str, Tensor]) -> None:
        where = f"{scene.name}, ego {scene.tracks.ids[key.ego]}, {key.start:.2f} s"
        box = state["box"].to(self.reach.device)
        hit = int(collide_at(state["obstacle"][:, -1], box, self.reach))
        if hit != NO_CLASS:
            raise UnusableStartError(f"{where}: the ego overlaps a {CLASSES[hit]}")
        here = torch.zeros(1, 1, 3, dtype=torch.float64, device=self.reach.device)
        if float(offroad_share(state["ground"][:, -1:], here, here, box, self.reach)) > self.config.offroad_share:
            raise UnusableStartError(f"{where}: the ego is not on drivable surface")


def _number(value: str | int, names: list[str], what: str) -> int:
    """Position of `value`, a name or a number, among names."""
    if isinstance(value, str):
        if value not in names:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise ValueError(f"options[{what!r}]: expected one of {shown}, found {value!r}")
        return names.index(value)
    if not 0 <= int(value) < len(names):
        raise ValueError(f"options[{what!r}]: expected a number below {len(names)}, found {value}")
    return int(value)
