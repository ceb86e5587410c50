"""DynamicCity's HexPlane VAE part by part: shapes, weights, operations and times, beside the release's; a table, and JSON.

    python benchmarks/dynamiccity_paper.py                               # CarlaSC; two cores, two minutes, 3 GiB
    python benchmarks/dynamiccity_paper.py --preset dynamiccity-occ3d    # twenty minutes and 8 GiB with the plain model
    python benchmarks/dynamiccity_paper.py --preset dynamiccity-small

Weights are random: neither cost nor shape depends on them. What the release needs was measured with its own code on two CPU
cores in float32. Ours is also timed against `dynamiccity_plain.py`, the same layers with the same weights as one would write
them down, in turn in the same run, so that this ratio holds whatever the machine; processor seconds stand beside those of the
clock, since a machine with other work to do stretches the latter. Operations are those that torch counts in products,
convolutions and attention. Rates are set beside the fastest matrix product and the fastest 3x3x3 convolutions measured in the
same run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from dynamiccity_plain import PlainDecoder, PlainEncoder, parameters
from machine import describe, say, write
from torch.utils.flop_counter import FlopCounterMode

from models.dynamiccity.config import hexplane_preset, plane_shapes
from models.dynamiccity.decoder import EssDecoder
from models.dynamiccity.padded_rollout import RolloutLayout
from models.dynamiccity.vae import HexPlaneVae

# The release at eaf0c6e on two CPU cores, float32: seconds, GFLOP; and millions of weights.
RELEASE: dict[str, dict[str, Any]] = {
    "dynamiccity-carlasc": {"weights": "1.70 M", "encode": (15.34, 385), "decode": (9.20, 508)},
    "dynamiccity-occ3d": {"weights": "1.81 M", "encode": (129.5, 3024), "decode": (45.1, 2485)},
}


@dataclass(frozen=True)
class Config:
    """What to measure."""

    preset: str = "dynamiccity-carlasc"
    """Preset of models/dynamiccity/config.py."""
    rounds: int = 3
    """Times that each part runs, ours and plain in turn; the fastest counts."""
    threads: int = 2
    """CPU threads."""
    plain: bool = True
    """Time the plain model as well."""
    seed: int = 0
    """Of weights and input."""
    json: str = ""
    """Where to write JSON: a file, - for standard output, or nowhere."""


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the clock and of all processors that one call takes."""
    clock, processors = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - processors


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Least seconds of the clock and of processors of each call, which take turns; a round before is not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            found[name].append(timed(call))
    return {name: (min(clock for clock, _ in runs[1:]), min(cpu for _, cpu in runs[1:])) for name, runs in found.items()}


def operations(call: Callable[[], Any]) -> float:
    """GFLOP of a call."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return counter.get_total_flops() / 1e9


def ceilings(rounds: int) -> dict[str, float]:
    """GFLOP/s of a large matrix product and of the decoder's 3x3x3 convolution of 128 channels, in either memory format."""
    side = 2048
    left = torch.randn(side, side)
    calls: dict[str, Callable[[], Any]] = {"product": lambda: left @ left}
    work = {"product": 2 * side**3}
    for channels, name in ((16, "16 channels"), (128, "128 channels")):
        for kind, order in (("first", torch.contiguous_format), ("last", torch.channels_last_3d)):
            volume = torch.randn(1, channels, 64, 64, 4).contiguous(memory_format=order)
            weight = torch.randn(channels, channels, 3, 3, 3).contiguous(memory_format=order)
            key = f"convolution of {name}, channels {kind}"
            calls[key] = lambda volume=volume, weight=weight: torch.conv3d(volume, weight, padding=1)
            work[key] = 2 * 27 * channels**2 * 64 * 64 * 4
    return {name: work[name] / clock / 1e9 for name, (clock, _) in in_turn(calls, rounds).items()}


@torch.no_grad()
def measure(config: Config) -> dict[str, Any]:
    """Everything, as a dict that JSON can hold."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    grid, shape = hexplane_preset(config.preset)
    vae = HexPlaneVae(grid, shape).eval()
    clip = torch.randint(grid.num_classes, (1, shape.frames, *grid.shape), dtype=torch.uint8)
    planes = vae.encode(clip).mean
    assert isinstance(vae.decoder, EssDecoder)
    encoder, decoder = PlainEncoder(vae), PlainDecoder(vae.decoder)
    ours = {"encode": lambda: vae.encode(clip), "decode": lambda: vae.decode(planes)}
    plain = {"encode": lambda: encoder(clip), "decode": lambda: decoder(list(planes)).argmax(-1)}
    release = RELEASE.get(config.preset, {})
    weights = {
        "ours": sum(part.numel() for part in vae.parameters()),
        "plain": parameters(vae),
        "release": release.get("weights"),
    }
    rows = []
    for name in ours:
        say(f"timing {name}")
        calls = {"ours": ours[name]} | ({"plain": plain[name]} if config.plain else {})
        seconds = in_turn(calls, config.rounds)
        row = {"name": name, "release": release.get(name)}
        row |= {kind: {"clock": seconds[kind], "gflop": operations(call)} for kind, call in calls.items()}
        rows.append(row)
    layout = RolloutLayout(*planes.lengths)
    return {
        "preset": config.preset,
        "input": list(clip.shape[1:]),
        "planes": {name: list(size) for name, size in plane_shapes(grid, shape).items()},
        "channels": shape.channels,
        "voxels_a_number": math.prod(clip.shape) / planes.count,
        "rollout": list(layout.shape),
        "weights": weights,
        "ceilings_gflop_per_s": ceilings(config.rounds),
        "parts": rows,
        **describe(),
    }


def table(result: dict[str, Any]) -> str:
    """The result to read."""
    weights, sizes = result["weights"], ", ".join(f"{name} {a}x{b}" for name, (a, b) in result["planes"].items())
    lines = [
        f"{result['preset']}: {'x'.join(map(str, result['input']))} voxels to {result['channels']} channels of",
        f"  {sizes}",
        f"  {result['voxels_a_number']:.1f} voxels a number; one map of {'x'.join(map(str, result['rollout']))}",
        f"  weights: ours {weights['ours']:,}, with the release's idle ones {weights['plain']:,},"
        f" release {weights['release'] or '-'}",
        *(f"  {name}: {rate:.0f} GFLOP/s" for name, rate in result["ceilings_gflop_per_s"].items()),
        f"  {'':16}{'GFLOP':>8}{'s':>9}{'cpu s':>9}{'GFLOP/s':>9}{'times ours':>12}{'in cpu s':>10}",
    ]
    for row in result["parts"]:
        ours = row["ours"]
        for kind in ("ours", "plain"):
            if kind in row:
                (clock, cpu), gflop = row[kind]["clock"], row[kind]["gflop"]
                ratios = f"{clock / ours['clock'][0]:>12.2f}{cpu / ours['clock'][1]:>10.2f}"
                lines.append(f"  {row['name']} {kind:<9}{gflop:>8.0f}{clock:>9.2f}{cpu:>9.2f}{gflop / clock:>9.0f}{ratios}")
        if row["release"]:
            clock, gflop = row["release"]
            rate, ratio = gflop / clock, clock / ours["clock"][0]
            lines.append(f"  {row['name']} {'release':<9}{gflop:>8.0f}{clock:>9.2f}{'':>9}{rate:>9.0f}{ratio:>12.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write JSON where asked."""
    config = tyro.cli(Config, description=__doc__)
    result = measure(config)
    print(table(result))
    write(result, config.json)


if __name__ == "__main__":
    main()
