"""Feature extractors by name: the random one, and trained ones on disk, each with the hash of its weights."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import from_plain, half_floats
from models.fidelity.map_network import MapNetwork, MapNetworkConfig
from models.fidelity.voxel_network import VoxelNetwork, VoxelNetworkConfig, random_voxel_network
from models.model_folder import CONFIG, WEIGHTS, read_config, read_weights, write_model
from models.pretrained import find_pretrained
from scenes.grid import Grid

RANDOM = "random"
_KINDS = {"voxel_features": (VoxelNetwork, VoxelNetworkConfig), "map_features": (MapNetwork, MapNetworkConfig)}
_FRAMES = 8  # that go through a network at once, which bounds memory


@dataclass(frozen=True)
class Extractor:
    """A frozen network that turns clips into features.

    Attributes:
        name: what its figures are called: "random", "voxels" or "maps".
        network: `VoxelNetwork` or `MapNetwork`, in evaluation mode.
        sha256: hash of its weights, hexadecimal.
        origin: folder it was read from, or how it was made.
    """

    name: str
    network: VoxelNetwork | MapNetwork
    sha256: str
    origin: str

    @torch.no_grad()
    def __call__(self, occupancy: Tensor) -> dict[str, Tensor]:
        """Features of one clip uint8 (T, X, Y, Z), float32 on the CPU: "frame" (T, D), and "clip" (1, D) of voxels or, of maps,
        "posterior" (T, K) of the layouts of the road."""
        network, device = self.network, next(self.network.parameters()).device
        parts = occupancy.to(device).split(_FRAMES)
        if isinstance(network, MapNetwork):
            found = torch.cat([network.features(part) for part in parts])
            return {"frame": found.cpu(), "posterior": network.layout(found).softmax(-1).cpu()}
        maps = torch.cat([network.frame_maps(part) for part in parts]).unsqueeze(0)
        return {name: found[0].cpu() for name, found in network.pooled(maps, network.clip_maps(maps)).items()}


def load_extractor(name: str | Path, grid: Grid, device: torch.device | str = "cpu") -> Extractor:
    """The extractor for clips on `grid`: "random", or a folder that `occsora train-features` has written.

    Raises ValueError if it was trained on another grid, or its weights are not those that its config names.
    """
    if str(name) == RANDOM:
        untrained = random_voxel_network(grid).eval().requires_grad_(False)
        return Extractor(RANDOM, untrained.to(device), weights_sha256(untrained), "untrained, seed 0")
    folder = find_pretrained(name)
    (kind, config), where = read_config(folder, *_KINDS), str(folder / CONFIG)
    trained_on = from_plain(Grid, config.get("grid"), where)
    if trained_on != grid:
        told = [f"{g.shape} at {g.voxel} m from {g.origin} with {g.num_classes} classes" for g in (trained_on, grid)]
        raise ValueError(f"{folder}: was trained on the grid {told[0]}, the clips are on {told[1]}")
    make, settings = _KINDS[kind]
    network = read_weights(make(grid, from_plain(settings, config.get("network"), where)), folder, device)
    found = weights_sha256(network)
    if found != config.get("sha256"):
        raise ValueError(f"{folder / WEIGHTS}: has sha256 {found[:12]}, its config names {str(config.get('sha256'))[:12]}")
    return Extractor(kind.split("_")[0] + "s", network, found, str(name))


def save_extractor(network: VoxelNetwork | MapNetwork, folder: Path) -> str:
    """Write config and weights, floats in 16 bits; returns the hash of what will be read back."""
    kind = next(kind for kind, (make, _) in _KINDS.items() if isinstance(network, make))
    own = network.state_dict()
    tensors = half_floats(own)
    digest = _sha256({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})
    config = {"grid": asdict(network.grid), "network": asdict(network.cfg), "sha256": digest}
    write_model(folder, kind, config, tensors)
    return digest


def weights_sha256(network: torch.nn.Module) -> str:
    """SHA-256 of all weights of a network, by name, as hexadecimal digits: the same wherever the same weights are loaded."""
    return _sha256(network.state_dict())


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
