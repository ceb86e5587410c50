"""Live towns: made again as they were recorded, identical from one moment on, and with traffic that reacts."""

from __future__ import annotations

import os
import signal
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scenes.motion import relative
from scenes.scene import Scene
from scenes.scene_file import load_scene, save_scene
from scenes.sumo import make_scene
from scenes.sumo_generate import generate_network
from scenes.sumo_process import SumoEndedError
from scenes.sumo_town import Drive, Town, open_town, recipe_of
from scenes.sumo_traffic import Demand

pytest.importorskip("libsumo")

DATA = Path(__file__).parents[2] / "occworld_env" / "data"
DT = 0.25
FEW = Demand(vehicles=6.0, bicycles=1.0, pedestrians=4.0)


@pytest.fixture(scope="module")
def bundled() -> Scene:
    """A scene that was made before recipes were kept."""
    return load_scene(DATA / "sumo-0040.scene")


@pytest.fixture(scope="module")
def town(bundled: Scene) -> Iterator[Town]:
    town = Town(bundled)
    yield town
    town.close()


def test_a_scene_read_again_has_the_town_that_it_had(bundled: Scene) -> None:
    first = open_town(bundled)
    assert open_town(load_scene(DATA / "sumo-0040.scene")) is first
    first.close()
    assert not first.alive
    again = open_town(bundled)
    assert again is not first
    assert again.alive
    again.close()


def test_a_town_closes_beside_forks_of_its_process(bundled: Scene) -> None:
    """A worker that was forked from ours holds SUMO's line too; nobody waits for it."""
    town = Town(bundled)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        begin = time.monotonic()
        town.close()
        assert time.monotonic() - begin < 5
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def follower(scene: Scene) -> tuple[int, int, float]:
    """An ego, the car that follows it closely, and a moment at which both drive 5 m/s or more and go on to for 6 s."""
    poses, there = scene.tracks.poses, list(scene.egos)
    speed = (poses[:, 1:, :2] - poses[:, :-1, :2]).norm(dim=-1) / scene.dt
    for frame in range(0, scene.frames - 32, 4):
        fast = speed[there, frame : frame + 24].amin(dim=1) > 5
        for ego in (ego for ego, quick in zip(there, fast.tolist(), strict=True) if quick):
            x, y, yaw = relative(poses[ego, frame].expand(len(there), 3), poses[there, frame]).unbind(-1)
            behind = fast & (x < -6) & (x > -16) & (y.abs() < 0.7) & (yaw.abs() < 0.1)
            if behind.any():
                return ego, there[int(behind.nonzero()[0])], frame * scene.dt
    raise AssertionError("expected a car that follows another")


def positions(drive: Drive, poses: Tensor) -> list[dict[str, Tensor]]:
    """Centre poses (2, 3) of the others by name, for each two frames of the ego's poses (N, 3)."""
    found = []
    for step in poses.split(2):
        drive.send(step, 80.0)
        tracks = drive.receive()
        found.append({name: tracks.poses[track] for track, name in enumerate(tracks.ids) if tracks.valid[track].all()})
    return found


def test_recipes_are_kept_in_scene_files(tmp_path: Path, bundled: Scene) -> None:
    assert recipe_of(bundled) == {"seed": 40, "seconds": 60.0, "dt": 0.25}
    scene = make_scene(11, seconds=1.0, layout="spider", demand=FEW)
    save_scene(scene, tmp_path / "a.scene")
    kept = recipe_of(load_scene(tmp_path / "a.scene"))
    assert kept == recipe_of(scene) == {"seed": 11, "seconds": 1.0, "dt": 0.25, "layout": "spider", "demand": vars(FEW)}
    assert recipe_of(replace(bundled, name="town/40", source="osm/town")) is None


