"""Planning in imagination: forks foretell what would happen, the episode does not notice, and the searches find the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import occworld_env
from agents.cem import Cem
from agents.history import History
from agents.imagination import Imagination
from agents.imagining_planner import Budget, ImaginingPlanner
from agents.load import load_planner
from agents.mppi import Mppi
from agents.planner import attach
from agents.pure_pursuit import PurePursuit
from models.interface import Chunk, Rollout
from models.warp import WarpWorldModel
from occworld_env.loading import SceneFolder
from occworld_env.simulator import Simulator
from occworld_env.starts import StartKey
from scenes.grid import MINI
from scenes.scene import Scene

gymnasium.register_envs(occworld_env)
Street = Callable[[float | None], Scene]
PLANNERS = (Cem, Mppi)


def batch(num_envs: int, scene: Scene | None = None, **settings: Any) -> Any:
    """Worlds on the rigid baseline, or on the bundled world model where no scene is given."""
    if scene is not None:
        settings |= {"scenes": [scene], "world_model": WarpWorldModel(MINI)}
    return gymnasium.make_vec("OccSora-v0", num_envs=num_envs, bank_size=2, **settings)


def imagination(env: Any, forks: int) -> Imagination:
    """Of the environment's worlds."""
    return Imagination(env.unwrapped.simulator, attach(PurePursuit(), env), forks)


