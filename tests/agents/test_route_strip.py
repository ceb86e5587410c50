"""The strip shows what lies on the route, wherever the route goes."""

from __future__ import annotations

import math

import pytest
import torch

from agents.route_strip import RouteStrip
from occworld_env.observation import BEV_CHANNELS, ROUTE_AHEAD, VECTOR_FIELDS

HALF = 38.4  # metres, of the grid of `mini`


def told(points: list[tuple[float, float]]) -> torch.Tensor:
    """A vector whose route goes through these points of the ego frame, metres."""
    vector = torch.zeros(1, len(VECTOR_FIELDS))
    for distance, point in zip(ROUTE_AHEAD, points, strict=True):
        for axis, value in zip("xy", point, strict=True):
            vector[0, VECTOR_FIELDS.index(f"route_{axis}_{distance:.0f}")] = value / HALF
    return vector


@pytest.mark.parametrize("bend", [0.0, 0.02, -0.03])
def test_cells_lie_along_the_route_and_to_its_sides(bend: float) -> None:
    """On an arc of curvature `bend` the middle column is the route, and rows are square to it, to the left last."""

    def on_arc(s: float) -> tuple[float, float]:
        return (s, 0.0) if bend == 0 else (math.sin(bend * s) / bend, (1 - math.cos(bend * s)) / bend)

    strip = RouteStrip(1, 4)
    places = strip.places(told([on_arc(s) for s in ROUTE_AHEAD]))[0].flip(-1) * HALF  # (x, y) in metres
    assert places.shape == (40, 13, 2)
    route = torch.tensor([on_arc(float(s)) for s in range(1, 41)])
    torch.testing.assert_close(places[:, 6], route, atol=0.12, rtol=0)  # chords of 5 m are near the arc
    sideways = places[:, 12] - places[:, 0]
    heading = torch.tensor([bend * (5 * (s // 5) + 2.5) for s in range(40)])
    left = torch.stack((-heading.sin(), heading.cos()), dim=-1)
    torch.testing.assert_close(sideways, 12 * HALF / 40 * left, atol=0.05, rtol=0)


def test_what_stands_on_the_route_is_seen_at_its_distance() -> None:
    """A block 20 m ahead on the route lights up row 20 of the middle column, and nothing far from it."""
    image = torch.zeros(1, len(BEV_CHANNELS), 96, 96)
    image[0, BEV_CHANNELS.index("vehicle"), 48 + 24 : 48 + 27, 47:50] = 1.0  # 19.2 to 21.6 m ahead
    image[0, BEV_CHANNELS.index("agents_before"), 48 + 29 : 48 + 32, 47:50] = 1.0  # 4 m farther a frame before: it nears
    strip = RouteStrip(len(BEV_CHANNELS), 4)
    vector = told([(s, 0.0) for s in ROUTE_AHEAD])
    seen = torch.nn.functional.grid_sample(image, strip.places(vector), align_corners=False)[0]
    vehicle = seen[BEV_CHANNELS.index("vehicle")]
    assert vehicle[19, 6] > 0.9  # row 19 is 20 m ahead
    assert max(vehicle[:17].max(), vehicle[23:].max()) == 0
    assert vehicle[:, [0, 1, 11, 12]].max() == 0
    features, clear = strip(image, vector)
    assert features.shape == (1, strip.features)
    assert clear.shape == (1, strip.columns)
    now, before = clear[0].unflatten(0, (2, 13)) * 40
    assert 18 <= now[6] <= 19
    assert before[6] == now[6] + 4
    assert (now[[0, 1, 11, 12]] == 40).all()
