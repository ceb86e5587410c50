"""Trained tokenizers of clips on disk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from models.checkpoint import from_plain
from models.model_folder import CONFIG, read_config, read_weights, write_model
from models.occsora.config import LeanConfig, PaperConfig
from models.occsora.tokenizer import OccSoraTokenizer
from scenes.grid import Grid

KINDS: dict[str, type[PaperConfig] | type[LeanConfig]] = {
    "occsora_tokenizer": PaperConfig,
    "occsora_lean_tokenizer": LeanConfig,
}


def save_tokenizer(tokenizer: OccSoraTokenizer, folder: Path | str) -> None:
    """Write config and weights into a folder."""
    kind = next(name for name, config in KINDS.items() if isinstance(tokenizer.cfg, config))
    write_model(folder, kind, {"grid": asdict(tokenizer.grid), "tokenizer": asdict(tokenizer.cfg)}, tokenizer.state_dict())


def load_tokenizer(folder: Path | str, device: torch.device | str = "cpu") -> OccSoraTokenizer:
    """Tokenizer from a folder that `save_tokenizer` wrote, for inference; raises ValueError where it is of another kind."""
    folder = Path(folder)
    (kind, config), where = read_config(folder, *KINDS), str(folder / CONFIG)
    cfg = from_plain(KINDS[kind], config.get("tokenizer"), where)
    return read_weights(OccSoraTokenizer(from_plain(Grid, config.get("grid"), where), cfg), folder, device)
