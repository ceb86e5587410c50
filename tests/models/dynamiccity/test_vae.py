"""The HexPlane VAE: shapes, gradients, what it refuses, and that a clip's result is its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dynamiccity.config import HexPlaneConfig, hexplane_preset, plane_shapes
from models.dynamiccity.hexplane import PLANES, HexPlane, Posterior
from models.dynamiccity.vae import HexPlaneVae
from scenes.grid import Grid
from tests.models.dynamiccity.small import CONFIG, GRID, make_clips, make_vae

VARIANTS = [("module", "ess"), ("average", "ess"), ("module", "query"), ("average", "query")]


def test_every_plane_of_a_fresh_vae_tells_clips_apart() -> None:
    """What a plane says differs from place to place and clip to clip before anything is learned: no plane has to wake up."""
    torch.manual_seed(0)
    with torch.no_grad():
        planes = HexPlaneVae(GRID, CONFIG).encode(make_clips()).mean
    for name, plane in zip(PLANES, planes, strict=True):
        spread = plane.transpose(0, 1).flatten(1).std(1).mean()
        assert float(spread) > 0.003, name


@pytest.mark.parametrize(("projection", "decoder"), VARIANTS)
def test_every_weight_learns(projection: str, decoder: str) -> None:
    """A training pass has a finite gradient in every weight, and logits of every voxel."""
    vae, clips = make_vae(projection=projection, decoder=decoder), make_clips(batch=1)
    logits, posterior = vae(clips, torch.Generator().manual_seed(0))
    assert logits.shape == (*clips.shape, GRID.num_classes)
    (torch.nn.functional.cross_entropy(logits.flatten(0, -2), clips.flatten().long()) + posterior.kl()).backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize(("projection", "decoder"), VARIANTS)
def test_decode_is_the_largest_logit(projection: str, decoder: str) -> None:
    """Ids go where their logits are, frame by frame and clip by clip."""
    vae, clips = make_vae(projection=projection, decoder=decoder), make_clips()
    with torch.no_grad():
        planes = vae.encode(clips).mean
        found, expected = vae.decode(planes), vae.logits(planes).argmax(-1)
    assert found.dtype == torch.uint8
    assert found.shape == clips.shape
    assert torch.equal(found, expected.to(torch.uint8))


@torch.no_grad()
def test_a_clip_does_not_see_its_neighbours() -> None:
    """Alone or in a batch, a clip has the same planes and the same voxels, run after run."""
    vae, clips = make_vae(), make_clips(batch=3)
    together, again = vae.encode(clips).mean, vae.encode(clips).mean
    alone = vae.encode(clips[1:2]).mean
    for name in PLANES:
        assert torch.equal(getattr(together, name), getattr(again, name))
        torch.testing.assert_close(getattr(together, name)[1:2], getattr(alone, name), atol=1e-5, rtol=1e-4)
    assert torch.equal(vae.decode(alone), vae.decode(together.map(lambda plane: plane[1:2])))


@settings(max_examples=6, deadline=None)
@given(st.tuples(*[st.integers(2, 6)] * 3), st.integers(1, 3), st.integers(2, 14))
def test_any_even_grid_and_any_classes(half: tuple[int, int, int], pairs: int, classes: int) -> None:
    """Planes have the shapes that `plane_shapes` tells, whatever the grid."""
    colours = tuple((number, 0, 0) for number in range(classes))
    grid = Grid(tuple(2 * size for size in half), 0.5, (0, 0, 0), tuple(map(str, range(classes))), colours)
    cfg = replace(CONFIG, frames=2 * pairs)
    vae = HexPlaneVae(grid, cfg)
    clips = torch.randint(0, classes, (1, cfg.frames, *grid.shape), dtype=torch.uint8)
    with torch.no_grad():
        planes = vae.encode(clips).mean
        assert {name: tuple(getattr(planes, name).shape[-2:]) for name in PLANES} == plane_shapes(grid, cfg)
        voxels = vae.decode(planes)
    assert voxels.shape == clips.shape
    assert int(voxels.max()) < classes


def test_plane_shapes_of_the_release() -> None:
    found = plane_shapes(*hexplane_preset("dynamiccity-carlasc"))
    assert found == {"xy": (64, 64), "xz": (64, 4), "yz": (64, 4), "tx": (8, 64), "ty": (8, 64), "tz": (8, 4)}
    found = plane_shapes(*hexplane_preset("dynamiccity-occ3d"))
    assert found == {"xy": (100, 100), "xz": (100, 8), "yz": (100, 8), "tx": (8, 100), "ty": (8, 100), "tz": (8, 8)}


def test_the_token_reads_every_frame() -> None:
    """A change in one frame reaches every plane: the projection is read where its token is, after attention."""
    vae, clips = make_vae(), make_clips(batch=1)
    changed = clips.clone()
    changed[:, 2] = 0
    with torch.no_grad():
        before, after = vae.encode(clips).mean, vae.encode(changed).mean
    for name in PLANES:
        change = (getattr(before, name) - getattr(after, name)).abs().amax(1)
        assert float(change.amax()) > 1e-4, name
    assert float((before.tx - after.tx)[:, :, 0].abs().max()) == 0, "the other pair of frames is not read along x"


def test_kl_is_that_of_normal_distributions() -> None:
    """Against torch.distributions, and zero for the standard normal."""
    planes = make_vae().encode(make_clips()).mean
    posterior = Posterior(planes, planes.map(lambda plane: 0.3 * plane))
    normals = [
        torch.distributions.Normal(mean, (0.5 * log_variance).exp())
        for mean, log_variance in zip(posterior.mean, posterior.log_variance, strict=True)
    ]
    standard = torch.distributions.Normal(0.0, 1.0)
    each = torch.cat([torch.distributions.kl_divergence(normal, standard).flatten() for normal in normals])
    torch.testing.assert_close(posterior.kl(), each.mean(), atol=1e-6, rtol=1e-5)
    zero = planes.map(torch.zeros_like)
    assert float(Posterior(zero, zero).kl()) == 0


def test_samples_follow_the_generator() -> None:
    """The same seed draws the same planes, and their spread is the posterior's."""
    zero = HexPlane(*(torch.zeros(1, 4, *shape) for shape in plane_shapes(GRID, replace(CONFIG, frames=32)).values()))
    posterior = Posterior(zero.map(lambda plane: plane + 2), zero.map(lambda plane: plane - 1))
    first, second = (posterior.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    drawn = torch.cat([plane.flatten() for plane in first])
    assert float(drawn.mean()) == pytest.approx(2, abs=0.1)
    assert float(drawn.std()) == pytest.approx(0.607, abs=0.05)


def test_what_does_not_fit_is_refused() -> None:
    vae = make_vae()
    with pytest.raises(ValueError, match=r"expected \(B, 4, X, Y, Z\), found \(1, 6, 16, 20, 4\)"):
        vae.encode(torch.zeros(1, 6, *GRID.shape, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected class ids below 18"):
        vae.encode(torch.full((1, 4, *GRID.shape), 18, dtype=torch.uint8))
    with pytest.raises(ValueError, match="must be even along every axis"):
        HexPlaneVae(Grid((5, 4, 4), 0.8, (0, 0, 0)), CONFIG)
    with pytest.raises(ValueError, match="frames must be even"):
        HexPlaneConfig(frames=5)
    with pytest.raises(ValueError, match="heads must divide"):
        HexPlaneConfig(channels=16, heads=3)
    with pytest.raises(ValueError, match="unknown projection 'mean'"):
        HexPlaneConfig(projection="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of"):
        hexplane_preset("dynamiccity")
