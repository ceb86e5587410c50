"""The command measures stores of true clips from the bundled scenes, and says in one line where they do not fit together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.evaluation_clips import scene_clips
from models.fidelity.disturbed import frozen
from occsora.__main__ import main
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.grid import MINI, Grid
from scenes.scene_file import load_scenes

pytest.importorskip("zarr")
GRID = replace(MINI, shape=(48, 48, 8), origin=(-19.2, -19.2, -0.8))


def store(path: Path, clips: list[Clip], grid: Grid = GRID) -> str:
    ClipStore.create(str(path), grid).append(clips)
    return str(path)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    scenes = load_scenes(Path(__file__).parents[2] / "occworld_env" / "data")
    found = scene_clips(scenes, GRID, 20, 6, chunk_frames=2)
    return [Clip(clip["occupancy"], clip["motion"], 0.25, clip["source"]) for clip in found]


@pytest.fixture(scope="module")
def reference(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> str:
    return store(tmp_path_factory.mktemp("true") / "clips.zarr", clips[:10])


def test_figures_by_group_seams_and_reconstruction(
    clips: list[Clip], reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [replace(clip, source=f"generated/recorded/{number}") for number, clip in enumerate(clips[10:])]
    bad = [replace(frozen(clip), source=f"generated/frozen/{number}") for number, clip in enumerate(clips[10:])]
    generated, out = store(tmp_path / "made.zarr", good + bad), tmp_path / "figures.json"
    options = ["--chunk-frames", "2", "--resamples", "5", "--pairs", "1", "--json", str(out)]
    assert main(["measure-clips", "--generated", generated, "--reference", reference, *options]) == 0
    told, shown = json.loads(out.read_text()), capsys.readouterr().out
    assert told["features"]["random"]["sha256"] in shown
    assert list(told["comparisons"]) == ["all", "generated/frozen", "generated/recorded"]
    assert told["comparisons"]["all"]["clips"] == {"generated": 20, "reference": 10, "floor": 4}
    response = {
        name: figure["generated"]["value"]
        for name, comparison in told["comparisons"].items()
        for figure in comparison["properties"]
        if (figure["figure"], figure["of"]) == ("response_m", "own command")
    }
    assert response["generated/recorded"] < 0.2 < response["generated/frozen"]
    assert {figure["figure"] for figure in told["comparisons"]["all"]["properties"]} >= {"seam_ratio", "change"}
    assert "kernel" in shown
    assert "seam_ratio" in shown


def test_trajectories_are_held_against_their_own_kind(clips: list[Clip], tmp_path: Path) -> None:
    standing = [Clip(frozen(clip).occupancy, torch.zeros(6, 3), 0.25, clip.source) for clip in clips]
    mixed, out = store(tmp_path / "mixed.zarr", clips[:10] + standing[:10]), tmp_path / "figures.json"
    others = store(tmp_path / "others.zarr", clips[10:] + standing[10:])
    options = ["--others", others, "--group-by", "trajectory", "--resamples", "2", "--pairs", "1", "--json", str(out)]
    assert main(["measure-clips", "--generated", mixed, "--reference", mixed, *options]) == 0
    told = json.loads(out.read_text())
    assert told["comparisons"]["still"]["clips"] == {"generated": 10, "reference": 10, "floor": 10}
    assert told["comparisons"]["all"]["clips"] == {"generated": 20, "reference": 20, "floor": 20}
    assert told["floor"] == "other true clips"


def test_reconstructions_are_compared_in_pairs(
    clips: list[Clip], reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generated, out = store(tmp_path / "made.zarr", [frozen(clip) for clip in clips[:10]]), tmp_path / "figures.json"
    options = ["--paired", "--group-by", "nothing", "--resamples", "2", "--pairs", "1", "--json", str(out)]
    assert main(["measure-clips", "--generated", generated, "--reference", reference, *options]) == 0
    rebuilt = json.loads(out.read_text())["reconstruction"]
    assert rebuilt["by_frame"][0] == 1 > rebuilt["by_frame"][-1] > 0
    assert rebuilt["clips"] == 10
    assert "reconstruction of 10 clips of 6 frames" in capsys.readouterr().out


def test_stores_that_do_not_fit_together(
    clips: list[Clip], reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = Grid((24, 24, 4), 1.6, (-19.2, -19.2, -1.6))
    other = [Clip(torch.zeros(6, *coarse.shape, dtype=torch.uint8), torch.zeros(6, 3), 0.25, "x/0")] * 8
    cases = {
        store(tmp_path / "coarse", other, coarse): "is on a grid of (24, 24, 4) voxels of 1.6 m",
        store(tmp_path / "few", clips[:7]): "has 7 clips, expected 8 or more",
        store(
            tmp_path / "slow", [replace(clip, dt=0.5) for clip in clips[:8]]
        ): "has 0.5 s between frames, the reference 0.25 s",
        str(tmp_path / "none"): "no store of clips",
    }
    for generated, said in cases.items():
        assert main(["measure-clips", "--generated", generated, "--reference", reference]) == 2
        error = capsys.readouterr().err
        assert said in " ".join(error.split())
        assert Path(generated).name in error
    assert main(["measure-clips", "--generated", reference, "--reference", reference, "--frames", "9"]) == 2
    assert "a clip has 6 frames, expected 9 or more" in capsys.readouterr().err
    assert main(["measure-clips", "--generated", reference, "--reference", reference, "--chunk-frames", "6"]) == 2
    assert "have no border" in capsys.readouterr().err
