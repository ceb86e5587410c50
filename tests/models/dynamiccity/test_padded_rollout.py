"""Six planes as one map: nothing is lost, nothing overlaps, and the map has the size of the paper's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dynamiccity.config import hexplane_preset, plane_shapes
from models.dynamiccity.hexplane import PLANES, HexPlane
from models.dynamiccity.padded_rollout import RolloutLayout, roll_in, roll_out
from models.dynamiccity.patches import PatchGrid

LENGTHS = st.tuples(*[st.integers(1, 9)] * 4)


def make_planes(lengths: tuple[int, int, int, int], batch: int = 2, channels: int = 3) -> HexPlane:
    """Planes whose numbers are all different."""
    size = dict(zip("txyz", lengths, strict=True))
    shapes = [(size[name[0]], size[name[1]]) for name in PLANES]
    numbers = torch.randperm(sum(a * b for a, b in shapes) * batch * channels).float() + 1
    parts = numbers.split([a * b * batch * channels for a, b in shapes])
    return HexPlane(*(part.view(batch, channels, *shape) for part, shape in zip(parts, shapes, strict=True)))


@settings(max_examples=40, deadline=None)
@given(LENGTHS)
def test_rolling_out_and_in_changes_nothing(lengths: tuple[int, int, int, int]) -> None:
    """Every number of every plane comes back to its place."""
    planes = make_planes(lengths)
    back = roll_in(roll_out(planes), RolloutLayout(*planes.lengths))
    assert planes.lengths == lengths
    assert all(torch.equal(one, other) for one, other in zip(planes, back, strict=True))


@settings(max_examples=40, deadline=None)
@given(LENGTHS)
def test_each_number_is_in_the_map_once(lengths: tuple[int, int, int, int]) -> None:
    """The mask is where the map is not zero, and the map holds the numbers of the planes and no others."""
    planes, layout = make_planes(lengths), RolloutLayout(*lengths)
    rollout = roll_out(planes)
    assert tuple(rollout.shape[-2:]) == layout.shape
    assert torch.equal((rollout != 0).all(0).all(0), layout.mask())
    assert int(layout.mask().sum()) * 3 == planes.count
    expected = torch.cat([plane.flatten() for plane in planes]).sort().values
    assert torch.equal(rollout[rollout != 0].sort().values, expected)


@settings(max_examples=20, deadline=None)
@given(LENGTHS)
def test_planes_meet_along_shared_axes(lengths: tuple[int, int, int, int]) -> None:
    """A row of the map is one x, one t or one z in every plane there, and a column one y, z or t."""
    _, x, y, z = lengths
    planes = make_planes(lengths)
    rollout = roll_out(planes)
    assert torch.equal(rollout[:, :, 0], torch.cat((planes.xy[:, :, 0], planes.xz[:, :, 0], planes.tx[..., 0]), dim=-1))
    assert torch.equal(rollout[:, :, x, : y + z], torch.cat((planes.ty[:, :, 0], planes.tz[:, :, 0]), dim=-1))
    column = torch.cat((planes.xy[..., y - 1], planes.ty[..., y - 1], planes.yz[:, :, y - 1]), dim=-1)
    assert torch.equal(rollout[..., y - 1], column)


@pytest.mark.parametrize(
    ("name", "side", "patches"), [("dynamiccity-carlasc", 76, (1444, 1416)), ("dynamiccity-occ3d", 116, None)]
)
def test_sizes_of_the_paper(name: str, side: int, patches: tuple[int, int] | None) -> None:
    """76 x 76 cells and 1416 of 1444 patches on CarlaSC, 116 x 116 on Occ3D."""
    shapes = plane_shapes(*hexplane_preset(name))
    layout = RolloutLayout(*shapes["tx"], *shapes["yz"])
    assert layout.shape == (side, side)
    if patches:
        grid = PatchGrid(layout, 2, 8)
        assert (grid.shape[0] * grid.shape[1], len(grid)) == patches


def test_gradients_pass_both_ways() -> None:
    """What is dropped has no gradient, what is kept has its own."""
    layout = RolloutLayout(2, 3, 4, 2)
    rollout = torch.randn(1, 2, *layout.shape, requires_grad=True)
    sum(plane.sum() for plane in roll_in(rollout, layout)).backward()
    assert torch.equal(rollout.grad[0, 0] > 0, layout.mask())


def test_what_does_not_fit_is_refused() -> None:
    layout = RolloutLayout(2, 3, 4, 2)
    with pytest.raises(ValueError, match=r"roll_in: expected a map of \(7, 8\), found \(7, 7\)"):
        roll_in(torch.zeros(1, 1, 7, 7), layout)
    with pytest.raises(ValueError, match="positive lengths"):
        RolloutLayout(0, 3, 4, 2)
    planes = make_planes((2, 3, 4, 2))
    with pytest.raises(ValueError, match=r"HexPlane.tz: expected shape \(2, 3, 2, 2\)"):
        HexPlane(planes.xy, planes.xz, planes.yz, planes.tx, planes.ty, planes.xy)
