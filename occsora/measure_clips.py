"""Measure generated clips against true ones: distances beside their floor, motion, seams, and IoU of reconstructions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from models.checkpoint import write_json
from models.fidelity.bootstrap import RESAMPLES, Estimate
from models.fidelity.comparison import LEAST, Comparison, compare
from models.fidelity.description import Description, describe
from models.fidelity.extractors import Extractor, load_extractor
from models.fidelity.grouping import by_source, by_trajectory
from models.fidelity.reconstruction import ReconstructionTally
from models.fidelity.seams import border_transitions
from scenes.clip import Clip
from scenes.clip_store import ClipStore


@dataclass(frozen=True)
class MeasureClips:
    """What is compared, and how."""

    generated: str
    """Store of the clips to judge: a path or fsspec URL."""
    reference: str
    """Store of true clips, best of places that the model never saw."""
    others: str | None = None
    """Store of other true clips, for the floor; without it, the floor is between halves of the reference."""
    features: tuple[str, ...] = ("random",)
    """Feature extractors: random, or folders that `occsora train-features` has written. Statistics need none."""
    frames: int | None = None
    """Frames of each clip that count, from its first on; by default as many as the shortest has."""
    chunk_frames: int | None = None
    """Frames that were generated together: measures the seams between chunks."""
    first_frames: int | None = None
    """Frames before the first seam, where they are more: a clip that DynamicCity generates begins with a whole window."""
    group_by: Literal["nothing", "source", "trajectory"] = "source"
    """Also compare parts of the generated clips: by source up to its last slash, or by how the ego drives."""
    paired: bool = False
    """Whether generated clip i is the reconstruction of reference clip i: adds IoU and mIoU."""
    pairs: int = 2
    """Pairs of frames in each clip in which the ego's motion is looked for."""
    resamples: int = RESAMPLES
    """Of the bootstrap behind the intervals."""
    device: str = "cpu"
    """Where the features are computed."""
    json: Path | None = None
    """File for all figures."""


COMMAND = MeasureClips


def run(config: MeasureClips) -> None:
    """Describe and compare the clips, print the tables and write the file; ValueError where the stores do not fit together."""
    console = Console()
    stores = open_stores(config)
    frames = common_frames(stores, config.frames)
    if config.chunk_frames is not None:
        border_transitions(frames - 1, config.chunk_frames, config.first_frames)
    dt = stores["reference"].read(0, 0, 1).dt
    extractors = load_extractors(config, stores["reference"])
    with clip_progress() as bar:
        described = {name: _describe(bar, name, store, frames, dt, extractors, config.pairs) for name, store in stores.items()}
        rebuilt = _reconstruction(bar, stores, frames) if config.paired else None
        found = _comparisons(bar, config, described, dt)
    header = {
        "frames": frames,
        "dt": dt,
        "stores": {name: store.address for name, store in stores.items()},
        "features": {one.name: {"sha256": one.sha256, "origin": one.origin} for one in extractors},
        "floor": "other true clips" if config.others else "halves of the reference",
    }
    if config.json is not None:
        told = {name: comparison.as_json() for name, comparison in found.items()}
        write_json(config.json, header | {"reconstruction": rebuilt, "comparisons": told})
    for extractor in extractors:
        console.print(f"features {extractor.name}: {extractor.origin}, sha256 {extractor.sha256}", soft_wrap=True)
    for name, comparison in found.items():
        console.print(_distances_table(name, comparison, frames, dt))
        console.print(_properties_table(name, comparison))
    if rebuilt is not None:
        console.print(reconstruction_table(rebuilt))


def open_stores(config: MeasureClips) -> dict[str, ClipStore]:
    """The stores by the names of their options; ValueError where their grids differ or one has too few clips."""
    addresses = {"generated": config.generated, "reference": config.reference, "others": config.others}
    stores = {name: ClipStore.open(address) for name, address in addresses.items() if address is not None}
    grid = stores["reference"].grid
    for name, store in stores.items():
        if store.grid != grid:
            told = [f"{one.shape} voxels of {one.voxel} m from {one.origin}" for one in (grid, store.grid)]
            raise ValueError(f"--{name}: {store.address} is on a grid of {told[1]}, the reference on one of {told[0]}")
        if len(store) < LEAST:
            raise ValueError(f"--{name}: {store.address} has {len(store)} clips, expected {LEAST} or more")
    if config.paired and len(stores["generated"]) != len(stores["reference"]):
        sizes = f"{len(stores['generated'])} and {len(stores['reference'])}"
        raise ValueError(f"--paired: expected as many generated clips as reference clips, found {sizes}")
    return stores


def load_extractors(config: MeasureClips, reference: ClipStore) -> list[Extractor]:
    """The extractors that are asked for; ValueError for two of one kind, whose figures would bear one name."""
    extractors = [load_extractor(name, reference.grid, config.device) for name in config.features]
    names = [one.name for one in extractors]
    if len(set(names)) < len(names):
        raise ValueError(f"--features: expected one extractor of a kind, found {' '.join(names)}")
    return extractors


def common_frames(stores: dict[str, ClipStore], asked: int | None) -> int:
    """Frames of each clip that count: as asked, or as many as the shortest clip has; ValueError where a clip is too short."""
    shortest = {name: min(store.frames(index) for index in range(len(store))) for name, store in stores.items()}
    frames = min(shortest.values()) if asked is None else asked
    for name, least in shortest.items():
        if least < max(frames, 2):
            raise ValueError(f"--{name}: a clip has {least} frames, expected {max(frames, 2)} or more")
    if frames < 2:
        raise ValueError(f"--frames: expected 2 or more, found {frames}")
    return frames


