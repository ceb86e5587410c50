"""Hot operations, each with its definition in plain torch beside a Triton kernel; the device of the tensors decides."""

from kernels.ada_norm import ada_norm, gated_residual, gated_residual_norm
from kernels.classify import classify_voxels
from kernels.codebook import nearest_code
from kernels.depthwise_norm import depthwise_norm
from kernels.feed_forward import feed_forward
from kernels.gelu import gelu
from kernels.noise import philox_normal
from kernels.quantize import quantize
from kernels.world_attention import world_attention

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution: see occworld_env

__all__ = [
    "ada_norm",
    "classify_voxels",
    "depthwise_norm",
    "feed_forward",
    "gated_residual",
    "gated_residual_norm",
    "gelu",
    "nearest_code",
    "philox_normal",
    "quantize",
    "world_attention",
]
