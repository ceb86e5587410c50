"""The Gymnasium shells: both checkers without a warning, pickling, bad actions, the vector environment's rules, pictures."""

from __future__ import annotations

import math
import pickle
import warnings
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import occworld_env
from models.tokenizer import TokenizerConfig
from models.transformer import TransformerConfig
from models.warp import WarpWorldModel
from models.world_model import LearnedWorldModel, WorldModelConfig
from scenes.grid import MINI
from scenes.scene import Scene

START = {"scene": 0, "ego": 0, "start": 5.0}


def make(scene: Scene, **settings: Any) -> Any:
    settings.setdefault("world_model", WarpWorldModel(MINI))
    return gymnasium.make("OccSora-v0", scenes=[scene], bank_size=4, **settings)


def make_vec(scene: Scene, num_envs: int = 3, **settings: Any) -> Any:
    model = WarpWorldModel(MINI)
    return gymnasium.make_vec("OccSora-v0", num_envs=num_envs, scenes=[scene], world_model=model, bank_size=4, **settings)


def learned() -> LearnedWorldModel:
    """A learned world model with tiny untrained layers."""
    torch.manual_seed(0)
    tokenizer = TokenizerConfig(widths=(8, 16, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1), groups=2, num_codes=32)
    config = WorldModelConfig(tokenizer=tokenizer, transformer=TransformerConfig(width=64, depth=1, window=2))
    model = LearnedWorldModel(config).eval().requires_grad_(False)
    for weights in model.transformer.parameters():
        weights.normal_(std=0.2)  # layers that begin at zero would leave the noise, and so the seeds, without effect
    return model


@pytest.mark.parametrize("observation", ["bev", "occupancy"])
@pytest.mark.parametrize("action", ["control", "trajectory", "discrete"])
def test_checkers_have_nothing_to_say(scene: Scene, action: str, observation: str) -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make(scene, action=action, observation=observation)
        check_env(env.unwrapped, skip_render_check=True)
        sb3.check_env(env.unwrapped, warn=True)


def test_checkers_have_nothing_to_say_about_tokens(scene: Scene) -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    model = learned()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make(scene, observation="tokens", world_model=model)
        check_env(env.unwrapped, skip_render_check=True)
        sb3.check_env(env.unwrapped, warn=True)
    assert env.observation_space["tokens"].shape == (math.prod(model.token_shape or ()),)
    observed, _ = env.reset(seed=0)
    assert observed["tokens"].dtype == np.int16


def test_a_learned_world_model_is_seeded_world_by_world(scene: Scene) -> None:
    """Same seed, same codes; other seed, other codes; and neighbours do not matter."""
    simulator = occworld_env.Simulator(learned(), [scene], occworld_env.EnvConfig(observation="tokens"), num_worlds=2)

    def codes(first: int, second: int) -> torch.Tensor:
        simulator.reset(options={"worlds": [{**START, "seed": first}, {**START, "seed": second}]})
        return torch.stack([simulator.step(torch.zeros(2, 2)).observation["tokens"] for _ in range(2)], dim=1)

    one, two = codes(5, 6), codes(5, 7)
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1], two[1])
    assert not torch.equal(one[0], one[1])


def test_codes_of_one_world_agree_with_those_in_a_batch(scene: Scene) -> None:
    """Networks round differently at other batch sizes, so a code may now and then fall to the other side."""
    model, config = learned(), occworld_env.EnvConfig(observation="tokens")
    batch = occworld_env.Simulator(model, [scene], config, num_worlds=3)
    single = occworld_env.Simulator(model, [scene], config)
    first = batch.reset(seed=[1, np.int64(2), 3], options=START)["tokens"][1]
    assert torch.equal(single.reset(seed=np.int64(2), options=START)["tokens"][0], first)
    for _ in range(3):
        many = batch.step(torch.zeros(3, 2)).observation["tokens"][1]
        one = single.step(torch.zeros(1, 2)).observation["tokens"][0]
        assert float((many == one).float().mean()) > 0.98


def test_the_default_needs_nothing() -> None:
    env = gymnasium.make("OccSora-v0")
    observed, info = env.reset(seed=0)
    assert observed in env.observation_space
    assert np.isfinite(env.step(env.action_space.sample())[1])
    copy = pickle.loads(pickle.dumps(env))
    assert copy.unwrapped.world_model is env.unwrapped.world_model  # by name, so loaded once a process
    assert len(pickle.dumps(env)) < 2**24
    assert info["route_left"] >= env.unwrapped.simulator.config.min_route


