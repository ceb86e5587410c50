"""The ego in the chase camera's picture: a small car made of convex parts, ray traced once and kept."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from occworld_env.drawing_bev import Overlay
from occworld_env.drawing_sight import Camera

Array = np.ndarray
_LIGHT = np.array([-0.35, 0.3, 0.88], dtype=np.float32)
_BODY, _GLASS, _TYRE, _LAMP, _TRIM = (238, 243, 248), (38, 52, 66), (22, 23, 26), (232, 36, 44), (34, 206, 178)

# Parts as shares of the car's length, half width and height: x from rear to front, at the bottom and at the top; y; z.
_PARTS = (
    ((0.06, 0.24), (0.06, 0.24), 0.98, 0.98, 0.00, 0.40, _TYRE),
    ((0.76, 0.94), (0.76, 0.94), 0.98, 0.98, 0.00, 0.40, _TYRE),
    ((0.00, 1.00), (0.01, 0.97), 0.96, 0.92, 0.16, 0.58, _BODY),
    ((0.06, 0.74), (0.17, 0.56), 0.86, 0.70, 0.58, 0.97, _GLASS),
    ((0.16, 0.57), (0.19, 0.54), 0.71, 0.66, 0.96, 1.00, _BODY),
    ((-0.004, 0.02), (-0.004, 0.02), 0.90, 0.90, 0.40, 0.50, _LAMP),
    ((0.985, 1.003), (0.985, 1.003), 0.80, 0.80, 0.36, 0.46, _TRIM),
)


def draw_car(image: Array, depth: Array, overlay: Overlay, camera: Camera) -> None:
    """Draw the ego over image (W, H, 3), uint8, in place: solid where it is nearer than depth (W, H), else as a ghost."""
    width, height = depth.shape
    size = (overlay.length, overlay.width, overlay.height, overlay.rear)
    column, row, colour, distance = _traced(width, height, camera, *size)
    seen = distance <= depth[column, row] + 0.3
    amount = np.where(seen, np.float32(1), np.float32(0.45))[:, None]
    under = image[column, row].astype(np.float32)
    image[column, row] = (under + amount * (np.minimum(colour, 255) - under)).astype(np.uint8)


@lru_cache(maxsize=8)
def _traced(
    width: int, height: int, camera: Camera, length: float, breadth: float, tall: float, rear: float
) -> tuple[Array, Array, Array, Array]:
    """Pixels that show the car, their colour and their depth: column (P,), row (P,), float32 (P, 3), float32 (P,)."""
    scale = camera.focal * width
    first, last = _frame(np.array([length - rear, -rear]) + camera.back, breadth, tall, camera, scale)
    left, right = np.clip((first[0] + width / 2, last[0] + width / 2), 0, width).astype(int)
    upper, lower = np.clip((first[1] + camera.horizon * height, last[1] + camera.horizon * height), 0, height).astype(int)
    across = -((np.arange(left, right) + 0.5) - width / 2) / scale
    down = ((np.arange(upper, lower) + 0.5) - camera.horizon * height) / scale
    ray = np.stack(np.broadcast_arrays(1.0, across[:, None], -down[None]), axis=-1)
    best = np.full(ray.shape[:2], np.inf)
    colour = np.zeros(ray.shape, dtype=np.float32)
    origin = np.array([-camera.back, 0.0, camera.height])
    for bottom, top, half_low, half_high, low, high, tone in _PARTS:
        corners = [
            ((np.array(span) * length - rear), half * breadth / 2, z * tall)
            for span, half, z in ((bottom, half_low, low), (top, half_high, high))
        ]
        entry, normal = _convex(ray, origin, _planes(*corners))
        nearer = entry < best
        best[nearer] = entry[nearer]
        shade = 0.62 + 0.42 * np.clip(normal @ _LIGHT, 0, 1)
        colour[nearer] = np.asarray(tone) * (np.ones_like(shade) if tone in (_LAMP, _TRIM) else shade)[nearer][:, None]
    column, row = np.nonzero(np.isfinite(best))
    return column + left, row + upper, colour[column, row], best[column, row].astype(np.float32)


def _frame(depth: Array, breadth: float, tall: float, camera: Camera, scale: float) -> tuple[Array, Array]:
    """Corners (2,) of the pixels that a car between depths (2,) may cover, from the middle of the horizon, right and down."""
    half, low, high = breadth / 2 / depth.min(), camera.height / depth.min(), (camera.height - tall) / depth.max()
    return np.array([-half, high]) * scale - 2, np.array([half, low]) * scale + 3


def _planes(lower: tuple[Array, float, float], upper: tuple[Array, float, float]) -> Array:
    """Six planes (6, 4) of outward normal and offset, n . p <= d, of a part between a lower and an upper rectangle."""
    (x_low, half_low, z_low), (x_high, half_high, z_high) = lower, upper
    rise = z_high - z_low
    planes = [np.array([0, 0, -1, -z_low]), np.array([0, 0, 1, z_high])]
    for sign, end in ((-1, 0), (1, 1)):
        normal = np.array([sign, 0, -sign * (x_high[end] - x_low[end]) / rise])
        planes.append(np.append(normal, normal @ [x_low[end], 0, z_low]))
        normal = np.array([0, sign, (half_low - half_high) / rise])
        planes.append(np.append(normal, normal @ [0, sign * half_low, z_low]))
    table = np.stack(planes)
    return table / np.linalg.norm(table[:, :3], axis=1, keepdims=True)


def _convex(ray: Array, origin: Array, planes: Array) -> tuple[Array, Array]:
    """Where rays (..., 3) from `origin` enter the body within the planes: distance (...), or infinity, and the normal there."""
    speed = ray @ planes[:, :3].T
    room = planes[:, 3] - planes[:, :3] @ origin
    with np.errstate(divide="ignore", invalid="ignore"):
        time = room / speed
    enter = np.where(speed < 0, time, -np.inf)
    leave = np.where(speed > 0, time, np.inf).min(axis=-1)
    face = enter.argmax(axis=-1)
    first = enter.max(axis=-1)
    outside = (np.isclose(speed, 0) & (room < 0)).any(axis=-1)
    return np.where((first < leave) & (first > 0) & ~outside, first, np.inf), planes[face, :3]
