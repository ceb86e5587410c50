"""The live town of a generated scene: made again from its seed, checked against the scene, and entered at any moment."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenes.motion import compose
from scenes.scene import Scene, Tracks
from scenes.sumo import WARM_UP
from scenes.sumo_bodies import Body
from scenes.sumo_generate import generate_network
from scenes.sumo_network import read_network
from scenes.sumo_process import SumoProcess
from scenes.sumo_tracks import make_tracks
from scenes.sumo_traffic import KINDS, Demand, write_demand

# Towns of this process, and moments of each at which a SUMO process waits to be branched from. A waiting process takes about
# 22 MiB; to make a town again takes seconds, which a training on a few dozen towns would spend again and again.
KEPT_TOWNS, KEPT = 48, 4
_TOLERANCE = 0.05  # metres between a recorded vehicle and the same one in the town that was made again
_STILL = ("parked", "standing")  # first words of the names of those whom SUMO does not know


def recipe_of(scene: Scene) -> dict[str, Any] | None:
    """Arguments of `scenes.sumo.make_scene` that make the scene again; None where it is no generated town.

    Scene files from before recipes were kept tell it by their name, "sumo/<seed>/<seed>".
    """
    if scene.recipe is not None:
        return dict(scene.recipe)
    match = re.fullmatch(r"sumo/(\d+)/\1", scene.name)
    if match is None or scene.source != f"sumo/{match[1]}":
        return None
    return {"seed": int(match[1]), "seconds": scene.duration, "dt": scene.dt}


_towns: OrderedDict[tuple[int, str, str], Town] = OrderedDict()


def open_town(scene: Scene) -> Town:
    """The live town of a scene, one for all who drive there from this process; those used least recently are closed.

    A scene that was read again from its file has the town that it had. One whose SUMO has ended is made again. Errors as of
    `Town`.
    """
    key = os.getpid(), scene.name, json.dumps(recipe_of(scene), sort_keys=True)
    if key in _towns and not _towns[key].alive:
        _towns.pop(key).close()
    if key not in _towns:
        _towns[key] = Town(scene)
    _towns.move_to_end(key)
    while len(_towns) > KEPT_TOWNS:
        _towns.popitem(last=False)[1].close()
    return _towns[key]


class Town:
    """SUMO processes that wait at moments of one scene, from the last `KEPT` at which drives began."""

    def __init__(self, scene: Scene) -> None:
        """Raises ValueError where the scene is no generated town, ImportError where SUMO is not installed."""
        recipe = recipe_of(scene)
        if recipe is None:
            raise ValueError(
                f"{scene.name}: expected a town of `occsora make-scenes sumo`, which can be made again from its seed; "
                "all other scenes need dynamics='replay'"
            )
        self.scene = scene
        self._start = round(WARM_UP / scene.dt)
        self._waiting: OrderedDict[int, SumoProcess] = OrderedDict()
        self._root = _open(recipe)
        self._root.ask("advance", self._start)
        self._check(0, self._root)
        self._still = [track for track, name in enumerate(scene.tracks.ids) if name.split(".")[0] in _STILL]

    def enter(self, ego: int, seconds: float) -> Drive:
        """Take over track `ego` at a moment of the scene; raises ValueError where it lies between two steps of SUMO."""
        frame = round(seconds / self.scene.dt)
        if abs(frame * self.scene.dt - seconds) > 1e-6:
            raise ValueError(
                f"start: expected a multiple of {self.scene.dt:g} s, the step of {self.scene.name}, found {seconds} s"
            )
        process = self._at(frame).branch()
        process.ask("take", self.scene.tracks.ids[ego])
        return Drive(self.scene, self._still, ego, self._start + frame, process)

    @property
    def alive(self) -> bool:
        """Whether SUMO runs in all processes that wait."""
        return all(process.alive for process in (self._root, *self._waiting.values()))

    def close(self) -> None:
        """End the processes; may be called again."""
        for process in (self._root, *self._waiting.values()):
            process.close()

    def _at(self, frame: int) -> SumoProcess:
        """A process at that frame of the scene, to branch from."""
        if frame not in self._waiting:
            before = [kept for kept in self._waiting if kept < frame]
            process = (self._waiting[max(before)] if before else self._root).branch()
            process.ask("advance", self._start + frame)
            self._check(frame, process)
            self._waiting[frame] = process
        self._waiting.move_to_end(frame)
        while len(self._waiting) > KEPT:
            self._waiting.popitem(last=False)[1].close()
        return self._waiting[frame]

    def _check(self, frame: int, process: SumoProcess) -> None:
        """Raise ValueError unless the vehicles are where the scene recorded them."""
        tracks = self.scene.tracks
        found = {body.name: body.poses[-1, :2] for body in process.ask("bodies", self._start + frame)}
        for track, name in enumerate(tracks.ids):
            if not _drives(name) or not bool(tracks.valid[track, frame]):
                continue
            place = tracks.poses[track, frame, :2].numpy()
            if name not in found or np.linalg.norm(found[name] - place) > _TOLERANCE:
                raise ValueError(
                    f"{self.scene.name}: made again from its seed, the town has {name} elsewhere at {frame * self.scene.dt:g} "
                    "s; the scene comes from another version of SUMO or other settings: make it again, or use dynamics='replay'"
                )


def _drives(name: str) -> bool:
    kind = name.split(".")[0]
    return kind in KINDS and kind != "pedestrian"


def _open(recipe: Mapping[str, Any]) -> SumoProcess:
    """SUMO before its first step in the town that `make_scene(**recipe)` would make."""
    seed, dt = int(recipe["seed"]), float(recipe["dt"])
    demand = Demand(**recipe.get("demand", {}))
    with tempfile.TemporaryDirectory(prefix="occsora-town-") as folder:
        net_file, route_file = Path(folder) / "generated.net.xml", Path(folder) / "traffic.rou.xml"
        generate_network(seed, net_file, Path(folder), recipe.get("layout"))
        write_demand(read_network(net_file), seed, demand, WARM_UP, float(recipe["seconds"]), route_file)
        return SumoProcess.open(net_file, route_file, dt, seed)


class Drive:
    """One drive through a live town: the ego goes where it is told, and the others see it there."""

    def __init__(self, scene: Scene, still: list[int], ego: int, frame: int, process: SumoProcess) -> None:
        """still: tracks of those whom SUMO does not know. frame: of the process, at which it was branched off."""
        tracks = scene.tracks
        self._process, self._frame = process, frame
        self._nose = torch.tensor([float(tracks.rear_axle[ego] + tracks.sizes[ego, 0] / 2), 0.0, 0.0], dtype=torch.float64)
        self._still = Tracks(
            ids=tuple(tracks.ids[track] for track in still),
            classes=tracks.classes[still],
            sizes=tracks.sizes[still],
            rear_axle=tracks.rear_axle[still],
            poses=tracks.poses[still, :1],
            valid=tracks.valid[still, :1],
        )

    def send(self, poses: Tensor, radius: float) -> None:
        """Drive the ego frame (rear axle) to world poses (S, 3), one a step of SUMO; `receive` gives what is then there."""
        self._steps = len(poses)
        self._process.send("drive", compose(poses.cpu(), self._nose.expand(len(poses), 3)).numpy(), radius)

    def receive(self) -> Tracks:
        """All others at the S frames of the last `send`: those that move within `radius` metres, and those that stand still."""
        bodies: list[Body] = self._process.receive()
        moving = make_tracks(bodies, self._frame + 1, self._steps, at_least=1)
        self._frame += self._steps
        still = self._still
        return Tracks(
            ids=moving.ids + still.ids,
            classes=torch.cat((moving.classes, still.classes)),
            sizes=torch.cat((moving.sizes, still.sizes)),
            rear_axle=torch.cat((moving.rear_axle, still.rear_axle)),
            poses=torch.cat((moving.poses, still.poses.expand(-1, self._steps, -1))),
            valid=torch.cat((moving.valid, still.valid.expand(-1, self._steps))),
        )

    def close(self) -> None:
        """End the drive; may be called again."""
        self._process.close()
