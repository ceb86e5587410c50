"""The environment on a DynamicCity world model: its own chunk length and rate, checked as any other."""

from __future__ import annotations

import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from models.diffusion_sampling import SamplerConfig
from models.dit import DiTConfig
from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.transformer import PlaneTransformerConfig
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.warp import WarpWorldModel
from scenes.grid import CARLASC, CLASSES, MINI
from scenes.scene import Scene

VAE = HexPlaneConfig(frames=8, channels=4, heads=1, mlp=8, plane_channels=4, hidden=4, fine=4)
CONFIG = DynamicCityConfig(
    grid=replace(MINI, shape=(48, 48, 4), origin=(-19.2, -19.2, -0.8)),
    vae=VAE,
    transformer=PlaneTransformerConfig(DiTConfig(width=16, depth=1, heads=2), patch=2, conditions=("trajectory", "drivable")),
    dt=0.5,
    overlap=4,
    sampler=SamplerConfig("ddim", steps=1),
)


@pytest.fixture(scope="module")
def model() -> DynamicCityWorldModel:
    torch.manual_seed(0)
    return DynamicCityWorldModel(CONFIG).eval().requires_grad_(False)


def make(scene: Scene, model: DynamicCityWorldModel, **arguments: object) -> gymnasium.Env:
    return gymnasium.make(
        "OccSora-v0", scenes=[scene], world_model=model, bank_size=2, bank_seed=1, max_episode_steps=3, **arguments
    )


def test_checkers_have_nothing_to_say(scene: Scene, model: DynamicCityWorldModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(scene, model).unwrapped, skip_render_check=True)


def test_a_step_is_the_new_frames_of_a_window(scene: Scene, model: DynamicCityWorldModel) -> None:
    """Four frames of half a second; the same seed twice is the same episode."""
    env = make(scene, model, observation="occupancy")
    assert env.unwrapped.simulator.step_seconds == pytest.approx(2.0)
    runs = []
    for _ in range(2):
        _, info = env.reset(seed=3)
        observed, *_, after = env.step(env.action_space.sample() * 0)
        assert after["time"] - info["time"] == pytest.approx(2.0)
        runs.append(observed["occupancy"])
    assert (runs[0] == runs[1]).all()


def test_there_are_no_tokens(scene: Scene, model: DynamicCityWorldModel) -> None:
    with pytest.raises(ValueError, match="tokens"):
        make(scene, model, observation="tokens")


def test_a_model_of_other_classes_drives_in_ours(scene: Scene) -> None:
    """The photograph of a street in CarlaSC's twelve classes looks from above like that in our eighteen."""
    ours = replace(CONFIG.grid, shape=(48, 48, 8))
    theirs = replace(ours, classes=CARLASC.classes, colours=CARLASC.colours)
    episodes = []
    for grid in (ours, theirs):
        env = make(scene, WarpWorldModel(grid))
        assert env.unwrapped.simulator.grid.classes == CLASSES
        seen, _ = env.reset(seed=3)
        images = [seen["image"]]
        for _ in range(2):
            seen, _, terminated, _, info = env.step(env.action_space.sample() * 0)
            images.append(seen["image"])
        episodes.append((np.stack(images), terminated, info["speed"]))
    np.testing.assert_array_equal(episodes[0][0], episodes[1][0])
    assert episodes[0][1:] == episodes[1][1:]
    assert episodes[0][0].any((0, 2, 3)).sum() > 3
