"""Trained models on disk and from the hub: `from_pretrained` and `save_pretrained`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from models.agent_flow import AgentFlow, AgentFlowConfig
from models.checkpoint import from_plain, half_floats
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.interface import WorldModel
from models.model_folder import CONFIG, WEIGHTS, kind_of, read_config, read_weights, write_model
from models.occsora.world_model import OccSoraConfig, OccSoraWorldModel
from models.tokenizer import ChunkTokenizer, TokenizerConfig
from models.world_model import LearnedWorldModel, WorldModelConfig
from scenes.grid import Grid

BUNDLED = Path(__file__).parent / "weights"
# World models by the `kind` that config.json names: the class, and the dataclass that it is built from and keeps as `cfg`.
WORLD_MODELS: dict[str, tuple[Callable[[Any], WorldModel], type]] = {
    "world_model": (LearnedWorldModel, WorldModelConfig),
    "occsora": (OccSoraWorldModel, OccSoraConfig),
    "dynamiccity": (DynamicCityWorldModel, DynamicCityConfig),
}


def save_pretrained(model: WorldModel | ChunkTokenizer | AgentFlow, folder: Path | str, *, half: bool = False) -> None:
    """Write config and weights of a world model, or of a chunk tokenizer or flow alone; `half` stores floats in 16 bits."""
    kind, config = _described(model)
    tensors = model.state_dict()
    write_model(folder, kind, config, half_floats(tensors) if half else tensors)


def _described(model: WorldModel | ChunkTokenizer | AgentFlow) -> tuple[str, dict[str, Any]]:
    """Kind of a model, and its config as JSON knows it."""
    if isinstance(model, AgentFlow):
        return "agent_flow", {"grid": asdict(model.grid), "chunk_frames": model.chunk_frames, "flow": asdict(model.cfg)}
    if isinstance(model, ChunkTokenizer):
        return "tokenizer", {"grid": asdict(model.grid), "tokenizer": asdict(model.cfg)}
    for kind, (build, _) in WORLD_MODELS.items():
        if type(model) is build:
            config: Any = model.cfg
            return kind, asdict(config)
    raise TypeError(f"save_pretrained: expected a world model of kind {list(WORLD_MODELS)}, found {type(model).__name__}")


def from_pretrained(name: str | Path, device: torch.device | str = "cpu") -> WorldModel:
    """World model of any kind by the name of bundled weights ("mini"), a folder, or an id of the Hugging Face hub.

    Raises ValueError where the folder holds something else, such as a tokenizer alone.
    """
    folder = find_pretrained(name)
    kind, config = read_config(folder, *WORLD_MODELS)
    build, settings = WORLD_MODELS[kind]
    return read_weights(build(from_plain(settings, config, str(folder / CONFIG))), folder, device)


def load_learned(name: str | Path, device: torch.device | str = "cpu") -> LearnedWorldModel:
    """The same of a model that imagines chunk by chunk, such as "mini"; raises ValueError where it is of another kind."""
    model = from_pretrained(name, device)
    if not isinstance(model, LearnedWorldModel):
        raise ValueError(f"{name}: expected a world model of kind 'world_model', found a {type(model).__name__}")
    return model


def load_tokenizer(name: str | Path, device: torch.device | str = "cpu") -> ChunkTokenizer:
    """Tokenizer from a folder written by `occsora train-tokenizer`, or the one inside a world model."""
    folder = find_pretrained(name)
    if kind_of(folder) == "world_model":
        return load_learned(folder, device).tokenizer
    (_, config), where = read_config(folder, "tokenizer"), str(folder / CONFIG)
    grid, cfg = from_plain(Grid, config.get("grid"), where), from_plain(TokenizerConfig, config.get("tokenizer"), where)
    return read_weights(ChunkTokenizer(grid, cfg), folder, device)


def load_agent_flow(name: str | Path, device: torch.device | str = "cpu") -> AgentFlow:
    """Agent flow from a folder written by `occsora train-agent-flow`, or the one inside a world model."""
    folder = find_pretrained(name)
    if kind_of(folder) == "world_model":
        return load_learned(folder, device).flow
    (_, config), where = read_config(folder, "agent_flow"), str(folder / CONFIG)
    grid, cfg = from_plain(Grid, config.get("grid"), where), from_plain(AgentFlowConfig, config.get("flow"), where)
    return read_weights(AgentFlow(grid, int(config["chunk_frames"]), cfg), folder, device)


def find_pretrained(name: str | Path) -> Path:
    """Folder that holds config and weights of a name, a folder or a hub id."""
    for folder in (BUNDLED / str(name), Path(name)):
        if (folder / CONFIG).is_file():
            return folder
    bundled = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))
    if isinstance(name, Path) or name.count("/") != 1 or name.startswith((".", "/")) or Path(name).is_dir():
        raise FileNotFoundError(f"{name}: expected bundled weights {bundled}, a folder with {CONFIG}, or a hub id 'owner/name'")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
