"""What `render` shows of one world: the voxels from above and from behind, with route, path ahead, speed, action and reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from occworld_env.actions import META_ACTIONS
from occworld_env.simulator import Simulator
from scenes.motion import relative, transform

if TYPE_CHECKING:
    from occworld_env.drawing import Overlay, Readout
    from occworld_env.window import Window

_LOOK_AHEAD = 2.0  # seconds of the path drawn ahead of the ego
_EVENTS = ("collision", "offroad", "offroute")


class Picture:
    """Draws world number `world` of a simulator, and keeps what its text band says.

    Attributes:
        window: the window of `show`, once it is open, with the keys that are pressed.
    """

    def __init__(self, simulator: Simulator, open_window: bool = False, world: int = 0) -> None:
        self.simulator, self.world, self.open_window = simulator, world, open_window
        self.window: Window | None = None
        self.begin()

    def begin(self) -> None:
        """Start a new episode's count."""
        self._total, self._reward, self._note, self._action = 0.0, 0.0, "", ""
        self._terms: dict[str, float] = {}

    def note(self, action: np.ndarray, info: dict[str, Any]) -> None:
        """Take down a step: the action as given, and its info with `rewards` and event flags."""
        self._terms = dict(info["rewards"])
        self._reward = sum(self._terms.values())
        self._total += self._reward
        self._note = next((name for name in _EVENTS if info[name]), "")
        if self.simulator.config.action == "discrete":
            self._action = META_ACTIONS[int(action)].replace("_", " ").lower()
        else:
            vehicle = self.simulator.vehicle
            degrees = np.degrees(float(vehicle.steering[self.world]))
            self._action = f"{float(vehicle.acceleration[self.world]):+.1f} m/s²  {degrees:+.0f}°"

    def draw(self, frame: int = -1, smooth: bool = False) -> np.ndarray:
        """Picture uint8 (H, W, 3) of a frame of the last chunk, by default its last; `smooth` takes longer and looks better."""
        from occworld_env.drawing import draw_frame

        if not self.simulator.state.tensors:
            raise RuntimeError("render: call reset first")
        voxels = self.simulator.state["voxels"][self.world]
        frame = frame % len(voxels)
        return draw_frame(voxels[frame].cpu(), self.simulator.grid, self._overlay(frame), self._readout(frame), smooth)

    def show(self) -> None:
        """Show the last frame in a window."""
        if self.window is None:
            from occworld_env.window import Window

            self.window = Window("OccSora", 1.0 / self.simulator.step_seconds)
        self.window.show(self.draw())

    def close(self) -> None:
        """Close the window; may be called again."""
        if self.window is not None:
            self.window.close()
            self.window = None

    def _overlay(self, frame: int) -> Overlay:
        from occworld_env.drawing import Overlay

        simulator, world = self.simulator, self.world
        vehicle, box = simulator.vehicle, simulator.state["box"][world].tolist()
        now = vehicle.pose[world]
        path, frames = simulator.path[world], simulator.frames
        pose = path[len(path) // frames * (frame + 1) - 1] if len(path) >= frames else now
        back = relative(pose, now)  # lines known in the last frame are drawn in this one
        ahead, speed, steering = [torch.zeros_like(now)], vehicle.speed[world], vehicle.steering[world]
        for _ in range(int(_LOOK_AHEAD / 0.1)):
            ahead.append(simulator.config.bicycle.step(ahead[-1], speed, torch.zeros_like(speed), steering, 0.1)[0])
        line = torch.cat((torch.zeros(1, 2, dtype=now.dtype, device=now.device), transform(back, torch.stack(ahead)[:, :2])))
        route = transform(back, simulator.route_ahead(world))
        length, width, centre = box
        return Overlay(
            route=route.cpu().numpy(),
            path=line.cpu().numpy(),
            length=length,
            width=width,
            rear=length / 2 - centre,
            heading=float(pose[2]),
        )

    def _readout(self, frame: int) -> Readout:
        from occworld_env.drawing import Readout

        simulator, world = self.simulator, self.world
        steps, early = int(simulator.state["steps"][world]), simulator.frames - 1 - frame
        return Readout(
            seconds=max(steps * simulator.step_seconds - early * simulator.model.dt, 0.0),
            step=steps,
            speed=float(simulator.state["speed"][world]),
            action=self._action,
            reward=self._reward,
            total=self._total,
            terms=self._terms,
            note=self._note if early == 0 else "",
            caption=simulator.names[world][0],
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the window, which opens again when it is needed."""
        return self.__dict__ | {"window": None}
