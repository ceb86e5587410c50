"""The benchmark of OccSora's mechanisms, from scenes to figures on a tiny model."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.dit import DiTConfig
from models.occsora.config import PRESETS, LeanConfig, OccSoraPreset, PaperConfig
from models.occsora.transformer import SIZES, ClipTransformerConfig
from scenes.scene_file import save_scene
from tests.models.small import GRID, make_street

PAPER = PaperConfig(class_dim=4, strides=(4, 8, 8), latent_channels=4, num_codes=16, width=8, blocks=1)
BLOCKS = {"widths": (8, 8, 8), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1, 1), "heads": 2}
LEAN = LeanConfig(class_dim=4, strides=(4, 8, 8), latent_channels=4, num_codes=16, **BLOCKS)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Two towns, and models that train in no time."""
    from occsora_mechanisms_plan import Config

    monkeypatch.setitem(PRESETS, "tiny", OccSoraPreset(PAPER, GRID, frames=4))
    monkeypatch.setitem(PRESETS, "tiny-lean", OccSoraPreset(LEAN, GRID, frames=4))
    monkeypatch.setitem(SIZES, "tiny", ClipTransformerConfig(DiTConfig(width=16, depth=1, heads=1), trajectory_width=8))
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        save_scene(replace(make_street(), source=name), tmp_path / name / "street.scene")
    return Config(
        scenes=tmp_path / "train",
        held_out=tmp_path / "test",
        out=tmp_path / "out",
        preset="tiny",
        lean="tiny-lean",
        transformer="tiny",
        tokenizer_steps=4,
        diffusion_steps=2,
        features_steps=1,
        columns=64,
        points=2,
        encoded=8,
        clips=8,
        samplers=("ddpm-3", "ddim-2", "ddim-2-1.5"),
        variant_sampler="ddim-2",
        resamples=5,
        threads=1,
    )


