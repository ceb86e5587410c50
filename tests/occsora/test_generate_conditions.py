"""Conditions on the command line: what they read, what they refuse, and that each of them does what it says."""

from __future__ import annotations

import pytest
import torch

from models.dynamiccity.clip_conditions import layout_of
from models.dynamiccity.conditions import Conditions
from models.dynamiccity.world_model import DynamicCityWorldModel
from occsora.generate_conditions import ConditionOptions, Imagined, imagine, told_by
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from tests.models.dynamiccity.small import GRID
from tests.models.dynamiccity.small_world import FRAMES, make_motion, make_world

SEEDS = torch.tensor([5, 6])
MOTION = make_motion(2, 2 * FRAMES)  # of each clip its own


@pytest.fixture(scope="module")
def model() -> DynamicCityWorldModel:
    return make_world()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two clips of six frames, and one of two."""
    pytest.importorskip("zarr")
    draw = torch.Generator().manual_seed(0)
    clips = []
    for number, frames in enumerate((6, 6, 2)):
        occupancy = torch.randint(0, GRID.num_classes, (frames, *GRID.shape), generator=draw, dtype=torch.uint8)
        clips.append(Clip(occupancy, make_motion(1, frames, number)[0], 0.25, f"random/{number}"))
    address = str(tmp_path_factory.mktemp("clips") / "clips.zarr")
    ClipStore.create(address, GRID).append(clips)
    return address


def run(model: DynamicCityWorldModel, *condition: str, region: tuple[str, ...] = ()) -> Imagined:
    return imagine(told_by(ConditionOptions(condition=condition, region=region), model), model, MOTION, SEEDS)


def test_a_trajectory_is_what_generate_makes(model: DynamicCityWorldModel) -> None:
    found = run(model, "trajectory")
    assert torch.equal(found.voxels, model.generate(MOTION, SEEDS).voxels)
    assert torch.equal(found.motion, MOTION)


def test_a_command_stands_in_place_of_a_trajectory(model: DynamicCityWorldModel) -> None:
    """Another command is another clip, another trajectory beside it is not."""
    left, right = run(model, "command:left"), run(model, "command:right")
    assert not torch.equal(left.voxels, right.voxels)
    told = told_by(ConditionOptions(condition=("command:left",)), model)
    assert torch.equal(imagine(told, model, 2 * MOTION, SEEDS).voxels, left.voxels)


def test_a_clip_is_continued(model: DynamicCityWorldModel, store: str) -> None:
    """From its last frames, which is what the environment does."""
    found = run(model, f"previous:{store}#1")
    clip = ClipStore.open(store)[1]
    past, driven = clip.occupancy[-FRAMES:].expand(2, -1, -1, -1, -1), clip.motion[-FRAMES:].expand(2, -1, -1)
    rollout = model.start(past, driven, SEEDS)
    expected = [model.advance(rollout, part).voxels for part in MOTION.split(FRAMES, dim=1)]
    assert torch.equal(found.voxels, torch.cat([part for part in expected if part is not None], dim=1))
    assert not torch.equal(found.voxels, run(model, f"previous:{store}#0").voxels)


def test_a_layout_is_told_under_its_own_motion(model: DynamicCityWorldModel, store: str) -> None:
    found, clip = run(model, f"layout:{store}"), ClipStore.open(store)[0]
    drivable, vehicles = (seen.expand(2, -1, -1, -1) for seen in layout_of(clip.occupancy, GRID))
    told = Conditions(drivable=drivable, vehicles=vehicles)
    assert torch.equal(found.motion, clip.motion.expand(2, -1, -1))
    assert torch.equal(found.voxels, model.generate(clip.motion.expand(2, -1, -1), SEEDS, told).voxels)


def test_inpainting_changes_its_region_alone(model: DynamicCityWorldModel, store: str) -> None:
    """In clips that windows do not divide as well: each cell of the region is imagined once."""
    found = run(model, f"inpaint:{store}#1", region=("frames=1:6", "x=:-32", "z=0:"))
    clip = ClipStore.open(store)[1]
    region = torch.zeros(clip.occupancy.shape, dtype=torch.bool)
    region[1:6, :8, :, 1:] = True
    assert found.voxels.shape == (2, *clip.occupancy.shape)
    assert torch.equal(found.voxels[:, ~region], clip.occupancy.expand(2, -1, -1, -1, -1)[:, ~region])
    for frame in range(1, 6):
        assert not torch.equal(found.voxels[0, frame], clip.occupancy[frame]), frame


def test_outpainting_is_on_a_larger_grid(model: DynamicCityWorldModel) -> None:
    found = run(model, "outpaint:24x20")
    assert found.grid.shape == (24, 20, 4)
    assert found.voxels.shape == (2, FRAMES, 24, 20, 4)
    assert torch.equal(found.motion, MOTION[:, :FRAMES])


@pytest.mark.parametrize(
    ("condition", "match"),
    [
        ((), "--condition: expected some of"),
        (("weather:rain",), "--condition: expected some of"),
        (("command:back",), "command:static"),
        (("trajectory", "command:left"), "trajectory and command do not go together"),
        (("previous:STORE", "layout:STORE"), "previous and layout do not go together"),
        (("inpaint:STORE",), "--region: goes with"),
        (("outpaint:large",), "outpaint:XxY"),
        (("outpaint:8x8",), "at least"),
        (("previous:STORE#x",), "a number N"),
        (("previous:STORE#9",), "expected clip 9"),
        (("previous:STORE#2",), "expected a clip of 4 frames or more"),
        (("trajectory:left",), "expected trajectory"),
    ],
)
def test_senseless_conditions_are_refused(
    model: DynamicCityWorldModel, store: str, condition: tuple[str, ...], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        told_by(ConditionOptions(condition=tuple(entry.replace("STORE", store) for entry in condition)), model)


@pytest.mark.parametrize("region", ["x", "x=1", "x=a:b", "w=0:1"])
def test_senseless_regions_are_refused(model: DynamicCityWorldModel, store: str, region: str) -> None:
    with pytest.raises(ValueError, match="--region: expected"):
        told_by(ConditionOptions(condition=(f"inpaint:{store}",), region=(region,)), model)


def test_conditions_that_a_model_did_not_learn_are_refused() -> None:
    with pytest.raises(ValueError, match="trained with command, found trajectory"):
        told_by(ConditionOptions(), make_world(conditions=("command",)))
