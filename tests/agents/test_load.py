"""Planners are found by name, by file and by import, and what is none is named."""

from __future__ import annotations

import base64
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from torch import nn

import occworld_env
from agents.features import OccSoraFeatures
from agents.load import BUNDLED, PLANNERS, load_planner, make_planner
from agents.planner import Interface, attach, interface_of
from agents.sb3 import Sb3VecEnv
from models.warp import WarpWorldModel
from scenes.grid import MINI
from scenes.scene import Scene

gymnasium.register_envs(occworld_env)
Street = Callable[[float | None], Scene]
SMALL = {
    "features_extractor_class": OccSoraFeatures,
    "features_extractor_kwargs": {"features_dim": 32, "width": 8},
    "net_arch": [16],
    "activation_fn": nn.ELU,
}


@pytest.fixture
def env(street: Street) -> Any:
    """Two worlds."""
    return worlds(street(None))


def worlds(scene: Scene, **settings: Any) -> Any:
    """Two worlds of a scene on the rigid baseline."""
    return gymnasium.make_vec(
        "OccSora-v0", num_envs=2, scenes=[scene], world_model=WarpWorldModel(MINI), bank_size=2, **settings
    )


def saved(algorithm: str, env: Any, folder: Path, **policy: Any) -> tuple[Any, Path]:
    """An untrained agent and its file."""
    sizes = {"ppo": {"n_steps": 4, "batch_size": 4}, "sac": {"buffer_size": 8}}[algorithm]
    kind = {"ppo": PPO, "sac": SAC}[algorithm]
    agent = kind("MultiInputPolicy", Sb3VecEnv(env), policy_kwargs=SMALL | policy, seed=3, device="cpu", **sizes)
    agent.save(folder / "agent.zip")
    return agent, folder / "agent.zip"


@pytest.mark.parametrize("name", PLANNERS)
def test_every_name_drives(name: str, street: Street) -> None:
    planner = make_planner(name, seed=1)
    env = worlds(street(None), **vars(interface_of(planner)))
    attach(planner, env)
    observation, info = env.reset(seed=0)
    planner.reset()
    action = planner.act(observation, info)
    assert env.action_space.contains(action)


def test_the_policy_that_comes_along_drives(street: Street) -> None:
    """It is small, and keeps to a street for ten seconds; plain stable-baselines3 does the same with its file."""
    assert (BUNDLED / "ppo.zip").stat().st_size <= 5 << 20
    env = worlds(street(None))
    planner, agent = load_planner("ppo", env), PPO.load(BUNDLED / "ppo.zip", device="cpu")
    observation, info = env.reset(seed=0)
    begin = info["route_left"]
    for _ in range(20):
        action = planner.act(observation, info)
        assert np.array_equal(action, agent.predict(observation, deterministic=True)[0])
        observation, _, terminated, _, info = env.step(action)
        assert not terminated.any()
    assert (begin - info["route_left"] > 20).all()


def test_unknown_names_are_answered_with_the_known(env: Any) -> None:
    for spec in ("fast", "ppo:", "", ":act"):
        with pytest.raises(ValueError, match=r"one of cv, stop, .*, mppi, ppo, ppo:FILE, sac:FILE, module:object, found"):
            load_planner(spec, env)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
@pytest.mark.parametrize("arch", [[16], {"pi": [8], "qf": [8], "vf": [8]}])
def test_a_policy_drives_as_in_stable_baselines3(algorithm: str, arch: Any, env: Any, tmp_path: Path) -> None:
    agent, path = saved(algorithm, env, tmp_path, net_arch=arch)
    planner = load_planner(f"{algorithm}:{path}", env)
    observation, info = env.reset(seed=0)
    action = planner.act(observation, info)
    assert np.array_equal(action, agent.predict(observation, deterministic=True)[0])
    assert env.action_space.contains(action)
    single = {name: array[0] for name, array in observation.items()}
    assert np.allclose(planner.act(single, {}), action[0], atol=1e-6)


def test_a_policy_of_another_environment_is_refused(street: Street, env: Any, tmp_path: Path) -> None:
    _, path = saved("ppo", env, tmp_path)
    other = worlds(street(None), observation="occupancy")
    with pytest.raises(ValueError, match=r"'image' is absent, learned Box\(0, 255, \(7, 96, 96\), uint8\).*'occupancy' is Box"):
        load_planner(f"ppo:{path}", other)
    other = worlds(street(None), action="discrete")
    with pytest.raises(ValueError, match=r"action is Discrete\(5\), learned Box\(\(2,\)\)"):
        load_planner(f"ppo:{path}", other)
    with pytest.raises(ValueError, match=r"expected a policy of .*\.sac\.policies, found one of .*\.common\.policies"):
        load_planner(f"sac:{path}", env)


def test_a_policy_of_discrete_actions_drives(street: Street, tmp_path: Path) -> None:
    env = worlds(street(None), action="discrete")
    agent, path = saved("ppo", env, tmp_path)
    observation, info = env.reset(seed=0)
    planner = load_planner(f"ppo:{path}", env)
    assert interface_of(planner) == Interface("bev", "discrete")
    action = planner.act(observation, info)
    assert np.array_equal(action, agent.predict(observation, deterministic=True)[0])


def test_nothing_in_a_policy_file_is_unpickled(env: Any, tmp_path: Path) -> None:
    _, path = saved("ppo", env, tmp_path)
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return Path.touch, (trap,)

    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"])
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(pickle.dumps(Trap())).decode()
    parts["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    load_planner(f"ppo:{path}", env)
    assert not trap.exists()


def test_files_that_are_no_policies_are_named(env: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip"):
        load_planner(f"ppo:{tmp_path / 'nowhere.zip'}", env)
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(ValueError, match=r"text\.zip: expected a model saved by stable-baselines3"):
        load_planner(f"ppo:{tmp_path / 'text.zip'}", env)
    _, path = saved("ppo", env, tmp_path, activation_fn=nn.Hardtanh)
    with pytest.raises(ValueError, match=r"expected for activation_fn one of .*ReLU.*, found .*Hardtanh"):
        load_planner(f"ppo:{path}", env)


def test_anybody_may_drive(env: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_drives.py").write_text(
        "import numpy as np\n"
        "def half(observation, info):\n"
        "    return np.full((len(observation['vector']), 2), 0.5, dtype=np.float32)\n"
        "class Knows:\n"
        "    def attach(self, env): self.worlds = env.num_envs\n"
        "    def reset(self): pass\n"
        "    def act(self, observation, info): return np.zeros((self.worlds, 2), dtype=np.float32)\n"
        "class Deaf:\n"
        "    def act(self, observation, info): ...\n"
        "made = Knows()\n"
    )
    monkeypatch.chdir(tmp_path)
    observation, info = env.reset(seed=0)
    assert np.array_equal(load_planner("mine_drives:half", env).act(observation, info), np.full((2, 2), 0.5))
    for name in ("Knows", "made"):
        assert np.array_equal(load_planner(f"mine_drives:{name}", env).act(observation, info), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="mine_drives:Deaf: expected `reset"):
        load_planner("mine_drives:Deaf", env)
    with pytest.raises(ValueError, match="module 'mine_drives' has no 'nobody'"):
        load_planner("mine_drives:nobody", env)
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        load_planner("not_there:Planner", env)
