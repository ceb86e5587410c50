"""Training of the HexPlane VAE: it learns, resumes where it was, and is read back as it was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.checkpoint import Checkpoints, read_tensors
from models.dynamiccity.pretrained import load_vae, save_vae
from models.dynamiccity.train_vae import VaeLossConfig, VaeTask, reference_class_weights, train_vae, training_config
from scenes.dataset import SceneClips
from scenes.scene import Scene
from tests.models.dynamiccity.small import CONFIG, GRID, make_clips, make_vae

Maker = Callable[..., Scene]


def train(out: Path, town: Maker, steps: int) -> Path:
    cfg = training_config(out, steps, warmup=1, save_every=2, log_every=2)
    shape = replace(CONFIG, channels=4, heads=1, plane_channels=4, hidden=8, fine=4)
    clips = SceneClips([town()], GRID, 0.25, shape.frames)
    folder = train_vae(clips, shape, cfg, VaeLossConfig(lovasz_voxels=256))
    return folder / "checkpoints"


def test_a_stopped_run_ends_with_the_same_weights(tmp_path: Path, town: Maker) -> None:
    """A run that lost its last checkpoint and goes on from the one before ends as the first time."""
    checkpoints = Checkpoints(train(tmp_path / "run", town, 4))
    assert checkpoints.steps() == [2, 4]
    first = read_tensors(checkpoints.path(4) / "weights.safetensors")
    checkpoints.path(4).rename(tmp_path / "kept")
    train(tmp_path / "run", town, 4)
    again = read_tensors(checkpoints.path(4) / "weights.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_loss_falls() -> None:
    """Twenty steps on one clip of a ground, a wall and air make it better known."""
    vae, clips = make_vae(), torch.full((1, CONFIG.frames, *GRID.shape), GRID.free, dtype=torch.uint8)
    clips[..., 0], clips[:, :, 10:, :, :2] = 11, 15
    task = VaeTask(vae, torch.full((18,), 1 / 18), VaeLossConfig(), seed=0)
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-2)
    losses = []
    for step in range(20):
        optimizer.zero_grad()
        figures = task(clips, step)
        figures["loss"].backward()
        optimizer.step()
        losses.append(float(figures["loss"].detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_weights_of_rare_classes() -> None:
    """(largest / share)^(1/3), as in the release."""
    found = reference_class_weights(torch.tensor([0.8, 0.1, 0.1 / 8, 0.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 4.0, 1.0]))


@pytest.mark.parametrize(("projection", "decoder"), [("module", "ess"), ("average", "query")])
def test_saved_and_loaded(tmp_path: Path, projection: str, decoder: str) -> None:
    vae, clips = make_vae(projection=projection, decoder=decoder), make_clips()
    save_vae(vae, tmp_path)
    loaded = load_vae(tmp_path)
    assert loaded.cfg == vae.cfg
    assert loaded.grid == vae.grid
    assert torch.equal(loaded.reconstruct(clips), vae.reconstruct(clips))


def test_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"kind": "tokenizer", "config": {}}')
    with pytest.raises(ValueError, match="expected a model of kind hexplane_vae, found kind 'tokenizer'"):
        load_vae(tmp_path)
