"""The sampler and the shortcut objective, on flows whose solution is known."""

from __future__ import annotations

import pytest
import torch

from kernels import Draw, philox_normal
from models.flow import SMALLEST_STEP, draw_levels, sample, shortcut_target, velocity


def test_perfect_prediction_is_reached_in_any_number_of_steps() -> None:
    """With a network that knows the clean sample, one step and eight steps end on it."""
    clean, draw = torch.randn(3, 5, 2), Draw(torch.arange(3), torch.arange(3), 0)
    for steps in (1, 2, 8):
        torch.testing.assert_close(sample(lambda *_: clean, draw, steps), clean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_each_step_follows_the_velocity_for_its_length(steps: int) -> None:
    """What the network is asked about are the points of Euler's method, from the noise of the draw on."""
    draw = Draw(torch.arange(3), torch.arange(3), 0)
    x = noise = philox_normal(*draw, (5, 2))
    asked: list[torch.Tensor] = []

    def predict(noisy: torch.Tensor | Draw, toward: tuple | None, level: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        start = noise if isinstance(noisy, Draw) else noisy
        asked.append(start if toward is None else start + toward[1] * (toward[0] - start))
        assert torch.equal(level, torch.full((3,), 1 / steps) * (len(asked) - 1))
        return asked[-1].sin()

    found = sample(predict, draw, steps)
    for step in range(steps):
        torch.testing.assert_close(asked[step], x)
        x = x + velocity(x.sin(), x, torch.full((3,), step / steps)) / steps
    torch.testing.assert_close(found, x)


def test_shortcut_target_of_a_straight_flow_is_the_clean_sample() -> None:
    """Where the flow is straight, two half steps lead where one step leads."""
    clean, noise = torch.randn(4, 5, 2), torch.randn(4, 5, 2)
    level, size = torch.tensor([0.0, 0.0, 0.5, 0.75]), torch.tensor([1.0, 0.5, 0.5, 0.25])
    noisy = torch.lerp(noise, clean, level[:, None, None])
    torch.testing.assert_close(shortcut_target(lambda x, t, d: clean, noisy, level, size), clean, atol=1e-4, rtol=1e-4)


def test_shortcut_target_follows_a_curved_flow_better_than_one_step() -> None:
    """For the marginal flow of a Gaussian, two half steps come closer to the exact map than one step of the teacher."""
    sigma = 0.3  # clean samples are N(0, sigma^2): the flow maps noise to sigma * noise

    def expected_clean(x: torch.Tensor, t: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        t = t[:, None, None]
        return x * t * sigma**2 / (t**2 * sigma**2 + (1 - t) ** 2)

    noise = torch.randn(1, 100, 1)
    zero, one = torch.zeros(1), torch.ones(1)
    exact = sigma * noise
    one_step = expected_clean(noise, zero, one)
    two_steps = shortcut_target(expected_clean, noise, zero, one)
    assert (two_steps - exact).abs().mean() < (one_step - exact).abs().mean()


def test_levels_start_on_the_grid_of_their_step() -> None:
    """A shortcut of size d starts at a multiple of d and does not leave [0, 1]; the rest learn the flow."""
    level, size = draw_levels(400, 100, torch.Generator().manual_seed(0))
    short = size > 0
    assert int(short.sum()) == 100
    assert float(size[short].min()) >= SMALLEST_STEP
    assert torch.equal(level[short] / size[short], (level[short] / size[short]).round())
    assert bool((level + size <= 1).all())
    assert 0.1 < float((level[~short] == 0).float().mean()) < 0.4


def test_velocity_is_bounded_at_the_clean_end() -> None:
    """At level 1 nothing is divided by zero."""
    assert torch.isfinite(velocity(torch.ones(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1))).all()
