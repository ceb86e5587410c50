"""Reward terms and comfort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import occworld_env
from occworld_env.config import EnvConfig, RewardWeights, make_config
from occworld_env.reward import NUPLAN, TERMS, discomfort, reward_terms
from occworld_env.vehicle import Path, Vehicle, steering_bound
from scenes.bicycle import Bicycle

ZERO = torch.zeros(1, dtype=torch.float64)


def drive(acceleration: float, yaw_rate: float, speed: float = 5.0, before: float | None = None) -> float:
    """Discomfort of a step of 0.5 s at constant acceleration and yaw rate, `before` being the acceleration it starts with."""
    steps = torch.ones(1, 6, dtype=torch.float64)
    start = Vehicle(
        torch.zeros(1, 3).double(), ZERO + speed, ZERO + (acceleration if before is None else before), ZERO, ZERO + yaw_rate
    )
    path = Path(0.5 / 6, torch.zeros(1, 6, 3).double(), speed * steps, acceleration * steps, 0 * steps, yaw_rate * steps)
    return float(discomfort(start, path))


def test_inside_all_bounds_nothing_is_lost() -> None:
    assert drive(2.39, 0.0) == 0.0
    assert drive(-4.04, 0.0) == 0.0
    assert drive(0.0, 0.94) == 0.0


@pytest.mark.parametrize(
    ("found", "excess"),
    [
        (drive(3.0, 0.0), 3.0 / 2.40 - 1),
        (drive(-6.0, 0.0), 6.0 / 4.05 - 1),
        (drive(0.0, 0.5, speed=10.0), 5.0 / 4.89 - 1),
        (drive(0.0, 1.0, speed=0.0), 1.0 / 0.95 - 1),
        (drive(2.0, 0.0, before=-0.5), 5.0 / NUPLAN.longitudinal_jerk - 1),
    ],
)
def test_each_bound_counts_a_sixth(found: float, excess: float) -> None:
    assert found == pytest.approx(excess / 6)


def test_a_long_step_counts_its_roughest_half_second() -> None:
    """A jolt in the middle of 4 s of driving is as rough as in a step of 0.5 s of its own."""
    ones = torch.ones(1, 40, dtype=torch.float64)
    start = Vehicle(torch.zeros(1, 3).double(), ZERO + 5.0, ZERO, ZERO, ZERO)

    def rough(acceleration: torch.Tensor) -> float:
        return float(discomfort(start, Path(0.1, torch.zeros(1, 40, 3).double(), 5 * ones, acceleration, 0 * ones, 0 * ones)))

    jolt = 0 * ones
    jolt[:, 20:25] = 2.39
    assert rough(0 * ones) == 0.0
    assert rough(jolt) == pytest.approx((2.39 / 0.5 / NUPLAN.longitudinal_jerk - 1) / 6)
    assert rough(jolt.flip(1)) == rough(jolt)


def terms(progress: float = 0.0, speed: float = 0.0, deviation: float = 0.0, **events: bool) -> dict[str, float]:
    flags = {name: torch.tensor([events.get(name, False)]) for name in ("collision", "offroad", "offroute")}
    config = EnvConfig(weights=RewardWeights(progress=2.0))
    found = reward_terms(ZERO + progress, ZERO + speed, ZERO + deviation, ZERO, flags, 0.5, config)
    assert tuple(found) == TERMS
    return {name: float(value) for name, value in found.items()}


def test_terms_and_weights() -> None:
    assert terms(progress=5.0)["progress"] == 2.0
    assert terms(progress=-50.0)["progress"] == -2.0
    assert terms(speed=10.0)["speed"] == 0.0
    assert terms(speed=12.0)["speed"] == pytest.approx(-0.1)
    assert terms(deviation=-4.0)["deviation"] == pytest.approx(-0.15)
    assert terms(collision=True)["collision"] == -20.0
    assert terms(offroad=True, offroute=True)["offroad"] == -10.0
    assert set(terms().values()) == {0.0}


def test_config_says_what_is_wrong() -> None:
    config = make_config(None, {"target_speed": 5.0, "weights": {"collision": 1.0}, "ego_classes": ["bus"]})
    assert (config.target_speed, config.weights.collision, config.weights.offroad) == (5.0, 1.0, 10.0)
    assert config == replace(EnvConfig(), target_speed=5.0, weights=RewardWeights(collision=1.0), ego_classes=("bus",))
    with pytest.raises(TypeError, match="no keyword argument 'target_sped'"):
        make_config(None, {"target_sped": 5.0})
    for field, value in (
        ("action", "steer"),
        ("observation", "lidar"),
        ("target_speed", -1.0),
        ("offroad_share", 1.5),
        ("bank_size", 0),
    ):
        with pytest.raises(ValueError, match=f"{field}: expected"):
            make_config(None, {field: value})
    with pytest.raises(ValueError, match="ego_classes: expected"):
        make_config(None, {"ego_classes": ["tram"]})


def test_weights_and_bicycle_may_be_mappings() -> None:
    """Alike given to EnvConfig, to make_config, and over another config, whose other fields stay."""
    mapped: dict[str, Any] = {"weights": {"comfort": 1.0}, "bicycle": {"max_speed": 25}}
    expected = EnvConfig(weights=RewardWeights(comfort=1.0), bicycle=Bicycle(max_speed=25))
    assert EnvConfig(**mapped) == make_config(None, mapped) == expected
    before = EnvConfig(weights=RewardWeights(progress=3.0), bicycle=Bicycle(wheelbase=3.0))
    after = make_config(before, mapped)
    assert (after.weights, after.bicycle) == (RewardWeights(progress=3.0, comfort=1.0), Bicycle(wheelbase=3.0, max_speed=25))
    assert steering_bound(torch.tensor([0.0]), EnvConfig(**mapped)).item() == 0.5  # used like any other


@pytest.mark.parametrize("make", [lambda **values: EnvConfig(**values), lambda **values: make_config(None, values)])
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"bicycle": 25}, TypeError, "bicycle: expected a Bicycle or a mapping of its fields, found 25"),
        ({"weights": Bicycle()}, TypeError, "weights: expected a RewardWeights or a mapping of its fields, found Bicycle"),
        ({"bicycle": {"speed": 25}}, TypeError, "bicycle: Bicycle has no field 'speed'; known are .*max_speed"),
        ({"weights": {"comfort": "1"}}, TypeError, "weights: expected a number for 'comfort', found '1'"),
        ({"bicycle": {"max_speed": 0}}, ValueError, "bicycle: expected a positive max_speed, found 0"),
        ({"bicycle": Bicycle(wheelbase=-2.0)}, ValueError, "bicycle: expected a positive wheelbase, found -2.0"),
    ],
)
def test_bad_weights_and_bicycles_are_named(
    make: Callable[..., EnvConfig], values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(**values)


def test_what_a_config_is_made_of_is_public() -> None:
    assert (occworld_env.Bicycle, occworld_env.RewardWeights) == (Bicycle, RewardWeights)
    assert "Bicycle" in occworld_env.__all__
