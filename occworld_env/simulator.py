"""The driving simulator for N worlds at once, in torch: actions in, observations and rewards out, dynamics from a world model.

The Gymnasium environments are thin shells over it; whoever trains on the GPU can step it directly with tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.interface import Chunk, Rollout, WorldModel
from occworld_env import actions, observation
from occworld_env.collision import collide
from occworld_env.config import EnvConfig
from occworld_env.drivable_map import DrivableMap
from occworld_env.footprint import NO_CLASS, Reach, Surface, look_down
from occworld_env.lights import light_ahead
from occworld_env.loading import ModelSource, SceneSource, load_scene_list, load_world_model
from occworld_env.offroad import offroad_share
from occworld_env.reward import TERMS, discomfort, reward_terms
from occworld_env.route import RoutePlace, follow, locate
from occworld_env.starts import Start, StartBank
from occworld_env.step_graph import StepGraph
from occworld_env.step_result import StepResult
from occworld_env.vehicle import Command, Path, Vehicle, drive, frame_motion
from scenes.grid import Grid
from scenes.motion import relative
from scenes.route import route_raster

_BODY = 10.0  # metres that a car may reach from its rear axle
_ROUTE_END = 2.0  # metres before the end of a route at which it counts as driven


class Simulator:
    """N worlds that share one world model.

    Attributes:
        model: the world model. config: settings. scenes: where starts come from. num_worlds: N. device: where all tensors live.
        precision: "bf16" or "fp32", what the world model's matrix products are computed in.
        capture: whether a step runs as one CUDA graph.
        state: the simulator's own state of each world. rollout: the world model's state of each world.
        path: world poses (N, S, 3) of the integration steps of the last step.
        names: name of the scene and of the ego's track of each world.
        generators: one numpy generator a world, from which its starts and seeds are drawn.
    """

    def __init__(
        self,
        world_model: ModelSource = None,
        scenes: SceneSource = None,
        config: EnvConfig | None = None,
        *,
        num_worlds: int = 1,
        max_steps: int | None = None,
        device: torch.device | str = "cpu",
        precision: str | None = None,
        capture: bool | None = None,
    ) -> None:
        """precision: by default "bf16" on a GPU that has it and "fp32" elsewhere. capture: by default on every GPU."""
        if num_worlds < 1:
            raise ValueError(f"num_envs: expected at least 1, found {num_worlds}")
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_episode_steps: expected at least 1 or None, found {max_steps}")
        self._model_source, self._scene_source = world_model, scenes
        self.config = config or EnvConfig()
        self.num_worlds, self.max_steps, self.device = num_worlds, max_steps, torch.device(device)
        self.precision = _check_precision(precision, self.device)
        self.capture = self.device.type == "cuda" if capture is None else capture
        if self.capture and self.device.type != "cuda":
            raise ValueError(f"capture: expected a CUDA device for a CUDA graph, found {self.device}")
        self.generators = [np.random.default_rng() for _ in range(num_worlds)]
        self.state, self.rollout, self.path = Rollout({}), Rollout({}), torch.zeros(0)
        self.names = [("", "")] * num_worlds
        self._load()

    def _load(self) -> None:
        self.model: WorldModel = self._load_model()
        self.scenes = load_scene_list(self._scene_source)
        if self.config.observation == "tokens" and self.model.token_shape is None:
            raise ValueError("observation: 'tokens' needs a world model with a codebook, and this one has none")
        travel = self.config.bicycle.max_speed * self.step_seconds
        self.reach = Reach(self.grid, travel + _BODY, self.device)
        self.bank = StartBank(self.model, self.scenes, self.config, self.reach, self.precise)
        self.map = DrivableMap(self.scenes, self.grid, self.device, self.num_worlds, expected=self.config.bank_size)
        self._graph: StepGraph | None = None

    def _load_model(self) -> WorldModel:
        return load_world_model(self._model_source, self.device)

    def precise(self) -> torch.autocast:
        """A new context in which the world model computes, wherever it is asked to: here or by a planner that imagines."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def grid(self) -> Grid:
        """Voxel grid of the world model."""
        return self.model.grid

    @property
    def frames(self) -> int:
        """Frames that a step adds."""
        return self.model.chunk_frames

    @property
    def step_seconds(self) -> float:
        """Seconds that a step lasts."""
        return self.model.dt * self.model.chunk_frames

    @property
    def vehicle(self) -> Vehicle:
        """The cars now."""
        return Vehicle(*(self.state[name] for name in ("pose", "speed", "acceleration", "steering", "yaw_rate")))

    def seed(self, seed: int | Sequence[int]) -> None:
        """Seed the worlds' generators: world i by seed + i, or each by its own."""
        if isinstance(seed, int | np.integer):
            seeds = [int(seed) + index for index in range(self.num_worlds)]
        else:
            seeds = [int(item) for item in seed]
        if len(seeds) != self.num_worlds:
            raise ValueError(f"seed: expected one for each of {self.num_worlds} worlds, found {len(seeds)}")
        self.generators = [np.random.default_rng(item) for item in seeds]

    def reset(
        self, mask: Tensor | None = None, *, seed: int | Sequence[int] | None = None, options: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Begin new episodes in all worlds, or where mask, bool (N,), is true; returns the observation of all worlds.

        options: "scene", "ego" and "start" name where the new episodes begin (see `StartBank.choose`), "worlds" is a list of
        such options, or None, one a world, and "seed" gives the seed of the imagined future itself. "state", alone, goes on
        from what `get_state` gave, with the random generators of then, whatever the seed.
        """
        if "state" in (options or {}):
            return self._restore(mask, dict(options or {}))
        if seed is not None:
            self.seed(seed)
        chosen = list(range(self.num_worlds)) if mask is None else mask.nonzero().flatten().tolist()
        if not chosen:
            return self.observe()
        if len(self.state.tensors) == 0 and len(chosen) < self.num_worlds:
            raise ValueError("mask: the first reset must be of all worlds")
        picked = [self._pick(world, dict(options or {})) for world in chosen]
        seeds = torch.tensor([item[1] for item in picked], dtype=torch.int64, device=self.device)
        rollout = _stack([item[0].rollout for item in picked])
        rollout["seeds"] = seeds
        state = _stack([item[0].state for item in picked])
        state["seed"] = seeds.clone()
        state["corridor"] = route_raster(state["route"], state["pose"], None, self.grid)[:, 0]
        self._put(chosen, state, rollout)
        for world, (start, _) in zip(chosen, picked, strict=True):
            self.names[world] = start.names
        return self.observe()

    def _restore(self, mask: Tensor | None, options: dict[str, Any]) -> dict[str, Tensor]:
        saved = options.pop("state")
        if options or mask is not None:
            found = sorted(options) or "a mask"
            raise ValueError(f"options['state']: expected it alone and for all worlds, found {found} beside it")
        if not saved["state"]:
            raise ValueError("options['state']: expected a state of an episode, found one from before the first reset")
        self.set_state(saved)
        return self.observe()

    def _pick(self, world: int, options: dict[str, Any]) -> tuple[Start, int]:
        worlds = options.pop("worlds", None)
        if worlds is not None:
            if len(worlds) != self.num_worlds:
                raise ValueError(f"options['worlds']: expected {self.num_worlds} entries, one a world, found {len(worlds)}")
            options.update(worlds[world] or {})
        unknown = set(options) - {"scene", "ego", "start", "seed"}
        if unknown:
            raise ValueError(f"options: expected 'scene', 'ego', 'start', 'seed' or 'worlds', found {sorted(unknown)}")
        rng = self.generators[world]
        start = self.bank.choose(options, rng) if {"scene", "ego", "start"} & options.keys() else self.bank.draw(rng)
        seed = int(rng.integers(2**63 - 1))
        return start, int(options.get("seed", seed))

    def _put(self, chosen: list[int], state: Rollout, rollout: Rollout) -> None:
        if not self.state.tensors:
            self.state, self.rollout = state, rollout
            self.path = state["pose"].unsqueeze(1)
        else:  # in place, since a captured step knows its tensors by where they are
            worlds = torch.tensor(chosen).to(self.device)
            self.state.put(worlds, state)
            self.rollout.put(worlds, rollout)
            self.path = self.path.index_copy(0, worlds, state["pose"].unsqueeze(1).expand(-1, self.path.shape[1], -1))
        self.map.use(self.state["scene"].tolist())

    @torch.no_grad()
    def step(self, action: Tensor) -> StepResult:
        """Advance all worlds by `step_seconds`; action (N, ...) as in `actions.action_shape`. Worlds that end are not reset."""
        if not self.state.tensors:
            raise RuntimeError("step: call reset first")
        action = actions.check_action(action.to(self.device), self.config.action, self.num_worlds, self.frames)
        if not self.capture:
            return self.advance(action)
        if self._graph is None or not self._graph.fits():
            self._graph = StepGraph(self, action)
        return self._graph.step(action)

    @torch.no_grad()
    def advance(self, action: Tensor) -> StepResult:
        """The step itself, operation by operation, of a checked action: no shape and no branch depends on what tensors hold."""
        start = self.vehicle
        path = drive(start, self._command(action, start), self.frames, self.model.dt, self.config)
        frames = path.frames(self.frames)
        end = path.end()
        raster = route_raster(self.state["route"], end.pose, None, self.grid)
        if self.config.known_map:
            raster[:, 1] = self.map.raster(end.pose)
        motion = frame_motion(start, frames)
        chunk = self._imagine(self.state, self.rollout, motion, frames, raster)
        assert chunk.voxels is not None, "advance gives voxels where they are asked for"
        surface = look_down(chunk.voxels, self.grid)
        events = self._events(surface, frames, path)
        places = follow(self.state["route"], path.poses, self.state["arc"], self.config.bicycle.max_speed * path.dt)
        place, events["offroute"], done = self._judge(places)
        progress = place.arc - self.state["arc"]
        rough = discomfort(start, path)
        flags = {name: events[name] for name in ("offroad", "offroute")} | {"collision": events["collision_class"] != NO_CLASS}
        rewards = reward_terms(progress, end.speed, place.lateral, rough, flags, self.step_seconds, self.config)
        self._remember(path, places.arc[:, -1], motion, chunk, surface, raster)
        info = self._info(end, place, progress) | events | flags | {"comfortable": rough == 0, "route_completed": done}
        late = done if self.max_steps is None else done | (self.state["steps"] >= self.max_steps)
        reward = torch.stack([rewards[name] for name in TERMS]).sum(0)
        terminated = flags["collision"] | flags["offroad"] | flags["offroute"]
        return StepResult(self.observe(), reward, terminated, late & ~terminated, rewards, info)

    def _imagine(self, state: Rollout, rollout: Rollout, motion: Tensor, frames: Tensor, raster: Tensor) -> Chunk:
        """What the ego sees next under motion (N, F, 3), its frames at world poses (N, F, 3); changes `rollout`."""
        with self.precise():
            return self.model.advance(rollout, motion, raster)

    def _command(self, action: Tensor, start: Vehicle) -> Command:
        if self.config.action == "control":
            return actions.control_command(action, self.config)
        if self.config.action == "trajectory":
            return actions.trajectory_command(action, start, self.model.dt, self.config)
        names = ("route", "arc", "lane", "target_speed")
        task = actions.change_task(actions.Task(*(self.state[name] for name in names)), action, self.config)
        self.state["lane"], self.state["target_speed"] = task.lane, task.target_speed
        return actions.follow_command(task, start, self.config)

    def _events(self, surface: Surface, frames: Tensor, path: Path) -> dict[str, Tensor]:
        state, pose = self.state, self.state["pose"]
        before = state["obstacle"][:, -1]
        hit = collide(before, surface.obstacle, pose, frames, path.poses, state["box"], self.model.dt, self.reach)
        ground = torch.cat((state["ground"][:, -1:], surface.ground), dim=1)
        shown_at = torch.cat((pose.unsqueeze(1), frames), dim=1)
        share = offroad_share(ground, shown_at, frames, state["box"], self.reach)
        return {"collision_class": hit, "offroad_share": share, "offroad": share > self.config.offroad_share}

    def _judge(self, places: RoutePlace) -> tuple[RoutePlace, Tensor, Tensor]:
        """Which of the step's places (N, K) counts, (N,), whether it is off the route, and whether at its end, bool (N,).

        The first one that is either counts, else the last: whoever has driven the route may go on where it does not lead.
        """
        left = self.state["route_length"].unsqueeze(1) - places.arc
        over = (left < _ROUTE_END) | (places.lateral.abs() > self.config.offroute_distance)
        over[:, -1] = True
        place = places.pick(over.int().argmax(dim=1))
        done = self.state["route_length"] - place.arc < _ROUTE_END
        return place, place.lateral.abs() > self.config.offroute_distance, done

    def _remember(self, path: Path, arc: Tensor, motion: Tensor, chunk: Chunk, surface: Surface, raster: Tensor) -> None:
        state, end = self.state, path.end()
        for name in ("pose", "speed", "acceleration", "steering", "yaw_rate"):
            state[name] = getattr(end, name)
        for name in ("ground", "obstacle"):
            state[name] = torch.cat((state[name], getattr(surface, name)), dim=1)[:, -2:]
        state["arc"], state["steps"] = arc, state["steps"] + 1
        state["moved"], state["corridor"] = motion[:, -1], raster[:, 0]
        if chunk.voxels is not None:
            state["voxels"] = chunk.voxels
        if chunk.codes is not None:
            state["codes"] = chunk.codes.clone()
        self.path = path.poses

    def place(self) -> RoutePlace:
        """Where the cars are along their routes."""
        return locate(self.state["route"], self.state["pose"], self.state["arc"])

    @torch.no_grad()
    def observe(self) -> dict[str, Tensor]:
        """Observation of all worlds: "vector" float32 (N, 29), and "image" uint8 (N, 7, X, Y), "tokens" int16 (N, h * w * G) or
        "occupancy" uint8 (N, X, Y, Z)."""
        state, place = self.state, self.place()
        distance, light = light_ahead(state["light_arcs"], state["light_states"], place.arc, state["steps"])
        left = state["route_length"] - place.arc
        task = observation.Task(state["route"], place, left, state["target_speed"], state["lane"], distance, light)
        vector = observation.vector(self.vehicle, task, self.config, self.grid)
        if self.config.observation == "tokens":
            return {"tokens": state["codes"].flatten(1).clone(), "vector": vector}
        if self.config.observation == "occupancy":
            return {"occupancy": state["voxels"][:, -1].clone(), "vector": vector}
        now, before = (Surface(state["ground"][:, index], state["obstacle"][:, index]) for index in (-1, 0))
        return {"image": observation.bev(now, before, state["moved"], state["corridor"], self.reach), "vector": vector}

    def start_info(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Reward terms and info of a step in which nothing has happened yet, for all worlds."""
        zero = torch.zeros(self.num_worlds, dtype=torch.float64, device=self.device)
        no = zero.bool()
        events = dict.fromkeys(("collision", "offroad", "offroute", "route_completed"), no)
        rest = {"collision_class": no.long() + NO_CLASS, "offroad_share": zero, "comfortable": ~no}
        return dict.fromkeys(TERMS, zero), self._info(self.vehicle, self.place(), zero) | events | rest

    def _info(self, vehicle: Vehicle, place: RoutePlace, progress: Tensor) -> dict[str, Tensor]:
        state = self.state
        info = {
            "pose": vehicle.pose,
            "speed": vehicle.speed,
            "acceleration": vehicle.acceleration,
            "steering": vehicle.steering,
            "yaw_rate": vehicle.yaw_rate,
            "progress": progress,
            "deviation": place.lateral,
            "route_left": state["route_length"] - place.arc,
            "time": state["steps"] * self.step_seconds,
            **{name: state[name] for name in ("scene", "ego", "start", "seed")},
        }
        return {name: tensor.clone() for name, tensor in info.items()}  # the state is written to in place

    def route_ahead(self, world: int, distance: float = 60.0) -> Tensor:
        """Route points (M, 2) of one world in its ego frame, within `distance` metres of it along the route."""
        route, arc = self.state["route"][world], float(self.state["arc"][world])
        along = 2.0 * torch.arange(len(route), device=self.device)
        near = (along - arc).abs() <= distance
        pose = torch.nn.functional.pad(route[near], (0, 1))
        return relative(self.state["pose"][world], pose)[:, :2]

    def get_state(self) -> dict[str, Any]:
        """A copy of all that the worlds' futures depend on; `set_state` of it continues identically."""
        return {
            "state": self.state.state_dict(),
            "rollout": self.rollout.state_dict(),
            "path": self.path.clone(),
            "names": list(self.names),
            "generators": [generator.bit_generator.state for generator in self.generators],
        }

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Continue from what `get_state` gave; raises ValueError where it is of another number of worlds."""
        state = Rollout(saved["state"])
        if state.tensors and len(state) != self.num_worlds:
            raise ValueError(f"state: expected {self.num_worlds} worlds, found {len(state)}")
        rollout = Rollout(saved["rollout"])
        if self._graph is not None and state.tensors:  # into the memory that was captured
            everywhere = torch.arange(self.num_worlds, device=self.device)
            self.state.put(everywhere, state)
            self.rollout.put(everywhere, rollout)
        else:
            self.state, self.rollout = Rollout(state.state_dict()), Rollout(rollout.state_dict())
        self.path, self.names = saved["path"].clone(), list(saved["names"])
        for generator, inner in zip(self.generators, saved["generators"], strict=True):
            generator.bit_generator.state = inner
        if state.tensors:
            self.map.use(self.state["scene"].tolist())

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: where model and scenes come from (themselves, where they were given as objects), and the state."""
        kept = (
            "_model_source",
            "_scene_source",
            "config",
            "num_worlds",
            "max_steps",
            "device",
            "precision",
            "capture",
            "generators",
        )
        return {name: getattr(self, name) for name in kept} | {"saved": self.get_state()}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        saved = pickled.pop("saved")
        self.__dict__.update(pickled)
        self._load()
        self.set_state(saved)


def _check_precision(precision: str | None, device: torch.device) -> str:
    """The precision asked for, or the device's default; raises ValueError on another word."""
    if precision is None:
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if precision not in ("bf16", "fp32"):
        raise ValueError(f"precision: expected 'bf16', 'fp32' or None, found {precision!r}")
    return precision


def _stack(worlds: list[Rollout]) -> Rollout:
    """Several rollouts one after the other, in new tensors."""
    return Rollout({name: torch.cat([world[name] for world in worlds]) for name in worlds[0].tensors})
