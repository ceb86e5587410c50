"""The scripts that measure the VAE, on one of a few thousand weights: what they print is made of what they measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.dynamiccity import config
from models.dynamiccity.pretrained import save_vae
from models.dynamiccity.vae import HexPlaneVae
from models.occsora import config as occsora_config
from models.occsora.config import PaperConfig
from scenes.scene import Scene
from tests.models.dynamiccity.small import CONFIG, GRID
from tests.models.dynamiccity.small_world import make_world


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset of the tests' own."""
    monkeypatch.setitem(config.PRESETS, "tiny", (GRID, CONFIG))


def test_parts_beside_the_plain_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our encoder does fewer operations than the plain one, and both are timed."""
    import dynamiccity_paper as script

    monkeypatch.setattr(script, "ceilings", lambda rounds: {"product": 1.0})
    result = script.measure(script.Config(preset="tiny", rounds=1, threads=1))
    assert result["planes"]["tx"] == [2, 8]
    assert result["weights"]["ours"] < result["weights"]["plain"]
    for row in result["parts"]:
        assert 0 < row["ours"]["gflop"] < row["plain"]["gflop"]
        assert min(*row["ours"]["clock"], *row["plain"]["clock"]) > 0
    text = script.table(result)
    assert "encode plain" in text
    assert "release" not in text.splitlines()[-1]


def test_ablations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, town: Callable[..., Scene]) -> None:
    """Four variants are measured and listed; of those that are not trained the cost alone."""
    import dynamiccity_vae as script

    def in_this_process(options: Any, only: str = "", memory: str = "") -> str:
        if only:
            script.train(options, only)
        return "12.5"

    towns = [town(0), town(1)]
    monkeypatch.setattr(script, "own_process", in_this_process)
    monkeypatch.setattr(script, "load_scenes", lambda folder: towns)
    trained = ("module+ess", "average+query")
    told: dict[str, Any] = {"preset": "tiny", "trained": trained, "steps": 1, "clips": 1, "rounds": 1, "threads": 1}
    options = script.Config(tmp_path, tmp_path / "runs", tmp_path, **told)
    result = script.measure(options)
    rows = {row["name"]: row for row in result["variants"]}
    assert set(rows) == set(script.VARIANTS)
    assert rows["module+ess"]["weights"] > rows["average+ess"]["weights"]
    for name, row in rows.items():
        assert (row["miou"] is not None and 0 <= row["miou"] <= 1) == (name in trained)
        assert row["step_seconds"] > 0
        assert row["step_mib"] == 12.5
    assert len(script.table(result).splitlines()) == 6


def test_beside_occsoras_tokenizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, town: Callable[..., Scene]) -> None:
    """Both are measured on the same clips; bits are those of codes, and of what the planes say beyond their prior."""
    import dynamiccity_rival as script

    tokenizer = PaperConfig(class_dim=4, strides=(4, 8, 8), latent_channels=4, num_codes=16, width=8, blocks=1)
    monkeypatch.setitem(occsora_config.PRESETS, "tiny", occsora_config.OccSoraPreset(tokenizer, GRID))
    monkeypatch.setattr(script, "load_scenes", lambda folder: [town(0)])
    torch.manual_seed(0)
    vae = HexPlaneVae(GRID, CONFIG)
    save_vae(vae, tmp_path / "vae")
    told: dict[str, Any] = {"preset": "tiny", "strides": (2, 4, 4), "steps": 1, "clips": 2, "threads": 1, "columns": 0}
    result = script.measure(script.Config(tmp_path / "vae", tmp_path, tmp_path, tmp_path / "rival", **told))
    rows = result["models"]
    assert rows["OccSora"]["bits_per_frame"] == 4 * GRID.shape[0] * GRID.shape[1] / 32
    numbers = sum(height * width for height, width in config.plane_shapes(GRID, CONFIG).values()) * CONFIG.channels
    assert rows["HexPlane, means"]["bits_per_frame"] == 16 * numbers / CONFIG.frames
    assert 0 < rows["HexPlane, drawn"]["bits_per_frame"] < 100 * numbers
    assert all(0 <= row["miou"] <= 1 and row["clips"] == 2 for row in rows.values())
    assert len(script.table(result).splitlines()) == 5
    with pytest.raises(ValueError, match=r"--preset: expected one of the paper's structure on the VAE's grid"):
        script.train_rival(script.Config(tmp_path, tmp_path, tmp_path, tmp_path, preset="occsora"), vae)


def test_a_world_model_on_held_out_scenes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, town: Callable[..., Scene]) -> None:
    """Layouts, inpainting and long sequences of an untrained model: all figures are there, and no cell outside changes."""
    import dynamiccity_world as script

    monkeypatch.setattr(script, "load_scenes", lambda folder: [town(0)])
    monkeypatch.setattr(script, "HALF", 1.0)
    model = make_world(overlap=2)
    options = script.Config(tmp_path, tmp_path, clips=2, chunks=3, batch=2, threads=1)
    agreement = script.layouts(options, model)
    assert set(agreement) == {"generated", "under another layout", "reconstructed"}
    assert all(0 <= row["value"] <= 1 for row in agreement.values())
    inpainted = script.inpainting(options, model)
    assert inpainted["changed_outside"] == 0 < inpainted["changed_inside"] <= inpainted["inside"]
    seams = script.long_sequences(options, model)
    assert set(seams) == {"generated", "true", "rebuilt", "generated over true", "generated over rebuilt"}
    assert seams["true"]["changed_share"] < seams["generated"]["changed_share"]