def test_every_render_mode_passes(scene: Scene) -> None:
    env = make(scene, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    with pytest.raises(ValueError, match="render_mode: expected"):
        make(scene).unwrapped.__class__([scene], WarpWorldModel(MINI), render_mode="ansi")


def test_registration_is_idempotent() -> None:
    spec = gymnasium.spec("OccSora-v0")
    assert spec.max_episode_steps == occworld_env.MAX_EPISODE_STEPS == 80
    assert isinstance(spec.entry_point, str)
    assert not spec.nondeterministic


def test_time_limit_and_keywords(scene: Scene) -> None:
    env = make(scene, max_episode_steps=3, target_speed=5.0, weights={"progress": 0.0})
    env.reset(seed=0)
    ended = [env.step(np.array([-1.0, 0.0], dtype=np.float32))[2:4] for _ in range(3)]
    assert ended == [(False, False), (False, False), (False, True)]
    assert env.unwrapped.simulator.config.target_speed == 5.0
    with pytest.raises(TypeError, match="no keyword argument 'speed'"):
        make(scene, speed=5.0)


def test_reset_options_and_info(scene: Scene) -> None:
    env = make(scene)
    _, info = env.reset(seed=1, options=START)
    assert (info["scene"], info["ego"], info["start"]) == ("straight", "track0", 5.0)
    *_, later = env.step(np.zeros(2, dtype=np.float32))
    assert later.keys() == info.keys()
    assert {name: type(value) for name, value in later.items()} == {name: type(value) for name, value in info.items()}
    assert not [name for name in later if isinstance(later[name], dict) and name != "rewards"]


@pytest.mark.parametrize(
    "action", [np.array([math.nan, 0.0]), np.zeros(3), np.zeros((1, 2)), "left", None, [object(), 1], np.array([0.0, math.inf])]
)
def test_bad_actions_are_named(scene: Scene, action: Any) -> None:
    env = make(scene).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action: expected"):
        env.step(action)
    vector = make_vec(scene)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action: expected"):
        vector.step(action)


def test_pickle_and_deepcopy_mid_episode_continue(scene: Scene) -> None:
    env = make(scene)
    env.reset(seed=4)
    env.action_space.seed(0)
    for _ in range(2):
        env.step(env.action_space.sample() * 0.3)
    rest = [env.action_space.sample() * 0.3 for _ in range(3)]
    copies = [pickle.loads(pickle.dumps(env)), deepcopy(env)]
    expected = [env.step(action) for action in rest] + [env.reset()]
    for copy in copies:
        found = [copy.step(action) for action in rest] + [copy.reset()]
        for left, right in zip(expected, found, strict=True):
            assert all(np.array_equal(left[0][name], right[0][name]) for name in left[0])
            assert left[-1]["rewards"] == right[-1]["rewards"]
            assert left[-1]["seed"] == right[-1]["seed"]


def test_saved_state_of_the_shell(scene: Scene) -> None:
    env = make(scene).unwrapped
    env.reset(seed=4)
    saved = env.get_state()
    action = np.array([0.5, 0.1])
    expected = [env.step(action)[1], env.reset()[1]["seed"]]
    env.set_state(saved)
    assert [env.step(action)[1], env.reset()[1]["seed"]] == expected


def test_a_state_restored_by_reset_restores_the_wrappers_too(scene: Scene) -> None:
    """What a TimeLimit has counted is of the branch that was left, so it must not end the next one."""
    env = make(scene, max_episode_steps=6)
    env.reset(seed=4)
    env.step(np.array([0.2, 0.0], dtype=np.float32))
    saved, action = env.unwrapped.get_state(), np.array([0.5, 0.1], dtype=np.float32)
    first = env.step(action)
    for _ in range(8):
        observed, info = env.reset(options={"state": saved})
        assert info["time"] == 0.5
        assert observed in env.observation_space
        again = env.step(action)
        assert again[1:4] == first[1:4]
        assert again[4]["time"] == 1.0
        assert all(np.array_equal(again[0][name], first[0][name]) for name in first[0])
    ended = [env.step(np.array([-1.0, 0.0], dtype=np.float32))[3] for _ in range(5)]
    assert ended == [False] * 4 + [True]


def test_a_state_is_restored_by_reset_in_batches_too(scene: Scene) -> None:
    vector = make_vec(scene, max_episode_steps=3)
    vector.reset(seed=4)
    actions = np.zeros((3, 2), dtype=np.float32)
    vector.step(actions)
    saved = vector.get_state()
    expected = [vector.step(actions)[:4] for _ in range(3)]  # with a reset within
    vector.reset(seed=9)
    vector.reset(options={"state": saved})
    for before in expected:
        after = vector.step(actions)
        assert all(np.array_equal(left, right) for left, right in zip(before[1:], after[1:4], strict=True))
        assert np.array_equal(before[0]["vector"], after[0]["vector"])


def test_bad_states_are_named(scene: Scene) -> None:
    env = make(scene)
    blank = env.unwrapped.get_state()
    with pytest.raises(ValueError, match=r"options\['state'\]: expected a state of an episode"):
        env.reset(options={"state": blank})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"options\['state'\]: expected it alone .* found \['scene'\]"):
        env.reset(options={"state": env.unwrapped.get_state(), "scene": 0})


