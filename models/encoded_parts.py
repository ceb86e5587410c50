"""Training data that a frozen model encodes once: kept in a folder in parts, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from torch.utils.data import Dataset

from models.checkpoint import StoredTensors, read_json, write_json
from models.training import Clips, processes

PART = 16  # items a file
_ORIGIN = "origin.json"
Parts = TypeVar("Parts", bound=StoredTensors)


def origin_of(clips: Dataset[dict[str, Any]] | Clips, *models: nn.Module, told: str = "") -> dict[str, str]:
    """What encoded data, or a training, follow from, as hashes: the data set, by its first item and the names of its `sources`
    where it has them, the models' weights, and what else is told."""
    item, data, weights = clips[0], hashlib.sha256(told.encode()), hashlib.sha256()
    data.update("\n".join(getattr(clips, "sources", ())).encode())
    for field in ("occupancy", "motion"):
        if field in item:
            data.update(item[field].cpu().contiguous().numpy().tobytes())
    for model in models:
        for name, tensor in sorted(model.state_dict().items()):
            weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"clips": data.hexdigest(), "model": weights.hexdigest()}


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Within, the model and all its parts are in eval mode; afterwards each is in the mode that it was in."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def build_parts(kind: type[Parts], encode: Callable[[range], Parts], count: int, folder: Path, origin: dict[str, str]) -> Parts:
    """The first `count` items, of which `encode` makes those of a range; parts that lie in the folder are read instead.

    Of several processes each encodes its share of the parts, and all get the whole. Raises ValueError where the folder's parts
    were encoded by another model, or from other clips.
    """
    from rich.progress import track

    workers = processes()
    with workers.main_process_first():
        _claim(folder, origin)
    spans = [range(first, min(first + PART, count)) for first in range(0, count, PART)]
    paths = [folder / f"part-{number:05d}.safetensors" for number in range(len(spans))]
    share = range(workers.process_index, len(spans), workers.num_processes)
    own = {}
    for number in track(share, description="encoding clips", disable=not workers.is_main_process):
        part = kind.load(paths[number]) if paths[number].is_file() else None
        if part is None or len(part) < len(spans[number]):  # the last part of a run over fewer clips
            part = encode(spans[number])
            part.save(paths[number])
        own[number] = part
    workers.wait_for_everyone()
    return kind.join([own[number] if number in own else kind.load(path) for number, path in enumerate(paths)], count)


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
