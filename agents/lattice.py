"""A lattice planner: of lateral offsets times accelerations, driven ahead along the route, it takes what is scored best.

Each candidate is a policy, not a curve: pure pursuit of the route moved to the side, at one acceleration up to the wanted
speed. It is driven ahead by the environment's own vehicle, so that nothing is promised that the car cannot do, and scored as
the environment rewards, with collisions looked for in the forecast of what is seen now.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from agents.driver import Driver
from agents.forecast import clearance
from agents.lattice_candidates import Candidates, LatticeOptions, drive_candidates
from agents.planner import Array, Situation
from occworld_env.observation import BEV_CHANNELS
from scenes.motion import transform

_DISCS = 5  # of the car's width along its box, and points along its headway


@dataclass(frozen=True)
class LatticeParameters:
    """What is tried, and how it is judged beyond the environment's own reward weights.

    Attributes:
        options: the candidates.
        margin: metres between the ego's side and the middle of an obstacle's cell that count as a collision.
        comfortable_margin: metres that would be kept by choice; a step costs up to `nearness` where they are missing.
        headway: seconds kept free ahead of the nose; a step costs `hurry` where something is there.
        doubt: part of its cost that a collision loses with each step that it lies further ahead.
        deviation: cost of a step at the off-route limit, more than the environment's, or every bend would be cut short.
        red: cost of passing a red or yellow light.
    """

    options: LatticeOptions = field(default_factory=LatticeOptions)
    margin: float = 0.3
    comfortable_margin: float = 1.0
    nearness: float = 0.3
    headway: float = 0.8
    hurry: float = 2.0
    doubt: float = 0.1
    deviation: float = 1.0
    red: float = 10.0


class Lattice(Driver):
    """A planner for `control` actions on `bev` observations."""

    name: ClassVar[str] = "lattice"

    def __init__(self, parameters: LatticeParameters | None = None) -> None:
        super().__init__()
        self._parameters = parameters or LatticeParameters()

    def drive(self, now: Situation, images: Array, begins: Array) -> tuple[Array, Array]:
        """See `Driver.drive`."""
        candidates = drive_candidates(now, self._parameters.options, self.setting)
        boxes = self.setting.boxes(len(images))
        best = [self._score(candidates, world, image, boxes[world], now).argmax() for world, image in enumerate(images)]
        worlds = np.arange(len(images))
        return candidates.acceleration.numpy()[worlds, best], candidates.steering.numpy()[worlds, best]

    def _score(self, candidates: Candidates, world: int, image: Array, box: Array, now: Situation) -> Array:
        """What the environment would reward each candidate of one world with if the forecast came true, float64 (K,)."""
        p, weights, front = self._parameters, self.setting.config.weights, float(box[2] + box[0] / 2)
        space, ahead, off = self._surroundings(candidates.poses[world], candidates.speed[world], image, box)
        arc = candidates.arc[world].numpy()
        crash = self._worst(space < p.margin)
        leave = self._worst(off > self.setting.config.offroad_share) & ~crash
        red = self._worst(self._runs_red(arc, now.light[world] - front, now.speed[world])) & ~crash & ~leave
        tight = np.clip((p.comfortable_margin - space) / (p.comfortable_margin - p.margin), 0.0, 1.0)
        deviation = candidates.deviation[world].numpy() / self.setting.config.offroute_distance
        reward = weights.progress * self._progress(arc) - p.deviation * self._worst(deviation)
        reward -= weights.comfort * candidates.discomfort[world].numpy()
        reward -= p.nearness * self._worst(tight) + p.hurry * self._worst(ahead < p.margin)
        cost = weights.collision * crash + weights.offroad * leave + p.red * red
        over = np.cumsum(cost > 0, axis=1)
        first = (over == 1) & (cost > 0)
        fade = (1 - p.doubt) ** np.arange(cost.shape[1])
        return (reward * (over == 0) - cost * first * fade).sum(axis=1)

    def _surroundings(self, poses: Tensor, speed: Tensor, image: Array, box: Array) -> tuple[Array, Array, Array]:
        """Metres of free space about the ego and ahead of it, and share of it off the road, at each frame (K, T) each."""
        frames, (length, width, centre) = poses.shape[1], box
        free = clearance(image, self.setting.grid, self.setting.frame_dt, self.setting.frame_dt * np.arange(1, frames + 1))
        flat = np.repeat(image[[BEV_CHANNELS.index("other_flat")]] / 255.0, frames, axis=0)
        part = torch.linspace(0, 1, _DISCS, dtype=torch.float64)
        body = centre + (part - 0.5) * (length - width)
        nose = centre + length / 2 + part * self._parameters.headway * speed.unsqueeze(-1)
        there, beyond = (_on_axis(poses, distance) for distance in (body, nose))
        space, ahead = (self._look_up(free, place).min(axis=-1) - width / 2 for place in (there, beyond))
        return space, ahead, self._look_up(flat, there).mean(axis=-1)

    def _look_up(self, maps: Array, place: Array) -> Array:
        """Values of maps (T, X, Y), one a frame, between the cells' middles at place (K, T, D, 2), metres: (K, T, D)."""
        index = (place - np.asarray(self.setting.grid.origin[:2])) / self.setting.grid.voxel - 0.5
        frame = np.broadcast_to(np.arange(len(maps))[:, None], place.shape[:-1])
        return ndimage.map_coordinates(maps, (frame, index[..., 0], index[..., 1]), order=1, mode="nearest")

    def _progress(self, arc: Array) -> Array:
        """The environment's progress term before weighting, of each step (K, H)."""
        ends = arc[:, self.setting.frames - 1 :: self.setting.frames]
        ideal = self.setting.config.target_speed * self.setting.frames * self.setting.frame_dt
        return np.clip(np.diff(ends, axis=1, prepend=0.0) / ideal, -1.0, 1.0)

    def _runs_red(self, arc: Array, gap: float, speed: float) -> Array:
        """Where the nose is beyond a red or yellow light `gap` metres ahead of it that one can still stop at, bool (K, T)."""
        return (arc > gap) & (gap > speed**2 / (2 * self.setting.config.bicycle.max_braking))

    def _worst(self, frames: Array) -> Array:
        """The largest of the frames (K, T) of each step: (K, H)."""
        return frames.reshape(len(frames), -1, self.setting.frames).max(axis=-1)


def _on_axis(poses: Tensor, distance: Tensor) -> Array:
    """World points (K, T, D, 2) at distance (D,) or (K, T, D) metres along the axes of cars at poses (K, T, 3)."""
    along = distance.expand(*poses.shape[:-1], -1)
    return transform(poses, torch.stack((along, torch.zeros_like(along)), dim=-1)).numpy()
