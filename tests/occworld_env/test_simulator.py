"""The simulator: determinism, independence of worlds, starts, saved states, and what a drive down a known street gives."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.warp import WarpWorldModel
from occworld_env import VECTOR_FIELDS, EnvConfig
from occworld_env.observation import BEV_CHANNELS
from occworld_env.simulator import Simulator
from occworld_env.starts import StartKey
from occworld_env.step_result import StepResult
from scenes.bicycle import Bicycle
from scenes.grid import CLASS_ID, MINI, Grid
from scenes.scene import Scene

Make = Callable[..., Simulator]
START = {"scene": 0, "ego": 0, "start": 5.0}


def drive(simulator: Simulator, actions: Tensor) -> list[StepResult]:
    """Step through actions (T, N, ...)."""
    return [simulator.step(action) for action in actions]


def same(a: StepResult, b: StepResult, world: int | slice = slice(None)) -> bool:
    pairs = [(a.reward, b.reward), *((a.observation[name], b.observation[name]) for name in a.observation)]
    pairs += [(a.info[name], b.info[name]) for name in a.info]
    return all(torch.equal(left[world], right[world]) for left, right in pairs)


def actions(steps: int, worlds: int, seed: int = 0) -> Tensor:
    return torch.rand(steps, worlds, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, 0.2]) - 0.1


def test_same_seed_same_rollout(make_simulator: Make) -> None:
    a, b = make_simulator(num_worlds=3), make_simulator(num_worlds=3)
    b.reset(seed=1)  # what came before does not matter, nor how full the bank is
    b.step(actions(1, 3)[0])
    first, second = a.reset(seed=7), b.reset(seed=7)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for left, right in zip(drive(a, actions(4, 3)), drive(b, actions(4, 3)), strict=True):
        assert same(left, right)
    c = make_simulator(num_worlds=3)
    c.reset(seed=8)
    assert not torch.equal(c.state["seed"], a.state["seed"])


def test_a_world_does_not_depend_on_its_neighbours(make_simulator: Make) -> None:
    a, b = make_simulator(num_worlds=3), make_simulator(num_worlds=3)
    a.reset(seed=7)
    b.reset(seed=7)
    mine, other = actions(5, 3), actions(5, 3, seed=1)
    other[:, 1] = mine[:, 1]
    for step, (left, right) in enumerate(zip(mine, other, strict=True)):
        if step == 3:  # nor on the resets of others
            b.reset(torch.tensor([True, False, True]))
        ours, theirs = a.step(left), b.step(right)
        assert same(ours, theirs, 1)
        assert not same(ours, theirs, 0)


def test_saved_state_and_pickle_continue_identically(make_simulator: Make) -> None:
    simulator = make_simulator(num_worlds=2)
    simulator.reset(seed=3)
    drive(simulator, actions(2, 2))
    saved, copies = simulator.get_state(), [pickle.loads(pickle.dumps(simulator)), deepcopy(simulator)]
    mask = torch.tensor([False, True])

    def go_on(one: Simulator) -> list[StepResult]:
        results = drive(one, actions(2, 2, seed=5))
        one.reset(mask)  # draws from the saved generators too
        return results + drive(one, actions(2, 2, seed=6))

    expected = go_on(simulator)
    for copy in copies:
        assert all(same(a, b) for a, b in zip(expected, go_on(copy), strict=True))
    simulator.set_state(saved)
    assert all(same(a, b) for a, b in zip(expected, go_on(simulator), strict=True))
    with pytest.raises(ValueError, match="expected 3 worlds, found 2"):
        make_simulator(num_worlds=3).set_state(saved)


def test_results_are_not_changed_by_what_follows(make_simulator: Make) -> None:
    simulator = make_simulator(num_worlds=2)
    simulator.reset(seed=3)
    result = simulator.step(actions(1, 2)[0])
    kept = deepcopy(result)
    simulator.reset(torch.tensor([True, False]))
    simulator.step(actions(1, 2)[0])
    assert same(result, kept)


def test_a_known_drive(make_simulator: Make) -> None:
    """From 8 m/s straight on at full throttle: what speed, place and reward must be."""
    simulator = make_simulator(action="control", target_speed=10.0)
    observed = simulator.reset(options=START)
    assert simulator.state["speed"].item() == pytest.approx(8.0)
    assert simulator.state["pose"][0].tolist() == pytest.approx([40.0 - 1.4, 0.0, 0.0])
    vector = dict(zip(VECTOR_FIELDS, observed["vector"][0].tolist(), strict=True))
    assert vector["speed"] == pytest.approx(0.4)
    assert vector["route_x_20"] == pytest.approx(20 / 38.4, abs=1e-5)
    assert vector["light_red"] == 0.0  # the light is 51.4 m away
    result = simulator.step(torch.tensor([[1.0, 0.0]]))
    info = {name: value[0].item() for name, value in result.info.items() if value.ndim == 1}
    gained = 8 * 0.5 + 0.5 * 3 * 0.25
    assert info["progress"] == pytest.approx(gained)
    assert info["speed"] == pytest.approx(9.5)
    assert not info["comfortable"]  # 3 m/s^2 is more than nuPlan allows
    assert info["collision_class"] == -1
    assert float(result.rewards["progress"]) == pytest.approx(gained / 5)
    assert float(result.reward) == pytest.approx(sum(float(term) for term in result.rewards.values()))
    vector = dict(zip(VECTOR_FIELDS, result.observation["vector"][0].tolist(), strict=True))
    assert (vector["light_red"], vector["light_green"]) == (1.0, 0.0)
    assert vector["light_distance"] == pytest.approx((51.4 - gained) / 50, abs=1e-5)


def test_the_picture_from_above(make_simulator: Make, scene: Scene) -> None:
    image = make_simulator().reset(options=START)["image"][0]
    channel = dict(zip(BEV_CHANNELS, image, strict=True))

    def at(name: str, x: float, y: float) -> int:
        return int(channel[name][int((x + 38.4) / 0.8), int((y + 38.4) / 0.8)])

    assert set(image.unique().tolist()) == {0, 255}
    assert (at("drivable", 10, 0), at("drivable", 10, 8)) == (255, 0)
    assert (at("other_flat", 10, 0), at("other_flat", 10, 8)) == (0, 255)
    assert (at("static_obstacle", 10, 16), at("static_obstacle", 10, 0)) == (255, 0)
    assert (at("route", 10, 0), at("route", 10, 4)) == (255, 0)
    leader = 15 + 8 * 5 - 38.6  # the car ahead in the other lane, seen from the rear axle
    assert at("vehicle", leader, 3.6) == 255
    moved = (
        channel["agents_before"].nonzero()[:, 0].float().mean()
        - (channel["vehicle"] + channel["vulnerable"]).nonzero()[:, 0].float().mean()
    )
    assert moved < -0.5  # a quarter second ago what moves was further back in the world
    pedestrian = 30 + 1.0 * 5 - 38.6
    assert at("vulnerable", pedestrian, -7.0) == 255
    assert at("vehicle", pedestrian, -7.0) == 0


def test_hitting_a_wall_ends_the_episode(make_simulator: Make, other_scene: Scene) -> None:
    simulator = make_simulator([other_scene])
    simulator.reset(options={**START, "start": 4.0})
    results = drive(simulator, torch.tensor([0.0, 0.0]).expand(12, 1, 2))
    ended = [bool(result.terminated) for result in results].index(True)
    # the wall begins at 60 m and the front is 3.65 m ahead of the axle, which starts at 30.6 m and goes 4 m a step
    assert ended == int((60 - 3.65 - 30.6) / 4)
    assert int(results[ended].info["collision_class"]) == CLASS_ID["barrier"]
    assert float(results[ended].rewards["collision"]) == -20.0
    assert not bool(results[ended].truncated)
    assert simulator.state["steps"].item() == 12


def test_leaving_road_and_route(make_simulator: Make) -> None:
    simulator = make_simulator()
    simulator.reset(options=START)
    results = drive(simulator, torch.tensor([0.0, 0.35]).expand(8, 1, 2))
    ended = next(result for result in results if bool(result.terminated))
    assert bool(ended.info["offroad"]) or bool(ended.info["offroute"]) or bool(ended.info["collision"])
    off = next(result for result in results if bool(result.info["offroad"]))
    assert float(off.info["deviation"]) == pytest.approx(6.0, abs=1.5)  # half of the car beyond the edge at 6 m
    assert bool(next(result for result in results if float(result.info["deviation"]) > 8.0).info["offroute"])


def test_truncation(make_simulator: Make) -> None:
    simulator = make_simulator(max_steps=2)
    simulator.reset(options=START)
    still = torch.tensor([[-1.0, 0.0]])
    assert [bool(simulator.step(still).truncated) for _ in range(3)] == [False, True, True]
    simulator = make_simulator(min_route=10.0)
    simulator.reset(options={**START, "start": 19.0})
    simulator.state["arc"] += 308.0 - float(simulator.state["arc"]) - 10.0
    simulator.state["pose"][0, 0] = 288.0
    results = drive(simulator, torch.zeros(8, 1, 2))
    done = [bool(result.info["route_completed"]) for result in results]
    assert done.index(True) >= 2
    assert bool(results[done.index(True)].truncated)


def long_steps(scene: Scene, frames: int = 8, num_worlds: int = 1) -> Simulator:
    """A world whose steps are that many frames of half a second."""
    return Simulator(WarpWorldModel(MINI, 0.5, frames), [scene], EnvConfig(bank_size=4), num_worlds=num_worlds)


@pytest.mark.parametrize("frames", [6, 8, 12])
def test_a_long_step_on_the_route_stays_on_it(scene: Scene, frames: int) -> None:
    """Up to 6 s of full throttle from 8 m/s: 4 s to reach 20 m/s, in one world as in two that drive differently."""
    single, batch = long_steps(scene, frames), long_steps(scene, frames, num_worlds=2)
    for simulator in (single, batch):
        simulator.reset(seed=0, options={**START, "start": 6.0})
        simulator.state["pose"][:, 1] = 0.2
    result, both = single.step(torch.tensor([[1.0, 0.0]])), batch.step(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    seconds = frames / 2
    fast = min(seconds, 4.0)
    gained = 8 * fast + 1.5 * fast**2 + 20 * (seconds - fast)
    assert float(result.info["progress"]) == pytest.approx(gained)
    assert float(result.info["deviation"]) == pytest.approx(0.2)
    assert not bool(result.terminated)
    assert not bool(result.truncated)
    assert float(result.rewards["offroute"]) == 0.0
    assert both.info["progress"].tolist() == pytest.approx([gained, 8 * seconds])
    assert float(single.place().arc) == pytest.approx(float(result.info["pose"][0, 0]) + 10)  # the route begins at x = -10


def test_a_long_step_beyond_the_end_completes_the_route(scene: Scene) -> None:
    simulator = long_steps(scene)
    simulator.reset(options=START)
    simulator.state["arc"] += 308.0 - float(simulator.state["arc"])  # the route ends at arc 328, 20 m ahead
    simulator.state["pose"][0, :2] = torch.tensor([298.0, 0.2])
    result = simulator.step(torch.zeros(1, 2))  # 32 m on
    assert bool(result.info["route_completed"])
    assert (bool(result.terminated), bool(result.truncated)) == (False, True)
    assert float(result.info["progress"]) == pytest.approx(20.0, abs=2.0)
    assert abs(float(result.info["deviation"])) <= 8.0


def test_who_leaves_the_route_before_its_end_has_not_driven_it(scene: Scene) -> None:
    """The route goes on ahead, the ego turns away from it for good: it is told apart however the long step ends."""
    simulator = long_steps(scene)
    simulator.reset(options=START)
    result = simulator.step(torch.tensor([[0.0, 0.5]]))
    assert bool(result.info["offroute"])
    assert bool(result.terminated)
    assert not bool(result.info["route_completed"])


def test_drawn_starts_drive(make_simulator: Make, make_scene: Callable[..., Scene]) -> None:
    """An ego that stands is passed over, unless it is asked for or named."""
    standing = make_scene(speed=0.0)
    with pytest.raises(ValueError, match="expected min_speed"):
        make_simulator([standing]).reset()
    make_simulator([standing], min_speed=0.0).reset()
    make_simulator([standing]).reset(options={"scene": 0, "ego": 0, "start": 2.0})


def test_an_ego_faster_than_the_car_is_not_slowed_down(make_simulator: Make, make_scene: Callable[..., Scene]) -> None:
    """It is passed over, and named it says how to drive on at its speed."""
    fast, little = make_scene("fast", speed=25.0), make_scene("little", speed=20.4)
    start = {"ego": 0, "start": 2.0}
    with pytest.raises(ValueError, match=r"25.0 m/s, max_speed is 20; bicycle=Bicycle\(max_speed=25\) allows it"):
        make_simulator([fast]).reset(options=start)
    with pytest.raises(ValueError, match=r"no usable start found .*; bicycle=Bicycle\(max_speed=25\) allows it"):
        make_simulator([fast]).reset(seed=0)
    simulator = make_simulator([fast], bicycle=Bicycle(max_speed=25))
    simulator.reset(options=start)
    assert float(simulator.vehicle.speed) == pytest.approx(25.0)
    simulator = make_simulator([little])
    simulator.reset(options=start)
    assert float(simulator.vehicle.speed) == 20.0
    simulator = make_simulator([fast, make_scene()])
    for seed in range(4):
        simulator.reset(seed=seed)
        assert simulator.names == [("straight", "track0")]


def test_starts(make_simulator: Make, scene: Scene, other_scene: Scene) -> None:
    simulator = make_simulator([scene, other_scene], bank_size=3)
    bank = simulator.bank
    drawn = {bank.draw(np.random.default_rng(seed)).key for seed in range(20)}
    assert 1 < len(drawn) <= 3  # bounded, and the same moments for another bank, in whatever order
    again = make_simulator([scene, other_scene], bank_size=3).bank
    assert {again.draw(np.random.default_rng(seed)).key for seed in reversed(range(20))} == drawn
    assert len(bank._kept) <= 3
    chosen = bank.choose({"scene": "walled", "ego": "track0", "start": 1.5}, np.random.default_rng(0))
    assert chosen.key == StartKey(1, 0, 1.5)
    assert len(bank._kept) <= 3
    some = bank.choose({"scene": "walled"}, np.random.default_rng(0))
    assert some.key.scene == 1
    assert all(key.start * 2 == int(key.start * 2 + 0.5) or key.start >= simulator.model.dt for key in drawn)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scene": "nowhere"}, "options\\['scene'\\]: expected one of straight, walled, found 'nowhere'"),
        ({"scene": 2}, "number below 2, found 2"),
        ({"scene": 0, "ego": 1}, "has no route"),
        ({"ego": 0}, "need 'scene'"),
        ({"scene": 0, "ego": 0, "start": 99.0}, "expected a start from 0.25 s to 20.00 s, found 99.00 s"),
        ({"scene": 1, "ego": 0, "start": 7.3}, "the ego overlaps a barrier"),
        ({"town": 1}, "found \\['town'\\]"),
        ({"worlds": [None, None]}, "expected 1 entries"),
    ],
)
def test_bad_options(make_simulator: Make, scene: Scene, other_scene: Scene, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_simulator([scene, other_scene]).reset(options=options)


def test_starts_in_a_collision_are_passed_over(make_scene: Callable[..., Scene]) -> None:
    """All along the second half of the drive the ego overlaps a truck that drives beside it."""
    blocked = make_scene("blocked", agents=(("truck", 1.0, 1.0, 8.0),))
    with pytest.raises(ValueError, match=r"no usable start found .* the ego overlaps a truck"):
        Simulator(WarpWorldModel(MINI), [blocked]).reset(seed=0)


def test_worlds_are_told_apart(make_simulator: Make) -> None:
    simulator = make_simulator(num_worlds=2)
    simulator.reset(seed=[5, 5], options={"worlds": [{**START, "seed": 11}, {**START, "start": 6.0}]})
    assert simulator.state["start"].tolist() == [5.0, 6.0]
    assert simulator.rollout["seeds"].tolist() == simulator.state["seed"].tolist()
    assert simulator.state["seed"][0] == 11
    single = make_simulator()
    single.reset(seed=5, options={**START, "start": 6.0})
    assert single.state["seed"][0] == simulator.state["seed"][1]


def test_single_and_batch_agree(make_simulator: Make) -> None:
    batch, single = make_simulator(num_worlds=3), make_simulator()
    batch.reset(seed=20)
    single.reset(seed=21)
    for action in actions(4, 3):
        many, one = batch.step(action), single.step(action[1:2])
        assert torch.equal(many.observation["image"][1:2], one.observation["image"])
        assert torch.allclose(many.reward[1], one.reward[0])


def test_other_grids_and_chunks(scene: Scene) -> None:
    small = Grid((80, 80, 16), 0.8, (-32.0, -32.0, -1.0))
    simulator = Simulator(WarpWorldModel(small, dt=0.5, chunk_frames=1), [scene], EnvConfig(action="trajectory"))
    simulator.reset(seed=0)
    result = simulator.step(torch.zeros(1, 1, 3))
    assert result.observation["image"].shape == (1, 7, 80, 80)
    assert simulator.step_seconds == 0.5


def test_what_cannot_be_made_says_why(scene: Scene) -> None:
    with pytest.raises(ValueError, match="needs a world model with a codebook"):
        Simulator(WarpWorldModel(MINI), [scene], EnvConfig(observation="tokens"))
    with pytest.raises(TypeError, match="scenes: expected"):
        Simulator(WarpWorldModel(MINI), [])
    with pytest.raises(TypeError, match="world_model: expected"):
        Simulator(3, [scene])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="reset first"):
        Simulator(WarpWorldModel(MINI), [scene]).step(torch.zeros(1, 2))


def test_precision_and_capture_are_checked(make_simulator: Callable[..., Simulator], scene: Scene) -> None:
    assert make_simulator().precision == "fp32"
    assert not make_simulator().capture
    with pytest.raises(ValueError, match="precision: expected 'bf16', 'fp32' or None, found 'half'"):
        Simulator(WarpWorldModel(MINI), [scene], precision="half")
    with pytest.raises(ValueError, match="capture: expected a CUDA device for a CUDA graph, found cpu"):
        Simulator(WarpWorldModel(MINI), [scene], capture=True)
