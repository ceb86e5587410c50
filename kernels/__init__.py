"""Hot operations, each with its definition in plain torch beside a Triton kernel; the device of the tensors decides."""

from kernels.ada_norm import ada_norm, gated_residual, gated_residual_norm
from kernels.class_embedding import class_embedding
from kernels.classify import classify_voxels
from kernels.codebook import nearest_code
from kernels.columns import Lattice, gather_columns
from kernels.components import connected_components
from kernels.depthwise_norm import depthwise_norm
from kernels.feed_forward import feed_forward
from kernels.gelu import gelu
from kernels.noise import philox_normal
from kernels.quantize import quantize
from kernels.token_inputs import Draw, Told, token_inputs
from kernels.world_attention import world_attention

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution: see occworld_env

__all__ = [
    "Draw",
    "Lattice",
    "Told",
    "ada_norm",
    "class_embedding",
    "classify_voxels",
    "connected_components",
    "depthwise_norm",
    "feed_forward",
    "gated_residual",
    "gated_residual_norm",
    "gather_columns",
    "gelu",
    "nearest_code",
    "philox_normal",
    "quantize",
    "token_inputs",
    "world_attention",
]
