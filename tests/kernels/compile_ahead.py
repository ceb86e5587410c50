"""Compile every kernel for one GPU architecture on a machine that has none, and print what the assembler says, as JSON.

Run as a program with TRITON_INTERPRET unset: `python compile_ahead.py 90`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels import (
    ada_norm_triton,
    class_embedding_triton,
    classify_triton,
    codebook_triton,
    columns_triton,
    components_triton,
    depthwise_norm_triton,
    feed_forward_triton,
    noise_triton,
    quantize_triton,
    token_inputs_triton,
    world_attention_backward_triton,
    world_attention_triton,
)

Case = tuple[Any, dict[str, str], dict[str, Any]]  # function, types of its arguments, constants and options
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
OPTIONS = ("num_warps", "num_stages")
ALIGNED = ("frame_stride", "row_stride", "past_batch_stride", "past_frame_stride", "past_row_stride")  # as tensors' rows are
# Tokens, heads, channels and window of the presets mini and base, and of heads as small as those of the OccSora paper's model.
ATTENTIONS = ((144, 4, 64, 4), (625, 4, 64, 4), (625, 16, 16, 3))


def cases(architecture: int) -> dict[str, Case]:
    """Each kernel as it is launched there."""
    types = {"seeds": "*i64", "steps": "*i64", "out": "*fp32", "size": "i32", "index": "i64"}
    noise = (noise_triton.philox_normal_kernel, types, {"BLOCK": noise_triton.BLOCK, "num_warps": 4})
    found: dict[str, Case] = {"philox_normal_kernel": noise}
    for group in (lookups, classifiers, class_readers, norms, convolutions, maps, tokens):
        found |= group()
    for shape in ATTENTIONS:
        for dtype in (torch.float32, torch.bfloat16):
            found |= attention_cases(architecture, shape, dtype)
    return found


def lookups() -> dict[str, Case]:
    """The codebook lookup, alone and with what training asks for."""
    found: dict[str, Case] = {}
    for channels, dtype in (
        (4, torch.float32),
        (16, torch.bfloat16),
        (128, torch.float32),
        (128, torch.bfloat16),
        (512, torch.bfloat16),
    ):
        direct = channels <= codebook_triton.DIRECT_CHANNELS
        pointer, name = POINTERS[dtype], "direct" if direct else "dot"
        types = {"x": pointer, "book": pointer, "count": "i32", "groups": "i32", "codes": "i32"}
        types |= {} if direct else {"norms": "*fp32"}
        constants = {**codebook_triton.settings(channels, dtype), "CHANNELS": channels}
        constants |= {} if direct else {"WIDEN": False}
        kernel = getattr(codebook_triton, f"nearest_{name}_kernel")
        found[f"{kernel.__name__} {channels} {dtype}"] = (kernel, {**types, "out": "*i64"}, dict(constants))
        types |= {"found": "*i64", "quantized": pointer, "losses": "*fp32", "uses": "*i32"}
        kernel, wide = getattr(quantize_triton, f"quantize_{name}_kernel"), quantize_triton.finish_settings(channels)
        found[f"{kernel.__name__} {channels} {dtype}"] = (kernel, types, {**constants, **wide})
    pointers = ("x", "quantized", "to_quantized", "to_commitment", "out")
    types = {**dict.fromkeys(pointers, "*fp32"), "size": "i32", "share": "fp32"}
    constants = {"PASSED": True, "PULLED": True, "BLOCK": quantize_triton.BLOCK, "num_warps": 4}
    found["slope_kernel"] = (quantize_triton.slope_kernel, types, constants)
    return found


def classifiers() -> dict[str, Case]:
    """Classes of voxels as the presets have them; the number of voxels a place, 64 or 128, is no constant."""
    found: dict[str, Case] = {}
    sizes = {"count": "i32", "voxels": "i32", "classes": "i32"}
    for dtype in (torch.float32, torch.bfloat16):
        for carried in (False, True):
            types = dict.fromkeys(("places", "weight", "bias", "trust"), POINTERS[dtype])
            types |= {"matrix": "*fp32", "offset": "*fp32", "carried": "*u8", "out": "*u8", **sizes}
            constants = {"CHANNELS": 96, "CLASS_DIM": 8, "CARRIED": carried, "WIDEN": False}
            name = f"classify_voxels_kernel {dtype}{' carried' if carried else ''}"
            found[name] = (classify_triton.classify_voxels_kernel, types, {**constants, **classify_triton.settings(8, dtype)})
    return found


def class_readers() -> dict[str, Case]:
    """What the encoder, the blend and the agents' flow of the presets begin with: channels of a class, and outputs."""
    found: dict[str, Case] = {}
    kernel, sizes = class_embedding_triton.class_embedding_kernel, ("places", "voxels", "classes", "outputs")
    for dim, outputs in ((8, 96), (4, 96), (6, 64)):
        for dtype in (torch.float32, torch.bfloat16):
            types = {"ids": "*u8", "table": "*fp32", "weight": POINTERS[dtype], "bias": "*fp32", "out": POINTERS[dtype]}
            constants = {"CLASS_DIM": dim, "WIDEN": False, **class_embedding_triton.settings(dim, outputs, dtype)}
            found[f"{kernel.__name__} {dim}x{outputs} {dtype}"] = (kernel, types | dict.fromkeys(sizes, "i32"), constants)
    return found


