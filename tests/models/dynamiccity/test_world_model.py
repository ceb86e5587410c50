"""DynamicCity behind the interface of world models: windows that continue each other, worlds that are alone, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.dynamiccity.conditions import Conditions
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.interface import Rollout
from models.pretrained import from_pretrained, save_pretrained
from models.warp import warp
from tests.models.dynamiccity.small import GRID, make_clips
from tests.models.dynamiccity.small_world import CONFIG, FRAMES, make_conditions, make_motion, make_world

SEEDS = torch.tensor([5, 6])
SHORT = replace(CONFIG.vae, frames=8)


def begin(model: DynamicCityWorldModel, batch: int = 2) -> Rollout:
    """Worlds that begin with random history."""
    draw = torch.Generator().manual_seed(2)
    shape = (batch, model.history_frames, *GRID.shape)
    occupancy = torch.randint(0, GRID.num_classes, shape, generator=draw, dtype=torch.uint8)
    return model.start(occupancy, make_motion(batch, model.history_frames), torch.arange(5, 5 + batch))


@pytest.mark.parametrize("overlap", [0, 2, 6])
def test_lengths_of_windows(overlap: int) -> None:
    """New frames are those that were not shown before, and history is a multiple of them that fills a window."""
    model = make_world(vae=SHORT, overlap=overlap)
    assert model.chunk_frames == 8 - overlap
    assert model.history_frames % model.chunk_frames == 0
    assert 8 <= model.history_frames < 8 + model.chunk_frames
    rollout = begin(model)
    for _ in range(2):
        voxels = model.advance(rollout, make_motion(2, model.chunk_frames)).voxels
        assert voxels is not None
        assert (voxels.dtype, voxels.shape) == (torch.uint8, (2, model.chunk_frames, *GRID.shape))
        assert int(voxels.max()) < GRID.num_classes


@pytest.mark.parametrize("frames", [3, 8, 9, 20])
def test_clips_of_any_length(frames: int) -> None:
    """A clip begins as a longer one does; frames of the same number are the same whatever follows them."""
    model = make_world(vae=SHORT, overlap=2)
    motion = make_motion(2, 20)
    longest = model.generate(motion, SEEDS).voxels
    found = model.generate(motion[:, :frames], SEEDS).voxels
    assert found is not None
    assert longest is not None
    assert found.shape == (2, frames, *GRID.shape)
    whole = (frames - 8) // 6 * 6 + 8 if frames >= 8 else 0
    assert torch.equal(found[:, :whole], longest[:, :whole])


def test_a_clip_continues_as_a_rollout_does() -> None:
    """What `generate` makes after a window is what `advance` makes of a history of that window, one step later."""
    model = make_world(vae=SHORT, overlap=2)
    motion = make_motion(2, 20)
    whole = model.generate(motion, SEEDS).voxels
    assert whole is not None
    again = torch.cat((whole[:, :4], whole[:, :8]), dim=1)
    rollout = model.start(again, torch.cat((motion[:, :4], motion[:, :8]), dim=1), SEEDS)
    parts = [whole[:, :8]]
    for first in (8, 14):
        voxels = model.advance(rollout, motion[:, first : first + 6]).voxels
        assert voxels is not None
        parts.append(voxels)
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_the_first_row_of_motion_counts_for_nothing() -> None:
    """How the ego came into the first frame is not known to a clip without history, and makes no difference."""
    model, motion = make_world(), make_motion(2, FRAMES)
    other = motion.clone()
    other[:, 0] = 0
    first, second = (model.generate(part, SEEDS).voxels for part in (motion, other))
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


def test_layouts_that_end_too_soon_are_refused() -> None:
    layout = torch.ones(2, FRAMES, *GRID.shape[:2], dtype=torch.bool)
    with pytest.raises(ValueError, match=rf"generate: expected drivable for {FRAMES + 1} frames, found {FRAMES}"):
        make_world().generate(make_motion(2, FRAMES + 1), SEEDS, Conditions(drivable=layout))


def test_what_was_given_stays_the_callers() -> None:
    """One world alone, whose slices are no copies: resetting it leaves the history that it began with."""
    model = make_world(vae=SHORT, overlap=4)
    history = torch.zeros(1, model.history_frames, *GRID.shape, dtype=torch.uint8)
    motion = make_motion(1, model.history_frames)
    before = motion.clone()
    rollout = model.start(history, motion, SEEDS[:1])
    rollout["shown"].fill_(3)
    rollout["motion"].fill_(3)
    assert int(history.max()) == 0
    assert torch.equal(motion, before)


def test_the_surface_ahead_is_what_the_raster_and_the_last_frame_know() -> None:
    """Columns of the last frame's roads are known where they come to lie, and those of the raster beyond them."""
    model = make_world(vae=SHORT, overlap=2)
    road = GRID.classes.index("driveable_surface")
    shown = torch.full((1, 2, *GRID.shape), GRID.free, dtype=torch.uint8)
    shown[..., 0] = road
    motion = torch.zeros(1, 8, 3)
    motion[:, 2:, 0] = GRID.voxel
    nothing = torch.zeros(1, 2, *GRID.shape[:2], dtype=torch.uint8)
    seen, known = model.drivable_ahead(nothing, shown, motion)
    assert not bool(known.any())
    assert bool(seen[:, :2].all())
    assert [int(seen[0, frame].sum()) for frame in (2, 7)] == [(GRID.shape[0] - gone) * GRID.shape[1] for gone in (1, 6)]
    raster = nothing.clone()
    raster[:, 1] = 1
    seen, known = model.drivable_ahead(raster, shown, motion)
    assert bool(known.all())
    assert bool(seen.all())


