"""Trained tokenizers of clips on disk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from models.checkpoint import from_plain, load_weights, read_json, read_tensors, write_json, write_tensors
from models.occsora.config import LeanConfig, PaperConfig
from models.occsora.tokenizer import OccSoraTokenizer
from scenes.grid import Grid

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KINDS: dict[str, type[PaperConfig] | type[LeanConfig]] = {
    "occsora_tokenizer": PaperConfig,
    "occsora_lean_tokenizer": LeanConfig,
}


def save_tokenizer(tokenizer: OccSoraTokenizer, folder: Path | str) -> None:
    """Write config and weights into a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = next(name for name, config in KINDS.items() if isinstance(tokenizer.cfg, config))
    write_tensors(folder / WEIGHTS, tokenizer.state_dict())
    config = {"grid": asdict(tokenizer.grid), "tokenizer": asdict(tokenizer.cfg)}
    write_json(folder / CONFIG, {"kind": kind, "config": config})


def load_tokenizer(folder: Path | str, device: torch.device | str = "cpu") -> OccSoraTokenizer:
    """Tokenizer from a folder that `save_tokenizer` wrote, for inference; raises ValueError where it is of another kind."""
    folder = Path(folder)
    content, where = read_json(folder / CONFIG), str(folder / CONFIG)
    if content.get("kind") not in KINDS or not isinstance(content.get("config"), dict):
        raise ValueError(f"{where}: expected a kind of {list(KINDS)}, found {content.get('kind')!r}")
    config = content["config"]
    cfg = from_plain(KINDS[content["kind"]], config["tokenizer"], where)
    tokenizer = OccSoraTokenizer(from_plain(Grid, config["grid"], where), cfg)
    load_weights(tokenizer, read_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return tokenizer.eval().requires_grad_(False).to(device)
