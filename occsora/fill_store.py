"""Filling a store of clips from recordings: in their order, in several processes, without losing what is there."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Protocol, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.grid import Grid

APPEND_BYTES = 1 << 27  # voxels that are gathered before they are appended: whole shards, and little that a kill could lose
_Loaded: TypeAlias = tuple[np.ndarray, np.ndarray, float, str]


class Recording(Protocol):
    """What a clip is made from; it crosses to other processes, so it is small."""

    @property
    def source(self) -> str: ...

    @property
    def grid(self) -> Grid: ...

    def load(self) -> Clip: ...


def open_or_create(address: str, grid: Grid, about: Mapping[str, str | int | float]) -> ClipStore:
    """The store at `address`, open for appending, made if nothing is there.

    Raises ValueError if something else is there, or a store of clips on another grid or made in another way.
    """
    try:
        return ClipStore.create(address, grid, about=about)
    except FileExistsError:
        store = ClipStore.open(address, "a")
    if store.grid != grid:
        raise ValueError(f"{address}: is a store on another grid, {store.grid.shape} with {store.grid.num_classes} classes")
    if store.about != dict(about):
        raise ValueError(f"{address}: was made with {store.about}, not with {dict(about)}; choose another --out")
    return store


def fill(store: ClipStore, recordings: Sequence[Recording], jobs: int, title: str, gapless: bool = False) -> None:
    """Append the clips of all recordings in their order, read in `jobs` processes under a progress bar.

    What fails is left out and named in a ValueError after the others are in the store; with `gapless` nothing after it is.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    failed: list[str] = []
    gathered: list[Clip] = []
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(title, total=len(recordings), note="")
        for result in _loaded(recordings, jobs):
            if isinstance(result, Clip):
                gathered.append(result)
            else:
                failed.append(result)
            if failed and gapless:
                break
            if sum(clip.occupancy.numel() for clip in gathered) >= APPEND_BYTES:
                store.append(gathered)
                gathered = []
            progress.update(bar, advance=1, note=f"{len(failed)} failed" if failed else "")
        store.append(gathered)
    if failed:
        count = f"{len(failed)} of {len(recordings)} {title} failed"
        raise ValueError(f"{count}; {store.address} now has {len(store)} clips: {'; '.join(failed)}")


def _loaded(recordings: Sequence[Recording], jobs: int) -> Iterator[Clip | str]:
    """The clip of each recording in turn, or what went wrong."""
    if jobs == 1:
        yield from (_clip(_load(recording)) for recording in recordings)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        ahead: deque[Future[_Loaded | str]] = deque()
        for recording in recordings:
            if len(ahead) > jobs:  # the readers must not get far ahead of the writer, or clips would fill the memory
                yield _clip(ahead.popleft().result())
            ahead.append(pool.submit(_load, recording))
        while ahead:
            yield _clip(ahead.popleft().result())


def _load(recording: Recording) -> _Loaded | str:
    """The parts of a clip as arrays: tensors would cross to this process in shared memory, which containers have little of."""
    try:
        clip = recording.load()
    except Exception as error:  # one bad scene must not lose the others
        return f"{recording.source}: {type(error).__name__}: {error}"
    return clip.occupancy.numpy(), clip.motion.numpy(), clip.dt, clip.source


def _clip(loaded: _Loaded | str) -> Clip | str:
    if isinstance(loaded, str):
        return loaded
    occupancy, motion, dt, source = loaded
    return Clip(torch.from_numpy(occupancy), torch.from_numpy(motion), dt, source)
