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

from kernels import codebook_triton, noise_triton

POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
OPTIONS = ("num_warps", "num_stages")


def cases() -> dict[str, tuple[Any, dict[str, str], dict[str, Any]]]:
    """Each kernel as it is launched: function, types of its arguments, constants and options."""
    found = {}
    for channels, dtype in (
        (4, torch.float32),
        (16, torch.bfloat16),
        (128, torch.float32),
        (128, torch.bfloat16),
        (512, torch.bfloat16),
    ):
        direct = channels <= codebook_triton.DIRECT_CHANNELS
        kernel = codebook_triton.nearest_direct_kernel if direct else codebook_triton.nearest_dot_kernel
        types = {"x": POINTERS[dtype], "book": POINTERS[dtype], "out": "*i64", "count": "i32", "groups": "i32", "codes": "i32"}
        constants = {**codebook_triton.settings(channels, dtype), "CHANNELS": channels}
        extra = {} if direct else {"WIDEN": False}
        types |= {} if direct else {"norms": "*fp32"}
        found[f"{kernel.__name__} {channels} {dtype}"] = (kernel, types, {**constants, **extra})
    types = {"seeds": "*i64", "steps": "*i64", "out": "*fp32", "size": "i32", "index": "i64"}
    found["philox_normal_kernel"] = (noise_triton.philox_normal_kernel, types, {"BLOCK": noise_triton.BLOCK, "num_warps": 4})
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
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if signature[name].startswith("*")}
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
    print(json.dumps({name: compile_case(int(sys.argv[1]), *case) for name, case in cases().items()}))
