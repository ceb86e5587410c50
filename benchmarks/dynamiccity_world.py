"""What a trained DynamicCity world model does on held-out scenes: layouts, inpainting and long sequences.

    python benchmarks/dynamiccity_world.py --model runs/dynamiccity/world --scenes runs/val --json runs/dynamiccity/world.json

Layout: windows are generated under the layouts and trajectories of held-out clips, and their drivable cells compared with the
layout's, as intersection over union of all cells; beside it the same with the layouts of other clips, and of the VAE's own
reconstruction, which no generated window can be expected to pass. Inpainting: the middle of held-out windows is imagined anew,
and the cells outside that changed are counted: none can, since they are put back. Long sequences: held-out clips go on for
some chunks under their own motion; the share of static cells that change at chunk borders over that inside chunks, with an
interval over clips. Beside it that of the true frames, which need not be one either, and of the true frames taken through the
VAE window by window, where no sampler is at fault; and over both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from machine import describe, say, write
from torch import Tensor

from models.dynamiccity.clip_conditions import layout_of
from models.dynamiccity.conditions import Conditions
from models.dynamiccity.editing import Box, edit
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.fidelity.bootstrap import bootstrap
from models.fidelity.seams import seam_ratio
from models.metrics import change_counts
from models.pretrained import from_pretrained
from scenes.dataset import SceneClips
from scenes.scene_file import load_scenes

HALF = 8.0  # metres from the middle of the grid to the edges of what is imagined anew


@dataclass(frozen=True)
class Config:
    """What to measure."""

    model: Path
    """Folder of a world model that `occsora train-world-model` left."""
    scenes: Path
    """Folder of scenes that it was not trained on."""
    clips: int = 24
    """Held-out clips for each question."""
    chunks: int = 10
    """Chunks of a long sequence."""
    batch: int = 4
    """Clips at a time."""
    threads: int = 2
    """CPU threads."""
    seed: int = 0
    """Of clips and noise."""
    json: str = ""
    """Where to write JSON: a file, - for standard output, or nowhere."""


class Held:
    """Held-out clips of some length, a batch at a time. shift: the clips that come so many later, in their places."""

    def __init__(self, config: Config, model: DynamicCityWorldModel, frames: int, shift: int = 0) -> None:
        self.config, self.shift = config, shift
        self.clips = SceneClips(load_scenes(config.scenes), model.grid, model.dt, frames, seed=config.seed)

    def __iter__(self) -> Any:
        for first in range(0, self.config.clips, self.config.batch):
            numbers = range(first, min(first + self.config.batch, self.config.clips))
            items = [self.clips[(number + self.shift) % self.config.clips] for number in numbers]
            seeds = torch.arange(first, first + len(items)) + 1000 * self.config.seed
            yield torch.stack([item["occupancy"] for item in items]), torch.stack([item["motion"] for item in items]), seeds


def overlap(found: Tensor, wanted: Tensor) -> Tensor:
    """Cells in both and cells in either of two masks bool (B, ...): int64 (B, 2)."""
    both, either = (part.flatten(1).sum(1) for part in (found & wanted, found | wanted))
    return torch.stack((both, either), dim=1)


def iou(counts: Tensor, pick: Tensor) -> float:
    """Intersection over union of the clips that were picked, from counts (N, 2)."""
    both, either = counts[pick].sum(0).tolist()
    return both / max(either, 1)


def estimate(counts: Tensor, figure: Any) -> dict[str, float]:
    """A figure of counts (N, ...) with its interval over clips."""
    return vars(bootstrap(lambda pick: figure(pick), (len(counts),)))


def layouts(config: Config, model: DynamicCityWorldModel) -> dict[str, Any]:
    """Agreement of drivable cells with the layout that was asked for."""
    counts: dict[str, list[Tensor]] = {"generated": [], "under another layout": [], "reconstructed": []}
    pairs = zip(Held(config, model, model.window), Held(config, model, model.window, shift=1), strict=True)
    for (occupancy, motion, seeds), (other, _, _) in pairs:
        drivable = layout_of(occupancy, model.grid)[0]
        for name, shown in (("generated", occupancy), ("under another layout", other)):
            asked = dict(zip(("drivable", "vehicles"), layout_of(shown, model.grid), strict=True))
            known = {name: mask for name, mask in asked.items() if name in model.cfg.transformer.conditions}
            voxels = model.generate(motion, seeds, Conditions(**known)).voxels
            counts[name].append(overlap(layout_of(voxels, model.grid)[0], drivable))
        rebuilt = model.decode(model.encode(occupancy))
        counts["reconstructed"].append(overlap(layout_of(rebuilt, model.grid)[0], drivable))
    joined = {name: torch.cat(parts) for name, parts in counts.items()}
    return {name: estimate(part, partial(iou, part)) for name, part in joined.items()}


def inpainting(config: Config, model: DynamicCityWorldModel) -> dict[str, int]:
    """Cells that changed inside and outside of the region."""
    x, y = (float(centres.mean()) for centres in (model.grid.x_centres, model.grid.y_centres))
    box, changed, cells = Box(x=(x - HALF, x + HALF), y=(y - HALF, y + HALF)), [0, 0], [0, 0]
    for occupancy, motion, seeds in Held(config, model, model.window):
        region = box.cells(model.grid, model.window).expand_as(occupancy)
        found = edit(model, occupancy, region, seeds, model.tell(Conditions(), motion))
        for number, part in enumerate((region, ~region)):
            changed[number] += int(((found != occupancy) & part).sum())
            cells[number] += int(part.sum())
    return {"inside": cells[0], "changed_inside": changed[0], "outside": cells[1], "changed_outside": changed[1]}


def through_the_vae(model: DynamicCityWorldModel, occupancy: Tensor, chunks: int) -> Tensor:
    """The last `chunks` chunks of true frames (B, T, X, Y, Z), each as its window looks after the VAE."""
    shown, ends = [], range(occupancy.shape[1] - (chunks - 1) * model.chunk_frames, occupancy.shape[1] + 1, model.chunk_frames)
    for end in ends:
        shown.append(model.vae.reconstruct(occupancy[:, end - model.window : end])[:, -model.chunk_frames :])
    return torch.cat(shown, dim=1)


def long_sequences(config: Config, model: DynamicCityWorldModel) -> dict[str, Any]:
    """Change at chunk borders over change inside chunks: of sequences that go on from history, and of what they are held to."""
    past, counts = model.history_frames, dict[str, list[Tensor]](generated=[], true=[], rebuilt=[])
    for occupancy, motion, seeds in Held(config, model, past + config.chunks * model.chunk_frames):
        rollout, onward = model.start(occupancy[:, :past], motion[:, :past], seeds), motion[:, past:]
        shown = [model.advance(rollout, part).voxels for part in onward.split(model.chunk_frames, dim=1)]
        rows = {"generated": torch.cat(shown, dim=1), "true": occupancy[:, past:]}
        rows["rebuilt"] = through_the_vae(model, occupancy, config.chunks)
        for name, frames in rows.items():
            counts[name].append(change_counts(frames, onward[:, 1:], model.grid))
    joined = {name: torch.cat(parts) for name, parts in counts.items()}
    ratio = partial(seam_ratio, chunk_frames=model.chunk_frames)
    found = {name: estimate(part, lambda pick, part=part: ratio(part[pick])) for name, part in joined.items()}
    for name in ("true", "rebuilt"):
        floor = joined[name]
        over = partial(_over, ratio, joined["generated"], floor)
        found[f"generated over {name}"] = estimate(floor, over)
    for name, part in joined.items():
        changed, counted = part.sum((0, 1)).tolist()
        found[name]["changed_share"] = changed / counted
    return found


def _over(ratio: Callable[[Tensor], float], counts: Tensor, floor: Tensor, pick: Tensor) -> float:
    """A ratio over another's, of the same clips; NaN where that is zero."""
    own, other = ratio(counts[pick]), ratio(floor[pick])
    return own / other if other > 0 else math.nan


def main() -> None:
    """Measure, print, and write JSON where asked."""
    config = tyro.cli(Config, description=__doc__)
    torch.set_num_threads(config.threads)
    model = from_pretrained(config.model).eval()
    if not isinstance(model, DynamicCityWorldModel):
        raise ValueError(f"--model: expected a DynamicCityWorldModel, found {type(model).__name__} in {config.model}")
    result: dict[str, Any] = {"clips": config.clips, "window": model.window, "chunk_frames": model.chunk_frames}
    with torch.no_grad():
        for name, ask in (("layout", layouts), ("inpainting", inpainting), ("seams", long_sequences)):
            say(name.replace("_", " "))
            result[name] = ask(config, model)
    for name in ("layout", "seams"):
        for row, told in result[name].items():
            print(f"{name:8}{row:24}{told['value']:8.3f}  ({told['low']:.3f} to {told['high']:.3f})")
    told = result["inpainting"]
    print(f"inpainting: {told['changed_outside']:,} of {told['outside']:,} cells outside of the region changed, ", end="")
    print(f"{told['changed_inside']:,} of {told['inside']:,} inside")
    write(result | describe(), config.json)


if __name__ == "__main__":
    main()
