"""Clips on disk or in an object store: a sharded, compressed Zarr v3 group at any fsspec address.

The frames of all clips lie one after another in two arrays. What a clip is, and that it is whole, is said by commit files
beside them: an append writes its frames into shards of its own, then one commit file under its final name. So a kill at any
moment leaves the store as it was before, and the frames of the unfinished append are overwritten by the next one. One writer
at a time; readers see what was committed when they opened the store.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from scenes.clip import Clip
from scenes.grid import Grid, check_occupancy
from scenes.motion import accumulate, motion_from_poses

FORMAT = "occsora-gym clips 1"
_COMMITS = "commits"


@dataclass(frozen=True)
class _Entry:
    """Where a clip lies: number of its first frame in the arrays, number of frames, seconds between them, source."""

    first: int
    frames: int
    dt: float
    source: str


class ClipStore:
    """A growing sequence of clips on one grid; `store[i]` is the i-th `Clip`.

    Use `ClipStore.create` and `ClipStore.open`.

    Attributes:
        address: path or fsspec URL.
        grid: voxel grid of all clips.
        about: how the clips were made, as was said when the store was created.
    """

    def __init__(self, address: str, group: Any, grid: Grid, writable: bool) -> None:
        self.address, self.grid, self.writable = address, grid, writable
        self.about: dict[str, Any] = dict(group.attrs.get("about", {}))
        self._occupancy, self._motion = group["occupancy"], group["motion"]
        self._entries: list[_Entry] = []
        self._commits = 0
        self._load_commits()

    @classmethod
    def create(
        cls,
        address: str,
        grid: Grid,
        chunk_frames: int = 4,
        shard_frames: int = 64,
        about: Mapping[str, str | int | float] | None = None,
    ) -> ClipStore:
        """A new, empty store at a path or fsspec URL, open for appending.

        Frames are compressed `chunk_frames` at a time, the least that is read, and written `shard_frames` a file. `about` is
        kept with it. Raises FileExistsError if something is there already.
        """
        if chunk_frames < 1 or shard_frames % chunk_frames:
            raise ValueError(f"shard_frames must be a multiple of chunk_frames, found {shard_frames} and {chunk_frames}")
        zarr = _zarr()
        files, root = _filesystem(address)
        if files.exists(root) and files.ls(root):
            raise FileExistsError(f"{address}: is there already")
        attributes = {"format": FORMAT, "grid": asdict(grid), "about": dict(about or {})}
        group = zarr.create_group(_store(address, read_only=False), zarr_format=3, attributes=attributes)
        compressor = zarr.codecs.ZstdCodec(level=5)
        group.create_array(
            "occupancy",
            shape=(0, *grid.shape),
            dtype="uint8",
            chunks=(chunk_frames, *grid.shape),
            shards=(shard_frames, *grid.shape),
            compressors=[compressor],
            fill_value=grid.free,
        )
        group.create_array("motion", shape=(0, 3), dtype="float32", chunks=(shard_frames, 3), compressors=[compressor])
        return cls(address, group, grid, writable=True)

    @classmethod
    def open(cls, address: str, mode: str = "r") -> ClipStore:
        """The store at a path or fsspec URL, for reading ("r") or for appending too ("a").

        Raises ValueError naming the address if there is no store of clips, or it is of another format.
        """
        if mode not in ("r", "a"):
            raise ValueError(f"mode: expected 'r' or 'a', found {mode!r}")
        zarr = _zarr()
        try:
            group = zarr.open_group(_store(address, read_only=mode == "r"), mode="r" if mode == "r" else "r+", zarr_format=3)
            attributes = dict(group.attrs)
            group["occupancy"], group["motion"]
        except (FileNotFoundError, KeyError, ValueError, NotImplementedError) as error:
            raise ValueError(f"{address}: no store of clips ({error})") from error
        if attributes.get("format") != FORMAT:
            raise ValueError(f"{address}: expected format '{FORMAT}', found {attributes.get('format')!r}")
        stored = attributes["grid"]
        grid = Grid(
            shape=tuple(stored["shape"]),
            voxel=stored["voxel"],
            origin=tuple(stored["origin"]),
            classes=tuple(stored["classes"]),
            colours=tuple(tuple(colour) for colour in stored["colours"]),
        )
        return cls(address, group, grid, writable=mode == "a")

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.address}: clip {index} of {len(self)}")
        return self.read(index, 0, self._entries[index].frames)

    def frames(self, index: int) -> int:
        """Number of frames of a clip."""
        return self._entries[index].frames

    def dt(self, index: int) -> float:
        """Seconds between the frames of a clip."""
        return self._entries[index].dt

    def source(self, index: int) -> str:
        """Where a clip comes from."""
        return self._entries[index].source

    def read(self, index: int, first: int, frames: int, stride: int = 1) -> Clip:
        """Every `stride`-th frame of clip `index` from frame `first` on, `frames` of them; the first row of its motion is zero.

        The motion is between the frames that were read, and so is dt.
        """
        entry = self._entries[index]
        last = first + (frames - 1) * stride
        if first < 0 or frames < 1 or stride < 1 or last >= entry.frames:
            raise IndexError(f"{self.address}: frames {first} to {last + 1} of clip {index}, which has {entry.frames}")
        begin, end = entry.first + first, entry.first + last + 1
        motion = torch.from_numpy(np.array(self._motion[begin:end]))
        motion[0] = 0.0
        if stride > 1:
            motion = motion_from_poses(accumulate(motion)[::stride])
        occupancy = torch.from_numpy(np.array(self._occupancy[begin:end:stride]))
        return Clip(occupancy, motion, entry.dt * stride, entry.source)

    def motion(self, index: int) -> torch.Tensor:
        """Motion float32 (T, 3) of a clip, without reading its voxels."""
        entry = self._entries[index]
        return torch.from_numpy(np.array(self._motion[entry.first : entry.first + entry.frames]))

    def append(self, clips: Sequence[Clip]) -> None:
        """Add clips, all or none; together they begin a new shard, so append many at a time.

        Raises ValueError if a clip is not on the store's grid, PermissionError if the store is open for reading only.
        """
        if not self.writable:
            raise PermissionError(f"{self.address}: open for reading only; use ClipStore.open(address, 'a')")
        if not clips:
            return
        for number, clip in enumerate(clips):
            check_occupancy(clip.occupancy, self.grid, f"clip {number}")
        shard = self._occupancy.shards[0]
        used = self._entries[-1].first + self._entries[-1].frames if self._entries else 0
        first = -(-used // shard) * shard
        entries = []
        for clip in clips:
            entries.append(_Entry(first, len(clip.occupancy), clip.dt, clip.source))
            first += len(clip.occupancy)
        end = -(-first // shard) * shard
        self._occupancy.resize((end, *self.grid.shape))
        self._motion.resize((end, 3))
        self._occupancy[entries[0].first : first] = torch.cat([clip.occupancy for clip in clips]).cpu().numpy()
        self._motion[entries[0].first : first] = torch.cat([clip.motion for clip in clips]).cpu().numpy()
        self._commit(entries)

    def _commit(self, entries: list[_Entry]) -> None:
        files, root = _filesystem(self.address)
        name = posixpath.join(root, _COMMITS, f"{self._commits:08d}.json")
        files.makedirs(posixpath.dirname(name), exist_ok=True)
        files.pipe_file(name + ".part", json.dumps([asdict(entry) for entry in entries]).encode())
        files.mv(name + ".part", name)
        self._entries += entries
        self._commits += 1

    def _load_commits(self) -> None:
        files, root = _filesystem(self.address)
        folder = posixpath.join(root, _COMMITS)
        names = sorted(files.glob(posixpath.join(folder, "*.json"))) if files.exists(folder) else []
        contents = files.cat(names) if names else {}
        for content in (contents[name] for name in sorted(contents)):
            self._entries += [_Entry(**entry) for entry in json.loads(content)]
        self._commits = len(names)


def _filesystem(address: str) -> tuple[Any, str]:
    import fsspec

    files, root = fsspec.core.url_to_fs(str(address))
    return files, root


def _store(address: str, read_only: bool) -> Any:
    zarr = _zarr()
    if "://" in str(address):
        return zarr.storage.FsspecStore.from_url(str(address), read_only=read_only)
    return zarr.storage.LocalStore(str(address), read_only=read_only)


def _zarr() -> Any:
    try:
        import zarr
        import zarr.codecs
        import zarr.storage
    except ImportError as error:
        raise ImportError("a store of clips needs zarr: pip install 'occsora-gym[data]'") from error
    return zarr
