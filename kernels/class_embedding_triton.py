"""`class_embedding` as a Triton kernel: a matrix product whose left side is looked up from the ids, tile by tile."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.class_embedding import class_embedding_torch
from kernels.codebook_triton import multiply


@triton.jit
def class_embedding_kernel(
    ids,
    table,
    weight,
    bias,
    out,
    places,
    voxels,
    classes,
    outputs,
    CLASS_DIM: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """out (M, O) from ids uint8 (M, V), table (C, E), weight (O, V * E) and bias (O,), E = CLASS_DIM.

    Products are taken in the type of weight. The grid has one program for each BLOCK_M places and BLOCK_O outputs.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    output = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    real, wanted = row < places, output < outputs
    dim = tl.arange(0, BLOCK_E)
    channel = tl.arange(0, BLOCK_V * BLOCK_E)
    begin = tl.load(bias + output, mask=wanted, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_M, BLOCK_O), tl.float32) + begin[None, :]
    for first in range(0, voxels, BLOCK_V):
        voxel = first + tl.arange(0, BLOCK_V)
        given = ids + (row * voxels)[:, None] + voxel[None, :]
        number = tl.load(given, mask=real[:, None] & (voxel < voxels)[None, :], other=0).to(tl.int32)
        entries = table + (tl.minimum(number, classes - 1) * CLASS_DIM)[:, :, None] + dim[None, None, :]
        known = (voxel < voxels)[None, :, None] & (dim < CLASS_DIM)[None, None, :]
        left = tl.load(entries, mask=known, other=0.0).to(weight.dtype.element_ty)
        owner, part = first + channel // BLOCK_E, channel % BLOCK_E
        rights = weight + (output * voxels * CLASS_DIM)[None, :] + (owner * CLASS_DIM + part)[:, None]
        real_channel = (owner < voxels) & (part < CLASS_DIM)
        right = tl.load(rights, mask=wanted[None, :] & real_channel[:, None], other=0.0)
        total = multiply(tl.reshape(left, (BLOCK_M, BLOCK_V * BLOCK_E)), right, total, PRECISION, WIDEN)
    place = out + (row * outputs)[:, None] + output[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=real[:, None] & wanted[None, :])


def settings(class_dim: int, outputs: int, dtype: torch.dtype) -> dict[str, Any]:
    """Block sizes and launch options; they spill no registers on sm_80, sm_90 and sm_100."""
    dims = triton.next_power_of_2(class_dim)
    sizes = {"BLOCK_E": dims, "BLOCK_O": max(16, min(128, triton.next_power_of_2(outputs)))}
    if dtype == torch.bfloat16:
        sizes |= {"BLOCK_M": 128, "BLOCK_V": max(1, 64 // dims)}
        return {**sizes, "PRECISION": "ieee", "num_warps": 8, "num_stages": 2}
    # Three products in TensorFloat-32 are as exact as one in float32, but take more registers.
    sizes |= {"BLOCK_M": 64, "BLOCK_V": max(1, 32 // dims)}
    return {**sizes, "PRECISION": "tf32x3", "num_warps": 8, "num_stages": 2}


class ClassEmbedding(torch.autograd.Function):
    """`class_embedding` with the kernel forward; the gradient is that of the definition, which is computed anew."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        """See `kernels.class_embedding.class_embedding`; dtype is that of products and result."""
        ctx.save_for_backward(ids, table, weight, bias)
        out = torch.empty(len(ids), len(bias), dtype=dtype, device=ids.device)
        if not out.numel():
            return out
        options = settings(table.shape[1], len(bias), dtype)
        grid = (triton.cdiv(len(ids), options["BLOCK_M"]), triton.cdiv(len(bias), options["BLOCK_O"]))
        tensors = (ids.contiguous(), table.contiguous(), weight.to(dtype).contiguous(), bias.contiguous(), out)
        constants = {"CLASS_DIM": table.shape[1], "WIDEN": not ids.is_cuda}
        sizes = (*ids.shape, len(table), len(bias))
        class_embedding_kernel[grid](*tensors, *sizes, **constants, enable_fp_fusion=True, **options)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_out: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of table, weight and bias."""
        ids, *given = ctx.saved_tensors
        table, weight, bias = layers = [part.detach().requires_grad_() for part in given]
        with torch.enable_grad():
            out = class_embedding_torch(ids, table, weight, bias, torch.float32)
        return None, *torch.autograd.grad(out, layers, to_out.float()), None
