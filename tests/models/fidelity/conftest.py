"""True clips of recorded driving, rendered from the bundled scenes on a small grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.evaluation_clips import scene_clips
from models.fidelity.description import Description, describe
from models.fidelity.extractors import load_extractor
from scenes.clip import Clip
from scenes.grid import MINI, Grid
from scenes.scene_file import load_scenes

torch.set_num_threads(1)

SMALL = replace(MINI, shape=(48, 48, 8), origin=(-19.2, -19.2, -0.8))
DT, FRAMES = 0.25, 6


@pytest.fixture(scope="session")
def grid() -> Grid:
    """The grid of the clips, 38 m square."""
    return SMALL


@pytest.fixture(scope="session")
def true_clips() -> list[Clip]:
    """Forty clips of 6 frames of moving egos; the first half and the second are of the same four towns in turn."""
    scenes = load_scenes(Path(__file__).parents[3] / "occworld_env" / "data")
    clips = scene_clips(scenes, SMALL, 40, FRAMES, chunk_frames=2, dt=DT)
    return [Clip(clip["occupancy"], clip["motion"], DT, clip["source"]) for clip in clips]


@pytest.fixture(scope="session")
def described() -> Callable[[list[Clip]], Description]:
    """Describes clips with the random features."""
    extractor = load_extractor("random", SMALL)
    return lambda clips: describe(clips, SMALL, FRAMES, [extractor], pairs=1)


@pytest.fixture(scope="session")
def reference(true_clips: list[Clip], described: Callable[[list[Clip]], Description]) -> Description:
    """The first twenty clips, described."""
    return described(true_clips[:20])
