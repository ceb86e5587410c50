"""Training DynamicCity by command: two commands from scenes or a store to a world model that generates, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.dynamiccity import presets
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.pretrained import save_vae
from models.dynamiccity.vae import HexPlaneVae
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.pretrained import from_pretrained
from occsora.__main__ import main
from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.dataset import SceneClips
from scenes.grid import MINI
from scenes.scene_file import SUFFIX, save_scene
from tests.models.dynamiccity.small_world import CONFIG
from tests.models.small import make_street

GRID = replace(MINI, shape=(16, 16, 8), origin=(-6.4, -6.4, -0.8))
SHORT = ["--steps", "2", "--batch-size", "2", "--preset", "dynamiccity-tiny-small"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> DynamicCityConfig:
    """A preset "dynamiccity-tiny-small" beside the others: windows of four frames at 2 Hz, two of them kept."""
    preset = replace(CONFIG, grid=GRID, dt=0.5, overlap=2)
    monkeypatch.setitem(presets.WORLD_PRESETS, "dynamiccity-tiny-small", preset)
    return preset


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("scenes")
    save_scene(make_street(), folder / f"street{SUFFIX}")
    return str(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of the street at 4 Hz, of which the preset takes every other frame."""
    address = str(tmp_path_factory.mktemp("store") / "clips")
    item = SceneClips([make_street()], GRID, 0.25, 14)[0]
    ClipStore.create(address, GRID).append([Clip(item["occupancy"], item["motion"], 0.25, "street/0")])
    return address


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("source", ["--scenes", "--clips"])
def test_two_commands_make_a_world_model(source: str, scenes: str, store: str, tiny: DynamicCityConfig, tmp_path: Path) -> None:
    """It is the preset's, but for the measured scale and what was given, and it generates by command."""
    data = [source, scenes if source == "--scenes" else store, *SHORT]
    vae, world, out = (str(tmp_path / name) for name in ("vae", "world", "out"))
    assert main(["train-tokenizer", *data, "--out", vae]) == 0
    more = ["--tokenizer", vae, "--sequences", "2", "--withheld", "0.2", "--out", world]
    assert main(["train-world-model", *data, *more]) == 0
    model = from_pretrained(world)
    assert isinstance(model, DynamicCityWorldModel)
    assert replace(model.cfg, scale=tiny.scale) == replace(tiny, withheld=0.2)
    assert model.cfg.scale != tiny.scale
    if source == "--clips":
        words = ["--model", world, "--condition", "command:left", "outpaint:20x16", "--num", "1", "--guidance", "2"]
        assert main(["generate", *words, "--out", out]) == 0
        assert ClipStore.open(f"{out}/clips.zarr")[0].occupancy.shape == (4, 20, 16, 8)


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("train-tokenizer", [], "--scenes, --clips: expected one of the two, found neither"),
        ("train-tokenizer", ["--preset", "dynamiccity", "--scenes", "S"], "make-scenes clips --grid carlasc"),
        (
            "train-tokenizer",
            ["--preset", "dynamiccity-small", "--clips", "C"],
            "is not on the grid of preset 'dynamiccity-small'",
        ),
        (
            "train-tokenizer",
            ["--preset", "mini", "--scenes", "S", "--clips", "C"],
            "--clips: preset 'mini' is trained on --scenes",
        ),
        ("train-tokenizer", ["--preset", "huge"], "'dynamiccity-small'"),
        ("train-agent-flow", ["--preset", "occsora"], "--preset: expected one of ['mini', 'base'], which have an agent flow"),
        ("train-world-model", ["--tokenizer", "V", "--flow", "F", "--scenes", "S"], "knows no such thing"),
        (
            "train-world-model",
            ["--tokenizer", "V", "--full-from", "9", "--scenes", "S"],
            "--full-from: is for OccSora's presets",
        ),
        (
            "train-world-model",
            ["--preset", "mini", "--tokenizer", "V", "--snr-limit", "1", "--scenes", "S"],
            "--snr-limit: is for presets of clips, found preset 'mini'",
        ),
        ("train-world-model", ["--tokenizer", "V", "--scenes", "S"], "--tokenizer: expected the VAE of the preset"),
    ],
)
def test_what_is_wrong_is_said(
    command: str, words: list[str], said: str, scenes: str, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vae(HexPlaneVae(replace(GRID, shape=(16, 20, 8)), CONFIG.vae), tmp_path / "vae")
    given = {"S": scenes, "C": store, "V": str(tmp_path / "vae")}
    preset = [] if "--preset" in words else ["--preset", "dynamiccity-tiny-small"]
    assert main([command, *(given.get(word, word) for word in words), *preset, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
