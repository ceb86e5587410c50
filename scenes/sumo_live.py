"""A SUMO simulation in a process of its own that can be forked: the program which `scenes.sumo_process` talks to.

SUMO's own saved states lose the walkers and do not go on as the run they were taken from. A forked process does, exactly.
"""

from __future__ import annotations

import os
import signal
import sys
from array import array
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path

import numpy as np

from scenes.sumo_bodies import Body, bodies_of
from scenes.sumo_run import positions, start_sumo


class LiveTraffic:
    """Traffic that goes on step by step around an ego which is driven from outside.

    Attributes:
        frame: number of the last step, 0 for the first one.
    """

    def __init__(self, net_file: Path, route_file: Path, dt: float, seed: int) -> None:
        self.sumo, self.dt, self.frame = start_sumo(net_file, route_file, dt, seed), dt, -1
        self._ego: str | None = None
        self._first: dict[str, int] = {}
        self._rows: dict[str, array[float]] = {}  # x, y, yaw, x, y, yaw, ...

    def advance(self, frame: int) -> None:
        """Go on to that frame, with nobody driven from outside."""
        while self.frame < frame:
            self._step()

    def take(self, ego: str) -> None:
        """From now on `drive` moves this vehicle; SUMO's own driver lets go of pedals and wheel."""
        self.sumo.vehicle.setSpeedMode(ego, 0)
        self.sumo.vehicle.setLaneChangeMode(ego, 0)
        self._ego = ego

    def drive(self, fronts: np.ndarray, radius: float) -> list[Body]:
        """A step for each of the poses fronts (S, 3) of the ego's front bumper: x, y in metres, yaw in radians.

        Returns the boxes of the others within `radius` metres of the last one, as they are at these S frames.
        """
        for x, y, yaw in fronts.tolist():
            # 2: exactly here, on whatever lane or beside the road; the others see it on the lane that is nearest
            self.sumo.vehicle.moveToXY(self._ego, "", -1, x, y, 90.0 - np.degrees(yaw), 2)
            self._step()
        return self.bodies(self.frame - len(fronts) + 1, (fronts[-1, 0], fronts[-1, 1]), radius)

    def bodies(self, since: int, centre: tuple[float, float] = (0.0, 0.0), radius: float = np.inf) -> list[Body]:
        """Boxes of all but the ego within `radius` metres of `centre`, at the frames from `since` on."""
        found: list[Body] = []
        for name, rows in self._rows.items():
            first, away = self._first[name], (rows[-3] - centre[0]) ** 2 + (rows[-2] - centre[1]) ** 2
            if away > radius**2 or first + len(rows) // 3 <= since or name == self._ego:
                continue
            found += bodies_of(name, first, np.array(rows).reshape(-1, 3), self.dt, max(since - first, 0))
        return found

    def _step(self) -> None:
        self.sumo.simulationStep()
        self.frame += 1
        for name, *place in positions(self.sumo):
            if name not in self._rows:
                self._first[name], self._rows[name] = self.frame, array("d")
            self._rows[name].extend(place)


def serve(line: Connection) -> None:
    """Answer requests until the other end is closed; "branch" forks a process that goes on from here at a line of its own."""
    traffic: LiveTraffic | None = None
    while True:
        try:
            request, *arguments = line.recv()
        except (EOFError, ConnectionResetError):
            return
        if request == "branch":
            other = Connection(recv_handle(line))
            if os.fork() == 0:
                line.close()
                line = other
            else:
                other.close()
            continue
        try:
            if request == "open":
                traffic = LiveTraffic(*arguments)
                line.send(None)
            else:
                line.send(getattr(traffic, request)(*arguments))
        except Exception as error:  # it is raised where the request came from
            line.send(error if isinstance(error, ImportError) else RuntimeError(f"SUMO: {error}"))


def main() -> None:
    """Serve at the socket whose descriptor is the first argument."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # branches that end leave nothing behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a process ends when nobody asks any more
    serve(Connection(int(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)