def test_vector_equals_single(scene: Scene) -> None:
    vector, singles = make_vec(scene), [make(scene).unwrapped for _ in range(3)]
    observed, _ = vector.reset(seed=30)
    for index, env in enumerate(singles):
        one, _ = env.reset(seed=30 + index)
        assert all(np.array_equal(observed[name][index], one[name]) for name in one)
    actions = np.random.default_rng(0).uniform(-0.2, 0.2, (4, 3, 2)).astype(np.float32)
    for action in actions:
        observed, rewards, terminated, truncated, info = vector.step(action)
        for index, env in enumerate(singles):
            one, reward, ended, late, details = env.step(action[index])
            assert np.array_equal(observed["image"][index], one["image"])
            assert rewards[index] == pytest.approx(reward)
            assert (terminated[index], truncated[index]) == (ended, late)
            assert info["speed"][index] == pytest.approx(details["speed"])
            assert info["rewards"]["progress"][index] == pytest.approx(details["rewards"]["progress"])


def test_autoreset_in_the_same_step(other_scene: Scene) -> None:
    vector = make_vec(other_scene, max_episode_steps=4)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    vector.reset(seed=0, options={"worlds": [{**START, "start": 6.0}, {**START, "start": 2.0}, {**START, "start": 1.0}]})
    actions = np.zeros((3, 2), dtype=np.float32)
    first_seed = None
    for step in range(4):
        observed, _, terminated, truncated, info = vector.step(actions)
        assert observed in vector.observation_space
        if step == 2:  # the first world has hit the wall
            assert terminated.tolist() == [True, False, False]
            assert info["_final_obs"].tolist() == [True, False, False]
            assert info["final_obs"][0] in vector.single_observation_space
            assert info["final_obs"][1] is None
            assert info["final_info"]["collision"][0]
            assert info["final_info"]["rewards"]["collision"][0] == -20.0
            assert (info["collision"][0], info["time"][0]) == (False, 0.0)
            assert not np.array_equal(info["final_obs"][0]["image"], observed["image"][0])
            first_seed = info["seed"][0]
        elif step < 2:
            assert "final_obs" not in info
    assert truncated.tolist() == [False, True, True]
    assert info["final_info"]["_time"].tolist() == [False, True, True]
    assert info["final_info"]["time"].tolist() == [0.0, 2.0, 2.0]
    assert info["seed"][0] == first_seed


def test_gymnasium_wrappers_for_vectors_work(scene: Scene) -> None:
    vector = DictInfoToList(RecordEpisodeStatistics(make_vec(scene, max_episode_steps=2)))
    _, infos = vector.reset(seed=0)
    assert len(infos) == 3
    for _ in range(2):
        *_, infos = vector.step(np.zeros((3, 2), dtype=np.float32))
    assert infos[0]["final_info"]["time"] == 1.0
    assert infos[1]["rewards"]["progress"] == 0.0


def test_vector_and_neighbours_and_copies(scene: Scene) -> None:
    a, b = make_vec(scene), make_vec(scene)
    a.reset(seed=3)
    b.reset(seed=3)
    mine = np.random.default_rng(0).uniform(-0.3, 0.3, (3, 3, 2))
    other = mine.copy()
    other[:, 0] = 0.9
    c = None
    for step in range(3):
        left, right = a.step(mine[step]), b.step(other[step])
        assert np.array_equal(left[0]["image"][2], right[0]["image"][2])
        assert left[1][2] == right[1][2]
        if c is not None:
            copied = c.step(mine[step])
            assert np.array_equal(copied[0]["vector"], left[0]["vector"])
        c = pickle.loads(pickle.dumps(a))


def test_pictures(scene: Scene) -> None:
    env = make(scene, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    env.step(np.zeros(2, dtype=np.float32))
    second = env.render()
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape == second.shape
    assert (first != second).mean() > 0.01
    between = env.unwrapped.picture.draw(frame=0)
    assert (between != second).mean() > 0.01
    human = make(scene, render_mode="human")
    human.reset(seed=0)
    human.step(np.zeros(2, dtype=np.float32))
    assert human.render() is None
    human.close()
    human.close()
    vector = make_vec(scene, num_envs=2, render_mode="rgb_array")
    vector.reset(seed=0)
    vector.step(np.zeros((2, 2), dtype=np.float32))
    assert [picture.shape for picture in vector.render()] == [first.shape] * 2
