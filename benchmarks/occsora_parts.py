"""The parts of OccSora's networks that are timed, what each costs, what the release's cost, and what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.occsora.config import PRESETS, OccSoraPreset
from models.occsora.tokenizer import OccSoraTokenizer

# The released model on two CPU cores, float32, torch 2.13, batch 1: weights, GFLOP, seconds. Of the decoder's 2769 GFLOP, 2241
# are needed; the others multiply padding.
RELEASE = {
    "encode": {"weights": 72_174_720, "gflop": 2270, "seconds": 18.96},
    "lookup": {"weights": 98_560, "gflop": 0.49, "seconds": 0.010},
    "decode": {"weights": 65_096_320, "gflop": 2769, "seconds": 21.18},
    "denoise": {"weights": 36_819_200, "gflop": 303, "seconds": 4.24},
}


@dataclass(frozen=True)
class Part:
    """A call to time.

    Attributes:
        name: what it does.
        call: does it once; its result is a tensor.
        modules: whose weights it needs.
        gflop: products in 1e9, a multiplication and an addition as two.
        release: the released model's weights, operations and seconds for the same, where this is the same structure.
    """

    name: str
    call: Callable[[], Tensor]
    modules: tuple[nn.Module, ...]
    gflop: float
    release: dict[str, float] | None

    def described(self) -> dict[str, Any]:
        """Name, shape of the result without the batch, weights, operations, and the release's."""
        weights = sum(parameter.numel() for module in self.modules for parameter in module.parameters())
        return {
            "name": self.name,
            "shape": list(self.call().shape[1:]),
            "weights": weights,
            "gflop": round(self.gflop, 2),
            "release": self.release,
        }


def counted(call: Callable[[], Any]) -> float:
    """GFLOP of the matrix products and convolutions in a call, each layer as its definition has it."""
    counter = FlopCounterMode(display=False)
    # With gradients on, no layer takes the shorter way that it may have for inference; fused attention is not counted.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        call()
    return counter.get_total_flops() / 1e9


class Operations(NamedTuple):
    """GFLOP of encoding a clip, of looking up its codes and of decoding them to classes."""

    encode: float
    lookup: float
    decode: float


def tokenizer_operations(preset: OccSoraPreset) -> Operations:
    """What one clip takes; nothing is computed for it."""
    cfg = preset.tokenizer
    with FakeTensorMode():
        tokenizer = OccSoraTokenizer(preset.grid, cfg).eval()
        clip = torch.empty(1, preset.frames, *preset.grid.shape, dtype=torch.uint8)
        latents = torch.empty(1, cfg.latent_channels, *tokenizer.latent_shape(preset.frames))
        encode, decode = counted(lambda: tokenizer.encode(clip)), counted(lambda: tokenizer.decoder(tokenizer.after(latents)))
    head = 2 * clip.numel() * preset.grid.num_classes * cfg.class_dim / 1e9
    lookup = 2 * latents.numel() * (2 * cfg.latent_channels + cfg.num_codes) / 1e9
    return Operations(encode, lookup, decode + head)


def tokenizer_parts(preset: OccSoraPreset, tokenizer: OccSoraTokenizer, clip: Tensor, latents: Tensor) -> list[Part]:
    """Encoding a clip, looking up its codes, and decoding them to classes."""
    release = RELEASE if preset == PRESETS["occsora"] else {}
    encode, lookup, decode = tokenizer_operations(preset)
    encoder, decoder = (tokenizer.encoder, tokenizer.before), (tokenizer.after, tokenizer.decoder)
    return [
        Part("encode", lambda: tokenizer.encode(clip), encoder, encode, release.get("encode")),
        Part("lookup", lambda: tokenizer.quantize(latents).latents, (tokenizer.codebook,), lookup, release.get("lookup")),
        Part("decode", lambda: tokenizer.decode(latents), decoder, decode, release.get("decode")),
    ]


def transformer_parts(name: str, preset: OccSoraPreset, latents: Tensor) -> list[Part]:
    """One denoising step at batch 1 of the transformer that goes with the preset of this name."""
    from models.occsora.presets import world_preset
    from models.occsora.transformer import ClipTransformer

    shape, size = tuple(latents.shape[2:]), world_preset(name).transformer
    make = partial(ClipTransformer, latents.shape[1], shape, preset.frames, size)

    def denoise(transformer: ClipTransformer, noisy: Tensor) -> Tensor:
        return transformer(noisy, torch.tensor([500]), torch.zeros(1, preset.frames, 2)).noise

    with FakeTensorMode():
        gflop = counted(partial(denoise, make(), torch.empty(latents.shape)))
    transformer = make().eval()
    release = RELEASE["denoise"] if name == "occsora" else None
    return [Part("denoise", partial(denoise, transformer, latents), (transformer,), gflop, release)]


def seconds(call: Callable[[], Any], plain: Callable[[], Any] | None, rounds: int) -> dict[str, float | None]:
    """The least time of a call, and of a plain form of it, taken in turn."""
    found: dict[str, list[float]] = {"seconds": [], "plain_seconds": []}
    for _ in range(rounds):
        for name, run in (("seconds", call), ("plain_seconds", plain)):
            if run is not None:
                begin = time.perf_counter()
                run()
                found[name].append(time.perf_counter() - begin)
    return {name: min(times) if times else None for name, times in found.items()}


def ceilings(rounds: int) -> dict[str, float]:
    """GFLOP/s of the fastest of some large products, in torch's own library and in oneDNN, and of some of our convolutions."""
    rates: dict[str, list[float]] = {"product": [], "product_onednn": [], "convolution": []}
    for rows, inner, columns in ((2048, 2048, 2048), (20_000, 1024, 512), (4096, 4096, 512)):
        left, right = torch.randn(rows, inner), torch.randn(columns, inner)
        # Linear layers use the BLAS that torch is built with, which is not the fastest on every CPU.
        for name, given in (("product", (left, right)), ("product_onednn", (left.to_mkldnn(), right.to_mkldnn()))):
            taken = _least(partial(torch.nn.functional.linear, *given), rounds)
            rates[name].append(2 * rows * inner * columns / taken / 1e9)
    x, weight = torch.randn(1, 128, 8, 100, 100), torch.randn(512, 128, 4, 4, 4)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        entry, kernel = x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
        convolve = partial(torch.nn.functional.conv3d, entry, kernel, stride=2, padding=1)
        operations = 2 * convolve()[0, 0].numel() * weight.numel()
        rates["convolution"].append(operations / _least(convolve, rounds) / 1e9)
    return {name: round(max(found), 1) for name, found in rates.items()}


def _least(call: Callable[[], Any], rounds: int) -> float:
    """Seconds of the fastest call, after one to warm up."""
    call()
    found = seconds(call, None, rounds)["seconds"]
    assert found is not None
    return found
