"""The world model: cached steps equal whole sequences, worlds do not touch each other, saved rollouts continue."""

from __future__ import annotations

import pytest
import torch

from models.conditioning import Conditions
from models.interface import Rollout
from models.rotary import frequencies, phases, token_places, turn, turn_back
from models.transformer import KeyValues
from models.world_model import LearnedWorldModel
from scenes.motion import accumulate, compose, inverse
from scenes.scene import Scene
from tests.models.small import GRID, history, make_model, make_street


@pytest.fixture(scope="module")
def street() -> Scene:
    return make_street()


@pytest.fixture
def small_model() -> LearnedWorldModel:
    return make_model()


def started(model: LearnedWorldModel, street: Scene, worlds: int = 2) -> Rollout:
    occupancy, motion = history(street, model.history_frames)
    return model.start(occupancy.repeat(worlds, 1, 1, 1, 1), motion.repeat(worlds, 1, 1), torch.arange(worlds) + 5)


def forward(worlds: int, metres: float = 1.0) -> torch.Tensor:
    motion = torch.zeros(worlds, 2, 3)
    motion[..., 0] = metres
    motion[..., 2] = 0.05
    return motion


def test_written_step_by_step_equals_written_as_a_sequence(small_model: LearnedWorldModel) -> None:
    """Keys and values of a sequence do not depend on whether the past came from the cache or from the same pass."""
    model, chunks, span = small_model, 5, 3
    torch.manual_seed(1)
    tokens = model.tokens[0] * model.tokens[1]
    latents = torch.randn(2, chunks, tokens, model.cfg.tokenizer.latent_dim)
    motion = forward(2).unsqueeze(1).repeat(1, chunks, 1, 1)
    poses = accumulate(motion.flatten(1, 2))[:, 1::2]
    cond: Conditions = model._conditions(motion)
    line = torch.cat((poses[:, :1].expand(-1, span, -1), poses), dim=1)
    valid = (torch.arange(chunks)[:, None] - span + torch.arange(span)) >= 0
    window = model.transformer.window(line, valid.expand(2, -1, -1), chunks)
    whole, _ = model.write(latents, cond, torch.ones(2, chunks), window)

    cache = KeyValues(*(torch.zeros_like(part[:, :span]) for part in whole))
    for step in range(chunks):
        one = Conditions(**{name: value[:, step : step + 1] for name, value in vars(cond).items()})
        frame = model.transformer.window(line[:, step : step + span + 1], valid[step].expand(2, 1, -1), 1)
        contexts = model.transformer.context(cache, frame)
        written, _ = model.write(latents[:, step : step + 1], one, torch.ones(2, 1), frame, contexts)
        torch.testing.assert_close(written.keys, whole.keys[:, step : step + 1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(written.values, whole.values[:, step : step + 1], atol=1e-5, rtol=1e-4)
        cache = KeyValues(*(torch.cat((old[:, 1:], new), dim=1) for old, new in zip(cache, written, strict=True)))


def test_attention_depends_on_relative_places_only() -> None:
    """Moving query and key by one rigid motion leaves score and carried value as they were, seen from the query."""
    torch.manual_seed(0)
    places, frequency = token_places(GRID, (4, 4)), frequencies(16, 4.0, 200.0)
    query_pose = torch.tensor([3.0, -2.0, 0.4], dtype=torch.float64)
    key_pose = torch.tensor([1.0, 1.0, -0.3], dtype=torch.float64)
    moved = torch.tensor([120.0, 45.0, 1.9], dtype=torch.float64)
    before = phases(places, compose(inverse(query_pose), key_pose), frequency)
    after = phases(places, compose(inverse(compose(moved, query_pose)), compose(moved, key_pose)), frequency)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
    x = torch.randn(16, 2, 16)
    torch.testing.assert_close(turn_back(turn(x, before), before), x, atol=1e-5, rtol=1e-5)


def test_same_seed_same_future_and_neighbours_do_not_matter(small_model: LearnedWorldModel, street: Scene) -> None:
    """At one batch size a world's voxels are the same bit for bit, whatever the other world does."""
    first, second = started(small_model, street), started(small_model, street)
    for _ in range(3):
        still = forward(2)
        other = forward(2)
        other[1, :, 0] = 3.0
        a, b = small_model.advance(first, still), small_model.advance(second, other)
        assert a.codes is not None
        assert b.codes is not None
        assert torch.equal(a.codes[0], b.codes[0])
    assert torch.equal(first["keys"][0], second["keys"][0])
    assert not torch.equal(first["keys"][1], second["keys"][1])


def test_different_seeds_differ(small_model: LearnedWorldModel, street: Scene) -> None:
    """Two worlds with one past and one motion but two seeds imagine different codes."""
    chunk = small_model.advance(started(small_model, street), forward(2))
    assert chunk.codes is not None
    assert not torch.equal(chunk.codes[0], chunk.codes[1])


def test_saved_rollout_continues_identically(small_model: LearnedWorldModel, street: Scene) -> None:
    """A rollout rebuilt from its state goes on bit for bit; so do forks, at the fork's batch size."""
    rollout = started(small_model, street)
    small_model.advance(rollout, forward(2))
    copy = Rollout(rollout.state_dict())
    a, b = small_model.advance(rollout, forward(2)), small_model.advance(copy, forward(2))
    assert a.voxels is not None
    assert b.voxels is not None
    assert torch.equal(a.voxels, b.voxels)


def test_fork_keeps_the_past_and_replace_brings_worlds_in(small_model: LearnedWorldModel, street: Scene) -> None:
    """repeat copies each world n times in a row, replace overwrites just the masked ones."""
    rollout = started(small_model, street)
    fork = rollout.repeat(3)
    assert len(fork) == 6
    assert torch.equal(fork["keys"][4], rollout["keys"][1])
    fresh = started(small_model, street, worlds=1)
    before = rollout["seeds"].clone()
    small_model.advance(rollout, forward(2))
    rollout.replace(torch.tensor([False, True]), fresh)
    assert rollout["step"].tolist() == [1, 0]
    assert rollout["seeds"].tolist() == [int(before[0]), int(fresh["seeds"][0])]
    with pytest.raises(ValueError, match="mask"):
        rollout.replace(torch.tensor([True, True]), fresh)


def test_generates_a_clip_from_a_trajectory_alone(small_model: LearnedWorldModel) -> None:
    """generate gives as many frames as the trajectory has, all of known classes."""
    chunk = small_model.generate(forward(2).repeat(1, 3, 1), torch.tensor([1, 2]))
    assert chunk.voxels is not None
    assert chunk.voxels.shape == (2, 6, *GRID.shape)
    assert int(chunk.voxels.max()) < GRID.num_classes


def test_bad_shapes_are_named(small_model: LearnedWorldModel, street: Scene) -> None:
    """Motion, route and occupancy of a wrong shape or type are refused by name."""
    rollout = started(small_model, street)
    with pytest.raises(ValueError, match=r"motion \(2, 2, 3\)"):
        small_model.advance(rollout, forward(2)[:, :1])
    with pytest.raises(ValueError, match="route"):
        small_model.advance(rollout, forward(2), torch.zeros(2, 2, 5, 5, dtype=torch.uint8))
    occupancy, motion = history(street, 6)
    with pytest.raises(ValueError, match="uint8"):
        small_model.start(occupancy.float(), motion, torch.tensor([0]))
    with pytest.raises(ValueError, match="class ids below 18"):
        small_model.start(torch.full_like(occupancy, 200), motion, torch.tensor([0]))
    with pytest.raises(ValueError, match="multiple of 2"):
        small_model.start(occupancy[:, :5], motion[:, :5], torch.tensor([0]))


def test_under_autocast_the_cache_is_small_and_the_world_nearly_the_same(small_model: LearnedWorldModel, street: Scene) -> None:
    exact = started(small_model, street)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = started(small_model, street)
        assert rounded["keys"].dtype == rounded["values"].dtype == torch.bfloat16
        found = small_model.advance(rounded, forward(2)).voxels
    assert rounded["keys"].dtype == torch.bfloat16
    expected = small_model.advance(exact, forward(2)).voxels
    assert found is not None
    assert expected is not None
    assert float((found == expected).float().mean()) > 0.98
    near = (rounded["keys"].float() - exact["keys"]).abs() < 0.1  # but where another code was nearest: untrained, that is often
    assert float(near.float().mean()) > 0.8
