"""`occsora reconstruct`: tables, JSON and stores that `measure-clips --paired` takes, of tokenizers and VAEs of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.dynamiccity.pretrained import save_vae
from models.occsora.pretrained import save_tokenizer
from models.pretrained import save_pretrained
from occsora.__main__ import main
from occsora.reconstruct import load_rebuilder
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.grid import Grid
from tests.models.dynamiccity import small as dynamiccity
from tests.models.dynamiccity.small_world import make_world
from tests.models.occsora import small as occsora
from tests.models.occsora.world import make_world_model
from tests.models.small import make_model

pytest.importorskip("zarr")


def store(path: Path, grid: Grid, lengths: tuple[int, ...], dt: float) -> str:
    """Clips of random classes, whose motion tells the clip and the frame."""
    draw, clips = torch.Generator().manual_seed(0), []
    for number, frames in enumerate(lengths):
        occupancy = torch.randint(grid.num_classes, (frames, *grid.shape), generator=draw, dtype=torch.uint8)
        motion = torch.zeros(frames, 3)
        motion[1:, 0] = number + 0.01 * torch.arange(1, frames)
        clips.append(Clip(occupancy, motion, dt, f"random/{number}"))
    ClipStore.create(str(path), grid).append(clips)
    return str(path)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tokenizer of no preset's shape: 8 frames and 8 x 8 columns a place, 32 codes."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(occsora.make_tokenizer(), folder)
    return folder


def test_a_tokenizer_from_a_store_to_paired_figures(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips of 17 and 33 frames at 4 Hz hold one and two of 8 frames at 2 Hz; what is written measures as what was printed."""
    clips, out = store(tmp_path / "clips.zarr", occsora.GRID, (17, 33, 17, 17, 17, 17, 17, 14), 0.25), tmp_path / "out"
    words = ["reconstruct", "--tokenizer", str(tokenizer), "--clips", clips, "--frames", "8", "--dt", "0.5"]
    assert main([*words, "--out", str(out), "--json", str(tmp_path / "figures.json")]) == 0
    told = json.loads((tmp_path / "figures.json").read_text())
    assert told["compression_ratio"] == 512
    assert told["bits_per_frame"] == 2 * 3 * 5 / 8
    report = told["reports"]["8"]
    assert report["clips"] == 8
    shown = capsys.readouterr().out
    assert "512" in shown
    assert "reconstruction of 8 clips of 8 frames" in shown
    true, rebuilt = ClipStore.open(str(out / "true.zarr")), ClipStore.open(str(out / "rebuilt.zarr"))
    assert [true.source(number) for number in range(8)] == [f"random/{number}" for number in (0, 1, 1, 2, 3, 4, 5, 6)]
    assert torch.equal(true[2].occupancy, ClipStore.open(clips).read(1, 16, 8, 2).occupancy)
    assert torch.equal(true[2].motion, rebuilt[2].motion)
    expected = load_rebuilder(str(tokenizer)).model.reconstruct(true[2].occupancy.unsqueeze(0))[0]
    assert torch.equal(rebuilt[2].occupancy, expected)
    words = ["measure-clips", "--generated", rebuilt.address, "--reference", true.address, "--paired", "--group-by", "nothing"]
    assert main([*words, "--resamples", "2", "--pairs", "1", "--json", str(tmp_path / "paired.json")]) == 0
    assert json.loads((tmp_path / "paired.json").read_text())["reconstruction"] == report