def maps() -> dict[str, Case]:
    """Connected components, and columns looked up under a pose: voxels of both presets, and maps seen from above."""
    found: dict[str, Case] = {}
    special = {"classes": "*i64", "parents": "*i32", "labels": "*i64"}
    for kernel in (components_triton.link_kernel, components_triton.join_kernel, components_triton.label_kernel):
        types = {name: special.get(name, "i32") for name in kernel.arg_names if name != "BLOCK"}
        found[kernel.__name__] = (kernel, types, {"BLOCK": components_triton.BLOCK, "num_warps": 4})
    kernel, numbers = columns_triton.gather_columns_kernel, ("poses", "cosines", "sines")
    for height, pointer in ((1, "*fp32"), (1, "*fp64"), (8, "*fp64"), (16, "*fp64")):
        constants = {"HEIGHT": height, "VOXEL": 0.4, "LOW_X": -40.0, "LOW_Y": -40.0, **columns_triton.settings(height)}
        special = {"columns": "*u8", "out": "*u8", **dict.fromkeys(numbers, pointer)}
        types = {name: special.get(name, "i32") for name in kernel.arg_names if name not in constants}
        found[f"{kernel.__name__} {height} {pointer[1:]}"] = (kernel, types, constants)
    return found


def norms() -> dict[str, Case]:
    """Normalisation and gated residual of the presets' width, in one type and as mixed precision has them."""
    found: dict[str, Case] = {}
    for stream, other in ((torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16)):
        wide, narrow = POINTERS[stream], POINTERS[other]
        types = dict.fromkeys(("x", "residual", "to_residual", "to_x"), wide)
        types |= dict.fromkeys(("y", "gate", "scale", "shift", "out", "to_out", "to_y"), narrow)
        types |= dict.fromkeys(("tokens", "programs", "gate_step", "scale_step", "shift_step"), "i32") | {"sums": "*fp32"}
        constants = {"CHANNELS": 256, "EPSILON": 1e-6, "GATED": True, "NORMED": True, **ada_norm_triton.settings(256)}
        backward = {**constants, "PASSED": True, "TILES": ada_norm_triton.TILES}
        for kernel, given in ((ada_norm_triton.forward_kernel, constants), (ada_norm_triton.backward_kernel, backward)):
            found[f"{kernel.__name__} {stream} {other}"] = (kernel, types, given)
    return found


def tokens() -> dict[str, Case]:
    """The transformer's inputs of the presets, where noise is drawn and moved, and where history is written."""
    found: dict[str, Case] = {}
    kernel, sizes = token_inputs_triton.token_inputs_kernel, {"LATENT": 64, "KNOWN": 4, "ROUTE": 128}
    special = dict.fromkeys(("prediction", "warped", "known", "has_warp", "has_route"), "*fp32")
    special |= {"steps": "*i64", "index": "i64", "share": "fp32", "route": "*u8", "tokens": "i32"}
    for dtype in (torch.float32, torch.bfloat16):
        for drawn in (True, False):
            constants = {**sizes, "DRAWN": drawn, "TOWARD": drawn, **token_inputs_triton.settings(*sizes.values())}
            types = {**special, "noisy": "*i64" if drawn else "*fp32", "out": POINTERS[dtype]}
            types = {name: types[name] for name in kernel.arg_names if name not in constants}
            found[f"{kernel.__name__} {dtype}{' drawn' if drawn else ''}"] = (kernel, types, constants)
    return found


