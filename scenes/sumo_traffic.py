"""Who drives, rides and walks through a SUMO network: vehicle types with real sizes and random routes along the links."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from scenes.sumo_network import BIKE, MOTOR, WALK, Network


@dataclass(frozen=True)
class Kind:
    """A type of road user: Occ3D class, SUMO's vClass, size in metres, share of traffic.

    `rear_axle` is how far that axle lies behind the centre of the box, `trailer` the length of what it pulls on a hitch
    HITCH metres long (0: nothing), `pace` its top speed in m/s, `acceleration` the most it reaches in m/s^2.
    """

    name: str
    label: str
    vclass: str
    length: float
    width: float
    height: float
    rear_axle: float
    share: float
    pace: float = 20.0
    acceleration: float = 2.4
    trailer: float = 0.0


HITCH = 0.8  # metres between a towing vehicle and its trailer
KINDS = {
    kind.name: kind
    for kind in (
        Kind("hatchback", "car", "passenger", 3.9, 1.75, 1.5, 1.2, 0.24),
        Kind("sedan", "car", "passenger", 4.7, 1.85, 1.5, 1.4, 0.27),
        Kind("suv", "car", "passenger", 4.8, 1.95, 1.8, 1.4, 0.2),
        Kind("van", "car", "passenger", 5.4, 2.0, 2.2, 1.6, 0.08),
        Kind("towing", "car", "passenger", 4.7, 1.9, 1.7, 1.4, 0.015, trailer=4.0),
        Kind("box_truck", "truck", "truck", 7.6, 2.4, 3.1, 2.1, 0.07, pace=14.0, acceleration=1.4),
        Kind("semi", "truck", "truck", 6.0, 2.5, 3.2, 1.9, 0.03, pace=13.0, acceleration=1.1, trailer=10.5),
        Kind("bus", "bus", "bus", 11.8, 2.55, 3.2, 2.7, 0.06, pace=13.0, acceleration=1.2),
        Kind("loader", "construction_vehicle", "truck", 6.6, 2.6, 3.0, 1.4, 0.015, pace=8.5, acceleration=1.0),
        Kind("motorcycle", "motorcycle", "motorcycle", 2.2, 0.85, 1.5, 0.7, 0.05, acceleration=3.0),
        Kind("bicycle", "bicycle", "bicycle", 1.75, 0.65, 1.7, 0.5, 0.0, pace=4.8, acceleration=1.0),
        Kind("pedestrian", "pedestrian", "pedestrian", 0.65, 0.65, 1.75, 0.0, 0.0, pace=1.4),
    )
}


@dataclass(frozen=True)
class Demand:
    """How many road users of each sort fill a scene, per kilometre of lane or of sidewalk, and the most of each sort."""

    vehicles: float = 17.0
    bicycles: float = 5.0
    pedestrians: float = 26.0
    most: int = 240


def write_demand(
    network: Network, seed: int, demand: Demand, warm_up: float, seconds: float, path: Path
) -> dict[str, list[str]]:
    """Write SUMO's route file for a scene of `seed` and return the planned edges of each vehicle, by its name.

    Vehicles enter during the first half of the warm-up and have routes that outlast the scene.
    """
    rng = np.random.default_rng([seed, 29])
    rows: list[tuple[float, str]] = []
    routes: dict[str, list[str]] = {}
    roads = _Walks(network, bikes=False)
    mix = [kind for kind in KINDS.values() if kind.share]
    share = np.array([kind.share for kind in mix]) * rng.uniform(0.4, 1.6, len(mix))
    reach = (warm_up + seconds) * 14.0 + 250.0
    count = min(int(demand.vehicles * rng.uniform(0.6, 1.2) * roads.kilometres), demand.most)
    for number in range(count):
        kind = mix[rng.choice(len(mix), p=share / share.sum())]
        _add_vehicle(f"{kind.name}.{number}", kind, roads.draw(rng, reach), rng.uniform(0, warm_up / 2), rng, rows, routes)
    tracks = _Walks(network, bikes=True)
    for number in range(min(int(demand.bicycles * tracks.kilometres), demand.most // 3)):
        kind, route = KINDS["bicycle"], tracks.draw(rng, (warm_up + seconds) * 6.0 + 60.0)
        _add_vehicle(f"bicycle.{number}", kind, route, rng.uniform(0, warm_up / 2), rng, rows, routes)
    rows += _walkers(network, rng, demand)
    body = "\n".join(row for _, row in sorted(rows))
    path.write_text(f"<routes>\n{_types()}\n{body}\n</routes>\n", encoding="utf-8")
    return routes


def _types() -> str:
    rows = []
    for kind in KINDS.values():
        length = kind.length + (kind.trailer + HITCH if kind.trailer else 0.0)
        walks = kind.vclass == "pedestrian"
        model = "" if walks else f' carFollowModel="IDM" accel="{kind.acceleration}" decel="3.5" lcKeepRight="0.3"'
        spread = f' speedFactor="normc(1,0.1,0.75,1.2)" maxSpeed="{kind.pace}" minGap="{0.3 if walks else 1.8}"'
        size = f'length="{length}" width="{kind.width}" height="{kind.height}"'
        rows.append(f'<vType id="{kind.name}" vClass="{kind.vclass}" {size}{model}{spread}/>')
    return "\n".join(rows)


def _add_vehicle(
    name: str,
    kind: Kind,
    route: list[str],
    depart: float,
    rng: np.random.Generator,
    rows: list[tuple[float, str]],
    routes: dict[str, list[str]],
) -> None:
    if not route:
        return
    position = 'departLane="best" departPos="random_free" departSpeed="desired"'
    edges = quoteattr(" ".join(route))
    rows.append(
        (depart, f'<vehicle id="{name}" type="{kind.name}" depart="{depart:.2f}" {position}><route edges={edges}/></vehicle>')
    )
    routes[name] = route


class _Walks:
    """Random routes over the edges that motor vehicles, or bicycles, can follow one after the other."""

    def __init__(self, network: Network, bikes: bool) -> None:
        def usable(name: str) -> bool:
            lane = network.lanes[name]
            return lane.bikes and lane.kind in (MOTOR, BIKE) if bikes else lane.kind == MOTOR

        self.length: dict[str, float] = {}
        self.next: dict[str, dict[str, float]] = {}
        lane_metres = 0.0
        for edge, names in network.edges.items():
            open_lanes = [name for name in names if usable(name)]
            if not open_lanes:
                continue
            self.length[edge] = network.lanes[open_lanes[0]].length
            lane_metres += self.length[edge] * len(open_lanes)
            follow = self.next.setdefault(edge, {})
            for name in open_lanes:
                for link in network.links.get(name, ()):
                    if usable(link.to_lane):
                        weight = {"s": 1.0, "t": 0.001}.get(link.turn, 0.8)
                        follow[network.lanes[link.to_lane].edge] = weight
        self.kilometres = lane_metres / 1000

    def draw(self, rng: np.random.Generator, reach: float) -> list[str]:
        """Edges of a random drive at least `reach` metres long, or less where the road ends."""
        long = [edge for edge, length in self.length.items() if length > 25 and self.next[edge]]
        if not long:
            return []
        weight = np.array([self.length[edge] for edge in long])
        route = [long[rng.choice(len(long), p=weight / weight.sum())]]
        metres = self.length[route[0]]
        while metres < reach and self.next[route[-1]]:
            choices = self.next[route[-1]]
            odds = np.array(list(choices.values()))
            route.append(list(choices)[rng.choice(len(odds), p=odds / odds.sum())])
            metres += self.length[route[-1]]
        return route


def _walkers(network: Network, rng: np.random.Generator, demand: Demand) -> list[tuple[float, str]]:
    """Pedestrians there from the start: each walks to several places one after the other."""
    paths = {
        edge: network.lanes[names[0]].length
        for edge, names in network.edges.items()
        if any(network.lanes[name].kind == WALK for name in names)
    }
    edges = list(paths)
    count = min(int(demand.pedestrians * rng.uniform(0.6, 1.3) * sum(paths.values()) / 1000), demand.most)
    rows = []
    for number in range(count if len(edges) > 3 else 0):
        start, *stops = (edges[index] for index in rng.choice(len(edges), 4, replace=False))
        legs, last = [], start
        for stop in stops:
            legs.append(f"<walk from={quoteattr(last)} to={quoteattr(stop)}/>")
            last = stop
        pace = 'departPos="random"'
        rows.append((0.0, f'<person id="pedestrian.{number}" type="pedestrian" depart="0" {pace}>{"".join(legs)}</person>'))
    return rows
