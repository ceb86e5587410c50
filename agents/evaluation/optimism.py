"""Does the dream show what goes wrong? Ego paths that crash or leave the road, fed through it, and what it makes of them.

The truth is the scene played again: its agents follow their recorded tracks and do not react, which holds for the two seconds
that a counterfactual path lasts after it has left the recorded one. Where it hits something it goes on for one more step of
the environment, which drives a step to its end as well: at its first touch the car overlaps the other by less than a voxel, and
whether voxels show that is a matter of rounding. Truth and dream are judged alike, by the collision and off-road geometry of
the environment on voxels: those rendered from the scene, and those that the world model imagines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import and_
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.evaluation.statistics import Estimate, proportion
from occworld_env.collision import collide, collide_at
from occworld_env.footprint import NO_CLASS, STATIC, VEHICLE, Surface, look_down
from occworld_env.offroad import offroad_share
from occworld_env.simulator import Simulator
from occworld_env.vehicle import substeps
from scenes.counterfactual import HORIZON, PERTURBED, EgoPath, PathKind, counterfactual_path
from scenes.grid import CLASSES
from scenes.motion import between, motion_from_poses
from scenes.render import render
from scenes.route import resample_route, route_raster
from scenes.scene import Scene

_TRIES = 150  # moments tried for one path
_COLLISION, _OFFROAD = "collision", "off-road"
EVENTS = (
    "collision",
    "collision with a vehicle",
    "collision with a pedestrian or cyclist",
    "collision with what stands",
    "off-road",
)


@dataclass(frozen=True)
class Outcome:
    """What happens on a path: class id that is hit first, NO_CLASS for none, and whether the car leaves the road."""

    hit: int
    offroad: bool

    def happened(self, family: str) -> bool:
        """Whether there was a "collision", or the car went "off-road"."""
        return self.offroad if family == _OFFROAD else self.hit != NO_CLASS


@dataclass(frozen=True)
class Case:
    """A counterfactual path and what happens on it in truth and in the dream."""

    scene: str
    ego: str
    start: float
    kind: PathKind
    truth: Outcome
    dream: Outcome


@dataclass(frozen=True)
class Detection:
    """How often the dream shows what happens: `shown` of `true` events that are true, and `true_shown` of `imagined` that are.

    An event of a type counts as shown where the dream shows one of its own family, collision or off-road, whatever is hit.
    """

    true: int
    shown: int
    imagined: int
    true_shown: int

    @property
    def recall(self) -> Estimate:
        """Share of the true events that the dream shows."""
        return proportion(self.shown, self.true)

    @property
    def precision(self) -> Estimate:
        """Share of the events that the dream shows that are true."""
        return proportion(self.true_shown, self.imagined)


def check_step(simulator: Simulator) -> None:
    """Raise ValueError where a step is longer than a path may be followed once it has left the recorded one."""
    if not _steps(simulator):
        found = f"steps of {HORIZON:g} s or less, for which recorded agents may be taken not to react"
        raise ValueError(f"expected a world with {found}, found {simulator.step_seconds:g} s")


def _steps(simulator: Simulator) -> int:
    """Steps of the environment that a path lasts after its history."""
    return math.floor(HORIZON / simulator.step_seconds + 1e-6)


def run_cases(simulator: Simulator, count: int, seed: int, done: Callable[[int], None] = lambda _: None) -> list[Case]:
    """`count` counterfactual paths through the scenes of a simulator, each through truth and dream.

    Half of them are chosen to go wrong in truth, a collision and an exit from the road in turn, the others to go well. Where
    the scenes hold no moment for one, there are fewer. Raises ValueError as `check_step` does.
    """
    check_step(simulator)
    cases = []
    for number in range(count):
        wanted = (_COLLISION, None, _OFFROAD, None)[number % 4]
        case = _case(simulator, wanted, np.random.default_rng((seed, number)))
        cases += [case] if case is not None else []
        done(1)
    return cases


def _case(simulator: Simulator, wanted: str | None, rng: np.random.Generator) -> Case | None:
    """One path on which `wanted` happens in truth, nothing for None; None where there is none in _TRIES tries."""
    history = simulator.model.history_frames
    for attempt in range(_TRIES):
        if attempt % 10 == 0:  # scenes are read when needed, so not another each time
            scene = simulator.scenes[int(rng.integers(len(simulator.scenes)))]
        found = _draw_path(simulator, scene, rng)
        if found is None:
            continue
        ego, path = found
        occupancy = render(scene, path.poses, path.times, simulator.grid, ego=ego).to(simulator.device)
        box = _box(scene, ego).to(simulator.device)
        if not _begins_well(simulator, occupancy[history - 1], box):
            continue
        truth = judge(simulator, occupancy[history - 1], occupancy[history:], path, box)
        happened = [family for family in (_COLLISION, _OFFROAD) if truth.happened(family)]
        if (wanted not in happened) if wanted else happened:
            continue
        shown = _imagine(simulator, scene, ego, path, occupancy, int(rng.integers(2**62)))
        dream = judge(simulator, occupancy[history - 1], shown, path, box)
        return Case(scene.name, scene.tracks.ids[ego], float(path.times[history - 1]), path.kind, truth, dream)
    return None


def _draw_path(simulator: Simulator, scene: Scene, rng: np.random.Generator) -> tuple[int, EgoPath] | None:
    """An ego that drives and a path of any kind that leaves its recorded one; None where this draw gives none."""
    model, config = simulator.model, simulator.config
    frames = model.history_frames + _steps(simulator) * model.chunk_frames
    egos = [ego for ego in scene.egos if CLASSES[int(scene.tracks.classes[ego])] in config.ego_classes]
    if not egos:
        return None
    ego = egos[int(rng.integers(len(egos)))]
    first, last = scene.ego_span(ego)
    earliest, latest = first + HORIZON, last - (frames - 1) * model.dt - simulator.step_seconds
    if latest < earliest:
        return None
    start = float(rng.uniform(earliest, latest))
    kind = PERTURBED[int(rng.integers(len(PERTURBED)))]
    path = counterfactual_path(scene, ego, start, frames, model.dt, kind, rng, beyond=simulator.step_seconds)
    speed = float((path.poses[1, :2] - path.poses[0, :2]).norm()) / model.dt
    return (ego, path) if speed >= config.min_speed else None


def _box(scene: Scene, ego: int) -> Tensor:
    """The ego's box (1, 3), see `occworld_env.collision.inside_box`."""
    size = scene.tracks.sizes[ego].to("cpu", torch.float64)
    return torch.stack((size[0], size[1], scene.tracks.rear_axle[ego].to("cpu", torch.float64))).unsqueeze(0)