def test_from_scenes_to_figures(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages; a second run reads what the first one left, and other settings are refused."""
    import occsora_mechanisms
    from occsora_mechanisms_tables import tables

    result = occsora_mechanisms.measure(config)
    for name in ("tiny", "tiny-lean"):
        moments = result["tokenizers"][name]["moments"]
        assert [one["step"] for one in moments] == [2, 4]
        assert all(0 <= one["miou"] <= 1 and 1 <= one["used_codes"] <= 16 for one in moments)
    sets = result["sets"]
    assert {
        "true",
        "noise",
        "full, ddpm-3",
        "full, ddim-2-1.5",
        "without-trajectory, ddim-2",
        "without-time-step, ddim-2",
    } <= set(sets)
    for one in sets.values():
        assert one["clips"] == {"generated": 8, "reference": 16, "floor": 8}
    distance = {name: _frechet(one, "statistics/frame") for name, one in sets.items()}
    assert distance["true"] < distance["noise"]
    assert distance["shuffled frames"] == pytest.approx(distance["true"], rel=1e-4), "the same frames"
    assert result["farther"]["noise"]["than"] == "full, ddpm-3"
    assert set(result["fewest_steps"].values()) <= {"ddpm-3", "ddim-2"}, "guidance is not fewer steps"
    noise = result["noise"]
    assert noise["clips"] == 24
    assert set(noise["farther"]) == {"another's trajectory", "without-trajectory", "without-time-step"}
    assert noise["errors"]["full"]["all"]["value"] == pytest.approx(1.0, abs=0.1), "a fresh model says nothing"
    assert [len(table.rows) for table in tables(result)] == [3, 7, len(sets) + 1, len(result["farther"]) + 1]

    monkeypatch.setattr(occsora_mechanisms, "make_plan", None)
    again = occsora_mechanisms.measure(config)
    assert again["sets"] == sets
    with pytest.raises(ValueError, match=r"--out.*seed.*0 then, 1 now"):
        occsora_mechanisms.measure(replace(config, seed=1))


def test_noise_errors_are_those_of_the_training(config: Any) -> None:
    """Weighed by band, the errors of all steps come out again; clips of noise alone are judged by what the model answers."""
    from occsora_mechanisms_noise import BANDS, _by_band, noise_errors

    from models.occsora.clip_diffusion import ClipDiffusion, ClipDiffusionConfig

    torch.manual_seed(0)
    model = ClipDiffusion(ClipDiffusionConfig(4, (1, 2, 2), 4, 0.5, 1.0, 3.0, SIZES["tiny"]))
    latents, trajectory = torch.randn(20, 4, 1, 2, 2), torch.randn(20, 4, 2)
    errors = noise_errors(model, latents, trajectory, seed=0)
    assert errors.shape == (20, 20)
    assert errors.mean() == pytest.approx(1.0, abs=0.15), "a fresh model answers zero, and noise has variance one"
    bands = _by_band(config, errors)
    weighed = sum(bands[f"{low}-{high - 1}"]["value"] * (high - low) / 1000 for low, high in BANDS)
    assert weighed == pytest.approx(bands["all"]["value"], rel=1e-5)
    assert bands["all"]["low"] <= bands["all"]["value"] <= bands["all"]["high"]


def _frechet(comparison: dict[str, Any], of: str) -> float:
    return next(item["value"] for item in comparison["distances"] if (item["figure"], item["of"]) == ("frechet", of))


def test_minutes_become_steps(config: Any) -> None:
    """Ten times the minutes hold more steps, none are too few for one, and steps that are asked for are taken as they are."""
    from occsora_mechanisms_plan import make_plan

    timed = replace(config, tokenizer_steps=None, diffusion_steps=None, tokenizer_minutes=0.0, diffusion_minutes=60.0)
    plan = make_plan(timed)
    assert plan["tokenizer"] == plan["features"] == 1
    assert plan["diffusion"] > 100


@pytest.mark.parametrize("name", ["ddim", "ddim-0", "ddpm-1001", "euler-20", "ddim-20-", "ddim-20--1"])
def test_samplers_have_names(name: str) -> None:
    from occsora_mechanisms_plan import sampler_of

    sampler, guidance = sampler_of("ddim-20-1.5")
    assert (sampler.kind, sampler.steps, guidance) == ("ddim", 20, 1.5)
    assert sampler_of("ddpm-250")[1] == 1
    with pytest.raises(ValueError, match=r"--samplers: expected ddpm-STEPS"):
        sampler_of(name)


def test_guidance_needs_clips_without_trajectory(config: Any) -> None:
    with pytest.raises(ValueError, match=r"--samplers: guidance needs --withheld above 0"):
        replace(config, withheld=0.0)


def test_towns_are_not_shared(config: Any) -> None:
    from occsora_mechanisms_plan import load_towns

    with pytest.raises(ValueError, match=r"--held-out.*train.*in both"):
        load_towns(replace(config, held_out=config.scenes))


def test_descriptions_are_kept_as_they_are(config: Any, tmp_path: Path) -> None:
    from occsora_mechanisms_clips import _load, _save
    from occsora_mechanisms_plan import clips_of, load_towns

    from models.fidelity.description import describe
    from models.fidelity.extractors import load_extractor
    from scenes.clip import Clip

    clips = clips_of(config, load_towns(config)[1], seed=0)
    true = [Clip(item["occupancy"], item["motion"], clips.dt, item["source"]) for item in (clips[0], clips[1])]
    made = describe(true, clips.grid, clips.frames, [load_extractor("random", clips.grid)])
    _save(made, tmp_path / "kept.safetensors")
    read = _load(tmp_path / "kept.safetensors")
    assert read.sources == made.sources == ["test", "test"]
    for item in fields(made):
        expected, found = getattr(made, item.name), getattr(read, item.name)
        if isinstance(expected, torch.Tensor):
            assert torch.equal(expected, found)
        elif isinstance(expected, dict):
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_the_fewest_steps_are_not_farther() -> None:
    """Lower ends of intervals of 0 or less count as equal; where none is, the first sampler itself is the answer."""
    from occsora_mechanisms import fewest_steps

    def farther(low: float) -> dict[str, Any]:
        return {"by": {"random/clip": {"low": low}}}

    found = {"full, ddpm-50": farther(0.1), "full, ddim-20": farther(-0.1), "full, ddim-5": farther(0.2)}
    assert fewest_steps(("ddpm-1000", "ddpm-50", "ddim-20", "ddim-5"), found) == {"random/clip": "ddim-20"}
    found["full, ddim-20"] = farther(0.1)
    assert fewest_steps(("ddpm-1000", "ddpm-50", "ddim-20", "ddim-5"), found) == {"random/clip": "ddpm-1000"}