def _clips(name: str, store: ClipStore, frames: int, dt: float) -> Iterator[Clip]:
    for index in range(len(store)):
        clip = store.read(index, 0, frames)
        if abs(clip.dt - dt) > 1e-6:
            raise ValueError(f"--{name}: clip {index} of {store.address} has {clip.dt} s between frames, the reference {dt} s")
        yield clip


def _describe(
    bar: Progress, name: str, store: ClipStore, frames: int, dt: float, extractors: list[Extractor], pairs: int
) -> Description:
    task = bar.add_task(name, total=len(store))
    clips = _clips(name, store, frames, dt)
    return describe(clips, store.grid, frames, extractors, pairs=pairs, progress=lambda done: bar.advance(task, done))


def _reconstruction(bar: Progress, stores: dict[str, ClipStore], frames: int) -> dict[str, Any]:
    truth, rebuilt = stores["reference"], stores["generated"]
    tally = ReconstructionTally(truth.grid, frames)
    for index in bar.track(range(len(truth)), description="reconstruction"):
        pair = [store.read(index, 0, frames).occupancy.unsqueeze(0) for store in (truth, rebuilt)]
        tally.add(*pair)
    return tally.report()


def _comparisons(bar: Progress, config: MeasureClips, described: dict[str, Description], dt: float) -> dict[str, Comparison]:
    """All generated clips against the reference, and each group of LEAST clips or more: trajectories against their own kind."""
    generated, reference, others = described["generated"], described["reference"], described.get("others")
    whole = (generated, reference, others)
    parts: dict[str, tuple[Description, Description, Description | None]] = {}
    groups: dict[str, torch.Tensor] = {}
    if config.group_by == "source":
        groups = by_source(generated.sources)
    elif config.group_by == "trajectory":
        groups = by_trajectory(generated.motion, dt)
    for name, index in groups.items():
        part = (generated.take(index), reference, others)
        if config.group_by == "trajectory":
            part = (part[0], _driven(reference, name, dt), None if others is None else _driven(others, name, dt))
        alone = config.group_by == "source" and len(groups) == 1  # the whole set once more
        if not alone and all(clips is None or len(clips) >= LEAST for clips in part):
            parts[name] = part
    parts = {"all": whole} | {f"group {name}" if name == "all" else name: part for name, part in parts.items()}
    return {
        name: compare(*part, chunk_frames=config.chunk_frames, first_frames=config.first_frames, resamples=config.resamples)
        for name, part in bar.track(parts.items(), description="comparing")
    }


def _driven(clips: Description, trajectory: str, dt: float) -> Description:
    """The clips of one type of trajectory, which may be none."""
    return clips.take(by_trajectory(clips.motion, dt).get(trajectory, torch.arange(0)))


def clip_progress() -> Progress:
    """A progress bar of clips on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _distances_table(name: str, found: Comparison, frames: int, dt: float) -> Table:
    told = f"{found.generated} generated clips, {found.reference} true ones, {frames} frames of {dt:g} s"
    table = plain_table(f"{name}: {told}", ("distance", "of", "value", "95 %", "floor", f"at {found.floor_clips} clips"))
    for (figure, of), item in found.distances.items():
        values = (item.estimate.value, item.floor, item.at_floor_size)
        value, floor, at_floor_size = map(rounded, values)
        table.add_row(figure, of, value, _interval(item.estimate), floor, at_floor_size)
    table.caption = (
        f"floor: true clips against true clips, {found.floor_clips} each; last column: as many generated clips against as many "
        "true ones; -: too few clips"
    )
    return table


def _properties_table(name: str, found: Comparison) -> Table:
    table = plain_table(f"{name}: properties", ("figure", "of", "generated", "95 %", "reference", "95 %"))
    for (figure, of), item in found.properties.items():
        cells = [cell for one in (item.generated, item.reference) for cell in (rounded(one.value), _interval(one))]
        table.add_row(figure, of, *cells)
    return table


def reconstruction_table(found: dict[str, Any]) -> Table:
    """The report of a `ReconstructionTally` to read."""
    table = plain_table(f"reconstruction of {found['clips']} clips of {found['frames']} frames", ("IoU", "all cells", "papers"))
    table.add_row("mean over classes", rounded(found["miou"]), rounded(found["miou_papers"]))
    table.add_row("occupied", rounded(found["iou"]), rounded(found["iou_papers"]))
    for name, value in found["per_class"].items():
        table.add_row(name, rounded(value), rounded(found["per_class_papers"][name]))
    table.caption = "papers: accumulated for each frame index, an absent class counts as 1"
    return table


def plain_table(title: str, columns: tuple[str, ...]) -> Table:
    """An empty table: names of figures to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in columns:
        words = name in ("distance", "figure", "of", "IoU")
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    return table


def rounded(value: float | None) -> str:
    """A figure to three digits, - where there is none."""
    return "-" if value is None or value != value else f"{value:.3g}"


def _interval(estimate: Estimate) -> str:
    return "-" if estimate.low != estimate.low else f"{estimate.low:.3g} to {estimate.high:.3g}"
