"""`occsora generate`: films, a figure and a store of clips, from chunk and from clip models, and clear refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from models.diffusion_sampling import SamplerConfig
from models.pretrained import save_pretrained
from occsora import generate
from occsora.__main__ import main
from occsora.generate import Generate
from occworld_env.drawing_clips import Film, draw_sheet
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.grid import MINI
from scenes.motion import accumulate
from scenes.trajectory import shape_motion
from tests.models.occsora.world import make_world_model
from tests.models.small import make_model

GRID = replace(MINI, shape=(32, 32, 8), origin=(-12.8, -12.8, -0.8))


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained model of clips of 16 frames at 2 Hz."""
    folder = tmp_path_factory.mktemp("clips")
    save_pretrained(make_world_model(grid=GRID, frames=16), folder)
    return folder


def test_clips_films_and_figure(clip_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two trajectories in rows, two seeds each; the store says which clip is which, and holds what was asked for."""
    words = ["generate", "--model", str(clip_model), "--seconds", "12", "--num", "2", "--seed", "4", "--steps", "2"]
    assert main([*words, "--trajectory", "straight", "left", "--out", str(tmp_path)]) == 0
    assert "s a clip on cpu" in capsys.readouterr().out
    store = ClipStore.open(str(tmp_path / "clips.zarr"))
    assert [store.source(number) for number in range(4)] == ["straight/seed-4", "straight/seed-5", "left/seed-4", "left/seed-5"]
    assert store[0].dt == 0.5
    assert store[0].occupancy.shape == (24, *GRID.shape)
    torch.testing.assert_close(store[2].motion, shape_motion("left", 24, 0.5))
    assert not torch.equal(store[0].occupancy, store[1].occupancy)
    film = imageio.get_reader(tmp_path / "clips.mp4")
    assert film.count_frames() == 24
    assert film.get_meta_data()["fps"] == 2
    assert len(imageio.mimread(tmp_path / "clips.gif")) > 1
    figure = imageio.imread(tmp_path / "figure.png")
    assert figure.shape[0] == 4 * 164
    assert figure.std() > 10


def test_the_same_seed_gives_the_same_clips(clip_model: Path) -> None:
    config = Generate(model=str(clip_model), steps=2, seconds=8.0)
    model = generate.prepared_model(config)
    motion = generate.trajectory("right", config, model)
    one, two, other = (generate.generate(model, motion, "right", seed)[0] for seed in (3, 3, 4))
    assert torch.equal(one.occupancy, two.occupancy)
    assert not torch.equal(one.occupancy, other.occupancy)
    assert one.source == "right/seed-3"


def test_a_model_of_chunks_generates_too(tmp_path: Path) -> None:
    """With its own frames a second; a file of poses is followed like a shape."""
    save_pretrained(make_model(), tmp_path / "model")
    (tmp_path / "drive.json").write_text(json.dumps({"dt": 1.0, "poses": [[2.0 * step, 0.0] for step in range(5)]}))
    words = ["generate", "--model", str(tmp_path / "model"), "--trajectory", str(tmp_path / "drive.json")]
    assert main([*words, "--seconds", "1.5", "--num", "3", "--batch-size", "2", "--out", str(tmp_path / "out")]) == 0
    store = ClipStore.open(str(tmp_path / "out" / "clips.zarr"))
    assert [(clip.dt, len(clip.occupancy), clip.source) for clip in (store[0], store[2])] == [
        (0.25, 6, "drive/seed-0"),
        (0.25, 6, "drive/seed-2"),
    ]
    assert store[1].motion[1:, 0].numpy() == pytest.approx(np.full(5, 0.5))


@pytest.fixture
def drives(tmp_path: Path) -> str:
    """A store of three clips of 8 s at 4 Hz, each at a speed of its own, in a bend; and one of 2 s."""
    clips = []
    for number, frames in enumerate((33, 33, 33, 9)):
        motion = torch.tensor([0.5 + number, 0.0, 0.02]).repeat(frames, 1)
        motion[0] = 0.0
        clips.append(Clip(torch.zeros(frames, *GRID.shape, dtype=torch.uint8), motion, 0.25, f"drive/{number}"))
    ClipStore.create(str(tmp_path / "drives.zarr"), GRID).append(clips)
    return str(tmp_path / "drives.zarr")


def test_clips_of_a_store_are_driven_as_they_were(clip_model: Path, drives: str, tmp_path: Path) -> None:
    """One clip each, at the model's rate of half that of the store, also side by side; `#N` is one of them, for all seeds."""
    words = ["generate", "--model", str(clip_model), "--seconds", "8", "--num", "3", "--steps", "1", "--batch-size", "2"]
    assert main([*words, "--trajectory", drives, f"{drives}#1", "--out", str(tmp_path / "out")]) == 0
    store = ClipStore.open(str(tmp_path / "out" / "clips.zarr"))
    assert [store.source(number) for number in range(6)] == [
        *(f"drives/seed-{number}" for number in range(3)),
        *(f"drives-1/seed-{number}" for number in range(3)),
    ]
    recorded = ClipStore.open(drives)
    for number, driven in enumerate((0, 1, 2, 1, 1, 1)):
        expected = accumulate(recorded.motion(driven))[:32:2]
        torch.testing.assert_close(accumulate(store.motion(number)), expected, atol=1e-3, rtol=0)
    assert not torch.equal(store[3].occupancy, store[4].occupancy)


def test_a_store_of_short_or_few_clips_is_refused(
    clip_model: Path, drives: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--model", str(clip_model), "--seconds", "8", "--steps", "1", "--out", str(tmp_path / "out")]
    cases = [
        (["--num", "4", "--trajectory", drives], "drives.zarr#3: goes on for 2 s, and a clip of 16 frames needs 7.5 s"),
        (["--num", "5", "--trajectory", drives], "expected 5 clips or more, as --num says, found 4 clips in"),
        (["--num", "1", "--trajectory", f"{drives}#4"], "expected clip 4, found 4 clips in"),
        (["--num", "1", "--trajectory", f"{drives}#x"], "expected STORE#N with a number N"),
        (["--num", "1", "--trajectory", "none.zarr"], "none.zarr: no store of clips"),
    ]
    for more, said in cases:
        assert main([*words, *more]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_what_was_made_outlives_an_interruption(clip_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch by batch; and where nothing was made, nothing stands in the way of another attempt."""
    made, fail_at = generate.generate, 0

    def interrupted(model: Any, motion: Any, name: str, seed: int, told: Any = None) -> list[Clip]:
        if seed >= fail_at:
            raise KeyboardInterrupt
        return made(model, motion, name, seed, told)

    monkeypatch.setattr(generate, "generate", interrupted)
    words = ["generate", "--model", str(clip_model), "--seconds", "8", "--num", "5", "--steps", "1", "--batch-size", "2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 130
    fail_at = 4
    assert main([*words, "--out", str(tmp_path / "out")]) == 130
    store = ClipStore.open(str(tmp_path / "out" / "clips.zarr"))
    assert [store.source(number) for number in range(len(store))] == [f"straight/seed-{number}" for number in range(4)]


def test_more_clips_than_can_be_drawn(clip_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are in the store; 16 of them, the first of each trajectory, are in the film and the figure, and in memory."""
    drawn: list[list[str]] = []
    monkeypatch.setattr(
        generate, "draw", lambda folder, lines, *rest: drawn.extend([clip.source for clip in line] for line in lines) or []
    )
    words = ["generate", "--model", str(clip_model), "--seconds", "8", "--num", "20", "--steps", "1", "--batch-size", "7"]
    assert main([*words, "--trajectory", "left", "right", "--out", str(tmp_path)]) == 0
    assert len(ClipStore.open(str(tmp_path / "clips.zarr"))) == 40
    assert drawn == [[f"{name}/seed-{number}" for number in range(8)] for name in ("left", "right")]


def test_a_sheet_of_more_columns_than_it_has_room_for() -> None:
    film = Film(torch.full((1, *GRID.shape), GRID.free, dtype=torch.uint8), torch.zeros(1, 3), "a film")
    assert draw_sheet([[film] * 120], 0, GRID, 0.5).shape[0] == 36


def test_the_sampler_is_the_one_asked_for(clip_model: Path) -> None:
    model = generate.prepared_model(Generate(model=str(clip_model), sampler="ddpm", steps=7, rate=0.5, guidance=2.0))
    assert model.cfg.sampler == SamplerConfig("ddpm", steps=7, rate=0.5)  # type: ignore[attr-defined]
    assert model.cfg.guidance == 2.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--preset", "occsora"],
            "--preset: 'occsora' has no bundled weights. Train it: `occsora train-tokenizer --preset occsora",
        ),
        (["--preset", "base"], "--tokenizer TOKENIZER --flow FLOW"),
        (["--preset", "huge"], "preset: expected one of ['mini', 'base', 'occsora'"),
        (["--preset", "mini", "--model", "mini"], "--model, --preset: expected one of the two, found both"),
        (["--num", "0"], "--num: expected a positive number, found 0"),
        (["--seconds", "-1"], "--seconds: expected a positive number, found -1"),
        (["--model", "mini", "--guidance", "2"], "--guidance: for models that make whole clips; mini goes on chunk by chunk"),
        (["--trajectory", "up"], "or a file, found no file up"),
        (["--trajectory", "left", "left"], "--trajectory: expected different names, found left left"),
        (["--out", "TAKEN"], "is there already; choose another folder"),
    ],
)
def test_what_is_wrong_is_said(more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ClipStore.create(str(tmp_path / "taken" / "clips.zarr"), GRID)
    words = [str(tmp_path / "taken") if word == "TAKEN" else word for word in more]
    out = [] if "--out" in more else ["--out", str(tmp_path / "out")]
    assert main(["generate", *words, *out]) == 2
    assert said in capsys.readouterr().err
