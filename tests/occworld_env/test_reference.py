"""The reference world: the same episodes as `OccSora-v0` begin in it, and it goes on as SUMO or the recording says."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections import OrderedDict
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import occworld_env
from models.tokenizer import TokenizerConfig
from models.transformer import TransformerConfig
from models.warp import WarpWorldModel
from models.world_model import LearnedWorldModel, WorldModelConfig
from scenes import sumo_town
from scenes.grid import CLASS_ID, MINI
from scenes.render import render
from scenes.scene import Scene
from scenes.scene_file import load_scene
from scenes.sumo_process import SumoEndedError

pytest.importorskip("libsumo")

TOWN = Path(occworld_env.__file__).parent / "data" / "sumo-0043.scene"
START = {"scene": 0, "ego": 0, "start": 5.0}
FOLLOWED = {"ego": "sedan.42", "start": 33.0}  # in TOWN, with a car close behind


def make(scenes: Any = TOWN, **settings: Any) -> Any:
    return gymnasium.make("OccSoraReference-v0", scenes=scenes, bank_size=2, **settings)


def learned() -> LearnedWorldModel:
    """A world model with a tokenizer of tiny untrained layers."""
    torch.manual_seed(0)
    tokenizer = TokenizerConfig(widths=(8, 16, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1), groups=2, num_codes=32)
    config = WorldModelConfig(tokenizer=tokenizer, transformer=TransformerConfig(width=64, depth=1, window=2))
    return LearnedWorldModel(config).eval().requires_grad_(False)


def assert_equal(a: Any, b: Any) -> None:
    """Equal observations, infos or steps, to the last bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, tuple):
        for left, right in zip(a, b, strict=True):
            assert_equal(left, right)
    else:
        assert np.array_equal(a, b)


@pytest.mark.parametrize("dynamics", ["sumo", "replay"])
def test_checkers_have_nothing_to_say(dynamics: str) -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make(dynamics=dynamics)
        check_env(env.unwrapped, skip_render_check=True)
        sb3.check_env(env.unwrapped, warn=True)
        env.close()
        env.close()


def test_the_same_episodes_begin_as_in_the_dream() -> None:
    """In spaces, in drawn starts and in what is seen there; `mini` is what both take by default."""
    dream, true = gymnasium.make("OccSora-v0", scenes=TOWN, bank_size=2), make()
    assert dream.observation_space == true.observation_space
    assert dream.action_space == true.action_space
    for seed in range(3):
        (seen, told), (truly, known) = dream.reset(seed=seed), true.reset(seed=seed)
        assert_equal(seen, truly)
        assert_equal(told, known)
    after = dream.step(np.zeros(2, dtype=np.float32))[-1], true.step(np.zeros(2, dtype=np.float32))[-1]
    assert after[0].keys() == after[1].keys()
    assert np.array_equal(after[0]["pose"], after[1]["pose"])


def test_same_seed_same_episode_and_copies_continue() -> None:
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 2)).astype(np.float32)
    runs = []
    for _ in range(2):
        env = make()
        runs.append([env.reset(seed=3), *(env.step(action) for action in actions)])
    assert_equal(*(tuple(run) for run in runs))
    copies = [pickle.loads(pickle.dumps(env)), deepcopy(env)]
    expected = tuple(env.step(action) for action in actions)
    for copy in copies:
        assert_equal(tuple(copy.step(action) for action in actions), expected)


def test_vector_equals_single() -> None:
    vector = gymnasium.make_vec("OccSoraReference-v0", num_envs=2, scenes=TOWN, bank_size=2, max_episode_steps=3)
    singles = [make().unwrapped for _ in range(2)]
    observed, _ = vector.reset(seed=30)
    for index, env in enumerate(singles):
        assert_equal({name: array[index] for name, array in observed.items()}, env.reset(seed=30 + index)[0])
    for step, action in enumerate(np.random.default_rng(0).uniform(-0.2, 0.2, (5, 2, 2)).astype(np.float32)):
        observed, rewards, terminated, truncated, _ = vector.step(action)
        for index, env in enumerate(singles):
            one, reward, ended, *_ = env.step(action[index])
            if ended or step == 2:
                one, _ = env.reset()
            assert_equal({name: array[index] for name, array in observed.items()}, one)
            assert rewards[index] == pytest.approx(reward)
            assert terminated[index] == ended
            assert truncated[index] == (step == 2 and not ended)
    vector.close()


def test_recorded_others_hit_a_braking_ego_and_live_ones_do_not() -> None:
    """The same start, the same braking: a recording drives on through the ego, SUMO's traffic stops behind it."""
    hits = {}
    for dynamics in ("replay", "sumo"):
        env = make(dynamics=dynamics).unwrapped
        env.reset(seed=0, options=FOLLOWED)
        steps = [env.step(np.array([-1.0, 0.0], dtype=np.float32))[-1] for _ in range(12)]
        hits[dynamics] = {int(info["collision_class"]) for info in steps if info["collision"]}
        env.close()
    assert hits == {"replay": {CLASS_ID["car"]}, "sumo": set()}


