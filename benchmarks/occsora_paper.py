"""OccSora's networks part by part: shapes, weights, operations and times, beside the released model's; a table, and JSON.

    python benchmarks/occsora_paper.py                       # the paper's networks; two cores, some minutes, 4 GiB
    python benchmarks/occsora_paper.py --preset occsora-lean
    python benchmarks/occsora_paper.py --preset occsora-small --rounds 5
    python benchmarks/occsora_paper.py --counts              # shapes, weights and operations of all presets; seconds

Weights are random: neither cost nor shape depends on them. What the release needs was measured with its own code, mended where
it did not run, on two CPU cores with torch 2.13 in float32. A tokenizer of the paper's structure is also timed against
`occsora_plain.py`, the same layers in their most direct form, in turn in the same run, so that this ratio holds whatever
the machine. Rates are set beside the fastest matrix product and the fastest convolution measured in the same run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import machine
import occsora_plain
import torch
import tyro
from occsora_parts import ceilings, seconds, tokenizer_operations, tokenizer_parts, transformer_parts

from models.occsora.config import PRESETS, PaperConfig, occsora_preset
from models.occsora.tokenizer import OccSoraTokenizer


@dataclass(frozen=True)
class Config:
    """What to measure."""

    preset: str = "occsora"
    """Preset of models/occsora/config.py."""
    rounds: int = 3
    """Times that each part runs; the fastest counts."""
    threads: int = 2
    """CPU threads."""
    plain: bool = True
    """Time the tokenizer in its most direct form as well, where it is of the paper's structure."""
    seed: int = 0
    """Of weights and input."""
    counts: bool = False
    """Only count, for every preset, and measure nothing."""
    json: str = ""
    """Where to write JSON: a file, - for standard output, or nowhere."""


def plain_calls(tokenizer: OccSoraTokenizer, clip: torch.Tensor, latents: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The parts that there is a most direct form of."""
    if not isinstance(tokenizer.cfg, PaperConfig):
        return {}
    return {
        "encode": lambda: occsora_plain.encode(tokenizer, clip),
        "decode": lambda: occsora_plain.decode(tokenizer, latents),
    }


@torch.no_grad()
def measure(config: Config) -> dict[str, Any]:
    """Everything, as a dict that JSON can hold."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    preset = occsora_preset(config.preset)
    tokenizer = OccSoraTokenizer(preset.grid, preset.tokenizer).eval()
    clip = torch.randint(preset.grid.num_classes, (1, preset.frames, *preset.grid.shape), dtype=torch.uint8)
    latents = torch.randn(1, tokenizer.latent_channels, *tokenizer.latent_shape(preset.frames))
    plain = plain_calls(tokenizer, clip, latents) if config.plain else {}
    parts = tokenizer_parts(preset, tokenizer, clip, latents) + transformer_parts(config.preset, preset, latents)
    rows = []
    for part in parts:
        machine.say(f"timing {part.name}")
        row = part.described() | seconds(part.call, plain.get(part.name), config.rounds)
        rows.append(row | {"gflop_per_s": round(row["gflop"] / row["seconds"], 1)})
    weights = {name: sum(p.numel() for p in child.parameters()) for name, child in tokenizer.named_children()}
    return {
        "preset": config.preset,
        "input": list(clip.shape),
        "latents": list(latents.shape[1:]),
        "compression": tokenizer.cfg.ratio,
        "bits_per_frame": tokenizer.bits_per_frame,
        "tokenizer_weights": weights | {"all": sum(weights.values())},
        "ceilings_gflop_per_s": ceilings(config.rounds),
        "parts": rows,
        **machine.describe(),
    }


def counts() -> dict[str, Any]:
    """Latents, weights and operations of every preset's tokenizer."""
    found = {}
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            tokenizer = OccSoraTokenizer(preset.grid, preset.tokenizer)
        latents = (tokenizer.latent_channels, *tokenizer.latent_shape(preset.frames))
        weights = sum(parameter.numel() for parameter in tokenizer.parameters())
        operations = {key: round(value, 2) for key, value in tokenizer_operations(preset)._asdict().items()}
        found[name] = {"latents": latents, "bits_per_frame": tokenizer.bits_per_frame, "weights": weights, "gflop": operations}
    return found


def counts_table(result: dict[str, Any]) -> str:
    """The counts to read."""
    lines = [f"{'preset':26}{'latents':>14}{'bits a frame':>14}{'weights':>14}{'GFLOP to encode':>17}{'to decode':>11}"]
    for name, row in result.items():
        latents, gflop = "x".join(map(str, row["latents"])), row["gflop"]
        line = f"{name:26}{latents:>14}{row['bits_per_frame']:>14.0f}{row['weights']:>14,}"
        lines.append(f"{line}{gflop['encode']:>17.1f}{gflop['decode']:>11.1f}")
    return "\n".join(lines)


def table(result: dict[str, Any]) -> str:
    """The result to read."""
    latents, peak = "x".join(map(str, result["latents"])), result["ceilings_gflop_per_s"]
    cells = math.prod(result["latents"][1:])
    lines = [
        f"{result['preset']}: {'x'.join(map(str, result['input'][1:]))} voxels to {latents} latents, {cells} codes,"
        f" compression {result['compression']}, {result['bits_per_frame']:.0f} bits a frame",
        f"ceilings in GFLOP/s: matrix product {peak['product']}, in oneDNN {peak['product_onednn']},"
        f" convolution {peak['convolution']}",
        f"{'part':12}{'result':>16}{'weights':>14}{'release':>14}{'GFLOP':>9}{'release':>9}"
        f"{'s':>9}{'release':>9}{'ratio':>7}{'plain':>9}{'ratio':>7}{'GFLOP/s':>9}",
    ]
    for row in result["parts"]:
        published, plain = row["release"] or {}, row["plain_seconds"]
        cells_of_row = (
            f"{row['name']:12}{'x'.join(map(str, row['shape'])):>16}{row['weights']:>14,}",
            f"{published.get('weights', '-'):>14,}" if published else f"{'-':>14}",
            f"{row['gflop']:>9.1f}",
            f"{published.get('gflop', '-'):>9}" if published else f"{'-':>9}",
            f"{row['seconds']:>9.3f}",
            f"{published['seconds']:>9}{row['seconds'] / published['seconds']:>7.2f}" if published else f"{'-':>9}{'-':>7}",
            f"{plain:>9.3f}{row['seconds'] / plain:>7.2f}" if plain else f"{'-':>9}{'-':>7}",
            f"{row['gflop_per_s']:>9}",
        )
        lines.append("".join(cells_of_row))
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write JSON where asked."""
    config = tyro.cli(Config, description=__doc__)
    result = counts() if config.counts else measure(config)
    print(counts_table(result) if config.counts else table(result))
    machine.write(result, config.json)


if __name__ == "__main__":
    main()
