"""Two sets of clips compared: distances beside the floor that true clips have among themselves, and properties side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from models.evaluation_cells import number
from models.fidelity.action_response import median, others_commands, response_errors
from models.fidelity.bootstrap import RESAMPLES, Estimate, bootstrap, halves
from models.fidelity.description import Description
from models.fidelity.inception_score import inception_score
from models.fidelity.measures import FEATURE_MEASURES, HISTOGRAM_MEASURES, Measure
from models.fidelity.seams import seam_ratio

DIVISIONS = 5  # of the reference into halves, over which the floor is a mean
LEAST = 8  # clips in a set that is compared


@dataclass(frozen=True)
class Distance:
    """How far generated clips are from true ones.

    Attributes:
        estimate: of all generated clips from the whole reference.
        floor: the same between sets of true clips, of `Comparison.floor_clips` each.
        at_floor_size: the same between as many generated and true clips as the floor has.
    """

    estimate: Estimate
    floor: float
    at_floor_size: float


@dataclass(frozen=True)
class Property:
    """A figure that each set of clips has by itself."""

    generated: Estimate
    reference: Estimate


@dataclass(frozen=True)
class Comparison:
    """All figures of a set of generated clips.

    Attributes:
        generated, reference: number of clips in each.
        floor_clips: clips on each side of the floor.
        distances: by (figure, what it is of).
        properties: by (figure, what it is of).
    """

    generated: int
    reference: int
    floor_clips: int
    distances: dict[tuple[str, str], Distance]
    properties: dict[tuple[str, str], Property]

    def as_json(self) -> dict[str, Any]:
        """All figures as JSON holds them, None for those that there are too few clips for."""
        return {
            "clips": {"generated": self.generated, "reference": self.reference, "floor": self.floor_clips},
            "distances": [
                {"figure": figure, "of": of, **_plain(item.estimate)}
                | {"floor": number(item.floor, digits=8), "at_floor_size": number(item.at_floor_size, digits=8)}
                for (figure, of), item in self.distances.items()
            ],
            "properties": [
                {"figure": figure, "of": of, "generated": _plain(item.generated), "reference": _plain(item.reference)}
                for (figure, of), item in self.properties.items()
            ],
        }


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {name: number(value, digits=8) for name, value in vars(estimate).items()}


def compare(
    generated: Description,
    reference: Description,
    others: Description | None = None,
    *,
    chunk_frames: int | None = None,
    first_frames: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare generated clips with a reference of true ones.

    others: more true clips, from elsewhere (the towns trained on), for the floor; without them the floor is that of the halves
    of the reference. chunk_frames: frames that were generated together, to look for seams; first_frames: those before the first
    border, where they are others. Raises ValueError where a set has less than LEAST clips.
    """
    for name, clips in (("generated", generated), ("reference", reference), ("others", others)):
        if clips is not None and len(clips) < LEAST:
            raise ValueError(f"{name}: expected {LEAST} clips or more, found {len(clips)}")
    floor = list(_floor(generated, reference, others, seed))

    def distance(measure: Measure, of: Callable[[Description], Tensor]) -> Distance:
        return Distance(
            measure.estimate(of(generated), of(reference), resamples, seed),
            floor=fmean(measure.value(of(first), of(second)) for _, first, second in floor),
            at_floor_size=fmean(measure.value(of(some), of(second)) for some, _, second in floor),
        )

    def property_of(of: Callable[[Description], Tensor], figure: Callable[[Tensor], float]) -> Property:
        return Property(*(_estimate(figure, of(clips), resamples, seed) for clips in (generated, reference)))

    distances: dict[tuple[str, str], Distance] = {}
    for name in generated.features:
        for figure, measure in FEATURE_MEASURES.items():
            distances[figure, name] = distance(measure, partial(_features, name=name))
    for name in generated.histograms:
        for figure, measure in HISTOGRAM_MEASURES.items():
            distances[figure, name] = distance(measure, partial(_histogram, name=name))
    properties = {key: property_of(*how) for key, how in _properties(generated, chunk_frames, first_frames).items()}
    return Comparison(len(generated), len(reference), len(floor[0][1]), distances, properties)


def _floor(
    generated: Description, reference: Description, others: Description | None, seed: int
) -> Iterator[tuple[Description, Description, Description]]:
    """As many generated clips, true clips, and other true clips, to compare the former two with: several times."""
    generator = torch.Generator().manual_seed(seed)
    divisions = halves(reference.sources, DIVISIONS, seed)
    size = min(len(generated), min(len(first) for first, _ in divisions))
    if others is not None:
        size = min(len(generated), len(reference), len(others))
    for first, second in divisions:
        if others is None:
            true = reference.take(first[:size])
        else:
            true = others.take(torch.randperm(len(others), generator=generator)[:size])
            second = torch.randperm(len(reference), generator=generator)
        some = generated.take(torch.randperm(len(generated), generator=generator)[:size])
        yield some, true, reference.take(second[:size])


def _estimate(figure: Callable[[Tensor], float], clips: Tensor, resamples: int, seed: int) -> Estimate:
    return bootstrap(lambda index: figure(clips[index]), (len(clips),), resamples=resamples, seed=seed)


Figured = tuple[Callable[[Description], Tensor], Callable[[Tensor], float]]


def _properties(clips: Description, chunk_frames: int | None, first_frames: int | None) -> dict[tuple[str, str], Figured]:
    """What is figured out of each set of clips by itself, by (figure, what it is of): from which tensor (N, ...), and how."""
    found: dict[tuple[str, str], Figured] = {}
    for name in clips.posterior:
        found["inception_score", name] = (partial(_posterior, name=name), inception_score)
    for axis, name in enumerate(("response_m", "response_deg")):
        for command in ("own command", "another's command"):
            found[name, command] = (partial(_errors, own=command == "own command", axis=axis), median)
    for kind, name in enumerate(("static voxels", "all voxels")):
        found["change", name] = (partial(_change, kind=kind), _changed)
        if chunk_frames is not None:
            seams = partial(seam_ratio, chunk_frames=chunk_frames, first_frames=first_frames)
            found["seam_ratio", name] = (partial(_change, kind=kind), seams)
    return found


def _features(clips: Description, name: str) -> Tensor:
    return clips.features[name]


def _histogram(clips: Description, name: str) -> Tensor:
    return clips.histograms[name]


def _posterior(clips: Description, name: str) -> Tensor:
    return clips.posterior[name]


def _change(clips: Description, kind: int) -> Tensor:
    """Counts int64 (N, T - 1, 2) of static voxels (kind 0) or of all (1)."""
    return clips.change[:, :, kind]


def _errors(clips: Description, own: bool, axis: int) -> Tensor:
    """Errors (N, P) of the motion found in each clip against its own command, or against one that another clip was given."""
    commanded = clips.commanded if own else others_commands(clips.commanded)
    return response_errors(commanded, clips.found)[..., axis]


def _changed(counts: Tensor) -> float:
    """Share of the cells counted that changed, from int64 (N, T - 1, 2)."""
    changed, counted = counts.flatten(0, 1).sum(0).tolist()
    return changed / counted if counted else float("nan")