def convolutions() -> dict[str, Case]:
    """The two halves of a ConvNeXt block at the widths of the presets and of the agents' flow, in either type throughout."""
    found: dict[str, Case] = {}
    for channels in (64, 96, 160, 256):
        for dtype in (torch.float32, torch.bfloat16):
            types = dict.fromkeys(("x", "y", "out"), POINTERS[dtype])
            first = types | dict.fromkeys(("weight", "bias", "scale", "shift"), "*fp32")
            first |= dict.fromkeys(("columns", "height", "width"), "i32")
            options = {"CHANNELS": channels, "EPSILON": 1e-5, **depthwise_norm_triton.settings(channels)}
            kernel = depthwise_norm_triton.depthwise_norm_kernel
            found[f"{kernel.__name__} {channels} {dtype}"] = (kernel, first, options)
            second = types | {"weight": POINTERS[dtype], "back": POINTERS[dtype], "count": "i32"}
            second |= dict.fromkeys(("bias", "back_bias"), "*fp32")
            sizes = {"CHANNELS": channels, "HIDDEN": 2 * channels, "WIDEN": False}
            kernel = feed_forward_triton.feed_forward_kernel
            found[f"{kernel.__name__} {channels} {dtype}"] = (
                kernel,
                second,
                {**sizes, **feed_forward_triton.settings(channels, dtype)},
            )
    return found


def attention_cases(architecture: int, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Case]:
    """The kernels of `world_attention`, forward and backward, at one shape (tokens, heads, channels, window)."""
    tokens, heads, channels, window = shape
    generation = architecture // 10
    forward, backward = world_attention_triton, world_attention_backward_triton
    kernels = {forward.world_attention_kernel: forward.settings(tokens, dtype, generation)}
    if tokens != ATTENTIONS[0][0]:  # the backward kernels of mini are those of base but for the number of tokens
        kernels[backward.prepare_kernel] = backward.settings(dtype, "prepare", generation)
        kernels[backward.query_gradient_kernel] = backward.settings(dtype, "query", generation)
        kernels[backward.key_gradient_kernel] = backward.settings(dtype, "key", generation)
        kernels[backward.past_gradient_kernel] = backward.settings(dtype, "past", generation)
    constants = {"TOKENS": tokens, "HEADS": heads, "WINDOW": window, "CHANNELS": channels, "EPS": 1e-6, "WIDEN": False}
    table = "*fp16" if dtype == torch.bfloat16 else "*fp32"
    special = {"own": table, "turns": table, "valid": "*u8", "normaliser": "*fp32", "delta": "*fp32"}
    special |= dict.fromkeys(("query_weight", "key_weight", "d_weight"), "*fp32")
    special |= dict.fromkeys(("frames", "total", "first", *ALIGNED), "i32")
    found = {}
    for kernel, options in kernels.items():
        known = {name: value for name, value in {**constants, **options}.items() if name in (*kernel.arg_names, *OPTIONS)}
        types = {name: special.get(name, POINTERS[dtype]) for name in kernel.arg_names if name not in known}
        found[f"{kernel.__name__} {'x'.join(map(str, shape))} {dtype}"] = (kernel, types, known)
    return found


def assemble(ptx: str) -> str:
    """What Triton's own assembler reports about the registers of this PTX; it bundles one for each generation."""
    architecture = re.search(r"\.target (\w+)", ptx)[1]
    said = ""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        for program in sorted(Path(triton.backends.nvidia.__file__).parent.glob("bin/ptxas*")):
            command = [program, "-v", f"-arch={architecture}", source, "-o", Path(folder, "kernel.cubin")]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode == 0:
                return result.stderr
            said += result.stderr
    raise RuntimeError(f"no assembler took the PTX for {architecture}: {said}")


def compile_case(architecture: int, kernel: Any, types: dict[str, str], constants: dict[str, Any]) -> dict[str, int]:
    """Compile one kernel; its registers a thread, bytes spilled, bytes of shared memory and of machine code."""
    options = {name: constants.pop(name) for name in OPTIONS if name in constants}
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*") or name in ALIGNED
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", architecture, 32)
    compiled = triton.compile(source, target=target, options={**options, "enable_fp_fusion": True})
    said = assemble(compiled.asm["ptx"])
    return {
        "registers": max(int(used) for used in re.findall(r"Used (\d+) registers", said)),
        "spilled": sum(int(spilled) for spilled in re.findall(r"(\d+) bytes spill", said)),
        "shared": compiled.metadata.shared,
        "code": len(compiled.asm["cubin"]),
    }


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    print(json.dumps({name: compile_case(wanted, *case) for name, case in cases(wanted).items()}))
