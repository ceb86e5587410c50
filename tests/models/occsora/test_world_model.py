"""OccSora in a rollout: shown frames stay, seeds decide, worlds do not touch each other, saved rollouts continue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.diffusion_sampling import SamplerConfig
from models.interface import Chunk, Rollout
from models.occsora.world_model import OccSoraConfig, OccSoraWorldModel
from models.pretrained import from_pretrained, load_learned, save_pretrained
from scenes.scene import Scene
from tests.models.occsora.small import GRID
from tests.models.occsora.world import driving, make_world_model, street_history
from tests.models.small import make_street


@pytest.fixture(scope="module")
def street() -> Scene:
    return make_street()


@pytest.fixture(scope="module")
def model() -> OccSoraWorldModel:
    return make_world_model(frames=24)


def started(model: OccSoraWorldModel, street: Scene, worlds: int = 2, frames: int | None = None) -> Rollout:
    occupancy, motion = street_history(street, frames or model.history_frames)
    return model.start(occupancy.repeat(worlds, 1, 1, 1, 1), motion.repeat(worlds, 1, 1), torch.arange(worlds) + 5)


def voxels(chunk: Chunk) -> Tensor:
    assert chunk.voxels is not None
    return chunk.voxels


def share_equal(a: Tensor, b: Tensor) -> float:
    return float((a == b).float().mean())


def test_its_measures_follow_from_tokenizer_and_clips(model: OccSoraWorldModel) -> None:
    assert (model.chunk_frames, model.history_frames, model.window_frames, model.dt) == (8, 16, 24, 0.5)
    assert model.token_shape == (2, 3, 1)
    twelve = make_world_model("paper-4x8x8", frames=12)
    assert (twelve.chunk_frames, twelve.history_frames) == (4, 8)


def test_what_was_shown_stays_and_is_the_history(model: OccSoraWorldModel, street: Scene) -> None:
    """The history slides by a chunk, and its latents and codes are what was shown, encoded."""
    rollout = started(model, street)
    before, driven = rollout["shown"].clone(), rollout["motion"].clone()
    new = driving(2, 8)
    chunk = model.advance(rollout, new)
    assert voxels(chunk).shape == (2, 8, *GRID.shape)
    assert torch.equal(rollout["shown"], torch.cat((before[:, 8:], voxels(chunk)), dim=1))
    assert torch.equal(rollout["motion"], torch.cat((driven[:, 8:], new), dim=1))
    found = model.tokenizer.quantize(model.tokenizer.encode(rollout["shown"]))
    assert torch.equal(rollout["latents"], found.latents)
    assert chunk.codes is not None
    assert torch.equal(chunk.codes.squeeze(-1), found.codes[:, -1].to(torch.int16))


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_the_sampled_window_ends_on_its_history(kind: str, street: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known latents come out of the sampler as they went in; the new one depends on them."""
    model = make_world_model(frames=24, sampler=SamplerConfig(kind, steps=3, limit=2.0))  # type: ignore[arg-type]
    windows = []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda latents: windows.append(latents) or decode(latents))
    rollout = started(model, street)
    history = rollout["latents"].clone()
    other = Rollout(rollout.state_dict())
    other["latents"] = other["latents"].flip(-1)
    model.advance(rollout, driving(2, 8))
    model.advance(other, driving(2, 8))
    torch.testing.assert_close(windows[0][:, :, :2], history)
    assert not torch.equal(windows[0][:, :, 2], windows[1][:, :, 2])


def test_same_seed_same_future_and_neighbours_do_not_matter(model: OccSoraWorldModel, street: Scene) -> None:
    first, second = started(model, street), started(model, street)
    for _ in range(2):
        other = driving(2, 8)
        other[1, :, 0] = 5.0
        a, b = model.advance(first, driving(2, 8)), model.advance(second, other)
        assert torch.equal(voxels(a)[0], voxels(b)[0])
    assert torch.equal(first["latents"][0], second["latents"][0])
    assert not torch.equal(first["motion"][1], second["motion"][1])


def test_seeds_and_trajectories_count(model: OccSoraWorldModel, street: Scene) -> None:
    """Worlds that differ in nothing but the seed, or the commanded motion, imagine different frames."""
    a = voxels(model.advance(started(model, street), driving(2, 8)))
    b = voxels(model.advance(started(model, street), driving(2, 8, metres=9.0, turn=0.2)))
    assert share_equal(a[0], a[1]) < 0.99
    assert not torch.equal(a, b)


def test_steps_draw_anew(model: OccSoraWorldModel, street: Scene) -> None:
    """The same moment at another step of its world is another draw."""
    early, late = started(model, street), started(model, street)
    late["step"] = late["step"] + 1
    assert share_equal(voxels(model.advance(early, driving(2, 8))), voxels(model.advance(late, driving(2, 8)))) < 0.99


def test_saved_forked_and_replaced_rollouts_continue(model: OccSoraWorldModel, street: Scene) -> None:
    rollout = started(model, street)
    model.advance(rollout, driving(2, 8))
    copy, fork = Rollout(rollout.state_dict()), rollout.repeat(2)
    fresh = started(model, street, worlds=1, frames=8)
    expected = voxels(model.advance(rollout, driving(2, 8)))
    assert torch.equal(voxels(model.advance(copy, driving(2, 8))), expected)
    forked = voxels(model.advance(fork, driving(4, 8)))
    assert torch.equal(forked[0], forked[1])
    assert share_equal(forked[::2], expected) > 0.95  # networks round differently in other batches
    rollout.replace(torch.tensor([False, True]), fresh)
    assert rollout["step"].tolist() == [2, 0]
    assert rollout["known"].tolist() == [[True, True], [False, True]]
    model.advance(rollout, driving(2, 8))
    assert rollout["known"].all()