def _begins_well(simulator: Simulator, frame: Tensor, box: Tensor) -> bool:
    """Whether the ego stands free and on the road in the last frame of the history (X, Y, Z)."""
    surface = look_down(frame.unsqueeze(0), simulator.grid)
    here = torch.zeros(1, 1, 3, dtype=torch.float64, device=simulator.device)
    share = float(offroad_share(surface.ground[:, None], here, here, box, simulator.reach))
    return int(collide_at(surface.obstacle, box, simulator.reach)) == NO_CLASS and share <= simulator.config.offroad_share


@torch.no_grad()
def _imagine(simulator: Simulator, scene: Scene, ego: int, path: EgoPath, occupancy: Tensor, seed: int) -> Tensor:
    """What the world model shows along a path after its history, computed as when it is driven: (F, X, Y, Z)."""
    model, device = simulator.model, simulator.device
    history, step = model.history_frames, model.chunk_frames
    motion = motion_from_poses(path.poses).unsqueeze(0).to(device)
    seeds = torch.tensor([seed], dtype=torch.int64, device=device)
    with simulator.precise():
        rollout = model.start(occupancy[None, :history], motion[:, :history], seeds)
    route = resample_route(scene.routes[ego].cpu()).unsqueeze(0)
    shown = []
    for first in range(history, len(path.poses), step):
        raster = route_raster(route, path.poses[first + step - 1][None].cpu(), [scene.static], model.grid)
        if not simulator.config.known_map:
            raster[:, 1] = 0
        with simulator.precise():
            chunk = model.advance(rollout, motion[:, first : first + step], raster.to(device))
        assert chunk.voxels is not None, "advance gives voxels where they are asked for"
        shown.append(chunk.voxels[0])
    return torch.cat(shown)


