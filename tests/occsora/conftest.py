"""Folders with one scene file each, of a street built by hand."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scenes.grid import CLASS_ID, DRIVABLE, FREE
from scenes.scene import Scene, StaticWorld, Tracks
from scenes.scene_file import SUFFIX, save_scene

torch.set_num_threads(1)


def street(name: str, wall_at: int) -> Scene:
    """A straight road 12 m wide along world x with houses beside it, and a wall across it at x = `wall_at` m."""
    cells, frames = 400, 21
    ground = torch.full((cells, 100), CLASS_ID["terrain"], dtype=torch.uint8)
    ground[:, 35:65] = DRIVABLE
    standing = torch.full((1, cells, 100), FREE, dtype=torch.uint8)
    standing[:, :, :15] = CLASS_ID["manmade"]
    standing[0, round((wall_at + 60) / 0.4) :, 35:65] = CLASS_ID["manmade"]
    there = (standing != FREE).to(torch.uint8)
    static = StaticWorld((-60.0, -20.0), 0.4, ground, standing, 0 * there, 40 * there)
    poses = torch.zeros(1, frames, 3, dtype=torch.float64)
    poses[0, :, 0] = 1.5 * torch.arange(frames)
    car = torch.tensor([CLASS_ID["car"]], dtype=torch.uint8)
    size, axle = torch.tensor([[4.6, 1.85, 1.6]]), torch.tensor([1.4])
    tracks = Tracks(("ego",), car, size, axle, poses, torch.ones(1, frames, dtype=torch.bool))
    route = torch.stack((torch.arange(-40, 98, 2.0), torch.zeros(69)), dim=-1).double()
    return Scene(name, f"test/{name}", 0.25, static, tracks, {0: route})


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of scene files."""
    folder = tmp_path_factory.mktemp("open")
    save_scene(street("open", 99), folder / f"open{SUFFIX}")
    return folder


@pytest.fixture(scope="session")
def half_broken_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the scene "open", and of a scene "broken", which cannot be read any further than its name."""
    folder = tmp_path_factory.mktemp("half_broken")
    whole, broken = folder / f"open{SUFFIX}", folder / f"broken{SUFFIX}"
    save_scene(street("open", 99), whole)
    save_scene(replace(street("open", 99), name="broken"), broken)
    with zipfile.ZipFile(broken) as archive:
        header = archive.read("header.json")
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("header.json", header)
    return folder


@pytest.fixture(scope="session")
def walled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of scene files in which the road is closed 10 to 40 m ahead of every start."""
    folder = tmp_path_factory.mktemp("walled")
    save_scene(street("walled", 40), folder / f"walled{SUFFIX}")
    return folder
