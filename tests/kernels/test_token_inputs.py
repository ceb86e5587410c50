"""What the transformer reads: the conditioner's tokens, on both paths, with noise that was never in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kernels import philox_normal, token_inputs
from kernels.token_inputs import Draw, Told, token_inputs_torch
from models.conditioning import KNOWN_PARTS, Conditioner, Conditions
from scenes.route import ROUTE_CHANNELS

SHAPES = [(3, 9, 64, 4, 128), (2, 5, 12, 1, 7), (1, 1, 4, 0, 0), (2, 70, 8, 3, 5), (2, 6, 7, 4, 8)]  # M, N, C, K, R


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    """`token_inputs` on each of the two paths, from CPU tensors to CPU tensors."""
    if request.param == "torch":
        return token_inputs_torch
    device = request.getfixturevalue("device")
    from kernels.token_inputs_triton import token_inputs_triton

    def run(noisy: Tensor | Draw, told: Told, dtype: torch.dtype = torch.float32, toward: tuple | None = None) -> Tensor:
        if isinstance(noisy, Draw):
            noisy = Draw(noisy.seeds.to(device), noisy.steps.to(device), noisy.number)
        else:
            noisy = noisy.to(device)
        toward = toward and (toward[0].to(device), toward[1])
        return token_inputs_triton(noisy, Told(*(part.to(device) for part in told)), dtype, toward).cpu()

    return run


def told(shape: tuple[int, ...], seed: int = 0) -> Told:
    """Random conditions; of two worlds, one has no warp and the next no route."""
    (worlds, tokens, *widths), generator = shape, torch.Generator().manual_seed(seed)
    warped, known = (torch.randn(worlds, tokens, width, generator=generator) for width in widths[:2])
    route = torch.randint(0, 2, (worlds, tokens, widths[2]), generator=generator, dtype=torch.uint8)
    world = torch.arange(worlds)
    return Told(warped, known, route, (world % 2).float() * 0.3, ((world + 1) % 2).float())


def draw(worlds: int, number: int = 0) -> Draw:
    """Noise of worlds whose seeds and steps have high words too."""
    world = torch.arange(worlds)
    return Draw(world * (2**40 + 5) - 7, world * 2**33 + 3, number)


def latents(shape: tuple[int, ...], seed: int = 5) -> Tensor:
    """Normal numbers (M, N, C)."""
    return torch.randn(shape[:3], generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("poisoned_memory", "rounds_to_nearest")
def test_parts_lie_side_by_side(way: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    given, noisy = told(shape), latents(shape)
    found = way(noisy, given, dtype)
    assert found.dtype == dtype
    parts = found.split([shape[2], *shape[2:], 1, 1], dim=-1)
    warp, route = ((flag > 0).view(-1, 1, 1) for flag in (given.has_warp, given.has_route))
    there = given.route[..., :1] * 0 + 1 if shape[4] else torch.ones(*shape[:2], 1)
    expected = (noisy, given.warped * warp, given.known * warp, given.route * route, there * warp, there * route)
    for part, true in zip(parts, expected, strict=True):
        assert torch.equal(part, true.to(dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [0, 3])
def test_a_draw_is_the_noise_of_philox_normal(way: Callable[..., Tensor], shape: tuple[int, ...], number: int) -> None:
    noise = draw(shape[0], number)
    expected = token_inputs_torch(philox_normal(*noise, shape[1:3]), told(shape))
    torch.testing.assert_close(way(noise, told(shape)), expected, rtol=4e-7, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("drawn", [False, True])
def test_a_step_toward_a_prediction(way: Callable[..., Tensor], shape: tuple[int, ...], drawn: bool) -> None:
    x, prediction = latents(shape), latents(shape, seed=6)
    noise = draw(shape[0])
    before = philox_normal(*noise, shape[1:3]) if drawn else x
    expected = token_inputs_torch(before + 0.25 * (prediction - before), told(shape))
    found = way(noise if drawn else x, told(shape), toward=(prediction, 0.25))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_they_are_the_tokens_of_the_conditioner(way: Callable[..., Tensor]) -> None:
    worlds, frames, tokens, latent, stride = 2, 2, 6, 8, 4
    shape = (worlds * frames, tokens, latent, KNOWN_PARTS**2, ROUTE_CHANNELS * stride**2)
    given, noisy = told(shape), latents(shape)
    conditioner = Conditioner(latent, stride, 2, 16)
    warped, known, route, has_warp, has_route = (part.unflatten(0, (worlds, frames)) for part in given)
    cond = Conditions(torch.zeros(worlds, frames, 2, 3), warped, known, has_warp, route, has_route)
    warp, path = ((flag > 0).float()[:, None, None].expand(-1, tokens, 1) for flag in (given.has_warp, given.has_route))
    parts = (noisy, given.warped * warp, given.known * warp, given.route * path, warp, path)
    assert torch.equal(way(noisy, given), torch.cat(parts, dim=-1))
    rows = conditioner.tokens(noisy.unflatten(0, (worlds, frames)), cond)
    assert rows.shape == (worlds, frames, tokens, conditioner.inputs)
    assert torch.equal(rows.flatten(0, 1), torch.cat(parts, dim=-1))


def test_types_and_strides(way: Callable[..., Tensor]) -> None:
    given, noisy = told(SHAPES[1]), latents(SHAPES[1]).bfloat16()
    mixed = given._replace(warped=given.warped.bfloat16(), known=given.known.bfloat16())
    turned = Told(*(part.mT.contiguous().mT if part.ndim == 3 else part for part in mixed))
    assert not turned.warped.is_contiguous()
    assert torch.equal(way(noisy.mT.contiguous().mT, turned), token_inputs_torch(noisy, mixed))


def test_no_worlds(way: Callable[..., Tensor]) -> None:
    assert way(draw(0), told((0, 3, 8, 4, 5))).shape == (0, 3, 27)


def test_arguments_that_do_not_fit() -> None:
    given, noisy = told(SHAPES[0]), latents(SHAPES[0])
    with pytest.raises(ValueError, match=r"noisy must be float32 or bfloat16 \(3, 9, 64\)"):
        token_inputs(noisy[1:], given)
    with pytest.raises(ValueError, match="known must be float32 or bfloat16"):
        token_inputs(noisy, given._replace(known=given.known[1:]))
    with pytest.raises(ValueError, match="route must be uint8"):
        token_inputs(noisy, given._replace(route=given.route.float()))
    with pytest.raises(ValueError, match="has_warp must be float32"):
        token_inputs(noisy, given._replace(has_warp=given.has_warp[1:]))
    with pytest.raises(ValueError, match="seeds must be int64"):
        token_inputs(Draw(torch.zeros(3), torch.zeros(3), 0), given)
    with pytest.raises(ValueError, match="prediction must be"):
        token_inputs(noisy, given, toward=(noisy[1:], 0.5))
    with pytest.raises(ValueError, match="dtype float32 or bfloat16"):
        token_inputs(noisy, given, torch.float64)
