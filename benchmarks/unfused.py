"""Operations as they are written without this project's kernels, in layers of torch: rivals in speed and in memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import Draw, Told, philox_normal
from models.layers import working_dtype
from scenes.grid import AGENTS


def class_embedding(ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Arguments and result of `kernels.class_embedding`, all embedded voxels in memory, in the type of the product."""
    kind = working_dtype(weight)
    known = ids.clamp(max=len(table) - 1).int()
    return F.linear(F.embedding(known, table.to(kind)).flatten(1), weight.to(kind), bias.to(kind))


def class_sums(ids: Tensor, added: Tensor) -> Tensor:
    """The same by lookups alone, from what each class adds at each voxel of a place: added (V * C, O)."""
    first = torch.arange(0, len(added), len(added) // ids.shape[1], dtype=torch.int32, device=ids.device)
    return F.embedding_bag(ids + first, added, mode="sum")


def depthwise_norm(
    x: Tensor, kernel: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor], dtype: torch.dtype | None = None
) -> Tensor:
    """Arguments and result of `kernels.depthwise_norm`: a convolution with channels last, then the norm."""
    y = F.conv2d(x.permute(0, 3, 1, 2), *kernel, padding=kernel[0].shape[-1] // 2, groups=x.shape[-1])
    return F.layer_norm(y.permute(0, 2, 3, 1), x.shape[-1:], *norm).to(dtype or x.dtype)


def feed_forward(x: Tensor, y: Tensor, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]) -> Tensor:
    """Arguments and result of `kernels.feed_forward`, each of its operations after the other."""
    return x + F.linear(F.gelu(F.linear(y, *widen), approximate="tanh"), *narrow)


def connected_components(classes: Tensor) -> Tensor:
    """Arguments and result of `kernels.connected_components` for maps of agents: labels spread until the host sees none change.

    int64 (N, X, Y) from (N, X, Y). A snake of cells takes as many rounds as it is long.
    """
    there = torch.stack([classes == agent for agent in AGENTS], dim=1)
    label = there * torch.arange(1, classes[0].numel() + 1, device=classes.device).view(classes.shape[1:]).float()
    while True:
        spread = F.max_pool2d(label, 3, stride=1, padding=1) * there
        if torch.equal(spread, label):
            return label.amax(1).long()
        label = spread


def token_inputs(draw: Draw, told: Told, dtype: torch.dtype) -> Tensor:
    """Arguments and result of `kernels.token_inputs`: noise, then everything side by side."""
    return side_by_side(philox_normal(*draw, tuple(told.warped.shape[1:])), told, dtype)


def side_by_side(x: Tensor, told: Told, dtype: torch.dtype) -> Tensor:
    """Noisy latents x (M, N, C) and what tokens are told, as `kernels.token_inputs` orders them."""
    warp, route = ((flag > 0).to(dtype)[:, None, None] for flag in (told.has_warp, told.has_route))
    past = (told.warped.to(dtype) * warp, told.known.to(dtype) * warp, told.route.to(dtype) * route)
    flags = (flag.expand(-1, x.shape[1], 1) for flag in (warp, route))
    return torch.cat((x.to(dtype), *past, *flags), dim=-1)


def logits_of(
    places: Tensor,
    features: tuple[Tensor, Tensor],
    classes: tuple[Tensor, Tensor],
    trust: Tensor | None = None,
    carried: Tensor | None = None,
) -> Tensor:
    """Logits of all voxels (P, V, K), as a decoder without a kernel has them: two layers, then the trust."""
    logits = F.linear(F.linear(places, *features).unflatten(-1, (-1, classes[0].shape[1])), *classes)
    if trust is None or carried is None:
        return logits
    known = carried < logits.shape[-1]
    index = torch.where(known, carried, 0).long().unsqueeze(-1)
    return logits.scatter_add(-1, index, (trust * known).unsqueeze(-1))


def classify_voxels(*given: Any) -> Tensor:
    """Arguments and result of `kernels.classify_voxels`, the logits in memory."""
    return logits_of(*given).argmax(-1).to(torch.uint8)


def nearest_code(x: Tensor, codebook: Tensor) -> Tensor:
    """Arguments and result of `kernels.nearest_code`, all distances in memory."""
    return torch.cdist(x.float().transpose(0, 1), codebook.float()).argmin(-1).T
