"""Training OccSora's models by command: two commands from scenes or a store to a world model that loads and generates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.dit import DiTConfig
from models.occsora import presets
from models.occsora.config import OccSoraPreset
from models.occsora.presets import WORLD_PRESETS, WorldPreset, world_preset
from models.occsora.transformer import ClipTransformerConfig
from models.occsora.world_model import OccSoraWorldModel
from models.pretrained import from_pretrained
from occsora.__main__ import main
from occsora.training_options import TrainingOptions
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.dataset import SceneClips
from scenes.grid import MINI
from scenes.scene_file import SUFFIX, save_scene
from tests.models.occsora.small import GRID, LEAN
from tests.models.small import make_street

FRAMES, SHORT = 16, ["--steps", "2", "--batch-size", "2"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> WorldPreset:
    """A preset "tiny" beside the others."""
    blocks = ClipTransformerConfig(DiTConfig(width=16, depth=1, heads=1), trajectory_width=8)
    preset = WorldPreset(OccSoraPreset(LEAN, GRID, FRAMES, 0.5), blocks, small=True)
    monkeypatch.setitem(presets.WORLD_PRESETS, "tiny", preset)
    return preset


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    save_scene(make_street(), folder / f"street{SUFFIX}")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of the street at 4 Hz, of which the preset takes every other frame."""
    address = str(tmp_path_factory.mktemp("store") / "clips")
    item = SceneClips([make_street()], GRID, 0.25, 40)[0]
    ClipStore.create(address, GRID).append([Clip(item["occupancy"], item["motion"], 0.25, "street/0")])
    return address


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("source", ["--scenes", "--clips"])
def test_two_commands_make_a_world_model(source: str, scenes: Path, store: str, tmp_path: Path) -> None:
    data = [source, str(scenes) if source == "--scenes" else store, "--preset", "tiny", *SHORT]
    tokenizer, world = tmp_path / "tokenizer", tmp_path / "world"
    assert main(["train-tokenizer", *data, "--out", str(tokenizer)]) == 0
    minimised = ["--full-from", "1"] if source == "--scenes" else ["--snr-limit", "2"]
    more = ["--tokenizer", str(tokenizer), "--sequences", "3", *minimised]
    assert main(["train-world-model", *data, *more, "--out", str(world)]) == 0
    model = from_pretrained(world)
    assert isinstance(model, OccSoraWorldModel)
    assert (model.dt, model.chunk_frames, model.history_frames) == (0.5, 8, 8)
    assert model.cfg.diffusion.withheld == 0.1
    clip = model.generate(torch.zeros(1, FRAMES, 3), torch.tensor([0])).voxels
    assert clip is not None
    assert clip.shape == (1, FRAMES, *GRID.shape)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "--scenes, --clips: expected one of the two, found neither"),
        (["--scenes", "S", "--clips", "C"], "--scenes, --clips: expected one of the two, found both"),
        (["--preset", "occsora", "--clips", "C"], "is not on the grid of preset 'occsora', (200, 200, 16) voxels of 0.4 m"),
        (["--preset", "huge", "--scenes", "S"], "preset: expected one of ['mini', 'base', 'occsora', "),
        (["--preset", "mini"], "--scenes: preset 'mini' needs a folder of scene files"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_what_is_wrong_with_the_data_is_said(
    more: list[str], said: str, scenes: Path, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [{"S": str(scenes), "C": store}.get(word, word) for word in more]
    preset = [] if "--preset" in more else ["--preset", "tiny"]
    assert main(["train-tokenizer", *preset, *words, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_what_does_not_belong_to_a_preset_is_said(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tmp_path / "tokenizer"
    data = ["--scenes", str(scenes), *SHORT]
    assert main(["train-tokenizer", "--preset", "tiny", *data, "--out", str(tokenizer)]) == 0
    words = ["train-world-model", *data, "--tokenizer", str(tokenizer), "--out", str(tmp_path / "world")]
    assert main([*words, "--preset", "tiny", "--flow", "runs/flow"]) == 2
    assert "preset 'tiny' knows no such thing" in capsys.readouterr().err
    assert main([*words, "--preset", "mini"]) == 2
    assert "--flow: preset 'mini' needs a trained agent flow" in capsys.readouterr().err
    other = WorldPreset(OccSoraPreset(LEAN, MINI, FRAMES, 0.5), world_preset("tiny").transformer, small=True)
    monkeypatch.setitem(presets.WORLD_PRESETS, "other", other)
    assert main([*words, "--preset", "other"]) == 2
    assert "tokenizer: expected a tokenizer of the preset" in capsys.readouterr().err


def test_the_rows_of_table_3_have_names() -> None:
    """Each tokenizer with a transformer that can take its latents, and the two switches of the transformer."""
    for preset in WORLD_PRESETS.values():
        assert preset.clips.frames % preset.clips.tokenizer.strides[0] == 0
    assert not world_preset("occsora-no-timestep").transformer.timestep_embedding
    assert not world_preset("occsora-small-no-trajectory").transformer.trajectory
    assert world_preset("occsora-class4").clips.tokenizer.class_dim == 4
    with pytest.raises(ValueError, match=r"world_preset: expected one of .*occsora-lean"):
        world_preset("mini")


def test_each_process_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of its local rank; one process alone takes the default, and what was named stays."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    named = {device: TrainingOptions(out=tmp_path, device=device) for device in ("auto", "cuda", "cuda:1", "cpu")}
    assert [options.rendering_device() for options in named.values()] == ["cuda", "cuda", "cuda:1", "cpu"]
    for rank, own in enumerate(("cuda:0", "cuda:1", "cuda:0")):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert [options.rendering_device() for options in named.values()] == [own, own, "cuda:1", "cpu"]
