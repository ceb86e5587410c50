"""The transformer on the padded rollout: its size, what it reads and predicts, and what it learns from."""

from __future__ import annotations

import pytest
import torch

from models.dit import DiTConfig
from models.dynamiccity.config import hexplane_preset, plane_shapes
from models.dynamiccity.padded_rollout import RolloutLayout
from models.dynamiccity.patches import PatchGrid
from models.dynamiccity.transformer import SIZES, PlaneTransformer, PlaneTransformerConfig
from tests.models.dynamiccity.small_world import CONFIG, TRANSFORMER, awake, make_conditions, make_shape


def preset_layout(name: str) -> tuple[int, RolloutLayout]:
    grid, cfg = hexplane_preset(name)
    shapes = plane_shapes(grid, cfg)
    return cfg.channels, RolloutLayout(*shapes["tx"], *shapes["yz"])


def make_transformer() -> PlaneTransformer:
    torch.manual_seed(0)
    model = awake(PlaneTransformer(CONFIG.vae.channels, CONFIG.layout, TRANSFORMER))
    assert isinstance(model, PlaneTransformer)
    return model


@pytest.mark.parametrize(
    ("preset", "size", "tokens", "patches", "numbers"),
    [
        ("dynamiccity-carlasc", "dc/2", 1416, 1444, 43_730_432),
        ("dynamiccity-occ3d", "dc/1", 3316, 3364, 196_011_392),
    ],
)
def test_sizes_of_the_release(preset: str, size: str, tokens: int, patches: int, numbers: int) -> None:
    """Its 43.73 M and 196.0 M count a fixed table of one position for each patch, the empty ones too."""
    channels, layout = preset_layout(preset)
    with torch.device("meta"):
        model = PlaneTransformer(channels, layout, PlaneTransformerConfig(SIZES[size]))
    assert (len(model.patches), model.patches.shape[0] * model.patches.shape[1]) == (tokens, patches)
    learned = sum(parameter.numel() for parameter in model.parameters())
    assert learned + patches * SIZES[size].width == numbers


@pytest.mark.parametrize("lengths", [(2, 8, 10, 2), (8, 64, 64, 4), (4, 6, 8, 2)])
def test_tokens_are_the_patches_that_touch_a_plane(lengths: tuple[int, int, int, int]) -> None:
    layout = RolloutLayout(*lengths)
    patches = PatchGrid(layout, 2, 8)
    cells = layout.mask().unflatten(1, (-1, 2)).unflatten(0, (-1, 2))
    assert torch.equal(patches.place, cells.any(3).any(1).flatten().nonzero().squeeze(1))
    rollout = torch.randn(2, 3, *layout.shape)
    torch.testing.assert_close(patches.join(patches.cut(rollout)), rollout * layout.mask())


def test_no_two_tokens_have_one_position() -> None:
    position = PatchGrid(RolloutLayout(8, 64, 64, 4), 2, 128).position
    distance = torch.cdist(position, position) + 10 * torch.eye(len(position))
    assert float(distance.min()) > 0.05


def test_what_lies_in_no_plane_is_neither_read_nor_predicted() -> None:
    model, mask = make_transformer(), CONFIG.layout.mask()
    noisy, step, told = torch.randn(2, *make_shape()), torch.tensor([3, 900]), make_conditions()
    found = model(noisy, step, told)
    other = model(torch.where(mask, noisy, 7.0), step, told)
    for one, same in zip(found, other, strict=True):
        assert torch.equal(one, same)
        assert not bool(one[:, :, ~mask].any())
        assert bool(one[:, :, mask].any())


def test_samples_of_a_batch_do_not_mix() -> None:
    model, told = make_transformer(), make_conditions()
    noisy, step = torch.randn(2, *make_shape()), torch.tensor([3, 900])
    both = model(noisy, step, told).noise
    noisy[1] += 1
    assert torch.equal(model(noisy, step, told).noise[0], both[0])


def test_every_parameter_learns() -> None:
    """With a sample that learns of all conditions and one that learns of none."""
    model, told = make_transformer(), make_conditions(1).doubled()
    prediction = model(torch.randn(2, *make_shape()), torch.tensor([3, 900]), told)
    (prediction.noise.square().sum() + prediction.variance.square().sum()).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle


def test_impossible_shapes_are_refused() -> None:
    model = make_transformer()
    with pytest.raises(ValueError, match="must divide"):
        PatchGrid(RolloutLayout(2, 8, 9, 2), 2, 8)
    with pytest.raises(ValueError, match="conditions"):
        PlaneTransformerConfig(DiTConfig(16, 2, 2), conditions=("weather",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="PlaneTransformer"):
        model(torch.zeros(1, 3, 4, 4), torch.zeros(1))
