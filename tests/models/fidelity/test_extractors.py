"""Feature extractors: the same features everywhere, for any grid; trained ones come back as they were saved, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.fidelity.extractors import load_extractor
from models.fidelity.road_layout import LAYOUTS
from models.fidelity.train_features import train_features
from models.training import TrainingConfig
from scenes.clip import Clip
from scenes.grid import MINI, Grid

RANDOM_SHA256 = "c7b8d4c91bf0398f9f0321ba30ce287907f098e12647cdea4e2aaf1728bb8f38"


class Listed:
    """Training clips from a list, in turn."""

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[index]
        return {"occupancy": clip.occupancy, "motion": clip.motion}


def trained(kind: str, folder: Path, clips: list[Clip], grid: Grid, steps: int = 2) -> Path:
    pytest.importorskip("accelerate")
    pytest.importorskip("tensorboard")
    cfg = TrainingConfig(folder, steps=steps, batch_size=2, optimizer="adamw", learning_rate=1e-3, warmup=1, log_every=1)
    return train_features(kind, Listed(clips), grid, cfg)


def test_voxels_of_one_clip_a_step_are_refused(grid: Grid, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size: features of voxels need 2 clips a step or more, found 1"):
        train_features("voxels", Listed([]), grid, TrainingConfig(tmp_path, batch_size=1))


def test_random_features_are_the_same_for_everybody(grid: Grid) -> None:
    """Figures of random features compare between machines and versions only while this hash stays."""
    assert load_extractor("random", grid).sha256 == RANDOM_SHA256 == load_extractor("random", MINI).sha256


@pytest.mark.parametrize("shape", [(48, 48, 8), (33, 31, 5), (9, 20, 1)])
def test_any_grid_and_any_number_of_frames(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, 0.8, (-8.0, -8.0, -0.8))
    extractor = load_extractor("random", grid)
    for frames in (1, 9):
        occupancy = torch.randint(18, (frames, *shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        found = extractor(occupancy)
        assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"frame": (frames, 64), "clip": (1, 64)}
        assert all(bool(tensor.isfinite().all()) for tensor in found.values())


def test_frames_do_not_depend_on_each_other_and_clips_on_their_order(true_clips: list[Clip], grid: Grid) -> None:
    extractor, occupancy = load_extractor("random", grid), true_clips[0].occupancy
    forward, backward = extractor(occupancy), extractor(occupancy.flip(0))
    assert torch.allclose(forward["frame"], backward["frame"].flip(0), atol=1e-5)
    assert not torch.allclose(forward["clip"], backward["clip"], atol=1e-4)


def test_trained_voxel_features_come_back(tmp_path: Path, true_clips: list[Clip], grid: Grid) -> None:
    folder = trained("voxels", tmp_path / "run", true_clips[:4], grid)
    first, again = load_extractor(folder, grid), load_extractor(folder, grid)
    assert first.name == "voxels"
    assert first.sha256 == again.sha256 != RANDOM_SHA256
    occupancy = true_clips[5].occupancy
    assert torch.equal(first(occupancy)["clip"], again(occupancy)["clip"])
    assert (folder / "model.safetensors").stat().st_size < 2**20
    with pytest.raises(ValueError, match=r"was trained on the grid \(48, 48, 8\).*the clips are on \(96, 96, 8\)"):
        load_extractor(folder, MINI)
    with pytest.raises(ValueError, match="was trained on the grid"):
        load_extractor(folder, replace(grid, voxel=0.4))


def test_other_weights_than_the_config_names_are_refused(tmp_path: Path, true_clips: list[Clip], grid: Grid) -> None:
    one = trained("maps", tmp_path / "one", true_clips[:4], grid, steps=1)
    other = trained("maps", tmp_path / "other", true_clips[:4], grid, steps=2)
    (other / "model.safetensors").replace(one / "model.safetensors")
    with pytest.raises(ValueError, match=r"one/model\.safetensors: has sha256"):
        load_extractor(one, grid)


def test_maps_give_posteriors_of_the_layout_of_the_road(tmp_path: Path, true_clips: list[Clip], grid: Grid) -> None:
    folder = trained("maps", tmp_path / "run", true_clips[:4], grid)
    posterior = load_extractor(folder, grid)(true_clips[0].occupancy)["posterior"]
    assert posterior.shape == (6, len(LAYOUTS))
    assert torch.allclose(posterior.sum(-1), torch.ones(6))


def test_a_kind_that_does_not_exist(tmp_path: Path, grid: Grid) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        train_features("sounds", Listed([]), grid, TrainingConfig(tmp_path))