def quadratic(best: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A world whose return is highest, 0, for the plans best (N, H, 2)."""
    return lambda candidates: -np.square(candidates - best[:, None]).sum(axis=(2, 3))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize("kind", PLANNERS)
def test_the_best_plan_of_a_known_world_is_found(kind: type[ImaginingPlanner], seed: int) -> None:
    random = [np.random.default_rng((seed, world)) for world in range(3)]
    best = np.stack([generator.uniform(-0.6, 0.6, (3, 2)) for generator in random])
    budget = Budget(candidates=512, horizon=3, iterations=12, spread=(0.4, 0.4), smoothness=0.3)
    planner = kind(budget, **({"elites": 16} if kind is Cem else {"temperature": 0.02}))
    found = planner.search(quadratic(best), np.zeros_like(best), random)
    assert np.abs(found - best).max() < 0.15


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_cem_is_never_worse_than_its_warm_start_or_pure_pursuit(seed: int) -> None:
    random = [np.random.default_rng(seed)]
    best, plan = random[0].normal(size=(2, 1, 4, 2))
    world = quadratic(best)
    found = Cem(Budget(candidates=4, iterations=2)).search(world, plan, random)
    assert world(found[:, None]) >= max(world(plan[:, None]), world(np.zeros_like(plan)[:, None]))


def test_mppi_weighs_by_the_exponential_of_the_return() -> None:
    planner = Mppi(Budget(candidates=4, horizon=1), temperature=0.5)
    value = np.array([[0.0, -0.5, -100.0, -1.0]])
    drawn: list[np.ndarray] = []
    found = planner.search(
        lambda candidates: drawn.append(candidates) or value, np.zeros((1, 1, 2)), [np.random.default_rng(0)]
    )
    weight = np.array([1.0, np.exp(-1), 0.0, np.exp(-2)])
    assert np.allclose(found[0], np.tensordot(weight / weight.sum(), drawn[0][0], axes=1))


def test_a_fork_foretells_the_return_where_it_is_given_the_true_seeds(street: Street) -> None:
    env = batch(2, street(40.0))
    observation, info = env.reset(seed=3)
    plans = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3, 4, 2))
    expected = imagination(env, 3).returns(plans, info["seed"])
    simulator, pursuit = env.unwrapped.simulator, attach(PurePursuit(), env)
    saved, first = simulator.get_state(), observation
    for plan in range(3):
        simulator.set_state(saved)
        observation, total, alive = first, np.zeros(2), np.ones(2, dtype=bool)
        for step in range(4):
            action = np.clip(pursuit.act(observation, {}) + plans[:, plan, step], -1, 1)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += np.where(alive, reward, 0.0)
            alive &= ~(terminated | truncated)
        assert np.allclose(total, expected[:, plan], atol=1e-9)


def test_the_bundled_model_imagines_and_the_episode_does_not_notice() -> None:
    drives = []
    for planning in (False, True):
        env = batch(1)
        observation, info = env.reset(seed=5)
        pursuit = attach(PurePursuit(), env)
        planner = attach(Cem(Budget(candidates=4, horizon=1), seed=1), env) if planning else None
        seen = [observation]
        for _ in range(2):
            if planner is not None:
                assert planner.act(observation, info).shape == (1, 2)
            observation, _, _, _, info = env.step(pursuit.act(observation, info))
            seen.append(observation)
        drives.append((seen, env.unwrapped.get_state()))
    (plain, left), (planned, right) = drives
    for one, other in zip(plain, planned, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert left["generators"] == right["generators"]
    for part in ("state", "rollout"):
        assert all(left[part][name].equal(right[part][name]) for name in left[part])


def test_imagined_futures_have_seeds_of_their_own(street: Street) -> None:
    env = batch(2, street(None))
    env.reset(seed=0)
    forks = imagination(env, 3)
    forks.refork(np.array([7, 8]))
    assert forks.fork.rollout["seeds"].tolist() == [7, 7, 7, 8, 8, 8]
    assert env.unwrapped.simulator.rollout["seeds"].tolist() == env.unwrapped.simulator.state["seed"].tolist()


def test_a_fork_shares_model_and_scenes() -> None:
    env = batch(1)
    simulator, fork = env.unwrapped.simulator, imagination(env, 2).fork
    assert fork.model is simulator.model
    assert isinstance(simulator.scenes, SceneFolder)
    assert fork.scenes is simulator.scenes


@pytest.mark.parametrize("kind", PLANNERS)
def test_they_brake_for_a_wall_that_pure_pursuit_hits(kind: type[ImaginingPlanner], street: Street) -> None:
    env = gymnasium.make("OccSora-v0", scenes=[street(40.0)], world_model=WarpWorldModel(MINI)).unwrapped
    planner = attach(kind(Budget(candidates=6)), env)
    observation, info = env.reset(seed=0, options={"start": 2.0})
    planner.reset()
    infos = []
    for _ in range(10):
        observation, _, terminated, _, info = env.step(planner.act(observation, info))
        infos.append(info)
        assert not terminated
    assert max(info["speed"] for info in infos) > 5
    assert infos[-1]["speed"] < 4


def test_a_model_is_told_what_a_true_world_has_shown(street: Street) -> None:
    """What the rigid baseline imagines from the sights of a world is what it imagines where the world is its own."""

    class TrueSimulator(Simulator):
        """Stands for a simulator with dynamics of its own."""

    env = batch(2, street(40.0), max_episode_steps=3)
    _, info = env.reset(seed=3)
    simulator = env.unwrapped.simulator
    own = imagination(env, 3)
    simulator.__class__ = TrueSimulator
    told = Imagination(simulator, attach(PurePursuit(), env), 3, WarpWorldModel(MINI))
    plans = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3, 2, 2))
    for step in range(5):  # over an automatic reset
        told.update()
        assert np.allclose(told.returns(plans, info["seed"]), own.returns(plans, info["seed"]), atol=0.05), step
        _, _, _, _, info = env.step(0.2 * np.ones((2, 2), dtype=np.float32))


def test_a_model_is_told_in_the_precision_that_it_imagines_in(street: Street) -> None:
    class Measured(WarpWorldModel):
        """Takes note of what its matrix products would be computed in."""

        precisions: tuple[torch.dtype, ...] = ()

        def start(self, *given: Any) -> Rollout:
            self.precisions += ((torch.ones(1, 1) @ torch.ones(1, 1)).dtype,)
            return super().start(*given)

        def advance(self, *given: Any, **named: Any) -> Chunk:
            self.precisions += ((torch.ones(1, 1) @ torch.ones(1, 1)).dtype,)
            return super().advance(*given, **named)

    for precision, expected in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        env, model = batch(1, street(40.0), precision=precision), Measured(MINI)
        env.reset(seed=3)
        told = Imagination(env.unwrapped.simulator, attach(PurePursuit(), env), 2, model)
        told.update()
        told.returns(np.zeros((1, 2, 1, 2)), np.array([1]))
        assert model.precisions == (expected, expected)


def test_frames_and_motion_of_the_history_are_those_that_were_shown() -> None:
    env = batch(1)
    env.reset(seed=2)
    simulator = env.unwrapped.simulator
    history = History(simulator, simulator.model)
    history.update()
    start = simulator.bank.get(StartKey(*(simulator.state[name].item() for name in ("scene", "ego", "start"))))
    again = simulator.model.start(history.occupancy, history.motion, simulator.rollout["seeds"])
    assert all(again[name].equal(start.rollout[name]) for name in again.tensors if name != "seeds")
    before = history.occupancy.clone()
    env.step(np.array([[0.3, 0.2]]))
    history.update()
    assert history.occupancy[:, :-2].equal(before[:, 2:])
    assert history.occupancy[:, -2:].equal(simulator.state["voxels"])
    assert history.poses[:, -1].equal(simulator.state["pose"])
    assert history.motion[:, -1].equal(simulator.state["moved"])
    env.step(np.array([[0.3, 0.2]]))
    env.step(np.array([[0.3, 0.2]]))
    with pytest.raises(RuntimeError, match="by more than a step"):
        history.update()


def test_a_plan_is_moved_on_and_forgotten_where_an_episode_begins(street: Street) -> None:
    env = batch(2, street(None))
    seen: list[np.ndarray] = []

    class Keep(ImaginingPlanner):
        name = "keep"

        def search(self, evaluate: Any, plan: np.ndarray, random: Any) -> np.ndarray:
            seen.append(plan.copy())
            return np.arange(1.0, 17.0).reshape(2, 4, 2) / 100

    planner = attach(Keep(), env)
    observation, info = env.reset(seed=0)
    planner.reset()
    planner.act(observation, info)
    planner.act(observation, info | {"time": np.array([0.5, 0.0])})
    assert not seen[0].any()
    assert np.allclose(seen[1][0], [(0.03, 0.04), (0.05, 0.06), (0.07, 0.08), (0, 0)])
    assert not seen[1][1].any()


def test_worlds_of_a_batch_are_planned_for_as_alone(street: Street) -> None:
    places = [{"ego": 0, "start": start, "seed": 9} for start in (1.0, 4.0)]
    env = batch(2, street(40.0))
    planner = attach(Cem(Budget(candidates=6)), env)
    together = planner.act(*env.reset(options={"worlds": places}))
    for world, place in enumerate(places):
        single = gymnasium.make("OccSora-v0", scenes=[street(40.0)], world_model=WarpWorldModel(MINI)).unwrapped
        alone = attach(Cem(Budget(candidates=6)), single)
        assert np.allclose(alone.act(*single.reset(options=place)), together[world], atol=1e-6)


def test_what_makes_no_sense_is_refused(street: Street) -> None:
    with pytest.raises(ValueError, match="candidates >= 4"):
        Budget(candidates=3)
    with pytest.raises(ValueError, match="elites: expected 1 to 8"):
        Cem(elites=9)
    with pytest.raises(ValueError, match="temperature"):
        Mppi(temperature=0)
    with pytest.raises(ValueError, match="cem: attach"):
        Cem().act({"vector": np.zeros(29)}, {})
    with pytest.raises(ValueError, match="mppi: expected an environment with action='control'"):
        load_planner("mppi", batch(1, street(None), action="discrete"))
    with pytest.raises(ValueError, match="model: expected the dt of the environment"):
        attach(Cem(model=WarpWorldModel(MINI, dt=0.5)), batch(1, street(None)))
