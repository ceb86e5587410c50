"""Road networks in SUMO's format: generated from a seed, converted from OpenStreetMap, and read back as plain arrays."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MOTOR, BIKE, WALK, PARKING, MEDIAN, OTHER = "motor", "bike", "walk", "parking", "median", "other"
_MEDIAN_WIDTH = 1.7  # lanes without any permission: narrower is a median, wider is room for parked cars


@dataclass(frozen=True)
class Lane:
    """One lane of a network.

    Attributes:
        id, edge: names in the network.
        index: number within its edge, from the right.
        kind: motor, bike, walk, parking, median or other: who may use it.
        function: "normal", "internal" (within a junction), "crossing" or "walkingarea".
        shape: centre line, or outline of a walking area, metres, float64 (N, 2).
        width: metres.
        length: metres, as SUMO counts it.
        bikes: whether bicycles may use it.
    """

    id: str
    edge: str
    index: int
    kind: str
    function: str
    shape: np.ndarray
    width: float
    length: float
    bikes: bool


@dataclass(frozen=True)
class Link:
    """A connection of two lanes: the lane within the junction that it leads over, its turn (s, l, r, t) and its signal."""

    from_lane: str
    to_lane: str
    via: str
    turn: str
    signal: tuple[str, int] | None


@dataclass(frozen=True)
class Network:
    """Lanes by name, edges as lists of lane names from the right, links by the lane they leave, junction outlines (N, 2)."""

    lanes: dict[str, Lane]
    edges: dict[str, list[str]]
    links: dict[str, list[Link]]
    junctions: list[np.ndarray]


class Line:
    """A polyline (N, 2) walked by its length, metres."""

    def __init__(self, xy: np.ndarray) -> None:
        self.xy = xy
        self.along = np.concatenate(([0.0], np.linalg.norm(np.diff(xy, axis=0), axis=1).cumsum()))
        self.length = float(self.along[-1])

    def pose(self, metres: float) -> np.ndarray:
        """Position and direction (3,) after that many metres."""
        segment = int(np.clip(np.searchsorted(self.along, metres) - 1, 0, len(self.xy) - 2))
        step = self.xy[segment + 1] - self.xy[segment]
        point = [np.interp(metres, self.along, self.xy[:, axis]) for axis in (0, 1)]
        return np.array([*point, np.arctan2(step[1], step[0])])


def sumo_home() -> Path:
    """Folder of the SUMO that the `sumo` extra installs; ImportError that names the extra where it is absent."""
    try:
        import sumo
    except ImportError as error:
        raise ImportError("SUMO scenes need eclipse-sumo: pip install 'occsora-gym[sumo]'") from error
    return Path(sumo.SUMO_HOME)


def run_tool(tool: str, arguments: list[str]) -> None:
    """Run one of SUMO's command line tools quietly; RuntimeError with its last words if it fails."""
    home = sumo_home()
    environment = {**os.environ, "SUMO_HOME": str(home)}
    command = [str(home / "bin" / tool), *arguments, "--no-warnings", "--xml-validation", "never"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join((done.stderr + done.stdout).split())[-600:]
        raise RuntimeError(f"{tool} failed with exit status {done.returncode}: {words}")


def convert_osm(osm_file: Path, net_file: Path) -> None:
    """Turn an OpenStreetMap extract into a SUMO network with sidewalks, crossings and guessed traffic lights."""
    if not osm_file.is_file():
        raise FileNotFoundError(f"{osm_file}: expected an OpenStreetMap extract (.osm or .osm.xml), found no such file")
    types = sumo_home() / "data" / "typemap"
    maps = [types / f"osmNetconvert{part}.typ.xml" for part in ("", "UrbanDe", "Pedestrians")]
    arguments = [
        *("--osm-files", str(osm_file), "--output-file", str(net_file)),
        *("--type-files", ",".join(str(path) for path in maps if path.is_file())),
        *("--geometry.remove", "--ramps.guess", "--junctions.join", "--roundabouts.guess", "--remove-edges.isolated"),
        *("--tls.guess-signals", "--tls.discard-simple", "--tls.join", "--tls.cycle.time", "60"),
        *("--sidewalks.guess", "--crossings.guess", "--no-turnarounds.except-deadend"),
        *("--junctions.corner-detail", "5", "--junctions.internal-link-detail", "8"),
        *("--keep-edges.by-vclass", "passenger,bus,bicycle,pedestrian,truck", "--remove-edges.by-type", "highway.steps"),
    ]
    try:
        run_tool("netconvert", arguments)
    except RuntimeError as error:
        raise ValueError(f"{osm_file}: expected an OpenStreetMap extract that netconvert can read; {error}") from error
    if not net_file.is_file():
        raise ValueError(f"{osm_file}: expected streets that cars may use, found none")


def read_network(net_file: Path) -> Network:
    """Read a SUMO .net.xml; ValueError that names the file where it is not one."""
    try:
        root = ET.parse(net_file).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{net_file}: expected a SUMO network, found broken XML ({error})") from error
    if root.tag != "net":
        raise ValueError(f"{net_file}: expected a SUMO network with root <net>, found <{root.tag}>")
    lanes: dict[str, Lane] = {}
    edges: dict[str, list[str]] = {}
    for edge in root.iter("edge"):
        function = edge.get("function", "normal")
        names = []
        for lane in edge.iter("lane"):
            lanes[lane.attrib["id"]] = _read_lane(lane, edge.attrib["id"], function)
            names.append(lane.attrib["id"])
        if function == "normal":
            edges[edge.attrib["id"]] = names
    junctions = [_points(node.get("shape", "")) for node in root.iter("junction") if node.get("type") != "internal"]
    return Network(lanes, edges, _read_links(root), [shape for shape in junctions if len(shape) >= 3])


def _points(text: str) -> np.ndarray:
    pairs = [[float(value) for value in point.split(",")[:2]] for point in text.split()]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _read_lane(lane: ET.Element, edge: str, function: str) -> Lane:
    allow, disallow = lane.get("allow"), lane.get("disallow")
    width = float(lane.get("width", 3.2))

    def may(who: str) -> bool:
        if allow is not None:
            return who in allow.split() or allow == "all"
        return disallow is None or (disallow != "all" and who not in disallow.split())

    if may("passenger") or may("bus"):
        kind = MOTOR
    elif may("bicycle"):
        kind = BIKE
    elif may("pedestrian"):
        kind = WALK
    elif not any(map(may, ("truck", "delivery", "rail", "tram", "rail_urban", "ship"))):
        kind = MEDIAN if width < _MEDIAN_WIDTH else PARKING
    else:
        kind = OTHER
    shape = _points(lane.attrib["shape"])
    index, length = int(lane.attrib["index"]), float(lane.attrib["length"])
    return Lane(lane.attrib["id"], edge, index, kind, function, shape, width, length, may("bicycle"))


def _read_links(root: ET.Element) -> dict[str, list[Link]]:
    links: dict[str, list[Link]] = {}
    for item in root.iter("connection"):
        name = f"{item.attrib['from']}_{item.attrib['fromLane']}"
        signal = (item.attrib["tl"], int(item.attrib["linkIndex"])) if "tl" in item.attrib else None
        link = Link(name, f"{item.attrib['to']}_{item.attrib['toLane']}", item.get("via", ""), item.get("dir", "s"), signal)
        links.setdefault(name, []).append(link)
    return links
