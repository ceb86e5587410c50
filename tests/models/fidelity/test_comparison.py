"""True clips are as near to the reference as its floor; shuffled, noisy and frozen ones are farther, and move wrongly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.fidelity.comparison import Comparison, compare
from models.fidelity.description import Description
from models.fidelity.disturbed import frozen, shuffled_frames, voxel_noise
from scenes.clip import Clip
from scenes.grid import Grid

Describe = Callable[[list[Clip]], Description]
RESAMPLES = 20


@pytest.fixture(scope="module")
def true(true_clips: list[Clip], reference: Description, described: Describe) -> Comparison:
    """Other true clips against the reference."""
    return compare(described(true_clips[20:]), reference, chunk_frames=2, resamples=RESAMPLES)


@pytest.fixture(scope="module")
def disturbed(true_clips: list[Clip], reference: Description, described: Describe, grid: Grid) -> dict[str, Comparison]:
    """The same clips, disturbed, against the reference."""
    clips = true_clips[20:]
    sets = {
        "shuffled": [shuffled_frames(clip, seed) for seed, clip in enumerate(clips)],
        "noise": [voxel_noise(clip, grid, 0.1, seed) for seed, clip in enumerate(clips)],
        "frozen": [frozen(clip) for clip in clips],
    }
    return {name: compare(described(made), reference, chunk_frames=2, resamples=RESAMPLES) for name, made in sets.items()}


@pytest.mark.parametrize("figure", ["frechet", "kernel"])
@pytest.mark.parametrize(
    ("features", "kinds"),
    [
        ("statistics/clip", ("shuffled", "noise", "frozen")),
        ("statistics/frame", ("noise",)),
        ("random/clip", ("noise", "frozen")),
    ],
)
def test_disturbed_clips_are_farther_than_the_floor_and_than_true_clips(
    true: Comparison, disturbed: dict[str, Comparison], figure: str, features: str, kinds: tuple[str, ...]
) -> None:
    near = true.distances[figure, features]
    for kind in kinds:
        far = disturbed[kind].distances[figure, features]
        assert far.at_floor_size > far.floor, kind
        assert far.estimate.value > near.estimate.value, kind


def test_shuffling_frames_leaves_what_single_frames_show_as_it_was(true: Comparison, disturbed: dict[str, Comparison]) -> None:
    for of in ("statistics/frame", "random/frame"):
        shuffled = disturbed["shuffled"].distances["frechet", of].estimate.value
        assert shuffled == pytest.approx(true.distances["frechet", of].estimate.value, rel=1e-3)
    for of in ("classes", "heights", "agents"):
        assert disturbed["shuffled"].distances["total_variation", of] == true.distances["total_variation", of]


def test_true_clips_move_as_commanded_and_disturbed_ones_do_not(true: Comparison, disturbed: dict[str, Comparison]) -> None:
    own, other = (true.properties["response_m", f"{whose} command"] for whose in ("own", "another's"))
    assert own.generated.value < 0.2
    assert own.reference.value < 0.2
    assert other.generated.value > 5 * own.generated.value
    for kind in ("shuffled", "frozen"):
        assert disturbed[kind].properties["response_m", "own command"].generated.value > 5 * own.generated.value


def test_change_from_frame_to_frame(true: Comparison, disturbed: dict[str, Comparison]) -> None:
    still = true.properties["change", "static voxels"]
    assert still.generated.value == pytest.approx(still.reference.value, abs=0.05)
    for found in disturbed.values():
        assert found.properties["change", "static voxels"].generated.low > still.generated.high
    assert true.properties["seam_ratio", "static voxels"].generated.value == pytest.approx(1, abs=0.25)


def test_the_same_clips_have_no_distance_and_full_precision(reference: Description) -> None:
    found = compare(reference, reference, resamples=2)
    for features in reference.features:
        assert found.distances["frechet", features].estimate.value == pytest.approx(0, abs=1e-5)
        assert found.distances["precision_3nn", features].estimate.value == pytest.approx(1, abs=0.05)
    assert found.distances["total_variation", "classes"].estimate.value == 0


def test_twenty_clips_are_too_few_for_an_ellipsoid_in_64_dimensions(true: Comparison) -> None:
    plain = [
        one for one in true.as_json()["distances"] if one["figure"] == "precision_ellipsoid" and one["of"] == "random/clip"
    ]
    assert plain[0]["value"] is None
    assert plain[0]["floor"] is None


def test_other_true_clips_as_the_floor(true_clips: list[Clip], reference: Description, described: Describe) -> None:
    others = described(true_clips[20:32])
    found = compare(reference.take(torch.arange(9)), reference, others, resamples=2)
    assert (found.generated, found.reference, found.floor_clips) == (9, 20, 9)
    for of in ("statistics/clip", "random/clip"):
        distance = found.distances["frechet", of]
        assert distance.floor > distance.at_floor_size / 10 > 0


def test_small_sets_are_refused(reference: Description) -> None:
    with pytest.raises(ValueError, match="generated: expected 8 clips or more, found 7"):
        compare(reference.take(torch.arange(7)), reference)
