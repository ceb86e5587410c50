"""Parameters of planners as text: what is named is set, what is not keeps its default, what makes no sense is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

import occworld_env
from agents.imagining_planner import Budget
from agents.lattice import LatticeParameters
from agents.lattice_candidates import LatticeOptions
from agents.load import PARAMETERS, PLANNERS, load_planner
from agents.parameters import parameter_names, read_parameters
from models.warp import WarpWorldModel
from scenes.grid import MINI
from scenes.scene import Scene

gymnasium.register_envs(occworld_env)
Street = Callable[[float | None], Scene]


@given(candidates=st.integers(4, 999), smoothness=st.floats(0, 1), spread=st.tuples(*[st.floats(0, 9)] * 2))
def test_what_is_named_is_set(candidates: int, smoothness: float, spread: tuple[float, float]) -> None:
    text = f"candidates={candidates}, spread={spread[0]}/{spread[1]},smoothness={smoothness}"
    assert read_parameters(Budget, text) == Budget(candidates=candidates, spread=spread, smoothness=smoothness)


def test_nested_ones_are_set_by_their_own_names() -> None:
    found = read_parameters(LatticeParameters, "steps=6,offsets=0/1.5/-1.5,margin=0.5")
    assert found == LatticeParameters(LatticeOptions(offsets=(0.0, 1.5, -1.5), steps=6), margin=0.5)


@pytest.mark.parametrize("kind", dict.fromkeys(kind for kind, _ in PARAMETERS.values()))
def test_names_are_those_of_the_fields(kind: type) -> None:
    names = parameter_names(kind)
    assert len(set(names)) == len(names) > 0
    assert "options" not in names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("candidate=16", "expected some of candidates, horizon, iterations, spread, smoothness, found candidate"),
        ("candidates", "expected name=value, separated by commas, found 'candidates'"),
        ("candidates=8,", "expected name=value, separated by commas, found ''"),
        ("horizon=4,horizon=5", "horizon: given twice"),
        ("horizon=4.5", "horizon: expected a whole number, found '4.5'"),
        ("smoothness=half", "smoothness: expected a number, found 'half'"),
        ("smoothness=nan", "smoothness: expected a number, found 'nan'"),
        ("spread=0.4", "spread: expected 2 numbers separated by /, found '0.4'"),
        ("candidates=3", "budget: expected candidates >= 4"),
        ("smoothness=1.5", "smoothness from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_parameters(Budget, text)


def test_planners_are_made_with_them(street: Street) -> None:
    settings = {"scenes": [street(None)], "world_model": WarpWorldModel(MINI), "bank_size": 2}
    env: Any = gymnasium.make_vec("OccSora-v0", num_envs=2, **settings)
    assert PARAMETERS.keys() <= PLANNERS.keys()
    assert load_planner("cem:candidates=16,horizon=6,iterations=2", env).budget == Budget(16, 6, 2)  # type: ignore[attr-defined]
    for spec in ("mppi:horizon=2,candidates=4", "idm:headway=3", "pure-pursuit:lateral=1", "lattice:steps=2"):
        observation, info = env.reset(seed=0)
        planner = load_planner(spec, env)
        planner.reset()
        assert env.action_space.contains(planner.act(observation, info)), spec
    with pytest.raises(ValueError, match="planner: idm: braking: expected a positive number, found 0"):
        load_planner("idm:braking=0", env)
    with pytest.raises(ValueError, match=r"planner: cem: expected some of candidates, .*, found cars"):
        load_planner("cem:cars=1", env)