def judge(simulator: Simulator, before: Tensor, after: Tensor, path: EgoPath, box: Tensor) -> Outcome:
    """What happens to a car with box (1, 3) on the last poses of a path, by the environment's geometry, step by step.

    before: occupancy (X, Y, Z) of the frame before them. after: that of their frames (F, X, Y, Z), F a multiple of the chunk's.
    """
    model, reach, frames = simulator.model, simulator.reach, simulator.frames
    surface = look_down(torch.cat((before.unsqueeze(0), after)), model.grid)
    poses = path.poses[-len(after) - 1 :].to(simulator.device).unsqueeze(0)
    hit, offroad = NO_CLASS, False
    for first in range(0, len(after), frames):
        part, start = slice(first + 1, first + frames + 1), poses[:, first]
        now = Surface(surface.ground[part].unsqueeze(0), surface.obstacle[part].unsqueeze(0))
        dense = _dense(poses[:, first : first + frames + 1], substeps(model.dt))
        found = int(collide(surface.obstacle[first][None], now.obstacle, start, poses[:, part], dense, box, model.dt, reach))
        hit = found if hit == NO_CLASS else hit
        ground = torch.cat((surface.ground[first][None, None], now.ground), dim=1)
        share = offroad_share(ground, poses[:, first : first + frames + 1], poses[:, part], box, reach)
        offroad |= float(share) > simulator.config.offroad_share
    return Outcome(hit, offroad)


def _dense(poses: Tensor, count: int) -> Tensor:
    """Poses (1, F + 1, 3) with `count` steps between neighbours, without the first: (1, F * count, 3)."""
    weight = (torch.arange(count, device=poses.device, dtype=poses.dtype) + 1) / count
    return between(poses[:, :-1, None], poses[:, 1:, None], weight[:, None]).flatten(1, 2)


def is_event(outcome: Outcome, event: str, simulator: Simulator) -> bool:
    """Whether what happened is of one of EVENTS."""
    if event in (_COLLISION, _OFFROAD) or outcome.hit == NO_CLASS:
        return outcome.happened(event)
    kind = int(simulator.reach.kinds[outcome.hit])
    return event == EVENTS[3 if kind == STATIC else 1 if kind == VEHICLE else 2]


def detections(cases: list[Case], simulator: Simulator) -> dict[str, dict[str, Detection]]:
    """How the dream shows each of EVENTS: over all paths, as "all", and by the kind of path."""
    groups = {"all": cases} | {str(kind): [case for case in cases if case.kind is kind] for kind in PERTURBED}
    return {name: {event: _detection(group, event, simulator) for event in EVENTS} for name, group in groups.items()}


def _detection(cases: list[Case], event: str, simulator: Simulator) -> Detection:
    family = _OFFROAD if event == _OFFROAD else _COLLISION
    true = [is_event(case.truth, event, simulator) for case in cases]
    imagined = [is_event(case.dream, event, simulator) for case in cases]
    shown = [case.dream.happened(family) for case in cases]
    real = [case.truth.happened(family) for case in cases]
    return Detection(
        true=sum(true),
        shown=sum(map(and_, true, shown)),
        imagined=sum(imagined),
        true_shown=sum(map(and_, imagined, real)),
    )


def as_json(found: dict[str, dict[str, Detection]]) -> dict[str, Any]:
    """Counts, recall and precision as JSON knows them, events that neither world shows left out."""
    return {
        group: {
            event: vars(item) | {name: _told(getattr(item, name)) for name in ("recall", "precision")}
            for event, item in events.items()
            if item.true or item.imagined
        }
        for group, events in found.items()
    }


def _told(share: Estimate) -> list[float] | None:
    return None if np.isnan(share.value) else [share.value, share.low, share.high]