def test_by_number_of_frames(tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first frames of a clip by themselves, and the clips spread over the store."""
    clips, out = store(tmp_path / "clips.zarr", occsora.GRID, (16, 16, 16, 16), 0.5), tmp_path / "figures.json"
    words = ["reconstruct", "--tokenizer", str(tokenizer), "--clips", clips, "--frames", "16", "8", "--num", "2"]
    assert main([*words, "--json", str(out), "--out", str(tmp_path / "out")]) == 0
    reports = json.loads(out.read_text())["reports"]
    assert [(name, reports[name]["clips"], reports[name]["frames"]) for name in reports] == [("8", 2, 8), ("16", 2, 16)]
    rebuilt = ClipStore.open(str(tmp_path / "out" / "rebuilt.zarr"))
    assert [(rebuilt.source(number), rebuilt.frames(number)) for number in range(2)] == [("random/0", 16), ("random/2", 16)]
    assert "by number of frames" in capsys.readouterr().out


def test_a_vae_keeps_six_planes(tmp_path: Path) -> None:
    """With frames of its own, and no others; half of 4 frames and of 16 x 20 x 4 voxels along each axis."""
    save_vae(dynamiccity.make_vae(), tmp_path / "vae")
    clips, out = store(tmp_path / "clips.zarr", dynamiccity.GRID, (9,), 0.1), tmp_path / "figures.json"
    assert main(["reconstruct", "--tokenizer", str(tmp_path / "vae"), "--clips", clips, "--json", str(out)]) == 0
    told = json.loads(out.read_text())
    places = 8 * 10 + 8 * 2 + 10 * 2 + 2 * 8 + 2 * 10 + 2 * 2
    assert told["compression_ratio"] == pytest.approx(4 * 16 * 20 / places)
    assert told["bits_per_frame"] == 16 * 8 * places / 4
    assert told["reports"]["4"]["clips"] == 2
    assert load_rebuilder(str(tmp_path / "vae")).model.encode(dynamiccity.make_clips(1)).mean.count == 8 * places


def test_what_is_in_a_world_model(tmp_path: Path, scene_folder: Path) -> None:
    """On scenes that are rendered at its rate."""
    save_pretrained(make_world_model(frames=16), tmp_path / "occsora")
    save_pretrained(make_world(), tmp_path / "dynamiccity")
    assert load_rebuilder(str(tmp_path / "dynamiccity")).frames == dynamiccity.CONFIG.frames
    words = ["reconstruct", "--tokenizer", str(tmp_path / "occsora"), "--scenes", str(scene_folder), "--num", "1"]
    assert main([*words, "--frames", "8", "--out", str(tmp_path / "out")]) == 0
    clip = ClipStore.open(str(tmp_path / "out" / "true.zarr"))[0]
    assert (clip.dt, len(clip.occupancy)) == (0.5, 8)
    assert bool((clip.occupancy != occsora.GRID.free).any())


def test_presets_say_what_clips_they_are_for(tmp_path: Path) -> None:
    from models.occsora.config import PRESETS
    from models.occsora.tokenizer import OccSoraTokenizer

    preset = PRESETS["occsora-lean-near"]
    save_tokenizer(OccSoraTokenizer(preset.grid, preset.tokenizer), tmp_path)
    found = load_rebuilder(str(tmp_path))
    assert (found.frames, found.dt, found.ratio) == (16, 0.5, 64)


def test_what_is_wrong_is_said(tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_pretrained(make_model(), tmp_path / "mini")
    save_vae(dynamiccity.make_vae(), tmp_path / "vae")
    clips, folder = store(tmp_path / "clips.zarr", occsora.GRID, (16,), 0.5), str(tokenizer)
    cases = [
        (["--tokenizer", folder, "--frames", "8"], "--clips, --scenes: expected one of the two, found neither"),
        (["--tokenizer", folder, "--clips", clips], "--frames: the tokenizer is of no preset's shape"),
        (["--tokenizer", folder, "--clips", clips, "--frames", "9"], "frames in a multiple of 8"),
        (["--tokenizer", folder, "--clips", clips, "--frames", "24"], "found no clip of 24 frames, 0.5 s apart"),
        (["--tokenizer", folder, "--clips", clips, "--frames", "8", "--dt", "0.7"], "0.7 s apart or a fraction of that"),
        (["--tokenizer", folder, "--scenes", folder, "--frames", "8"], "--dt: the tokenizer is of no preset's shape"),
        (["--tokenizer", str(tmp_path / "vae"), "--clips", clips], "expected a store on the tokenizer's grid, (16, 20, 4)"),
        (
            ["--tokenizer", str(tmp_path / "vae"), "--clips", clips, "--frames", "8"],
            "this VAE takes clips of 4 frames, found 8",
        ),
        (["--tokenizer", str(tmp_path / "mini"), "--clips", clips], "found kind 'world_model'"),
    ]
    for words, said in cases:
        assert main(["reconstruct", *words]) == 2
        assert said in capsys.readouterr().err
