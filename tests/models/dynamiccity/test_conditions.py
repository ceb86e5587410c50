"""Conditions: each of them changes the result, none has an effect where it is withheld, and clips yield them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from models.dynamiccity.clip_conditions import command_of, drivable_of_route, layout_of
from models.dynamiccity.conditions import COMMANDS, NAMES, Conditions
from models.dynamiccity.transformer import PlaneTransformer
from scenes.grid import CARLASC, CLASS_ID, DRIVABLE, MINI
from tests.models.dynamiccity.small_world import CONFIG, TRANSFORMER, awake, make_conditions, make_shape

STEP = torch.tensor([3, 900])


@pytest.fixture(scope="module")
def transformer() -> PlaneTransformer:
    torch.manual_seed(0)
    model = awake(PlaneTransformer(CONFIG.vae.channels, CONFIG.layout, TRANSFORMER)).requires_grad_(False)
    assert isinstance(model, PlaneTransformer)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_changes_its_sample_alone(transformer: PlaneTransformer, name: str) -> None:
    noisy, told = torch.randn(2, *make_shape()), make_conditions()
    before = transformer(noisy, STEP, told).noise
    value = getattr(told, name).clone()
    value[1] = ~value[1] if value.dtype == torch.bool else (value[1] + 1) % 4 if name == "command" else value[1] + 1
    after = transformer(noisy, STEP, replace(told, **{name: value})).noise
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_withheld_condition_is_as_one_that_is_not_given(transformer: PlaneTransformer, name: str) -> None:
    noisy, told = torch.randn(2, *make_shape()), make_conditions()
    kept_from = torch.tensor([True, False])
    some = transformer(noisy, STEP, replace(told, told={name: kept_from})).noise
    without = transformer(noisy, STEP, replace(told, **{name: None})).noise
    whole = transformer(noisy, STEP, told).noise
    torch.testing.assert_close(some[1], without[1])
    torch.testing.assert_close(some[0], whole[0])
    assert not torch.allclose(some[1], whole[1])


def test_doubled_conditions_are_given_once_and_withheld_once(transformer: PlaneTransformer) -> None:
    noisy, told = torch.randn(2, *make_shape()), make_conditions()
    told = replace(told, told={"command": torch.tensor([False, True])})
    both = transformer(torch.cat((noisy, noisy)), torch.cat((STEP, STEP)), told.doubled()).noise
    torch.testing.assert_close(both[:2], transformer(noisy, STEP, told).noise)
    torch.testing.assert_close(both[2:], transformer(noisy, STEP).noise)


def test_shares_that_are_withheld() -> None:
    """Half of the share goes without anything, the rest without one or another; the past goes together; same seed, same draw.

    What is told together in use is not rare: the past alone, a trajectory alone, a command alone.
    """
    many = make_conditions(1)
    many = Conditions(**{name: value.expand(20_000, *value.shape[1:]) for name, value in many.given().items()})
    told = many.withhold(0.1, torch.Generator().manual_seed(0)).told
    kept = {"previous": 0.8, "carried": 0.8, "trajectory": 0.8, "command": 0.7, "drivable": 0.5, "vehicles": 0.5}
    for name in NAMES:
        assert float(told[name].float().mean()) == pytest.approx(0.95 * kept[name], abs=0.01)
    for use, least in (({"previous", "carried", "trajectory"}, 0.1), ({"trajectory"}, 0.03), ({"command"}, 0.005)):
        asked = [name for name in NAMES if name != "command" or "command" in use]
        just_these = torch.stack([told[name] == (name in use) for name in asked]).all(0)
        assert float(just_these.float().mean()) > least, use
    assert torch.equal(told["previous"], told["carried"])
    nothing = ~torch.stack(list(told.values())).any(0)
    assert float(nothing.float().mean()) == pytest.approx(0.05, abs=0.01)
    fewer = Conditions(command=many.command).withhold(0.1, torch.Generator().manual_seed(0)).told
    assert torch.equal(fewer["command"], told["command"])


def test_frames_of_conditions_beyond_the_end_repeat() -> None:
    told = make_conditions()
    cut = told.frames(2, 6)
    assert told.drivable is not None
    assert cut.drivable is not None
    assert torch.equal(cut.drivable[:, :2], told.drivable[:, 2:])
    assert torch.equal(cut.drivable[:, 2:], told.drivable[:, 3:].expand(-1, 2, -1, -1))
    assert torch.equal(cut.previous, told.previous)


def test_conditions_that_do_not_fit_are_refused(transformer: PlaneTransformer) -> None:
    noisy = torch.randn(2, *make_shape())
    with pytest.raises(ValueError, match=r"conditions\.trajectory"):
        transformer(noisy, STEP, Conditions(trajectory=torch.zeros(2, 3, 3)))
    deaf = PlaneTransformer(CONFIG.vae.channels, CONFIG.layout, replace(TRANSFORMER, conditions=("command",)))
    with pytest.raises(ValueError, match=r"\['command'\].*\['vehicles'\]"):
        deaf(noisy, STEP, Conditions(vehicles=make_conditions().vehicles))


def test_commands_are_what_the_ego_does() -> None:
    motion = torch.zeros(5, 16, 3)
    motion[1:, :, 0] = 2.0
    motion[2, :, 2], motion[3, :, 2], motion[4, :, 2] = 0.05, -0.05, 0.01
    names = [COMMANDS[number] for number in command_of(motion, dt=0.25).tolist()]
    assert names == ["static", "forward", "left", "right", "forward"]


def test_layouts_of_two_sets_of_classes() -> None:
    """A road and a car above another column, in the classes of Occ3D and of CarlaSC."""
    for grid, road, car in (
        (MINI, DRIVABLE, CLASS_ID["truck"]),
        (CARLASC, CARLASC.classes.index("road"), CARLASC.classes.index("vehicle")),
    ):
        occupancy = torch.full((1, *grid.shape), grid.free, dtype=torch.uint8)
        occupancy[0, 3, 4, 0], occupancy[0, 5, 6, 2] = road, car
        drivable, vehicles = layout_of(occupancy, grid)
        assert drivable.nonzero().tolist() == [[0, 3, 4]]
        assert vehicles.nonzero().tolist() == [[0, 5, 6]]


def test_the_route_lies_still_in_the_world() -> None:
    """A cell ahead of the last frame was further ahead before, by what the ego drove; unknown maps are not told."""
    grid = MINI
    route = torch.zeros(2, 2, *grid.shape[:2], dtype=torch.uint8)
    route[0, 1, 60, 48] = 1
    motion = torch.tensor([0.8, 0.0, 0.0]).repeat(2, 5, 1)
    drivable, known = drivable_of_route(route, motion, grid)
    assert known.tolist() == [True, False]
    assert drivable[0].nonzero().tolist() == [[frame, 60 + 4 - frame, 48] for frame in range(5)]
    motion[:, -1] = torch.tensor([0.0, 0.0, math.pi / 2])
    turned, _ = drivable_of_route(route, motion, grid)
    assert turned[0, 3].nonzero().tolist() == [[95 - 48, 60]]
