"""A trained model on disk: a folder with config.json, which says what kind of model it is, and model.safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from models.checkpoint import load_weights, read_json, read_tensors, write_json, write_tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
Module = TypeVar("Module", bound=nn.Module)


def write_model(folder: Path | str, kind: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write weights and config into a folder, which is made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
    write_json(folder / CONFIG, {"kind": kind, "config": config})


def kind_of(folder: Path) -> Any:
    """What kind of model the folder says that it holds."""
    return read_json(folder / CONFIG).get("kind")


def read_config(folder: Path, *kinds: str) -> tuple[str, dict[str, Any]]:
    """Kind and config of the model in a folder; raises ValueError where it is of none of these kinds."""
    content = read_json(folder / CONFIG)
    kind, config = content.get("kind"), content.get("config")
    if kind not in kinds or not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG}: expected a model of kind {' or '.join(kinds)}, found kind {kind!r}")
    return kind, config


def read_weights(module: Module, folder: Path, device: torch.device | str) -> Module:
    """The module with the weights in a folder, on a device, ready for inference; raises ValueError where they do not fit."""
    load_weights(module, read_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return module.eval().requires_grad_(False).to(device)
