"""The command trains an extractor on scenes or on stored clips, and what it prints can be measured with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.checkpoint import write_json
from models.fidelity import train_features
from models.fidelity.extractors import load_extractor
from occsora.__main__ import main
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.dataset import SceneClips
from scenes.grid import MINI, NEAR, OCC3D, Grid

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")
GRID = Grid((24, 20, 4), 1.6, (-19.2, -16.0, -1.6))


def test_on_scenes(scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = ["--kind", "maps", "--frames", "1", "--steps", "1", "--batch-size", "2"]
    assert main(["train-features", "--scenes", str(scene_folder), "--out", str(out), *options]) == 0
    assert load_extractor(out, MINI).sha256 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("preset", "grid", "dt"),
    [
        ("occsora-near", NEAR, 0.5),
        ("dynamiccity-near", NEAR, 0.25),
        ("occsora-small-no-timestep", MINI, 0.5),
        ("base", OCC3D, 0.25),
    ],
)
def test_scenes_are_rendered_for_a_preset(
    preset: str, grid: Grid, dt: float, scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its grid and at its rate: what the ego drives between frames is what it drives in so many seconds, 6 m/s."""
    seen: list[tuple[SceneClips, Grid]] = []
    monkeypatch.setattr(train_features, "train_features", lambda kind, clips, grid, cfg: seen.append((clips, grid)) or tmp_path)
    write_json(tmp_path / "config.json", {"config": {"sha256": ""}})
    options = ["--preset", preset, "--frames", "3", "--out", str(tmp_path)]
    assert main(["train-features", "--scenes", str(scene_folder), *options]) == 0
    ((clips, found),) = seen
    item = clips[0]
    assert found == grid
    assert item["occupancy"].shape == (3, *grid.shape)
    assert item["motion"][1:, 0].tolist() == pytest.approx([6 * dt] * 2, abs=0.01)


def test_the_classes_of_carlasc_come_from_a_store(
    scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train-features", "--scenes", str(scene_folder), "--out", str(tmp_path)]
    assert main([*words, "--preset", "dynamiccity-carlasc"]) == 2
    assert "make-scenes clips --grid carlasc" in capsys.readouterr().err
    assert main([*words, "--preset", "huge"]) == 2
    assert "expected one of ['mini', 'base', 'occsora'" in capsys.readouterr().err


def test_on_stored_clips_of_any_grid(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    occupancy = torch.randint(18, (4, *GRID.shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    store = str(tmp_path / "clips")
    ClipStore.create(store, GRID).append([Clip(occupancy, torch.zeros(4, 3), 0.5, "made/up")])
    out = tmp_path / "run"
    assert (
        main(["train-features", "--clips", store, "--out", str(out), "--frames", "3", "--steps", "1", "--batch-size", "2"]) == 0
    )
    assert load_extractor(out, GRID)(occupancy)["clip"].shape == (1, 64)


def test_scenes_or_clips(scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-features", "--out", str(tmp_path)]) == 2
    assert "expected --scenes or --clips" in capsys.readouterr().err
