"""Traffic lights along a route: found once at a start, read at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from occworld_env.route import locate
from scenes.scene import Lights, Scene

MAX_LIGHTS = 16  # on one route
MAX_STEPS = 256  # environment steps for which a light's states are kept
_ASIDE = 2.5  # metres from the route at most
_TURNED = 0.8  # radians from the route's direction at most
_PASSED = 1.0  # metres behind the rear axle at which a stop line counts as passed


def lights_on_route(scene: Scene, route: Tensor, start: float, step: float) -> tuple[Tensor, Tensor]:
    """Places of the scene's lights along route (M, 2), float64 (16,), and their states, uint8 (16, 256).

    Places are metres, infinity where there is no further light. States are those at `start` + k * `step` seconds of the scene;
    0, unknown, after its end.
    """
    arcs = torch.full((MAX_LIGHTS,), torch.inf, dtype=torch.float64)
    states = torch.zeros(MAX_LIGHTS, MAX_STEPS, dtype=torch.uint8)
    lights: Lights = scene.lights
    if not len(lights.poses) or not lights.states.shape[1]:
        return arcs, states
    poses = lights.poses.to("cpu", torch.float64)
    place = locate(route.cpu().expand(len(poses), -1, -1), poses)
    on = (place.lateral.abs() <= _ASIDE) & (place.heading.abs() <= _TURNED)
    found = on.nonzero().flatten()
    found = found[place.arc[found].argsort(stable=True)][:MAX_LIGHTS]
    arcs[: len(found)] = place.arc[found]
    frame = ((start + step * torch.arange(MAX_STEPS, dtype=torch.float64)) / scene.dt).round().long()
    last = lights.states.shape[1] - 1
    picked = lights.states.cpu()[found][:, frame.clamp(0, last)]
    states[: len(found)] = picked * (frame <= last).to(torch.uint8)
    return arcs, states


def light_ahead(arcs: Tensor, states: Tensor, arc: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Distance in metres (B,), infinity for none, and state (B,) of the next light.

    arcs (B, 16) and states (B, 16, 256): see `lights_on_route`; arc: the ego's place (B,); steps: since the start (B,).
    """
    distance = arcs - arc.unsqueeze(-1)
    distance = torch.where(distance > -_PASSED, distance, torch.full_like(distance, torch.inf))
    nearest, which = distance.min(dim=-1, keepdim=True)
    step = steps.clamp(0, MAX_STEPS - 1)[:, None, None]
    state = states.gather(1, which.unsqueeze(-1).expand(-1, -1, MAX_STEPS)).gather(2, step)[:, 0, 0]
    known = torch.isfinite(nearest.squeeze(1)) & (steps < MAX_STEPS)
    return nearest.squeeze(1).clamp(min=0.0), torch.where(known, state, torch.zeros_like(state))
