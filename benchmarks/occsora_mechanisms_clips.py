"""Sets of clips that occsora_mechanisms.py compares: generated ones, true ones and disturbed ones, and how far apart they are.

All sets but the reference are of the same trajectories, those of `Config.clips` held-out clips; the reference is twice as many
other held-out clips. So the set "true" shows what a distance is where nothing is wrong, at the same number of clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from occsora_mechanisms_plan import Config, clips_of, sampler_of
from torch import Tensor

from models.checkpoint import read_tensors, write_tensors
from models.evaluation_cells import number
from models.fidelity.bootstrap import bootstrap
from models.fidelity.comparison import compare
from models.fidelity.description import Description, describe
from models.fidelity.disturbed import shuffled_frames, voxel_noise
from models.fidelity.extractors import load_extractor
from models.fidelity.frechet import frechet_distance
from models.occsora.latent_clips import LatentClips
from models.occsora.pretrained import load_tokenizer
from models.occsora.pretrained_diffusion import load_diffusion
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.trajectory import trajectory_from_motion
from scenes.clip import Clip
from scenes.scene import Scene

REFERENCE = "reference"
DISTURBED = ("true", "rebuilt", "shuffled frames", "rebuilt in shuffled order", "noise in 10 %", "noise", "random codes")
_BATCH = 8  # clips that are sampled at a time, and kept


class Sets:
    """The sets by name; descriptions are kept in `out/described`, latents of generated clips in `out/samples`.

    A generated set is "variant, sampler", such as "full, ddim-20" or, with guidance of 2, "full, ddim-20-2".
    """

    def __init__(self, config: Config, held_out: list[Scene]) -> None:
        self.config = config
        self.rendered = clips_of(config, held_out, seed=config.seed + 1)
        self.grid, self.count = self.rendered.grid, config.clips
        self.extractor = load_extractor("random" if config.features == "random" else config.out / "features", self.grid)

    @cached_property
    def conditions(self) -> list[Clip]:
        """The held-out clips whose trajectories are generated from."""
        return list(self._true(range(self.count)))

    @cached_property
    def reference(self) -> Description:
        """Description of the reference."""
        return self.described(REFERENCE)

    def described(self, name: str) -> Description:
        """Description of a set, as kept or made now."""
        path = self.config.out / "described" / f"{_plain(name)}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = describe(self._clips(name), self.grid, self.rendered.frames, [self.extractor])
            _save(made, path)
        return _load(path)

    def compared(self, name: str) -> dict[str, Any]:
        """All figures of a set against the reference, see docs/metrics.md."""
        resamples, seed = self.config.resamples, self.config.seed
        return compare(self.described(name), self.reference, resamples=resamples, seed=seed).as_json()

    def farther(self, name: str, than: str) -> dict[str, Any]:
        """How much farther from the reference one set is than another, by Fréchet distance, for each kind of features.

        With its interval over clips; both sets have the same trajectories, so the same ones are drawn again in both.
        """
        one, other, reference = self.described(name), self.described(than), self.reference
        bootstrapped = partial(bootstrap, centred=True, resamples=self.config.resamples, seed=self.config.seed)
        found = {}
        for key in reference.features:
            a, b, true = (part.features[key] for part in (one, other, reference))

            def difference(i: Tensor, j: Tensor, a: Tensor = a, b: Tensor = b, true: Tensor = true) -> float:
                drawn = true[j].flatten(0, 1)
                return frechet_distance(a[i].flatten(0, 1), drawn) - frechet_distance(b[i].flatten(0, 1), drawn)

            estimate = bootstrapped(difference, (len(a), len(true)))
            found[key] = {part: number(value, digits=8) for part, value in vars(estimate).items()}
        return {"than": than, "by": found}

    def _true(self, places: Iterable[int]) -> Iterator[Clip]:
        for index in places:
            item = self.rendered[index]
            yield Clip(item["occupancy"], item["motion"], self.rendered.dt, item["source"])

    def _clips(self, name: str) -> Iterator[Clip]:
        if name == REFERENCE:
            return self._true(range(self.count, 3 * self.count))
        if name in DISTURBED:
            return (self._disturbed(name, index, clip) for index, clip in enumerate(self.conditions))
        return self._generated(name)

    def _disturbed(self, name: str, index: int, clip: Clip) -> Clip:
        """A true clip, disturbed or rebuilt; seeds follow from its place."""
        if name == "shuffled frames":
            return shuffled_frames(clip, index)
        if name.startswith("noise"):
            return voxel_noise(clip, self.grid, 1.0 if name == "noise" else 0.1, index)
        if name.startswith("rebuilt"):
            rebuilt = replace(clip, occupancy=self.tokenizer.reconstruct(clip.occupancy.unsqueeze(0))[0])
            return rebuilt if name == "rebuilt" else shuffled_frames(rebuilt, index)
        if name == "random codes":
            return replace(clip, occupancy=self.tokenizer.decode(self._random_latents(index))[0])
        return clip

    @cached_property
    def tokenizer(self) -> OccSoraTokenizer:
        """The trained tokenizer that decodes."""
        return load_tokenizer(self.config.out / self.config.preset)

    @cached_property
    def _training_codes(self) -> Tensor:
        return torch.cat([LatentClips.load(part).codes for part in sorted((self.config.out / "latents").glob("*.safetensors"))])

    def _random_latents(self, index: int) -> Tensor:
        """Latents (1, c, t, h, w) of codes that are drawn as often as they occur in training clips, each for itself."""
        codes = self._training_codes
        drawn = torch.randint(codes.numel(), codes[:1].shape, generator=torch.Generator().manual_seed(index))
        with torch.no_grad():
            return self.tokenizer.lookup(codes.flatten()[drawn])

    def _generated(self, name: str) -> Iterator[Clip]:
        """Clips of a diffusion model from the trajectories; the seed of a clip is its place."""
        variant, sampler = name.split(", ")
        model = load_diffusion(self.config.out / variant)
        settings, guidance = sampler_of(sampler)
        folder = self.config.out / "samples" / _plain(name)
        folder.mkdir(parents=True, exist_ok=True)
        for first in range(0, self.count, _BATCH):
            clips, path = self.conditions[first : first + _BATCH], folder / f"{first:05d}.safetensors"
            if not path.is_file():
                trajectory = trajectory_from_motion(torch.stack([clip.motion for clip in clips]))
                seeds = torch.arange(first, first + len(clips))
                write_tensors(path, {"latents": model.sample(trajectory, seeds, settings, guidance=guidance)})
            for clip, latents in zip(clips, read_tensors(path)["latents"], strict=True):
                yield replace(clip, occupancy=self.tokenizer.decode(latents.unsqueeze(0))[0])


def _plain(name: str) -> str:
    """A name as that of a file."""
    return name.replace(",", "").replace("%", "percent").replace(" ", "-")


def _save(description: Description, path: Path) -> None:
    """Write a description to one safetensors file; what is in a dict is called `field:key`."""
    tensors = {"sources": torch.tensor(list("\n".join(description.sources).encode()), dtype=torch.uint8)}
    for item in fields(description):
        value = getattr(description, item.name)
        if isinstance(value, Tensor):
            tensors[item.name] = value
        elif isinstance(value, dict):
            tensors |= {f"{item.name}:{key}": tensor for key, tensor in value.items()}
    write_tensors(path, tensors)


def _load(path: Path) -> Description:
    """Read what `_save` wrote."""
    alone: dict[str, Any] = {}
    grouped: dict[str, dict[str, Tensor]] = {"features": {}, "posterior": {}, "histograms": {}}
    for name, tensor in read_tensors(path).items():
        field, _, key = name.partition(":")
        if key:
            grouped[field][key] = tensor
        else:
            alone[field] = tensor
    sources = bytes(alone.pop("sources").tolist()).decode().split("\n")
    return Description(sources=sources, **alone, **grouped)
