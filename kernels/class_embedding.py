"""The layer that reads class ids: an embedding of voxels and a linear layer, without the embedded voxels in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import on_triton

MAX_CLASSES, MAX_CLASS_DIM = 256, 32
MAX_IDS = 2**31 - 1


def class_embedding(ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """linear(table[ids].flatten(1), weight, bias): (M, O) of the V voxels at each of M places, differentiable once.

    ids: uint8 (M, V), those of C and above get the last row. table: (C, E), C <= 256 classes of E <= 32 channels. weight:
    (O, V * E). bias: (O,). All but ids are float32 or bfloat16 on one device; the result has the type of weight or, under
    autocast, of that, and on a GPU it is the type that is multiplied in; sums are float32. Raises ValueError where the shapes,
    types or devices do not fit.
    """
    _check(ids, table, weight, bias)
    kind = ids.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    if on_triton(ids):
        from kernels.class_embedding_triton import ClassEmbedding

        return ClassEmbedding.apply(ids, table, weight, bias, dtype)
    return class_embedding_torch(ids, table, weight, bias, dtype)


def class_embedding_torch(ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """The definition of `class_embedding` in plain torch, its result in this type.

    What a class adds to the outputs from a voxel of the place is multiplied out once, for all V * C pairs of the two, and then
    looked up and summed: a place takes V * O additions in place of V * E * O multiplications.
    """
    (places, voxels), (classes, dim) = ids.shape, table.shape
    with torch.autocast(ids.device.type, enabled=False):
        added = torch.einsum("ce,ove->vco", table.float(), weight.float().unflatten(1, (voxels, dim)))
        added = torch.cat((added[:1] + bias.float(), added[1:])).flatten(0, 1)
        first = torch.arange(0, voxels * classes, classes, dtype=torch.int32, device=ids.device)
        if not places:
            return added.new_zeros(0, len(bias), dtype=dtype)
        return torch.nn.functional.embedding_bag(ids.clamp(max=classes - 1) + first, added, mode="sum").to(dtype)


def _check(ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Raise ValueError where the arguments of `class_embedding` do not fit."""
    shapes = [tuple(part.shape) for part in (ids, table, weight, bias)]
    fit = [len(shape) for shape in shapes] == [2, 2, 2, 1]
    if not fit or weight.shape != (len(bias), ids.shape[1] * table.shape[1]) or not ids.shape[1]:
        raise ValueError(f"class_embedding: expected ids (M, V), table (C, E), weight (O, V * E) and bias (O,), found {shapes}")
    if not 1 <= len(table) <= MAX_CLASSES or not 1 <= table.shape[1] <= MAX_CLASS_DIM or ids.numel() > MAX_IDS:
        limits = f"1 to {MAX_CLASSES} classes of 1 to {MAX_CLASS_DIM} channels and fewer than 2^31 ids"
        raise ValueError(f"class_embedding: expected {limits}, found table {shapes[1]} and ids {shapes[0]}")
    if ids.dtype != torch.uint8:
        raise ValueError(f"class_embedding: ids must be uint8, found {ids.dtype}")
    for name, value in {"table": table, "weight": weight, "bias": bias}.items():
        if value.dtype not in (torch.float32, torch.bfloat16) or value.device != ids.device:
            expected, found = f"float32 or bfloat16 on {ids.device}", f"{value.dtype} on {value.device}"
            raise ValueError(f"class_embedding: {name} must be {expected}, found {found}")
