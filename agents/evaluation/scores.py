"""All terms of an episode, and the scores made of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from agents.evaluation.collisions import collision_of, no_at_fault_collision
from agents.evaluation.comfort import comfort_kept, comfort_signals
from agents.evaluation.episode import Episode
from agents.evaluation.progress import MAKING_PROGRESS, expert_progress, route_progress
from agents.evaluation.road import drivable_area_compliance, route_direction_compliance, speed_limit_compliance
from agents.evaluation.time_to_collision import LEAST, least_time_to_collision

TERMS = (
    "score",
    "route_progress",
    "safety",
    "voxel_pdms",
    "voxel_cls",
    "no_at_fault_collision",
    "drivable_area",
    "making_progress",
    "route_direction",
    "expert_progress",
    "time_to_collision",
    "target_speed",
    "comfort",
    "collision",
    "at_fault",
    "offroad",
    "offroute",
)


@dataclass(frozen=True)
class Scores:
    """What an episode is worth, each term from 0 to 1, 1 the best except for the four events.

    Attributes:
        score: route_progress times safety, what planners are ranked by.
        route_progress: see `progress.route_progress`.
        safety: no_at_fault_collision, and 0 where the ego left the road or its route.
        voxel_pdms: PDMS's formula of the terms below.
        voxel_cls: nuPlan's formula of the terms below.
        no_at_fault_collision, drivable_area, making_progress, route_direction: multipliers.
        expert_progress, time_to_collision, target_speed, comfort: weighted terms. See collisions.py,
            road.py, progress.py, time_to_collision.py and comfort.py.
        collision, at_fault, offroad, offroute: 1 where it happened, which ended the episode (at_fault: the ego's fault).
        least_ttc: seconds, infinity for none below 3 s.
        hit: class that was hit, empty for none. collision_type: how, see `collisions.CollisionType`.
        ending: see `Episode.ending`. seconds: duration. metres: gained along the route. reward: sum over the episode.
    """

    score: float
    route_progress: float
    safety: float
    voxel_pdms: float
    voxel_cls: float
    no_at_fault_collision: float
    drivable_area: float
    making_progress: float
    route_direction: float
    expert_progress: float
    time_to_collision: float
    target_speed: float
    comfort: float
    collision: float
    at_fault: float
    offroad: float
    offroute: float
    least_ttc: float
    hit: str
    collision_type: str
    ending: str
    seconds: float
    metres: float
    reward: float

    def plain(self) -> dict[str, float | str | None]:
        """As JSON knows it: None for an infinite time to collision."""
        told = asdict(self)
        return told | {"least_ttc": None if math.isinf(self.least_ttc) else self.least_ttc}


def score_episode(episode: Episode) -> Scores:
    """All terms of an episode."""
    collision = collision_of(episode)
    ttc = least_time_to_collision(episode, collision)
    signals = comfort_signals(episode.speed, episode.acceleration, episode.poses[:, 2], episode.dt, float(episode.box[2]))
    nc, drivable = no_at_fault_collision(collision), drivable_area_compliance(episode)
    ep, ttc_kept = expert_progress(episode), float(ttc > LEAST)
    comfort = float(all(comfort_kept(signals).values()))
    direction = route_direction_compliance(episode.gained, episode.step_seconds)
    speed = speed_limit_compliance(episode.speed, episode.target_speed, episode.dt)
    making, progress = float(ep >= MAKING_PROGRESS), route_progress(episode)
    safety = nc * float(not (episode.offroad.any() or episode.offroute.any()))
    return Scores(
        score=progress * safety,
        route_progress=progress,
        safety=safety,
        voxel_pdms=pdms(nc, drivable, ep, ttc_kept, comfort),
        voxel_cls=cls(nc, drivable, making, direction, ep, ttc_kept, speed, comfort),
        no_at_fault_collision=nc,
        drivable_area=drivable,
        making_progress=making,
        route_direction=direction,
        expert_progress=ep,
        time_to_collision=ttc_kept,
        target_speed=speed,
        comfort=comfort,
        collision=float(collision is not None),
        at_fault=float(collision is not None and collision.at_fault),
        offroad=float(episode.offroad.any()),
        offroute=float(episode.offroute.any()),
        least_ttc=ttc,
        hit="" if collision is None else collision.hit,
        collision_type="" if collision is None else str(collision.kind),
        ending=episode.ending,
        seconds=episode.seconds,
        metres=float(episode.gained[-1]),
        reward=float(episode.reward.sum()),
    )


def pdms(nc: float, dac: float, ep: float, ttc: float, comfort: float) -> float:
    """NAVSIM's formula: NC * DAC * (5 EP + 5 TTC + 2 C) / 12."""
    return nc * dac * (5 * ep + 5 * ttc + 2 * comfort) / 12


def cls(nac: float, dac: float, mp: float, ddc: float, ep: float, ttc: float, sl: float, comfort: float) -> float:
    """nuPlan's formula: NAC * DAC * MP * DDC * (5 EP + 5 TTC + 4 SL + 2 C) / 16."""
    return nac * dac * mp * ddc * (5 * ep + 5 * ttc + 4 * sl + 2 * comfort) / 16
