"""Scenes from SUMO, the traffic simulator: a generated network a seed, a network of the user's, or an OpenStreetMap extract.

All 17 classes of Occ3D-nuScenes that are not free appear: bicycle, bus, car, construction_vehicle, motorcycle, pedestrian,
trailer and truck as tracks (trailers behind what pulls them, and parked), driveable_surface and sidewalk from the network,
others, barrier, traffic_cone, other_flat, terrain, manmade and vegetation grown along its roads.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from scenes.grow import grow
from scenes.motion import transform
from scenes.scene import Scene, StaticWorld, Tracks
from scenes.sumo_bodies import moving_bodies
from scenes.sumo_bystanders import parked_bodies, standing_bodies
from scenes.sumo_generate import generate_network
from scenes.sumo_ground import draw_ground, motor_cells
from scenes.sumo_network import Network, convert_osm, read_network
from scenes.sumo_routes import ego_routes, stop_lights
from scenes.sumo_run import run_sumo
from scenes.sumo_tracks import make_tracks
from scenes.sumo_traffic import Demand, write_demand

WARM_UP = 25.0  # seconds in which traffic enters and spreads before a scene begins
DEMAND = Demand()
RECORDED = ("driveable_surface", "sidewalk")


def make_scene(seed: int, seconds: float = 60.0, dt: float = 0.25, layout: str | None = None, demand: Demand = DEMAND) -> Scene:
    """A town of its own for each seed: network, traffic, lights and all that stands along the roads.

    seconds: length of the scene. dt: seconds between track frames. layout: "grid", "random" or "spider", by default drawn
    from the seed. The source is "sumo/<seed>". One scene at a time in a process, for libsumo knows one simulation only.
    """
    with tempfile.TemporaryDirectory(prefix="occsora-sumo-") as folder:
        net_file = Path(folder) / "generated.net.xml"
        generate_network(seed, net_file, Path(folder), layout)
        scene = scene_from_network(net_file, seed, seconds, dt, demand, source=f"sumo/{seed}")
    recipe = {"seed": seed, "seconds": seconds, "dt": dt, "layout": layout, "demand": asdict(demand)}
    return replace(scene, recipe=recipe)


def scene_from_osm(osm_file: Path, seed: int = 0, seconds: float = 60.0, dt: float = 0.25, demand: Demand = DEMAND) -> Scene:
    """A scene on the streets of an OpenStreetMap extract (.osm, .osm.xml), converted by netconvert."""
    with tempfile.TemporaryDirectory(prefix="occsora-osm-") as folder:
        net_file = Path(folder) / "converted.net.xml"
        convert_osm(Path(osm_file), net_file)
        return scene_from_network(net_file, seed, seconds, dt, demand, source=f"osm/{Path(osm_file).name.split('.')[0]}")


def scene_from_network(
    net_file: Path,
    seed: int,
    seconds: float = 60.0,
    dt: float = 0.25,
    demand: Demand = DEMAND,
    source: str | None = None,
    cell: float = 0.4,
) -> Scene:
    """A scene on a SUMO network (.net.xml) with random traffic of `seed`; see `make_scene`.

    source: by default "sumo/<file name>". cell: edge length of the static raster's cells, metres.
    """
    if not 0.05 <= dt <= 0.5 or seconds < dt:
        raise ValueError(f"scene: expected dt of 0.05 to 0.5 s and at least one step, found dt={dt}, seconds={seconds}")
    net_file = Path(net_file)
    network = read_network(net_file)
    if not any(names for names in network.edges.values()):
        raise ValueError(f"{net_file}: expected a network with roads, found none")
    start, frames = round(WARM_UP / dt), round(seconds / dt) + 1
    with tempfile.TemporaryDirectory(prefix="occsora-routes-") as folder:
        route_file = Path(folder) / "traffic.rou.xml"
        routes = write_demand(network, seed, demand, WARM_UP, seconds, route_file)
        log = run_sumo(net_file, route_file, start + frames, dt, seed)
    rng = np.random.default_rng([seed, 31])
    bodies = [
        *moving_bodies(log, dt),
        *parked_bodies(network, rng, start + frames),
        *standing_bodies(network, rng, start + frames),
    ]
    tracks = make_tracks(bodies, start, frames)
    static = _static_world(network, tracks, seed, cell)
    source = source or f"sumo/{net_file.name.split('.')[0]}"
    lights = stop_lights(network, log, start, frames)
    return Scene(f"{source}/{seed}", source, dt, static, tracks, ego_routes(tracks, log, network, routes, dt), lights)


def _static_world(network: Network, tracks: Tracks, seed: int, cell: float) -> StaticWorld:
    ground, origin = draw_ground(network, cell)
    clear = motor_cells(network, ground.shape, origin, cell) | _used_cells(tracks, ground.shape, origin, cell)
    return grow(torch.from_numpy(ground), origin, cell, seed, torch.from_numpy(clear), RECORDED)


def _used_cells(tracks: Tracks, shape: tuple[int, int], origin: tuple[float, float], cell: float) -> np.ndarray:
    """Cells that some agent covers at some time, bool (H, W)."""
    used = np.zeros(shape, dtype=bool)
    for track in range(len(tracks.ids)):
        poses = tracks.poses[track][tracks.valid[track]].numpy()
        moved = np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1).cumsum()
        poses = poses[np.concatenate(([True], np.diff(np.floor(moved / 0.5), prepend=0.0) > 0))]
        length, width = (float(value) + 0.4 for value in tracks.sizes[track, :2])
        along, across = (np.linspace(-side / 2, side / 2, int(side / cell) + 2) for side in (length, width))
        spots = torch.from_numpy(np.stack(np.meshgrid(along, across), axis=-1).reshape(-1, 2))
        points = transform(torch.from_numpy(poses), spots.expand(len(poses), -1, 2)).numpy()
        i, j = np.moveaxis(np.floor((points - origin) / cell).astype(int), -1, 0)
        inside = (i >= 0) & (j >= 0) & (i < shape[0]) & (j < shape[1])
        used[i[inside], j[inside]] = True
    return used
