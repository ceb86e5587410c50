"""Training data that a frozen model encodes once: kept in a folder in parts, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from torch.utils.data import Dataset

from models.checkpoint import StoredTensors, read_json, write_json

PART = 16  # items a file
_ORIGIN = "origin.json"
Parts = TypeVar("Parts", bound=StoredTensors)


def origin_of(clips: Dataset[dict[str, Any]], *models: nn.Module, told: str = "") -> dict[str, str]:
    """What encoded data follow from, as hashes: the data set, by its first item and the names of its `sources` where it has
    them, the models' weights, and what else is told."""
    item, data, weights = clips[0], hashlib.sha256(told.encode()), hashlib.sha256()
    data.update("\n".join(getattr(clips, "sources", ())).encode())
    for name in ("occupancy", "motion"):
        data.update(item[name].cpu().contiguous().numpy().tobytes())
    for model in models:
        for name, tensor in sorted(model.state_dict().items()):
            weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"clips": data.hexdigest(), "model": weights.hexdigest()}


def build_parts(kind: type[Parts], encode: Callable[[range], Parts], count: int, folder: Path, origin: dict[str, str]) -> Parts:
    """The first `count` items, of which `encode` makes those of a range; parts that lie in the folder are read instead.

    Raises ValueError where the folder's parts were encoded by another model, or from other clips.
    """
    from rich.progress import track

    _claim(folder, origin)
    parts = []
    for number in track(range(math.ceil(count / PART)), description="encoding clips"):
        path, indices = folder / f"part-{number:05d}.safetensors", range(number * PART, min((number + 1) * PART, count))
        part = kind.load(path) if path.is_file() else None
        if part is None or len(part) < len(indices):  # the last part of a run over fewer clips
            part = encode(indices)
            part.save(path)
        parts.append(part)
    return kind.join(parts, count)


def _claim(folder: Path, origin: dict[str, str]) -> None:
    """Note where the folder's parts come from, or see that they come from there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _ORIGIN
    if not path.is_file():
        if any(folder.glob("part-*.safetensors")):
            raise ValueError(f"{path}: missing beside encoded clips, so it is not known of what; choose another folder")
        write_json(path, origin)
    kept = read_json(path)
    if kept.get("model") != origin["model"]:
        raise ValueError(f"{folder}: holds clips that another model encoded; choose another folder, or remove it")
    if kept != origin:
        raise ValueError(f"{folder}: was encoded from other clips, or in another way; choose another folder, or remove it")
