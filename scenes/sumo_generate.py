"""Generated road networks: netgenerate lays out the streets, then each street gets its lanes, parking, median and bends."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scenes.sumo_network import run_tool

LAYOUTS = ("grid", "random", "spider")


@dataclass(frozen=True)
class Street:
    """Cross section of a street, the same in both directions: lane counts and widths in metres (0 where it has none)."""

    lanes: int
    lane_width: float
    speed: float
    sidewalk: float
    bike_lane: float
    parking: float
    median: float


def generate_network(seed: int, net_file: Path, folder: Path, layout: str | None = None) -> str:
    """Write the network of `seed`, about 400 to 600 m a side, to net_file and return its layout.

    layout: "grid", "random" or "spider", by default drawn from the seed. folder: where intermediate files go.
    """
    rng = np.random.default_rng([seed, 17])
    layout = layout or str(rng.choice(LAYOUTS, p=(0.4, 0.35, 0.25)))
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {LAYOUTS}, found {layout!r}")
    turn_lanes = layout == "grid" and rng.random() < 0.4
    arguments = [*_layout_arguments(layout, rng), "--seed", str(seed)]
    if turn_lanes:
        arguments += ["--turn-lanes", "1", "--turn-lanes.length", "28", "-L", "2", "--random-lanenumber"]
    plain = folder / "plain"
    run_tool("netgenerate", [*arguments, "--plain-output-prefix", str(plain), "--output-file", str(folder / "raw.net.xml")])
    nodes, edges = ET.parse(f"{plain}.nod.xml"), ET.parse(f"{plain}.edg.xml")
    _drop_dead_ends(nodes.getroot(), edges.getroot())
    _edit_nodes(nodes.getroot(), edges.getroot(), rng, move=not turn_lanes and layout != "random")
    _edit_edges(nodes.getroot(), edges.getroot(), rng, turn_lanes)
    nodes.write(folder / "edited.nod.xml")
    edges.write(folder / "edited.edg.xml")
    _convert(folder, net_file)
    return layout


def _layout_arguments(layout: str, rng: np.random.Generator) -> list[str]:
    if layout == "grid":
        nx, ny = rng.integers(4, 6, 2)
        lengths = rng.uniform(380, 480, 2) / (np.array([nx, ny]) - 1)
        return [
            *("--grid", "--grid.x-number", str(nx), "--grid.y-number", str(ny)),
            *("--grid.x-length", f"{lengths[0]:.1f}", "--grid.y-length", f"{lengths[1]:.1f}"),
        ]
    if layout == "spider":
        arms = int(rng.integers(5, 8))
        omit = ["--spider.omit-center"] if arms > 5 else []
        return [
            *("--spider", "--spider.arm-number", str(arms), "--spider.circle-number", "3", *omit),
            *("--spider.space-radius", f"{rng.uniform(68, 82):.1f}"),
        ]
    return [
        *("--rand", "--rand.iterations", str(int(rng.integers(32, 39))), "--rand.connectivity", "0.97"),
        *("--rand.min-distance", "75", "--rand.max-distance", "135", "--rand.min-angle", "55", "--rand.num-tries", "80"),
    ]


def _drop_dead_ends(nodes: ET.Element, edges: ET.Element) -> None:
    """Remove streets that lead nowhere, again and again, so that traffic goes round without turning on the spot."""
    while True:
        arms = _arms(edges)
        dead = {name for name, others in arms.items() if len(others) == 1}
        if not dead or len(dead) == len(arms):
            break
        for edge in list(edges.iter("edge")):
            if edge.attrib["from"] in dead or edge.attrib["to"] in dead:
                edges.remove(edge)
    arms = _arms(edges)
    for node in list(nodes.iter("node")):
        if node.attrib["id"] not in arms:
            nodes.remove(node)


def _arms(edges: ET.Element) -> dict[str, set[str]]:
    """The neighbours of each node."""
    arms: dict[str, set[str]] = {}
    for edge in edges.iter("edge"):
        arms.setdefault(edge.attrib["from"], set()).add(edge.attrib["to"])
        arms.setdefault(edge.attrib["to"], set()).add(edge.attrib["from"])
    return arms


def _edit_nodes(nodes: ET.Element, edges: ET.Element, rng: np.random.Generator, move: bool) -> None:
    arms = _arms(edges)
    signals, priority = rng.uniform(0.35, 0.8), rng.uniform(0.4, 1.0)
    for node in nodes.iter("node"):
        if move:
            x, y = (float(node.attrib[axis]) + float(rng.normal(0, 6)) for axis in ("x", "y"))
            node.set("x", f"{x:.2f}")
            node.set("y", f"{y:.2f}")
        if len(arms.get(node.attrib["id"], ())) < 3:
            node.set("type", "priority")
        elif rng.random() < signals:
            node.set("type", "traffic_light")
        else:
            node.set("type", "priority" if rng.random() < priority else "allway_stop")


def _draw_street(rng: np.random.Generator, character: np.ndarray, lanes: int | None) -> Street:
    """character: how likely parking, bike lanes and medians are in this town."""
    lanes = lanes or int(rng.choice((1, 2, 3), p=(0.5, 0.36, 0.14)))
    parking, bike, median = rng.random(3) < character
    return Street(
        lanes=lanes,
        lane_width=float(rng.choice((3.0, 3.2, 3.5))),
        speed=float(rng.choice((8.33, 11.11, 13.89), p=(0.3, 0.4, 0.3) if lanes == 1 else (0.1, 0.4, 0.5))),
        sidewalk=float(rng.choice((2.0, 2.4, 3.0, 4.0))),
        bike_lane=1.6 if bike else 0.0,
        parking=2.2 if parking else 0.0,
        median=float(rng.choice((0.8, 1.4))) if median and lanes > 1 else 0.0,
    )


def _edit_edges(nodes: ET.Element, edges: ET.Element, rng: np.random.Generator, turn_lanes: bool) -> None:
    place = {node.attrib["id"]: np.array([float(node.attrib["x"]), float(node.attrib["y"])]) for node in nodes.iter("node")}
    character = np.array([rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.7), rng.uniform(0.1, 0.6)])
    bending = float(rng.choice((0.0, 0.05, 0.1)))
    streets: dict[frozenset[str], tuple[Street, float]] = {}
    for edge in edges.iter("edge"):
        ends = edge.attrib["from"].split(".")[0], edge.attrib["to"].split(".")[0]
        base = edge.attrib["id"].split(".")[0]
        key = frozenset((base,)) if turn_lanes else frozenset(ends)
        if key not in streets:
            street = _draw_street(rng, character, int(edge.attrib["numLanes"]) if turn_lanes else None)
            streets[key] = street, float(rng.uniform(-bending, bending))
        street, bend = streets[key]
        if turn_lanes:
            _write_lanes(edge, street, int(edge.attrib["numLanes"]), median=False)
            continue
        _write_lanes(edge, street, street.lanes, median=True)
        edge.attrib.pop("shape", None)
        start, end = place[edge.attrib["from"]], place[edge.attrib["to"]]
        if abs(bend) > 0.02 and np.linalg.norm(end - start) > 60:
            edge.set("shape", _bent(start, end, bend if ends[0] < ends[1] else -bend))


def _bent(start: np.ndarray, end: np.ndarray, bend: float) -> str:
    """A shallow arc from start to end whose middle lies bend times the distance to the left."""
    t = np.linspace(0, 1, 13)[:, None]
    along = end - start
    left = np.array([-along[1], along[0]])
    arc = start + t * along + np.sin(np.pi * t) ** 2 * bend * left
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in arc)


def _write_lanes(edge: ET.Element, street: Street, lanes: int, median: bool) -> None:
    """Lanes of one direction from the right: sidewalk, parking, bike lane, motor lanes, half of the median."""
    edge.attrib.pop("type", None)
    for child in list(edge):
        edge.remove(child)
    bike_rule = {"disallow": "pedestrian bicycle"} if street.bike_lane else {"disallow": "pedestrian"}
    rows: list[dict[str, str]] = [{"allow": "pedestrian", "width": f"{street.sidewalk}"}]
    if street.parking:
        rows.append({"disallow": "all", "width": f"{street.parking}"})
    if street.bike_lane:
        rows.append({"allow": "bicycle", "width": f"{street.bike_lane}"})
    rows += [{**bike_rule, "width": f"{street.lane_width}"} for _ in range(lanes)]
    if median and street.median:
        rows.append({"disallow": "all", "width": f"{street.median}"})
    for index, row in enumerate(rows):
        ET.SubElement(edge, "lane", {"index": str(index), **row})
    edge.set("numLanes", str(len(rows)))
    edge.set("speed", f"{street.speed}")
    edge.set("priority", str(street.lanes * 2 + int(street.speed > 9)))


def _convert(folder: Path, net_file: Path) -> None:
    run_tool(
        "netconvert",
        [
            *("--node-files", str(folder / "edited.nod.xml"), "--edge-files", str(folder / "edited.edg.xml")),
            *("--output-file", str(net_file), "--crossings.guess", "--walkingareas", "--no-turnarounds.except-deadend"),
            *("--tls.cycle.time", "45", "--junctions.corner-detail", "5", "--junctions.internal-link-detail", "8"),
            *("--default.junctions.radius", "5", "--offset.disable-normalization"),
        ],
    )
