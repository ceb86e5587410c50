"""What a driver in a SUMO scene knows: the road ahead along the planned route, and the traffic lights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from scenes.grid import CLASS_ID
from scenes.route import resample_route
from scenes.scene import Lights, Tracks, no_lights
from scenes.sumo_network import MOTOR, Line, Link, Network
from scenes.sumo_run import Log
from scenes.sumo_traffic import KINDS

EGO_LABELS = ("car", "truck", "bus", "motorcycle")
EGO_SECONDS = 10.0
EGO_METRES = 25.0


def ego_routes(tracks: Tracks, log: Log, network: Network, routes: dict[str, list[str]], dt: float) -> dict[int, Tensor]:
    """For each motor vehicle that is there for EGO_SECONDS and drives EGO_METRES: the road it takes, points (M, 2) 2 m apart.

    First the path that it drove, then the centre lines of the lanes that its planned route leads along.
    """
    labels = {CLASS_ID[label] for label in EGO_LABELS}
    found = {}
    for track, name in enumerate(tracks.ids):
        kind = KINDS.get(name.split(".")[0])
        if kind is None or kind.trailer or name not in routes or int(tracks.classes[track]) not in labels:
            continue
        poses = tracks.poses[track][tracks.valid[track]].numpy()
        driven = float(np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1).sum())
        if len(poses) * dt < EGO_SECONDS or driven < EGO_METRES:
            continue
        nose = poses[-1, :2] + float(tracks.sizes[track, 0]) / 2 * np.array([np.cos(poses[-1, 2]), np.sin(poses[-1, 2])])
        pieces = [poses[:, :2], nose[None]]
        if name in log.last and bool(tracks.valid[track, -1]):
            pieces += _ahead(network, routes[name], *log.last[name], nose)
        found[track] = _trimmed(resample_route(torch.from_numpy(np.concatenate(pieces))))
    return found


def _trimmed(route: Tensor) -> Tensor:
    """Without the repeated last point."""
    moved = (route[1:] - route[:-1]).norm(dim=-1) > 1e-6
    return route[: int(moved.sum()) + 1]


def _ahead(network: Network, route: list[str], index: int, lane: str, place: np.ndarray) -> list[np.ndarray]:
    """Lane centre lines from `place` on `lane` along the planned edges route[index:]."""
    pieces: list[np.ndarray] = []
    if lane not in network.lanes:
        return pieces
    onto = {link.via: link.to_lane for links in network.links.values() for link in links if link.via}
    while lane.startswith(":"):  # within a junction: to its end, on the lane that it leads to
        pieces.append(_rest(network.lanes[lane].shape, place))
        if lane not in onto:
            return pieces
        lane = onto[lane]
        place = network.lanes[lane].shape[0]
    if network.lanes[lane].edge in route[index:]:
        index = route.index(network.lanes[lane].edge, index)
    for following in route[index + 1 :]:
        leaving, link = _exit(network, lane, following)
        pieces.append(_changed(network, lane, leaving, place))
        if link is None:
            break
        via = link.via
        while via:
            pieces.append(network.lanes[via].shape)
            via = next((step.via for step in network.links.get(via, ()) if step.via), "")
        lane = link.to_lane
        place = network.lanes[lane].shape[0]
    else:
        pieces.append(_rest(network.lanes[lane].shape, place))
    return [piece for piece in pieces if len(piece)]


def _exit(network: Network, lane: str, following: str) -> tuple[str, Link | None]:
    """The lane beside `lane`, or itself, that leads to the edge `following`, and its link; (lane, None) where none does."""
    here = network.lanes[lane]
    options = [
        (abs(network.lanes[name].index - here.index), name, link)
        for name in network.edges[here.edge]
        if network.lanes[name].kind == MOTOR
        for link in network.links.get(name, ())
        if network.lanes[link.to_lane].edge == following and network.lanes[link.to_lane].kind == MOTOR
    ]
    if not options:
        return lane, None
    _, name, link = min(options, key=lambda option: (option[0], option[1]))
    return name, link


def _rest(shape: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The part of a centre line ahead of the point nearest to `place`."""
    line = Line(shape)
    samples = np.linspace(0, line.length, max(int(line.length), 2))
    dense = np.column_stack([np.interp(samples, line.along, shape[:, axis]) for axis in (0, 1)])
    return dense[int(np.linalg.norm(dense - place, axis=1).argmin()) + 1 :]


def _changed(network: Network, lane: str, leaving: str, place: np.ndarray) -> np.ndarray:
    """From `place` along lane, over to the lane `leaving` of the same edge in its middle third."""
    rest = _rest(network.lanes[lane].shape, place)
    if lane == leaving or len(rest) < 3:
        return _rest(network.lanes[leaving].shape, place)
    other = _rest(network.lanes[leaving].shape, place)
    return np.concatenate((rest[: len(rest) // 3], other[2 * len(other) // 3 :]))


def stop_lights(network: Network, log: Log, start: int, frames: int) -> Lights:
    """One light for each motor lane that a signal controls, at the lane's end."""
    poses, states = [], []
    for name, links in network.links.items():
        lane = network.lanes[name]
        signalled = [link for link in links if link.signal and link.signal[0] in log.signals]
        if lane.kind != MOTOR or lane.function != "normal" or not signalled:
            continue
        link = min(signalled, key=lambda item: "slrt".find(item.turn) % 5)
        light, number = link.signal or ("", 0)
        step = lane.shape[-1] - lane.shape[-2]
        poses.append([*lane.shape[-1], np.arctan2(step[1], step[0])])
        states.append(log.signals[light][start : start + frames, number])
    if not poses:
        return no_lights(frames)
    return Lights(torch.tensor(poses, dtype=torch.float64), torch.from_numpy(np.array(states, dtype=np.uint8)))
