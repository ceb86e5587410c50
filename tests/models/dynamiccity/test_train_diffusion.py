"""Training of the diffusion transformer: the cache of encoded windows, a run that learns, and what it leaves behind."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from models.dynamiccity.hexplane import PLANES
from models.dynamiccity.plane_clips import PlaneClips, build_plane_clips, encode_windows
from models.dynamiccity.train_diffusion import DiffusionTask, PlaneBatch, release_training, train_diffusion
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.pretrained import from_pretrained
from tests.models.dynamiccity.small import GRID, make_vae
from tests.models.dynamiccity.small_world import CONFIG, FRAMES, make_motion, make_world


class Clips(Dataset[dict[str, Any]]):
    """Random clips of some frames."""

    def __init__(self, frames: int) -> None:
        self.frames, self.read = frames, 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read += 1
        draw = torch.Generator().manual_seed(index)
        occupancy = torch.randint(0, GRID.num_classes, (self.frames, *GRID.shape), generator=draw, dtype=torch.uint8)
        return {"occupancy": occupancy, "motion": make_motion(1, self.frames, index)[0]}


@pytest.mark.parametrize("overlap", [0, 2])
def test_windows_are_what_a_rollout_sees(overlap: int) -> None:
    """The conditions of a window are those that `tell` makes in a rollout which has shown the frames before."""
    model = make_world(overlap=overlap)
    clips = Clips(model.cfg.clip_frames)
    cache = encode_windows(model, clips, range(2))
    assert len(cache) == 2
    item = clips[1]
    occupancy, motion = item["occupancy"].unsqueeze(0), item["motion"].unsqueeze(0)
    rollout = model.start(occupancy[:, :FRAMES], motion[:, :FRAMES], torch.zeros(1, dtype=torch.int64))
    rollout["motion"] = motion[:, FRAMES - overlap : FRAMES]
    torch.testing.assert_close(cache.planes[1:].float(), model.encode(occupancy[:, -FRAMES:]), atol=2e-3, rtol=2e-3)
    found = cache.conditions(torch.tensor([1]), model.diffusion.scale, model)
    expected = model.tell(found, motion[:, -FRAMES:], rollout)
    for name in ("previous", "carried"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=2e-3, rtol=2e-3)
    for name in ("trajectory", "command", "drivable", "vehicles"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_a_cache_goes_on_where_it_was(tmp_path: Path) -> None:
    """Parts that are there are read, a part that was cut short is made again, those of another VAE are refused."""
    model = make_world(conditions=("previous",))
    clips = Clips(model.cfg.clip_frames)
    first = build_plane_clips(model, clips, 2, tmp_path)
    assert (clips.read, len(first)) == (2 + 1, 2)  # the first one once more, to know the clips by
    again = build_plane_clips(model, clips, 1, tmp_path)
    assert clips.read == 4
    for item in fields(PlaneClips):
        assert torch.equal(getattr(again, item.name), getattr(first, item.name)[:1])
    assert len(build_plane_clips(model, clips, 3, tmp_path)) == 3
    model.vae.encoder.embed.weight.data += 1
    with pytest.raises(ValueError, match="holds clips that another model encoded"):
        build_plane_clips(model, clips, 2, tmp_path)


def test_scales_make_planes_of_size_one() -> None:
    model = make_world()
    cache = encode_windows(model, Clips(model.cfg.clip_frames), range(2))
    scaled = DynamicCityWorldModel(replace(model.cfg, scale=cache.scale(model)))
    found = make_world().diffusion.to_planes(cache.planes.float() / scaled.diffusion.scale)
    for name, plane in zip(PLANES, found, strict=True):
        assert float(plane.square().mean()) == pytest.approx(1.0, rel=1e-3), name


def test_a_batch_is_learned() -> None:
    """The loss of one batch falls, it counts cells of planes alone, and the VAE stays as it is."""
    model = DynamicCityWorldModel(CONFIG)
    task = DiffusionTask(model, seed=0)
    cache = encode_windows(model, Clips(model.cfg.clip_frames), range(4))
    scale = torch.tensor(float(cache.planes.float().square().mean().sqrt()))
    pick = torch.arange(4)
    batch = PlaneBatch(cache.planes.float() / scale, cache.conditions(pick, scale, model))
    padded = PlaneBatch(torch.where(model.diffusion.mask, batch.rollout, 5.0), batch.conditions)
    assert torch.equal(task(batch, 0)["loss"], task(padded, 0)["loss"])
    frozen = {name: tensor.clone() for name, tensor in model.vae.state_dict().items()}
    learned = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=3e-3)

    def judge() -> float:
        with torch.no_grad():
            return sum(float(task(batch, step)["simple"]) for step in range(1000, 1006)) / 6

    before = judge()
    for step in range(30):
        optimizer.zero_grad()
        task(batch, step)["loss"].backward()
        optimizer.step()
    assert judge() < 0.85 * before
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.vae.state_dict().items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_leaves_a_world_model(tmp_path: Path) -> None:
    """Its VAE is the trained one, its scale was measured, and it makes clips."""
    pytest.importorskip("accelerate")
    pytest.importorskip("tensorboard")
    vae, model_cfg = make_vae(), replace(CONFIG, overlap=2)
    cfg = release_training(tmp_path / "run", steps=2, batch_size=2, save_every=2)
    folder = train_diffusion(Clips(FRAMES + 2), vae, model_cfg, cfg, count=2)
    model = from_pretrained(folder)
    assert isinstance(model, DynamicCityWorldModel)
    assert all(torch.equal(tensor, vae.state_dict()[name]) for name, tensor in model.vae.state_dict().items())
    assert model.cfg.scale != CONFIG.scale
    assert replace(model.cfg, scale=CONFIG.scale) == model_cfg
    assert model.generate(make_motion(1, 6), torch.tensor([0])).voxels.shape == (1, 6, *GRID.shape)
