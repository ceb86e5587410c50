"""`occsora generate --condition`: each condition from the words of a command to a store of clips, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import imageio.v2 as imageio
import pytest
import torch

from models.dynamiccity.outpainting import larger_grid
from models.pretrained import save_pretrained
from occsora.__main__ import main
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.trajectory import shape_motion
from tests.models.dynamiccity.small import GRID as CORNER
from tests.models.dynamiccity.small_world import FRAMES, make_motion, make_world

GRID = replace(CORNER, origin=(-6.4, -8.0, -0.8))  # about the ego, where the camera looks
DT = 0.25


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained DynamicCity of windows of four frames, of which two are kept."""
    folder = tmp_path_factory.mktemp("world")
    save_pretrained(make_world(overlap=2, grid=GRID), folder)
    return folder


@pytest.fixture(scope="module")
def rides(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of two clips of six frames."""
    pytest.importorskip("zarr")
    draw = torch.Generator().manual_seed(0)
    clips = []
    for number in range(2):
        occupancy = torch.randint(0, GRID.num_classes, (6, *GRID.shape), generator=draw, dtype=torch.uint8)
        clips.append(Clip(occupancy, make_motion(1, 6, number)[0], DT, f"random/{number}"))
    address = str(tmp_path_factory.mktemp("stores") / "rides.zarr")
    ClipStore.create(address, GRID).append(clips)
    return address


def generate(world: Path, out: Path, *words: str) -> ClipStore:
    """The store that the command writes: two seeds, 1.25 s, which neither windows nor chunks divide."""
    assert main(["generate", "--model", str(world), "--seconds", "1.25", "--num", "2", "--out", str(out), *words]) == 0
    return ClipStore.open(str(out / "clips.zarr"))


def test_a_trajectory_of_any_length(world: Path, tmp_path: Path) -> None:
    """No condition is a trajectory: clips of five frames, not of whole chunks."""
    store = generate(world, tmp_path, "--trajectory", "left", "right")
    assert [store.source(number) for number in range(4)] == ["left/seed-0", "left/seed-1", "right/seed-0", "right/seed-1"]
    assert store[0].occupancy.shape == (5, *GRID.shape)
    torch.testing.assert_close(store[2].motion, shape_motion("right", 5, DT))
    assert store.about["condition"] == "trajectory"


@pytest.mark.parametrize(("command", "shape"), [("left", "left"), ("static", "still")])
def test_a_command(world: Path, tmp_path: Path, command: str, shape: str) -> None:
    """The clip is called after it, and the motion written beside it is that of the shape that is like it."""
    store = generate(world, tmp_path, "--condition", f"command:{command}")
    assert [store.source(number) for number in range(2)] == [f"command-{command}/seed-0", f"command-{command}/seed-1"]
    torch.testing.assert_close(store[0].motion, shape_motion(shape, 5, DT))


def test_a_clip_is_continued(world: Path, rides: str, tmp_path: Path) -> None:
    """Along a trajectory that begins at its last frame: the ego drives on at once, and does not stand for a frame."""
    store = generate(world, tmp_path, "--condition", f"previous:{rides}#1", "--trajectory", "straight")
    assert store.source(1) == "straight+previous-rides-1/seed-1"
    assert store[0].occupancy.shape == (5, *GRID.shape)
    torch.testing.assert_close(store[0].motion, shape_motion("straight", 6, DT)[1:] * (torch.arange(5) > 0).unsqueeze(1))
    model, clip = make_world(overlap=2, grid=GRID), ClipStore.open(rides)[1]
    rollout = model.start(clip.occupancy[-FRAMES:].unsqueeze(0), clip.motion[-FRAMES:].unsqueeze(0), torch.tensor([0]))
    shown = model.advance(rollout, shape_motion("straight", 3, DT)[None, 1:]).voxels
    assert shown is not None
    assert bool(shape_motion("straight", 3, DT)[1:, 0].gt(0).all())
    assert torch.equal(store[0].occupancy[:2], shown[0])


@pytest.mark.parametrize(
    ("words", "source"),
    [
        (["--condition", "layout:RIDES"], "layout-rides-0/seed-0"),
        (["--condition", "inpaint:RIDES#1", "--region", "x=0:"], "inpaint-rides-1/seed-0"),
    ],
)
def test_a_clip_keeps_its_own_motion_and_length(words: list[str], source: str, world: Path, rides: str, tmp_path: Path) -> None:
    """Where it is laid out or edited."""
    store = generate(world, tmp_path, *(word.replace("RIDES", rides) for word in words))
    clip = ClipStore.open(rides)[int("#1" in words[1])]
    assert store.source(0) == source
    assert store[0].occupancy.shape == clip.occupancy.shape
    assert torch.equal(store[0].motion, clip.motion)
    assert not torch.equal(store[0].occupancy, store[1].occupancy)


def test_a_larger_scene_is_stored_and_drawn_on_its_grid(world: Path, tmp_path: Path) -> None:
    """One window of it, under a command as well."""
    store = generate(world, tmp_path, "--condition", "outpaint:24x20", "command:right")
    assert store.grid == larger_grid(GRID, (24, 20))
    assert store.source(0) == "outpaint-24x20+command-right/seed-0"
    assert store[1].occupancy.shape == (FRAMES, 24, 20, 4)
    assert imageio.get_reader(tmp_path / "clips.mp4").count_frames() == FRAMES
    assert imageio.imread(tmp_path / "figure.png").std() > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--condition", "command:left", "--trajectory", "right"], "--trajectory: plays no part under a command"),
        (["--condition", "layout:RIDES", "--trajectory", "right"], "--trajectory: plays no part under a command, a layout"),
        (["--condition", "layout:RIDES", "outpaint:24x20"], "--condition: layout and outpaint do not go together"),
        (["--condition", "weather:rain"], "--condition: expected some of trajectory, command, previous"),
        (["--preset", "dynamiccity"], "occsora train-tokenizer --preset dynamiccity --clips STORE --out TOKENIZER"),
        (
            ["--preset", "dynamiccity-small"],
            "train-world-model --preset dynamiccity-small --tokenizer TOKENIZER --scenes SCENES",
        ),
        (["--region", "x=0:"], "--region: goes with --condition inpaint:STORE"),
        (["--condition", "inpaint:RIDES", "--region", "x=0:5", "x=9:"], "each once, found 'x=0:5 x=9:'"),
        (
            ["--model", "mini", "--condition", "command:left"],
            "a LearnedWorldModel is told of a trajectory alone, found 'command",
        ),
        (["--model", "mini", "--region", "x=0:"], "a LearnedWorldModel is told of a trajectory alone, found 'trajectory x=0:'"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], said: str, world: Path, rides: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if {"--model", "--preset"} & set(words) else ["--model", str(world)]
    assert main(["generate", *model, *(word.replace("RIDES", rides) for word in words), "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
