"""True dynamics of one world: log replay of a recording, and live SUMO."""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import Tensor

from scenes.motion import between
from scenes.scene import Scene, Tracks
from scenes.sumo_process import SumoEndedError
from scenes.sumo_town import Town

Agents = tuple[Tracks, Tensor, int | None]
"""What `scenes.render.draw_agents` draws: tracks, fractional frames (F,) of them, and the one to leave out."""


class Dynamics(Protocol):
    """How one world goes on around its ego. `send` comes before `receive`, so that several worlds work side by side.

    Attributes:
        scene: where it is.
    """

    scene: Scene

    @property
    def over(self) -> bool:
        """Whether the world cannot go on for another step."""

    def send(self, pose: Tensor, frames: Tensor) -> None:
        """Move the ego frame from world pose (3,) through frames (F, 3), one frame after the other."""

    def receive(self) -> Agents:
        """What is there at these frames."""

    def close(self) -> None:
        """Let go of what runs elsewhere; may be called again."""


class Replay:
    """Log replay: the others move as they were recorded, whatever the ego does. It is over where the recording ends."""

    def __init__(self, scene: Scene, ego: int, start: float, dt: float, frames: int) -> None:
        """start: seconds in the scene. dt: seconds between frames. frames: of a step."""
        self.scene, self._ego, self._start = scene, ego, start
        self._dt, self._frames, self._done = dt, frames, 0

    @property
    def over(self) -> bool:
        """See `Dynamics.over`."""
        return not self.fits(self.scene, self._start + self._done * self._dt, self._frames * self._dt)

    @staticmethod
    def fits(scene: Scene, start: float, seconds: float) -> bool:
        """Whether the recording goes on for that long after `start`."""
        return start + seconds <= scene.duration + 1e-6

    def send(self, pose: Tensor, frames: Tensor) -> None:
        """See `Dynamics.send`; nobody takes notice of the ego."""
        self._done += len(frames)

    def receive(self) -> Agents:
        """See `Dynamics.receive`."""
        index = torch.arange(self._done - self._frames + 1, self._done + 1, dtype=torch.float64)
        return self.scene.tracks, (self._start + self._dt * index) / self.scene.dt, self._ego

    def close(self) -> None:
        """See `Dynamics.close`."""


class LiveSumo:
    """SUMO goes on step by step, and its traffic reacts to the ego.

    Attributes:
        over: whether SUMO has crashed, which it does now and then under an ego that drives where no car would. In that last
            step the others stand where they were. Otherwise a town goes on for longer than an episode.
    """

    def __init__(self, town: Town, ego: int, start: float, dt: float, radius: float) -> None:
        """start: seconds in the scene. dt: seconds between frames, a multiple of the scene's. radius: of sight, metres."""
        self.scene, self._radius = town.scene, radius
        self._steps = round(dt / town.scene.dt)  # of SUMO, a frame
        self._drive = town.enter(ego, start)
        self._last: Agents = town.scene.tracks, torch.zeros(0), ego
        self._start, self.over = start, False

    def send(self, pose: Tensor, frames: Tensor) -> None:
        """See `Dynamics.send`."""
        before = torch.cat((pose.unsqueeze(0), frames[:-1]))
        share = torch.arange(1, self._steps + 1, dtype=torch.float64) / self._steps
        steps = between(before.unsqueeze(1), frames.unsqueeze(1), share[:, None])
        self._count = len(frames)
        try:
            self._drive.send(steps.reshape(-1, 3), self._radius)
        except SumoEndedError:
            self._give_up()

    def receive(self) -> Agents:
        """See `Dynamics.receive`."""
        frames = self._steps * torch.arange(1, self._count + 1, dtype=torch.float64) - 1
        if not self.over:
            try:
                self._last = self._drive.receive(), frames, None
            except SumoEndedError:
                self._give_up()
        return self._last

    def _give_up(self) -> None:
        """Take note that SUMO has crashed."""
        self.over = True
        tracks, frames, ego = self._last
        before = frames[-1:] if len(frames) else torch.tensor([self._start / self.scene.dt], dtype=torch.float64)
        self._last = tracks, before.expand(self._count), ego
        logging.getLogger(__name__).warning("SUMO crashed in %s; this drive ends here", self.scene.name)

    def close(self) -> None:
        """See `Dynamics.close`."""
        self._drive.close()
