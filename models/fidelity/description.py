"""Everything that is measured in clips, one by one, so that sets of any size are compared without holding their voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models import metrics
from models.fidelity.action_response import found_motion
from models.fidelity.extractors import Extractor
from models.fidelity.scene_statistics import frame_histograms, frame_vector
from scenes.clip import Clip
from scenes.grid import Grid

STATISTICS = "statistics"  # name of the features that need no network


@dataclass(frozen=True)
class Description:
    """N clips of one length, described.

    Attributes:
        sources: where each clip comes from.
        motion: ego motion, as commanded, float32 (N, T, 3).
        features: float32 (N, S, D) by "extractor/level": S = T for level "frame", 1 for "clip".
        posterior: probabilities (N, T, K) by extractor, of those that classify.
        histograms: counts int64 (N, bins) over all frames: "classes" (free left out), "heights" and "agents".
        change: int64 (N, T - 1, 2, 2): for static cells and for all, cells changed and counted at each transition.
        commanded, found: ego motion float64 (N, P, 3) between pairs of frames, as commanded and as registered.
    """

    sources: list[str]
    motion: Tensor
    features: dict[str, Tensor]
    posterior: dict[str, Tensor]
    histograms: dict[str, Tensor]
    change: Tensor
    commanded: Tensor
    found: Tensor

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, index: Tensor) -> Description:
        """The clips of these numbers, int64 (M,); one may occur several times."""

        def part(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor[index] for name, tensor in tensors.items()}

        return Description(
            [self.sources[number] for number in index.tolist()],
            self.motion[index],
            part(self.features),
            part(self.posterior),
            part(self.histograms),
            self.change[index],
            self.commanded[index],
            self.found[index],
        )


@torch.no_grad()
def describe(
    clips: Iterable[Clip],
    grid: Grid,
    frames: int,
    extractors: Sequence[Extractor],
    *,
    pairs: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> Description:
    """Describe the first `frames` frames of each clip. pairs: of frames in each clip whose motion is registered.

    progress is called with 1 after each clip. Raises ValueError for a clip that is shorter, and where there is none.
    """
    described = []
    for number, clip in enumerate(clips):
        if len(clip.occupancy) < frames:
            raise ValueError(f"clip {number} of {clip.source}: expected {frames} frames or more, found {len(clip.occupancy)}")
        described.append(_describe_one(clip.occupancy[:frames], clip.motion[:frames], clip, grid, extractors, pairs))
        progress(1)
    if not described:
        raise ValueError("describe: found no clip")
    return _stacked(described)


def _describe_one(
    occupancy: Tensor, motion: Tensor, clip: Clip, grid: Grid, extractors: Sequence[Extractor], pairs: int
) -> Description:
    """A description of one clip, with N = 1."""
    change = torch.stack(
        [metrics.change_counts(occupancy[None], motion[None, 1:], grid, agents=agents)[0] for agents in (False, True)], dim=1
    )
    histograms = frame_histograms(occupancy, grid)
    vectors = frame_vector(histograms)
    shares = change[..., 0].sum(0) / change[..., 1].sum(0).clamp(min=1)
    features = {
        f"{STATISTICS}/frame": vectors,
        f"{STATISTICS}/clip": torch.cat((vectors.mean(0), shares.float().sqrt())).unsqueeze(0),
    }
    posterior = {}
    for extractor in extractors:
        for level, tensor in extractor(occupancy).items():
            if level == "posterior":
                posterior[extractor.name] = tensor
            else:
                features[f"{extractor.name}/{level}"] = tensor
    commanded, found = found_motion(occupancy, motion, grid, clip.dt, pairs)
    sums = {name: counts.sum(0) for name, counts in histograms.items()}
    sums["classes"] = sums["classes"][:-1]
    return Description(
        sources=[clip.source],
        motion=motion[None],
        features=_alone(features),
        posterior=_alone(posterior),
        histograms=_alone(sums),
        change=change[None],
        commanded=commanded[None],
        found=found[None],
    )


def _alone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.unsqueeze(0) for name, tensor in tensors.items()}


def _stacked(parts: list[Description]) -> Description:
    def joined(tensors: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([one[name] for one in tensors]) for name in tensors[0]}

    return Description(
        sources=[source for part in parts for source in part.sources],
        motion=torch.cat([part.motion for part in parts]),
        features=joined([part.features for part in parts]),
        posterior=joined([part.posterior for part in parts]),
        histograms=joined([part.histograms for part in parts]),
        change=torch.cat([part.change for part in parts]),
        commanded=torch.cat([part.commanded for part in parts]),
        found=torch.cat([part.found for part in parts]),
    )