def test_a_short_history_is_continued_into_the_past(model: OccSoraWorldModel, street: Scene) -> None:
    """What was recorded stays, what lies before it is imagined by the first step, and more history than needed is cut."""
    occupancy, motion = street_history(street, 8)
    rollout = model.start(occupancy, motion, torch.tensor([3]))
    assert rollout["known"].tolist() == [[False, True]]
    assert not rollout["latents"][:, :, 0].any()
    torch.testing.assert_close(rollout["motion"][0, :9], motion[0, 1:2].expand(9, -1))
    model.advance(rollout, driving(1, 8))
    assert torch.equal(rollout["shown"][:, :8], occupancy)
    occupancy, motion = street_history(street, 32)
    whole, cut = (
        model.start(occupancy, motion, torch.tensor([3])),
        model.start(occupancy[:, 16:], motion[:, 16:], torch.tensor([3])),
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole.tensors)


def test_the_imagined_past_becomes_history(street: Scene) -> None:
    """With two latent frames missing, the older of them is what the window was decoded to."""
    model = make_world_model(frames=32)
    rollout = started(model, street, worlds=1, frames=8)
    filler = rollout["shown"][:, 0]
    model.advance(rollout, driving(1, 8))
    assert rollout["known"].all()
    assert share_equal(rollout["shown"][:, 0], filler) < 0.99


def test_snapped_samples_are_codes(street: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder then sees nothing but what codes stand for, and snapping twice is snapping once."""
    model = make_world_model(frames=24, snap=True)
    windows = []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda latents: windows.append(latents) or decode(latents))
    model.advance(started(model, street), driving(2, 8))
    table = model.tokenizer.lookup(torch.arange(32).view(1, 1, 1, -1))[0, :, 0, 0].T
    rows = windows[0].movedim(1, -1).flatten(0, -2)
    assert float(torch.cdist(rows, table).amin(1).max()) < 1e-3
    torch.testing.assert_close(model._snap(windows[0]), windows[0])


@pytest.mark.parametrize("frames", [8, 24, 40])
def test_generates_clips_of_any_length(model: OccSoraWorldModel, frames: int) -> None:
    """Shorter than the window, as long, and longer: then the window slides on from the first clip."""
    seeds = torch.tensor([1, 2])
    clip = model.generate(driving(2, frames), seeds)
    assert voxels(clip).shape == (2, frames, *GRID.shape)
    assert clip.codes is not None
    assert clip.codes.shape == (2, frames // 8, 2, 3, 1)
    assert int(voxels(clip).max()) < GRID.num_classes
    assert torch.equal(voxels(model.generate(driving(2, frames), seeds)), voxels(clip))
    assert share_equal(voxels(clip)[0], voxels(clip)[1]) < 0.99
    if frames > 24:
        assert torch.equal(voxels(clip)[:, :24], voxels(model.generate(driving(2, 24), seeds)))


def test_the_first_row_of_a_trajectory_plays_no_part(model: OccSoraWorldModel) -> None:
    """It leads to the first frame from before the clip."""
    motion, seeds = driving(1, 24), torch.tensor([1])
    other = motion.clone()
    other[:, 0] = 0
    assert torch.equal(voxels(model.generate(motion, seeds)), voxels(model.generate(other, seeds)))


@pytest.mark.parametrize("name", ["paper", "lean"])
def test_saved_and_loaded_is_the_same_model(name: str, tmp_path: Path, street: Scene) -> None:
    """Either tokenizer, config, sampler and weights come back, by `from_pretrained` alone."""
    model = make_world_model(name, frames=16, guidance=1.5, snap=True, sampler=SamplerConfig("ddpm", steps=2, limit=3.0))
    save_pretrained(model, tmp_path)
    loaded = from_pretrained(tmp_path)
    assert isinstance(loaded, OccSoraWorldModel)
    assert loaded.cfg == model.cfg
    expected = voxels(model.advance(started(model, street), driving(2, 8)))
    assert torch.equal(voxels(loaded.advance(started(loaded, street), driving(2, 8))), expected)
    with pytest.raises(ValueError, match="kind 'world_model', found a OccSoraWorldModel"):
        load_learned(tmp_path)


def test_under_autocast_the_state_stays_float32(model: OccSoraWorldModel, street: Scene) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        rollout = started(model, street)
        chunk = model.advance(rollout, driving(2, 8))
    assert rollout["latents"].dtype == torch.float32
    exact = voxels(model.advance(started(model, street), driving(2, 8)))
    assert share_equal(voxels(chunk), exact) > 0.5  # of 18 classes, in an untrained model


def test_what_does_not_fit_is_named(model: OccSoraWorldModel, street: Scene) -> None:
    with pytest.raises(ValueError, match=r"motion \(2, 8, 3\)"):
        model.advance(started(model, street), driving(2, 4))
    occupancy, motion = street_history(street, 12)
    with pytest.raises(ValueError, match="multiple of 8"):
        model.start(occupancy, motion, torch.tensor([0]))
    with pytest.raises(ValueError, match="uint8"):
        model.start(occupancy.float(), motion, torch.tensor([0]))
    with pytest.raises(ValueError, match="multiple of 8"):
        model.generate(driving(1, 12), torch.tensor([0]))
    with pytest.raises(ValueError, match="t above 1"):
        OccSoraWorldModel(replace(model.cfg, diffusion=replace(model.cfg.diffusion, frames=8, shape=(1, 2, 3))))
    with pytest.raises(ValueError, match=r"expected latents .*\(8, 3, 2, 3\)"):
        OccSoraWorldModel(OccSoraConfig(GRID, model.cfg.tokenizer, replace(model.cfg.diffusion, shape=(3, 3, 3))))
