"""Running SUMO in this process and writing down where everyone was: the one module that imports libsumo."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenes.sumo_network import sumo_home

_SIGNALS = {"r": 1, "R": 1, "u": 2, "y": 2, "Y": 2, "g": 3, "G": 3, "s": 1}


@dataclass(frozen=True)
class Log:
    """What a run of SUMO showed, F frames of it.

    Attributes:
        frames: first frame and positions of each road user, by name: front bumper (vehicles) or body (walkers) as x, y in
            metres and SUMO's heading as yaw in radians, float64 (N, 3).
        last: edge number within its route and lane that each vehicle was on in its last frame.
        signals: state of each signal of each traffic light, 0 unknown, 1 red, 2 yellow, 3 green, uint8 (F, signals).
    """

    frames: dict[str, tuple[int, np.ndarray]]
    last: dict[str, tuple[int, str]]
    signals: dict[str, np.ndarray]


def start_sumo(net_file: Path, route_file: Path, dt: float, seed: int) -> Any:
    """libsumo with a simulation in steps of dt seconds; it knows one a process, so run several in processes."""
    try:
        import libsumo
    except ImportError as error:
        raise ImportError("SUMO scenes need libsumo: pip install 'occsora-gym[sumo]'") from error
    log_file = route_file.with_suffix(".log")
    options = [
        *("--net-file", str(net_file), "--route-files", str(route_file), "--step-length", str(dt), "--seed", str(seed % 2**31)),
        *("--no-step-log", "--no-warnings", "--duration-log.disable", "--xml-validation", "never"),
        *("--message-log", str(log_file), "--error-log", str(log_file)),
        *("--time-to-teleport", "-1", "--collision.action", "none", "--ignore-route-errors"),
        *("--lanechange.duration", "3", "--pedestrian.striping.stripe-width", "0.65", "--default.speeddev", "0.1"),
    ]
    try:
        libsumo.start([str(sumo_home() / "bin" / "sumo"), *options])
    except libsumo.TraCIException as error:
        words = log_file.read_text(encoding="utf-8") if log_file.is_file() else ""
        raise RuntimeError(f"{net_file}: SUMO could not start: {error} {words[-500:]}") from error
    return libsumo


def run_sumo(net_file: Path, route_file: Path, frames: int, dt: float, seed: int) -> Log:
    """Run `frames` steps of dt seconds and write down what they show."""
    libsumo = start_sumo(net_file, route_file, dt, seed)
    try:
        return _record(libsumo, frames)
    finally:
        libsumo.close()


def positions(sumo: Any) -> Iterator[tuple[str, float, float, float]]:
    """Name, x, y and yaw of each road user now: front bumper of a vehicle, body of a walker, metres and radians."""
    for domain in (sumo.vehicle, sumo.person):
        for name in domain.getIDList():
            x, y = domain.getPosition(name)
            yield name, x, y, math.radians(90.0 - domain.getAngle(name))


def _record(sumo: Any, frames: int) -> Log:
    first: dict[str, int] = {}
    seen: dict[str, list[tuple[float, ...]]] = {}
    last: dict[str, tuple[int, str]] = {}
    lights = sumo.trafficlight.getIDList()
    signals: dict[str, list[list[int]]] = {name: [] for name in lights}
    for frame in range(frames):
        sumo.simulationStep()
        for name, *place in positions(sumo):
            if name not in seen:
                first[name], seen[name] = frame, []
            seen[name].append(tuple(place))
        for name in lights:
            signals[name].append([_SIGNALS.get(state, 0) for state in sumo.trafficlight.getRedYellowGreenState(name)])
    for name in sumo.vehicle.getIDList():
        last[name] = sumo.vehicle.getRouteIndex(name), sumo.vehicle.getLaneID(name)
    tracks = {name: (first[name], np.array(rows)) for name, rows in seen.items()}
    return Log(tracks, last, {name: np.array(rows, dtype=np.uint8) for name, rows in signals.items()})
