"""Editing and outpainting: what is outside of the region stays, cell by cell; what is inside is imagined."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.diffusion_sampling import SamplerConfig
from models.dynamiccity.conditions import Conditions
from models.dynamiccity.editing import Box, edit, touched
from models.dynamiccity.outpainting import larger_grid, motion_at, outpaint, window_starts
from models.dynamiccity.padded_rollout import roll_in
from scenes.motion import accumulate, compose, relative
from tests.models.dynamiccity.small import GRID, make_clips
from tests.models.dynamiccity.small_world import CONFIG, FRAMES, make_conditions, make_motion, make_world

SEEDS = torch.tensor([5, 6])
ENDS = st.tuples(st.integers(0, 3), st.integers(1, 3))


def test_a_box_holds_cells_by_their_centres() -> None:
    """The grid's corner is at -38.4 m, -38.4 m and -0.8 m, its voxels have 0.8 m."""
    inside = Box(frames=(1, 3), x=(-38.4, -36.8), y=(None, -37.0), z=(0.0, None)).cells(GRID, FRAMES)
    expected = torch.zeros(FRAMES, *GRID.shape, dtype=torch.bool)
    expected[1:3, 0:2, 0:2, 1:] = True
    assert torch.equal(inside, expected)
    assert bool(Box().cells(GRID, FRAMES).all())
    with pytest.raises(ValueError, match="holds no cell"):
        Box(x=(100.0, None)).cells(GRID, FRAMES)


@settings(max_examples=30, deadline=None)
@given(st.tuples(ENDS, ENDS, ENDS, ENDS))
def test_planes_are_touched_where_a_region_casts_its_shadow(ends: tuple[tuple[int, int], ...]) -> None:
    """Of a box every plane is touched in the box's own cells along its two axes."""
    region = torch.zeros(1, FRAMES, *GRID.shape, dtype=torch.uint8)
    part = [slice(first, first + count) for first, count in ends]
    region[(slice(None), *part)] = 1
    planes = roll_in(touched(region).float(), CONFIG.layout)
    sides = zip("txyz", part, region.shape[1:], strict=True)
    span = {axis: (cut.start // 2, (min(cut.stop, length) + 1) // 2) for axis, cut, length in sides}
    for name in ("xy", "xz", "yz", "tx", "ty", "tz"):
        plane = getattr(planes, name)[0, 0]
        expected = torch.zeros_like(plane)
        (a, b), (c, d) = span[name[0]], span[name[1]]
        expected[a:b, c:d] = 1
        assert torch.equal(plane, expected), name


@pytest.mark.parametrize("sampler", [None, SamplerConfig("ddpm", steps=3, limit=3.0, resamplings=2)])
def test_nothing_changes_outside_of_the_region(sampler: SamplerConfig | None) -> None:
    model, clips = make_world(**({} if sampler is None else {"sampler": sampler})), make_clips()
    region = Box(frames=(1, 3), x=(None, -32.0)).cells(GRID, FRAMES).expand_as(clips)
    found = edit(model, clips, region, SEEDS, make_conditions())
    assert torch.equal(found[~region], clips[~region])
    assert float((found[region] != clips[region]).float().mean()) > 0.5  # random cells are not guessed
    assert not torch.equal(found, edit(model, clips, region, SEEDS + 7, make_conditions()))


def test_an_edit_is_one_of_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its planes are the clip's own where the region does not touch them, for each clip of a batch by its own region."""
    model, clips = make_world(), make_clips()
    region = torch.zeros(clips.shape, dtype=torch.bool)
    region[0, :, :4, :4], region[1, 2:, 8:, :, :2] = True, True
    own, found = model.encode(clips), []
    monkeypatch.setattr(model, "decode", lambda maps: found.append(maps) or clips)
    edit(model, clips, region, SEEDS)
    still = ~touched(region.to(torch.uint8)).expand_as(own)
    assert torch.equal(found[0][still], own[still])
    assert not torch.allclose(found[0][~still], own[~still])
    assert not torch.equal(still[0], still[1])


def test_edits_of_other_shapes_are_refused() -> None:
    model, clips = make_world(), make_clips()
    with pytest.raises(ValueError, match="edit: expected"):
        edit(model, clips, torch.ones(clips.shape), SEEDS)
    with pytest.raises(ValueError, match="edit: expected"):
        edit(model, clips[:, :2], torch.ones(clips[:, :2].shape, dtype=torch.bool), SEEDS)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 90), st.integers(1, 30), st.integers(0, 29))
def test_windows_cover_a_length(length: int, window: int, overlap: int) -> None:
    """Each once, in order, from end to end, and no two next to each other overlap by less than asked."""
    length, overlap = max(length, window), min(overlap, window - 1)
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - window
    assert all(0 < after - before <= window - overlap for before, after in itertools.pairwise(starts))


def test_a_scene_larger_than_the_grid() -> None:
    """All of it is imagined, its first window is the model's own, and layouts of the whole are told in parts."""
    model, motion = make_world(conditions=("trajectory", "drivable")), make_motion(2, FRAMES)
    columns = (32, 24)
    grid = larger_grid(GRID, columns)
    assert grid.shape == (32, 24, 4)
    assert grid.origin == pytest.approx((-38.4 - 8 * 0.8, -38.4 - 2 * 0.8, -0.8))
    drivable = torch.rand(2, FRAMES, *columns, generator=torch.Generator().manual_seed(0)) < 0.5
    found = outpaint(model, columns, motion, SEEDS, Conditions(drivable=drivable))
    assert found.shape == (2, FRAMES, *grid.shape)
    corner = torch.tensor([-8 * 0.8, -2 * 0.8, 0.0])
    told = model.tell(Conditions(drivable=drivable[:, :, :16, :20]), motion_at(motion, corner))
    first = model.decode(model.sample(told, SEEDS))
    assert torch.equal(found[:, :, :16, :20], first)
    assert bool((found[:, :, 16:] != GRID.free).any())
    assert bool((found[:, :, :, 20:] != GRID.free).any())
    other = outpaint(model, columns, motion, SEEDS, Conditions(drivable=~drivable))
    assert not torch.equal(found, other)
    with pytest.raises(ValueError, match="outpaint"):
        outpaint(model, (31, 24), motion, SEEDS)
    with pytest.raises(ValueError, match="overlap"):
        outpaint(model, columns, motion, SEEDS, overlap=1.0)


def test_motion_of_a_frame_beside_the_ego() -> None:
    """It moves with the ego: its pose in the world is the ego's, and its place from there."""
    motion, place = make_motion(2, 6).double(), torch.tensor([7.0, -3.0, 0.0], dtype=torch.float64)
    poses = accumulate(motion)
    beside = compose(poses, place.expand_as(poses))
    found = motion_at(motion, place)
    torch.testing.assert_close(found[:, 1:], relative(beside[:, :-1], beside[:, 1:]))


def test_an_unknown_overlap_of_the_model_does_not_matter() -> None:
    """An edit of a model that keeps frames in rollouts is the same edit."""
    clips = make_clips()
    region = Box(x=(None, -32.0)).cells(GRID, FRAMES).expand_as(clips)
    assert torch.equal(edit(make_world(), clips, region, SEEDS), edit(make_world(overlap=2), clips, region, SEEDS))
    assert replace(CONFIG, overlap=2).chunk_frames == FRAMES - 2