def test_kept_frames_are_known_exactly() -> None:
    """Rows of the planes of time depend on their own two frames alone, so those that are kept are the encoder's own."""
    model = make_world(vae=SHORT, overlap=4)
    rollout = begin(model)
    shown = rollout["shown"].clone()
    known = model._shifted(rollout["planes"])
    voxels = model.advance(rollout, make_motion(2, 4)).voxels
    window = model.encode(torch.cat((shown, voxels), dim=1))
    rows = model.time_rows.expand_as(known)
    assert int(rows.sum()) > 0
    torch.testing.assert_close(known[rows], window[rows], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rollout["planes"], window)


def test_the_sampler_keeps_known_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_world(vae=SHORT, overlap=4)
    rollout = begin(model)
    known, found = model._shifted(rollout["planes"]), []
    monkeypatch.setattr(model, "decode", lambda maps: found.append(maps) or DynamicCityWorldModel.decode(model, maps))
    model.advance(rollout, make_motion(2, 4))
    rows = model.time_rows.expand_as(known)
    assert torch.equal(found[0][rows], known[rows])


def test_the_last_frame_is_carried_along() -> None:
    model = make_world(vae=SHORT, overlap=2)
    shown, motion = make_clips()[:, :2], make_motion(2, 8)
    window = model.carry(shown, motion)
    assert torch.equal(window[:, :2], shown)
    assert torch.equal(window[:, 2], warp(shown[:, -1], motion[:, 2], GRID, fill=GRID.free))


def test_a_world_follows_from_its_seed_alone() -> None:
    """Alone or beside another, twice the same; another seed is another world, and a step another draw."""
    model = make_world()
    both = model.generate(make_motion(2, 8), SEEDS).voxels
    again = model.generate(make_motion(2, 8), SEEDS).voxels
    assert both is not None
    assert torch.equal(both, again)
    rollout, other = begin(model), begin(model)
    motion = make_motion(2, FRAMES)
    changed = torch.stack((motion[0], 3 * motion[1]))
    first, second = model.advance(rollout, motion).voxels, model.advance(other, changed).voxels
    assert first is not None
    assert second is not None
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    seeded = model.generate(make_motion(2, 8)[:1].expand(2, -1, -1), SEEDS).voxels
    assert seeded is not None
    assert not torch.equal(seeded[0], seeded[1])


