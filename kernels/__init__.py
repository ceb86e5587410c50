"""Hot operations, each with its definition in plain torch beside a Triton kernel; the device of the tensors decides."""

from kernels.codebook import nearest_code
from kernels.noise import philox_normal

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution: see occworld_env

__all__ = ["nearest_code", "philox_normal"]
