"""Training of OccSora's tokenizer: losses fall, an interrupted run ends as an undisturbed one, dead codes are revived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, Subset

from models.checkpoint import read_tensors
from models.occsora.config import OccSoraPreset
from models.occsora.pretrained import load_tokenizer
from models.occsora.train_tokenizer import TokenizerTask, release_training, saved_tokenizers, train_tokenizer
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.dataset import SceneClips
from scenes.scene import Scene
from scenes.store_clips import StoreClips
from tests.models.occsora.small import CONFIGS, GRID, make_clips, make_tokenizer
from tests.models.small import make_street

FRAMES = 8


def preset(name: str) -> OccSoraPreset:
    return OccSoraPreset(CONFIGS[name], GRID, frames=FRAMES, dt=0.5)


@pytest.mark.parametrize("name", ["paper", "lean"])
def test_losses_fall_on_clips_of_a_town(name: str, tmp_path: Path, town: Callable[..., Scene]) -> None:
    """Against the same voxels before and after; the trained model is the one on disk."""
    clips = SceneClips([town()], GRID, 0.5, FRAMES)
    batch = torch.stack([clips[index]["occupancy"] for index in (900, 901)])
    cfg = release_training(tmp_path, steps=30, warmup=5, learning_rate=1e-2, save_every=100, log_every=100)
    folder = train_tokenizer(clips, preset(name), cfg, columns=512)
    trained = TokenizerTask(load_tokenizer(folder), 0)(batch, 0)
    fresh = TokenizerTask(make_tokenizer(name), 0)(batch, 0)
    assert trained["cross_entropy"] < 0.7 * fresh["cross_entropy"]
    assert trained["lovasz"] < fresh["lovasz"]


class Interrupted(Dataset[dict[str, Any]]):
    """Random clips, one of which cannot be read the first time."""

    def __init__(self, broken: int) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == self.broken:
            self.broken = -1
            raise OSError("disk is gone")
        return {"occupancy": make_clips(1, FRAMES, seed=index)[0]}


@pytest.mark.parametrize("parts", [("weights", "average", "optimizer"), ("weights", "optimizer")], ids=["averaged", "plain"])
def test_interrupted_and_resumed_equals_undisturbed(parts: tuple[str, ...], tmp_path: Path) -> None:
    """Weights, statistics of the normalisations, use of the codes and moments of the optimiser end with the same bits; no
    average is kept where there is none."""
    decay = 0.9 if "average" in parts else 0.0
    settings = {"steps": 4, "warmup": 2, "save_every": 2, "log_every": 2, "ema_decay": decay}
    calm, torn = (release_training(tmp_path / part, **settings) for part in ("calm", "torn"))
    train_tokenizer(Interrupted(-1), preset("paper"), calm, columns=64, revive=True)
    clips = Interrupted(5)
    with pytest.raises(OSError, match="disk is gone"):
        train_tokenizer(clips, preset("paper"), torn, columns=64, revive=True)
    train_tokenizer(clips, preset("paper"), torn, columns=64, revive=True)
    files = sorted(path.stem for path in (calm.out / "checkpoints" / "step-00000004").glob("*.safetensors"))
    assert files == sorted(parts)
    models = [load_tokenizer(cfg.out).state_dict() for cfg in (calm, torn)]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    for part in parts:
        expected, found = (
            read_tensors(cfg.out / "checkpoints" / "step-00000004" / f"{part}.safetensors") for cfg in (calm, torn)
        )
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), part


def test_clips_may_come_from_a_store(tmp_path: Path) -> None:
    """A stretch of the right length of each clip."""
    store = ClipStore.create(str(tmp_path / "clips"), GRID)
    scene = make_street()
    item = SceneClips([scene], GRID, 0.5, FRAMES + 3)[0]
    store.append([Clip(item["occupancy"], item["motion"], 0.5, item["source"])])
    clips = StoreClips(ClipStore.open(str(tmp_path / "clips")), FRAMES)
    cfg = release_training(tmp_path / "run", steps=1, batch_size=1)
    tokenizer = load_tokenizer(train_tokenizer(clips, preset("lean"), cfg, columns=64))
    assert tokenizer.reconstruct(clips[0]["occupancy"].unsqueeze(0)).shape == (1, FRAMES, *GRID.shape)


def test_the_tokenizer_of_every_save_is_kept(tmp_path: Path) -> None:
    """When asked: each in a folder by its step, the last one the finished tokenizer, and they differ."""
    cfg = release_training(tmp_path, steps=5, batch_size=1, save_every=2)
    clips = Interrupted(-1)
    train_tokenizer(clips, preset("lean"), cfg, columns=64, history=True)
    kept = saved_tokenizers(tmp_path)
    assert list(kept) == [2, 4, 5]
    codes = [load_tokenizer(folder).codebook.codes for folder in kept.values()]
    assert not torch.equal(codes[0], codes[1])
    assert torch.equal(codes[2], load_tokenizer(tmp_path).codebook.codes)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"columns": 32}, "columns=64, this run asks for columns=32"),
        ({"revive": True}, "revive=False, this run asks for revive=True"),
        ({"preset": preset("paper")}, "tokenizer={"),
        ({"preset": replace(preset("lean"), frames=2 * FRAMES)}, "frames=8, this run asks for frames=16"),
        ({"clips": Subset(Interrupted(-1), range(1, 9))}, "data='.*', this run asks for data='.*'"),
    ],
)
def test_other_clips_or_another_recipe_do_not_resume(other: dict[str, Any], said: str, tmp_path: Path) -> None:
    """A folder holds one training: whoever asks for another learns what differs."""
    cfg = release_training(tmp_path, steps=1, batch_size=1)
    asked: dict[str, Any] = {"clips": Interrupted(-1), "preset": preset("lean"), "cfg": cfg, "columns": 64}
    train_tokenizer(**asked)
    train_tokenizer(**asked)
    with pytest.raises(ValueError, match=f"was trained with {said}"):
        train_tokenizer(**asked | other)


def test_all_columns_give_the_loss_that_drawn_ones_estimate() -> None:
    tokenizer, clips = make_tokenizer(), make_clips(2)
    whole = TokenizerTask(tokenizer, 0)(clips, 0)["cross_entropy"]
    drawn = torch.stack([TokenizerTask(tokenizer, 0, columns=256)(clips, step)["cross_entropy"] for step in range(30)])
    assert (drawn.mean() - whole).abs() < 4 * drawn.std() / 30**0.5
    assert drawn.std() > 0


def test_dead_codes_move_onto_vectors_of_the_batch() -> None:
    """Codes out of reach die, are placed where vectors are, and are used from then on."""
    tokenizer, clips = make_tokenizer(), make_clips(4)
    tokenizer.codebook.codes.data[4:] = 1e3 + torch.arange(28.0).unsqueeze(1)
    task = TokenizerTask(tokenizer, 0, columns=64, revive=True)
    task.usage[4:] *= 0.06  # as after 140 steps without use
    figures = [task(clips, step) for step in range(12)]
    assert figures[0]["used_codes"] <= 4
    assert [float(figure["dead_codes"]) for figure in figures].count(28) == 1
    assert figures[-1]["used_codes"] > 8
    assert tokenizer.codebook.codes.abs().max() < 1e3


def test_without_revival_codes_stay() -> None:
    tokenizer = make_tokenizer()
    before = tokenizer.codebook.codes.clone()
    TokenizerTask(tokenizer, 0, columns=64)(make_clips(), 0)
    assert torch.equal(tokenizer.codebook.codes, before)
