"""OccSora's transformer: the published number of weights in each part, conditions that count or do not, and places."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.dit import DiTConfig
from models.occsora.transformer import SIZES, ClipTransformer, ClipTransformerConfig
from tests.models.occsora.stand_in import TRANSFORMER


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make(channels: int = 3, shape: tuple[int, int, int] = (2, 3, 4), frames: int = 6, **changes: object) -> ClipTransformer:
    """A small transformer that is awake: none of its weights are zero."""
    torch.manual_seed(0)
    model = ClipTransformer(channels, shape, frames, replace(TRANSFORMER, **changes))
    for parameter in model.parameters():
        if not float(parameter.detach().abs().sum()):
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def inputs(model: ClipTransformer, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(batch, model.channels, *model.shape, generator=generator)
    trajectory = 20 * torch.randn(batch, model.frames, 2, generator=generator)
    return noisy, torch.randint(1000, (batch,), generator=generator), trajectory


@pytest.mark.parametrize("size", ["occsora", "lean"])
def test_as_many_weights_as_released(size: str) -> None:
    """Part by part, for latents 128 x 4 x 25 x 25 and 32 frames; heads of 64 change nothing of it."""
    with torch.device("meta"):
        model = ClipTransformer(128, (4, 25, 25), 32, SIZES[size])
    assert count(model.dit.blocks) == 33_137_664
    assert count(model.stem) == 2_654_720
    assert model.trajectory is not None
    assert count(model.trajectory) == 57_856
    assert model.step is not None
    assert count(model.step) == 131_584
    assert count(model.dit.final) == 197_376
    assert model.position.numel() == 640_000
    assert count(model) == 36_819_200


def test_sizes_have_one_structure() -> None:
    """The small one has heads of 16 as the paper's, and the same modules; only counts and widths differ."""
    small, paper = SIZES["small"], SIZES["occsora"]
    assert small.blocks.width // small.blocks.heads == paper.blocks.width // paper.blocks.heads == 16

    def structure(cfg: ClipTransformerConfig) -> set[str]:
        with torch.device("meta"):
            model = ClipTransformer(16, (4, 12, 12), 32, replace(cfg, blocks=replace(cfg.blocks, depth=1)))
        return set(dict(model.named_parameters()))

    assert structure(small) == structure(paper)


@given(
    st.integers(1, 4), st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)), st.integers(1, 9), st.integers(1, 3)
)
@settings(max_examples=12)
def test_any_size_of_latents_and_clips(channels: int, shape: tuple[int, int, int], frames: int, batch: int) -> None:
    model = make(channels, shape, frames)
    found = model(*inputs(model, batch))
    assert found.noise.shape == found.variance.shape == (batch, channels, *shape)


def test_fresh_model_predicts_no_noise_and_a_middling_variance() -> None:
    model = ClipTransformer(3, (2, 3, 4), 6, TRANSFORMER)
    found = model(*inputs(model))
    assert not found.noise.any()
    assert not found.variance.any()


def test_a_place_stays_in_its_place() -> None:
    """With blocks that do nothing, an output depends on the latents two places around it, which both convolutions reach."""
    model = make(2, (3, 7, 6))
    for block in model.dit.blocks:
        nn.init.zeros_(block.modulation.weight)
        nn.init.zeros_(block.modulation.bias)
    noisy, step, trajectory = inputs(model, 1)
    other = noisy.clone()
    other[0, :, 0, 3, 1] += 1
    differs = ((model(noisy, step, trajectory).noise - model(other, step, trajectory).noise).abs() > 1e-5).any(1)[0]
    near = torch.zeros(3, 7, 6, dtype=torch.bool)
    near[0:3, 1:6, 0:4] = True
    assert torch.equal(differs, near)


def test_every_place_has_its_own_position() -> None:
    """Equation 2: positions differ, and the same latents everywhere are not answered alike everywhere."""
    model = make()
    assert float(torch.pdist(model.position.detach()).min()) > 0.1
    noisy = torch.zeros(1, 3, 2, 3, 4)
    assert model(noisy, torch.tensor([5]), torch.zeros(1, 6, 2)).noise.std((2, 3, 4)).min().item() > 1e-3


def test_conditions_count() -> None:
    """Another step or another trajectory is another answer (equation 3)."""
    model = make()
    noisy, step, trajectory = inputs(model)
    found = model(noisy, step, trajectory).noise
    assert not torch.allclose(found, model(noisy, (step + 500) % 1000, trajectory).noise, atol=1e-4)
    assert not torch.allclose(found, model(noisy, step, trajectory.flip(0)).noise, atol=1e-4)


@pytest.mark.parametrize("switch", ["timestep_embedding", "trajectory"])
def test_switches_of_table_3(switch: str) -> None:
    """Switched off, a condition has no weights and makes no difference."""
    model, whole = make(**{switch: False}), make()
    noisy, step, trajectory = inputs(model)
    assert count(model) < count(whole)
    step_2, trajectory_2 = ((step + 500) % 1000, trajectory) if switch == "timestep_embedding" else (step, trajectory.flip(0))
    assert torch.equal(model(noisy, step, trajectory).noise, model(noisy, step_2, trajectory_2).noise)


def test_a_withheld_trajectory_makes_no_difference() -> None:
    """Of those who are not told theirs, and of nobody else."""
    model = make()
    noisy, step, trajectory = inputs(model)
    told = torch.tensor([True, False, True])
    found = model(noisy, step, trajectory, told).noise
    torch.testing.assert_close(found[[0, 2]], model(noisy, step, trajectory).noise[[0, 2]])
    other = trajectory.clone()
    other[1] += 30
    torch.testing.assert_close(found, model(noisy, step, other, told).noise)
    assert not torch.allclose(found[1], model(noisy, step, trajectory).noise[1], atol=1e-4)


def test_every_parameter_learns() -> None:
    model = make()
    found = model(*inputs(model))
    (found.noise.square().sum() + found.variance.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_shapes_that_do_not_fit_are_named() -> None:
    model = make()
    noisy, step, trajectory = inputs(model)
    with pytest.raises(ValueError, match=r"trajectory.*found"):
        model(noisy, step, trajectory[:, :5])
    with pytest.raises(ValueError, match="latents"):
        model(noisy[:, :2], step, trajectory)
    with pytest.raises(ValueError, match="heads"):
        ClipTransformerConfig(DiTConfig(width=256, heads=3))
