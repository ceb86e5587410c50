"""How far the ego came along its route: against the recorded driver, as nuPlan does, and against what the task allows."""

from __future__ import annotations

import numpy as np

from agents.evaluation.episode import Episode

LEAST_PROGRESS = 2.0  # metres, nuPlan's `score_progress_threshold`
MAKING_PROGRESS = 0.2  # nuPlan's least ratio


def gained_at(episode: Episode, seconds: float) -> float:
    """Metres gained along the route `seconds` after the start; after its end the ego stays where it is."""
    times = np.arange(len(episode.gained)) * episode.step_seconds
    return float(np.interp(seconds, times, episode.gained))


def progress_ratio(ego: float, expert: float) -> float:
    """nuPlan's `ego_progress_along_expert_route` of metres gained: at most 1, and 0 for an ego that drove back."""
    if ego < -LEAST_PROGRESS:
        return 0.0
    return min(1.0, max(ego, LEAST_PROGRESS) / max(expert, LEAST_PROGRESS))


def expert_progress(episode: Episode) -> float:
    """`progress_ratio` over the time for which both the episode and the recorded driver go on, 1 where none is recorded.

    An episode that ends early is counted to its horizon: an ego that crashed stays where it is, and the recorded one drives on.
    """
    if len(episode.expert) < 2:
        return 1.0
    seconds = min(episode.horizon, (len(episode.expert) - 1) * episode.frame_dt)
    recorded = float(np.interp(seconds, np.arange(len(episode.expert)) * episode.frame_dt, episode.expert))
    return progress_ratio(gained_at(episode, seconds), recorded)


def route_progress(episode: Episode) -> float:
    """Metres gained in parts of those possible: the target speed for the whole horizon, or the end of the route; 0 to 1."""
    possible = min(episode.target_speed * episode.horizon, episode.route_left)
    if episode.ending == "route completed":
        return 1.0
    return float(np.clip(episode.gained[-1] / max(possible, 1e-6), 0.0, 1.0))
