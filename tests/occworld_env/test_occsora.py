"""OccSora-v0 on a world model of whole clips: steps of 8 frames at 2 Hz, through the same shells as any other."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import models.occsora.codebook
import occworld_env
import occworld_env.constant
import occworld_env.footprint
import scenes.grid
from models.occsora.world_model import OccSoraWorldModel
from models.pretrained import save_pretrained
from occworld_env.footprint import Reach
from occworld_env.step_graph import step_in_place
from occworld_env.torch_env import TorchVectorEnv
from scenes.grid import MINI
from scenes.scene import Scene
from tests.models.occsora.world import make_world_model

START = {"scene": 0, "ego": 0, "start": 5.0}
GRID = replace(MINI, shape=(48, 48, 8), origin=(-19.2, -19.2, -0.8))


@pytest.fixture(scope="module")
def model() -> OccSoraWorldModel:
    return make_world_model(grid=GRID, frames=16)


def make(scene: Scene, model: Any, **settings: Any) -> Any:
    return gymnasium.make("OccSora-v0", scenes=[scene], world_model=model, bank_size=2, **settings)


def make_vec(scene: Scene, model: Any, num_envs: int = 2, **settings: Any) -> Any:
    return gymnasium.make_vec("OccSora-v0", num_envs=num_envs, scenes=[scene], world_model=model, bank_size=2, **settings)


def straight_on(env: Any, metres: float = 4.0) -> np.ndarray:
    """`trajectory` action that drives on by `metres` a frame."""
    simulator = env.unwrapped.simulator
    poses = torch.zeros(simulator.frames, 3)
    poses[:, 0] = metres * torch.arange(1, simulator.frames + 1)
    return occworld_env.trajectory_action(poses, simulator.model.dt, simulator.config).numpy()


@pytest.mark.parametrize(("action", "observation"), [("trajectory", "bev"), ("control", "tokens"), ("discrete", "occupancy")])
def test_checkers_have_nothing_to_say(scene: Scene, model: OccSoraWorldModel, action: str, observation: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make(scene, model, action=action, observation=observation, render_mode="rgb_array")
        check_env(env.unwrapped)
    assert env.unwrapped.metadata["render_fps"] == 0.25


def test_a_step_is_eight_frames_of_half_a_second(scene: Scene, model: OccSoraWorldModel) -> None:
    """The ego goes where the trajectory of 8 poses leads, integrated at 10 Hz, and the frames are those of the step."""
    env = make(scene, model, action="trajectory").unwrapped
    assert env.action_space.shape == (8, 3)
    _, before = env.reset(seed=0, options=START)
    *_, after = env.step(straight_on(env))
    assert after["time"] == 4.0
    assert math.dist(before["pose"][:2], after["pose"][:2]) == pytest.approx(32.0, abs=0.5)
    assert env.simulator.path.shape[1] == 40
    assert env.simulator.state["voxels"].shape == (1, 8, *GRID.shape)
    assert torch.equal(env.simulator.rollout["shown"][:, -8:], env.simulator.state["voxels"])
    assert env.picture.draw(frame=3).shape == env.picture.draw().shape


def test_a_whole_turn_is_no_trajectory(scene: Scene, model: OccSoraWorldModel) -> None:
    """Yaw reaches half a turn at most, and never further to the side than ahead, however long the step."""
    env = make(scene, model, action="trajectory").unwrapped
    limits = occworld_env.actions.trajectory_scale(8, 0.5, env.simulator.config)
    assert float(limits[-1, 2]) == pytest.approx(math.pi)
    assert (limits[:, 1] <= limits[:, 0]).all()


def test_the_same_seed_gives_the_same_episode(scene: Scene, model: OccSoraWorldModel) -> None:
    """Beside a neighbour who does something else, and after a pickle."""
    config = occworld_env.EnvConfig(observation="tokens", bank_size=2)
    a, b = (occworld_env.Simulator(model, [scene], config, num_worlds=2) for _ in range(2))
    a.reset(seed=3)
    b.reset(seed=3)
    mine, other = torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [0.8, 0.3]])
    left, right = a.step(mine), b.step(other)
    assert torch.equal(left.observation["tokens"][0], right.observation["tokens"][0])
    assert not torch.equal(a.state["voxels"][1], b.state["voxels"][1])
    copy = pickle.loads(pickle.dumps(a))
    copy.step(mine)
    a.step(mine)
    assert torch.equal(copy.state["voxels"], a.state["voxels"])


def test_vector_and_single_agree(scene: Scene, model: OccSoraWorldModel) -> None:
    """Rewards and geometry up to what networks round differently at another batch size."""
    vector, single = make_vec(scene, model, observation="occupancy"), make(scene, model, observation="occupancy").unwrapped
    many, _ = vector.reset(seed=30)
    one, _ = single.reset(seed=31)
    assert np.array_equal(many["occupancy"][1], one["occupancy"])
    many, rewards, *_, info = vector.step(np.zeros((2, 2), dtype=np.float32))
    one, reward, *_, details = single.step(np.zeros(2, dtype=np.float32))
    final = info.get("final_obs")
    shown = many["occupancy"][1] if final is None or final[1] is None else final[1]["occupancy"]
    assert (shown == one["occupancy"]).mean() > 0.98
    assert info["rewards"]["progress"][1] == pytest.approx(details["rewards"]["progress"]) or final is not None
    assert abs(rewards[1] - reward) < 40


def test_tensors_equal_the_vector_environment(scene: Scene, model: OccSoraWorldModel) -> None:
    settings = {"observation": "tokens", "max_episode_steps": 2, "bank_size": 2}
    torched = TorchVectorEnv(2, [scene], model, device="cpu", **settings)
    arrays: Any = gymnasium.make_vec("OccSora-v0", num_envs=2, scenes=[scene], world_model=model, **settings)
    observed, _ = torched.reset(seed=5)
    expected, _ = arrays.reset(seed=5)
    assert np.array_equal(observed["tokens"].numpy(), expected["tokens"])
    for _ in range(3):
        observed, reward, terminated, truncated, _ = torched.step(torch.zeros(2, 2))
        expected, *rest, _ = arrays.step(np.zeros((2, 2), dtype=np.float32))
        assert np.array_equal(observed["tokens"].numpy(), expected["tokens"])
        for found, array in zip((reward, terminated, truncated), rest, strict=True):
            assert np.array_equal(found.numpy(), array)


def test_a_folder_is_enough(scene: Scene, model: OccSoraWorldModel, tmp_path: Path) -> None:
    """The checkpoint by its path, and the same frames as the model itself."""
    save_pretrained(model, tmp_path)
    shown = []
    for source in (str(tmp_path), model):
        env = make(scene, source, observation="occupancy").unwrapped
        env.reset(seed=0, options=START)
        shown.append(env.step(np.zeros(2, dtype=np.float32))[0]["occupancy"])
    assert np.array_equal(*shown)


def test_scenes_must_hold_the_history(scene: Scene) -> None:
    """An ego that is there for less than the history cannot begin."""
    with pytest.raises(ValueError, match=r"is there for 20.00 s, and the world model needs 23.50 s of history"):
        make(scene, make_world_model(grid=GRID, frames=56)).reset(seed=0)


def test_a_step_keeps_its_memory(make_simulator: Callable[..., Any], scene: Scene, model: OccSoraWorldModel) -> None:
    """As a captured step must: the same tensors with new contents, equal to a free step."""
    free, fixed = (occworld_env.Simulator(model, [scene], num_worlds=2) for _ in range(2))
    for simulator in (free, fixed):
        simulator.reset(seed=1)
    kept = [*fixed.state.tensors.values(), *fixed.rollout.tensors.values()]
    for _ in range(2):
        free.step(torch.zeros(2, 2))
        step_in_place(fixed, torch.zeros(2, 2, dtype=torch.float64))
    expected = [*free.state.tensors.values(), *free.rollout.tensors.values()]
    assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True))


def nearest_by_product(x: Tensor, codebook: Tensor) -> Tensor:
    """Nearest codes without a look at the data, as the kernel on a GPU finds them."""
    return torch.cdist(x.transpose(0, 1), codebook).argmin(-1).T


class NoTransfer(TorchDispatchMode):
    """Fails where an operation takes or gives tensors of more than one device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        devices = {item.device.type for item in tree_leaves((args, kwargs, found)) if isinstance(item, Tensor) and item.ndim}
        assert len(devices) < 2, f"{func} moves data between host and device"
        return found


def test_a_step_moves_nothing_between_host_and_device(
    scene: Scene, model: OccSoraWorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device "meta", whose tensors hold no data: every look at the data is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    monkeypatch.setattr(models.occsora.codebook, "nearest_code", nearest_by_product)
    simulator = occworld_env.Simulator(make_world_model(grid=GRID, frames=16), [scene], num_worlds=2)
    simulator.reset(seed=0)
    simulator.device = torch.device("meta")
    simulator.model.to("meta")
    simulator.reach = Reach(simulator.grid, simulator.reach.distance, simulator.device)
    for name, value in vars(simulator.map).items():
        if isinstance(value, Tensor):
            setattr(simulator.map, name, value.to("meta"))
    simulator.state, simulator.rollout = simulator.state.to("meta"), simulator.rollout.to("meta")
    action = torch.zeros(2, 2, dtype=torch.float64, device="meta")
    try:
        simulator.advance(action)  # makes the constants that later steps share
        with NoTransfer():
            result = simulator.advance(action)
    finally:
        for cache in (scenes.grid._column_centres, occworld_env.constant.constant, occworld_env.footprint.class_table):
            cache.cache_clear()
    assert result.reward.device.type == "meta"