def test_replay_shows_the_recording_and_ends_with_it(scene: Scene) -> None:
    env = make([scene], dynamics="replay", observation="occupancy", world_model=WarpWorldModel(MINI)).unwrapped
    env.reset(options={**START, "start": 17.0})
    ended = []
    for step in range(6):
        observed, _, terminated, truncated, info = env.step(np.zeros(2, dtype=np.float32))
        time = torch.tensor([17.0 + 0.5 * (step + 1)])
        there = render(scene, torch.as_tensor(info["pose"])[None], time, MINI, ego=0)[0]
        assert np.array_equal(observed["occupancy"], there.numpy())
        ended.append((terminated, truncated))
    assert ended == [(False, False)] * 5 + [(False, True)]
    with pytest.raises(ValueError, match=r"straight: the recording ends 0\.25 s after the start"):
        env.reset(options={**START, "start": 19.75})


def test_each_scene_has_its_dynamics(scene: Scene) -> None:
    simulator = make([scene, load_scene(TOWN)], world_model=WarpWorldModel(MINI)).unwrapped.simulator
    assert [simulator.dynamics_of(item) for item in simulator.scenes] == ["replay", "sumo"]
    with pytest.raises(ValueError, match="dynamics: expected None or one of"):
        make(dynamics="carla")
    with pytest.raises(ValueError, match="straight: expected a town"):
        make([scene], dynamics="sumo", world_model=WarpWorldModel(MINI)).reset(options=START)
    with pytest.raises(ValueError, match="which do not divide"):
        make(world_model=WarpWorldModel(MINI, dt=0.1)).reset(seed=0)


def test_tokens_are_those_of_a_named_world_model(scene: Scene) -> None:
    with pytest.raises(ValueError, match="need world_model="):
        make([scene], observation="tokens")
    model = learned()
    env = make([scene], observation="tokens", world_model=model).unwrapped
    dream = gymnasium.make("OccSora-v0", scenes=[scene], observation="tokens", world_model=model).unwrapped
    assert env.observation_space == dream.observation_space
    assert_equal(env.reset(seed=0, options=START)[0], dream.reset(seed=0, options=START)[0])
    observed, *_ = env.step(np.zeros(2, dtype=np.float32))
    codes, _ = model.tokenizer.snap(model.tokenizer.encode(env.simulator.state["voxels"]))
    assert np.array_equal(observed["tokens"], codes.flatten().numpy())


def test_without_sumo_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make([load_scene(TOWN)])
    monkeypatch.setattr(sumo_town, "_towns", OrderedDict())  # its live town may be open already
    monkeypatch.setitem(sys.modules, "sumo", None)
    with pytest.raises(ImportError, match=r"occsora-gym\[sumo\].*dynamics='replay'"):
        env.reset(seed=0)
    make(dynamics="replay").reset(seed=0)


def test_a_real_recording_is_replayed(shared_data: Path) -> None:
    env = make(shared_data / "nuscenes_mini" / "sd_nuscenes_v1.0-mini_scene-1077.pkl")
    _, info = env.reset(seed=0)
    last = env.unwrapped.simulator.scenes[0].duration - info["start"]
    over = False
    while not over:
        *_, terminated, truncated, info = env.step(np.zeros(2, dtype=np.float32))
        over = terminated or truncated
        assert info["time"] <= last + 1e-6


def test_registration() -> None:
    spec, dream = gymnasium.spec("OccSoraReference-v0"), gymnasium.spec("OccSora-v0")
    assert spec.max_episode_steps == dream.max_episode_steps
    assert not spec.nondeterministic


def test_a_crash_of_sumo_ends_the_episode_and_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    env: Any = gymnasium.make_vec("OccSoraReference-v0", num_envs=2, scenes=TOWN, bank_size=1)
    env.reset(seed=0)
    still = np.zeros((2, 2), dtype=np.float32)
    env.step(still)

    def crash() -> None:
        raise SumoEndedError("gone")

    monkeypatch.setattr(env.unwrapped.simulator._worlds[1]._drive, "receive", crash)
    _, rewards, terminated, truncated, info = env.step(still)
    assert list(truncated) == [False, True]
    assert not terminated.any()
    assert np.isfinite(rewards).all()
    assert "SUMO crashed in sumo/43" in caplog.text
    *_, truncated, info = env.step(still)
    assert not truncated.any()
    assert list(info["time"]) == [1.5, 0.5]
    env.close()