def test_driven_as_recorded_the_town_goes_on_as_recorded(town: Town, bundled: Scene) -> None:
    """Vehicles to the scene file's centimetre; walkers lag, for what smooths a recording also looks ahead."""
    ego, seconds = bundled.egos[3], 12.0
    times = seconds + DT * torch.arange(1, 17, dtype=torch.float64)
    shown = positions(town.enter(ego, seconds), bundled.ego_poses(ego, times))
    numbers = {name: track for track, name in enumerate(bundled.tracks.ids)}
    vehicles, walkers = [], []
    for step, others in enumerate(shown):
        frame = round(seconds / DT) + 2 * step + 1
        for name in others.keys() & numbers.keys():
            apart = (others[name] - bundled.tracks.poses[numbers[name], frame : frame + 2])[:, :2].norm(dim=-1).max()
            (walkers if name.startswith("pedestrian") else vehicles).append(float(apart))
        assert bundled.tracks.ids[ego] not in others
    assert len(vehicles) > 100
    assert len(walkers) > 20
    assert max(vehicles) < 0.05
    assert max(walkers) < 0.6


def test_drives_from_one_moment_are_identical(town: Town, bundled: Scene) -> None:
    ego, seconds = bundled.egos[5], 20.0
    poses = bundled.ego_poses(ego, seconds + 0.5 * DT * torch.arange(1, 13, dtype=torch.float64))  # slower than recorded
    again = Town(bundled)
    first, second, fresh = (positions(where.enter(ego, seconds), poses) for where in (town, town, again))
    again.close()
    for others in (second, fresh):
        for a, b in zip(first, others, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_car_behind_a_braking_ego_brakes(town: Town, bundled: Scene) -> None:
    ego, behind, seconds = follower(bundled)
    name = bundled.tracks.ids[behind]
    time = DT * torch.arange(1, 25, dtype=torch.float64)
    speeds, gaps = [], []
    for end in (time[-1], 2.0):  # as recorded, and to a stop along the same path within 4 s
        along = time if end > 2.0 else torch.where(time < 4.0, time - time**2 / 8.0, torch.tensor(2.0, dtype=torch.float64))
        poses = bundled.ego_poses(ego, seconds + along)
        last = positions(town.enter(ego, seconds), poses)[-1][name]
        speeds.append(float((last[1] - last[0])[:2].norm()) / DT)
        gaps.append(float((last[1] - poses[-1])[:2].norm()))
    recorded, braking = speeds
    assert recorded > 3.0
    assert braking < 0.5
    assert gaps[1] > 4.0  # centre to rear axle: they do not touch


def test_another_town_is_refused(bundled: Scene) -> None:
    with pytest.raises(ValueError, match=r"sumo/40/40: made again from its seed, the town has .* elsewhere at 0 s"):
        Town(replace(bundled, recipe={"seed": 41, "seconds": 60.0, "dt": 0.25}))
    with pytest.raises(ValueError, match=r"town/40: expected a town of .* dynamics='replay'"):
        Town(replace(bundled, name="town/40"))


def test_starts_lie_on_steps(town: Town, bundled: Scene) -> None:
    with pytest.raises(ValueError, match=r"start: expected a multiple of 0\.25 s"):
        town.enter(bundled.egos[0], 12.1)


def test_a_closed_drive_says_so(town: Town, bundled: Scene) -> None:
    drive = town.enter(bundled.egos[0], 12.0)
    drive.close()
    drive.close()
    with pytest.raises(RuntimeError, match="closed"):
        drive.send(torch.zeros(2, 3, dtype=torch.float64), 50.0)


def test_without_sumo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, bundled: Scene) -> None:
    monkeypatch.setitem(sys.modules, "sumo", None)
    with pytest.raises(ImportError, match=r"occsora-gym\[sumo\]"):
        Town(bundled)


def test_signals_do_not_depend_on_traffic(tmp_path: Path) -> None:
    """So the recorded states are right however the ego drives."""
    for seed in (40, 41, 42, 43):
        generate_network(seed, tmp_path / "town.net.xml", tmp_path)
        programs = {logic.attrib["type"] for logic in ET.parse(tmp_path / "town.net.xml").getroot().iter("tlLogic")}
        assert programs == {"static"}


def test_a_killed_process_is_an_error_of_its_own(bundled: Scene) -> None:
    town = Town(bundled)
    root = town._root
    assert root._started is not None
    root._started.kill()
    with pytest.raises(SumoEndedError, match="ended unexpectedly"):
        root.ask("advance", 1)
    town.close()
