"""The command trains an extractor on scenes or on stored clips, and what it prints can be measured with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.fidelity.extractors import load_extractor
from occsora.__main__ import main
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.grid import MINI, Grid

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")
GRID = Grid((24, 20, 4), 1.6, (-19.2, -16.0, -1.6))


def test_on_scenes(scene_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = ["--kind", "maps", "--frames", "1", "--steps", "1", "--batch-size", "2"]
    assert main(["train-features", "--scenes", str(scene_folder), "--out", str(out), *options]) == 0
    assert load_extractor(out, MINI).sha256 in capsys.readouterr().out


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
