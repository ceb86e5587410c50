"""Who does not move: vehicles on the parking lanes and people who stand on the sidewalks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scenes.sumo_bodies import Body
from scenes.sumo_network import PARKING, WALK, Lane, Line, Network
from scenes.sumo_traffic import KINDS

_PARKED = {
    "hatchback": 0.27,
    "sedan": 0.27,
    "suv": 0.22,
    "van": 0.09,
    "box_truck": 0.04,
    "motorcycle": 0.04,
    "loader": 0.02,
    "bicycle": 0.02,
    "trailer": 0.03,
}
_PARKED_TRAILER = (5.5, 2.1, 2.2)
_CORNER = 9.0  # metres before and after a junction where nobody parks


def parked_bodies(network: Network, rng: np.random.Generator, frames: int) -> Iterator[Body]:
    """Vehicles on the parking lanes all the time: mostly cars, some vans, trucks, trailers, construction vehicles."""
    for lane in network.lanes.values():
        if lane.kind == PARKING and lane.function == "normal":
            yield from _parked_row(lane, rng, frames)


def _parked_row(lane: Lane, rng: np.random.Generator, frames: int) -> Iterator[Body]:
    line, fullness, place = Line(lane.shape), rng.uniform(0.15, 0.9), _CORNER
    names, odds = list(_PARKED), np.array(list(_PARKED.values()))
    for number in range(1000):
        name = names[rng.choice(len(names), p=odds / odds.sum())]
        kind = KINDS.get(name)
        size = (kind.length, kind.width, kind.height) if kind else _PARKED_TRAILER
        place += size[0] + rng.uniform(0.7, 1.6)
        if place > line.length - _CORNER:
            return
        pose = line.pose(place - size[0] / 2)
        pose[2] += rng.normal(0, 0.02)
        if rng.random() < fullness:
            label, axle = (kind.label, kind.rear_axle) if kind else ("trailer", 0.0)
            yield Body(f"parked.{lane.id}.{number}", label, size, axle, 0, _still(pose, frames))


def standing_bodies(network: Network, rng: np.random.Generator, frames: int, per_kilometre: float = 3.0) -> Iterator[Body]:
    """People who stand on the sidewalks, alone or in groups; per_kilometre is groups on each kilometre of sidewalk."""
    for lane in network.lanes.values():
        if lane.kind != WALK or lane.function != "normal" or lane.length < 15:
            continue
        line = Line(lane.shape)
        for group in range(rng.poisson(per_kilometre * lane.length / 1000)):
            centre = line.pose(rng.uniform(4, line.length - 4))
            ahead = np.array([np.cos(centre[2]), np.sin(centre[2])])
            side = rng.choice((-1, 1)) * max(lane.width / 2 - 0.5, 0.2)
            for person in range(int(rng.integers(1, 4))):
                spot = centre[:2] + side * np.array([-ahead[1], ahead[0]]) + 0.7 * person * ahead
                pose = np.array([*spot, rng.uniform(-np.pi, np.pi)])
                name = f"standing.{lane.id}.{group}.{person}"
                yield Body(name, "pedestrian", (0.6, 0.7, 1.7), 0.0, 0, _still(pose, frames))


def _still(pose: np.ndarray, frames: int) -> np.ndarray:
    return np.repeat(pose[None], frames, axis=0)