def test_saved_and_forked_worlds_continue_identically() -> None:
    model = make_world(overlap=2)
    rollout = begin(model)
    saved, forked = Rollout(rollout.state_dict()), rollout.repeat(2)
    motion = make_motion(2, 2)
    expected = model.advance(rollout, motion).voxels
    assert torch.equal(model.advance(saved, motion).voxels, expected)
    both = model.advance(forked, motion.repeat_interleave(2, 0)).voxels
    assert torch.equal(both[::2], both[1::2])
    swapped = begin(model)
    swapped.replace(torch.tensor([True, False]), Rollout({name: rollout[name][:1] for name in rollout.tensors}))
    assert torch.equal(swapped["planes"][0], rollout["planes"][0])


def test_what_is_told_changes_what_is_shown() -> None:
    """The motion, a command, the route's known surface, and the past."""
    model, motion = make_world(), make_motion(2, FRAMES)
    plain = model.advance(begin(model), motion).voxels
    assert not torch.equal(model.advance(begin(model), 2 * motion).voxels, plain)
    route = torch.zeros(2, 2, *GRID.shape[:2], dtype=torch.uint8)
    assert torch.equal(model.advance(begin(model), motion, route).voxels, plain)
    route[:, 1, 4:] = 1
    assert not torch.equal(model.advance(begin(model), motion, route).voxels, plain)
    commanded = model.generate(motion, SEEDS, Conditions(command=torch.tensor([0, 0]))).voxels
    assert not torch.equal(commanded, model.generate(motion, SEEDS).voxels)


def test_guidance_goes_beyond_the_conditions() -> None:
    """A scale of 0 is the unconditioned model, 1 the conditioned one, and above 1 another sample."""
    model, told = make_world(), make_conditions()
    plain, free = model.sample(told, SEEDS), model.sample(Conditions(), SEEDS)
    torch.testing.assert_close(make_world(guidance=0.0).sample(told, SEEDS), free, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(make_world(guidance=4.0).sample(told, SEEDS), plain, atol=1e-2)
    with pytest.raises(ValueError, match="guidance"):
        make_world(withheld=0.0, guidance=4.0).sample(told, SEEDS)


def test_scales_change_nothing_but_size() -> None:
    """Planes come back as they were, and maps are divided by the scale of each."""
    model = make_world(scale=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    plain = make_world()
    clips = make_clips()
    ours, theirs = model.encode(clips), plain.encode(clips)
    torch.testing.assert_close(ours * model.diffusion.scale, theirs)
    planes = plain.diffusion.to_planes(theirs)
    for one, other in zip(planes, model.diffusion.to_planes(ours), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(plain.diffusion.to_planes(ours).tz * 6, planes.tz)


def test_models_come_back_from_their_files(tmp_path: Path) -> None:
    model = make_world(overlap=2, scale=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    save_pretrained(model, tmp_path / "model")
    loaded = from_pretrained(tmp_path / "model")
    assert loaded.cfg == model.cfg
    motion = make_motion(2, 6)
    assert torch.equal(loaded.generate(motion, SEEDS).voxels, model.generate(motion, SEEDS).voxels)
    (tmp_path / "model" / "config.json").write_text('{"kind": "hexplane_vae"}')
    with pytest.raises(ValueError, match=r"config\.json.*'hexplane_vae'"):
        from_pretrained(tmp_path / "model")


def test_bad_input_is_refused() -> None:
    model = make_world(overlap=2)
    clips, motion = make_clips(), make_motion(2, FRAMES)
    with pytest.raises(ValueError, match="start: expected a multiple of 2"):
        model.start(clips[:, :3], motion[:, :3], SEEDS)
    with pytest.raises(ValueError, match=r"start: .* 4 at least"):
        model.start(clips[:, :2], motion[:, :2], SEEDS)
    with pytest.raises(ValueError, match=r"advance: expected motion \(2, 2, 3\)"):
        model.advance(begin(model), motion)
    for wrong in ({"overlap": 3}, {"overlap": 4}, {"scale": (1.0,)}, {"withheld": 1.0}, {"dt": 0.0}):
        with pytest.raises(ValueError, match="DynamicCityConfig"):
            replace(CONFIG, **wrong)
