"""CUDA tensors without numbers, on machines whose torch knows no CUDA: shapes, types and lifetimes are as on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

_CAPABILITY = (9, 0)  # of the GPU that is played

aten = torch.ops.aten


@contextmanager
def fake_gpu() -> Iterator[None]:
    """While open, "cuda" is a GPU that is played: tensors there have no numbers, Triton kernels are not launched.

    All around a launch runs as on a GPU, so that a kernel's wrapper allocates what it allocates there.
    """
    with ExitStack() as stack:
        stack.enter_context(mock.patch("triton.runtime.jit.JITFunction.run", _not_launched))
        stack.enter_context(mock.patch("torch.cuda.get_device_capability", return_value=_CAPABILITY))
        # Autocast to bfloat16 asks whether there is a GPU.
        stack.enter_context(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False))
        stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", return_value=True))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Bindings())
        yield


def _not_launched(*args: Any, **kwargs: Any) -> None:
    """A plain function: a mock would remember its arguments, and keep them alive."""


def move(model: nn.Module) -> None:
    """Put a module on the GPU that is played; Module.to refuses fake tensors."""
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            module.register_parameter(name, nn.Parameter(torch.empty_like(weight, device="cuda"), requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty_like(buffer, device="cuda")


class _Bindings(TorchFunctionMode):
    """What Python's bindings ask the missing device for before the fake tensors are asked, by the operators behind them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.to and not args[0].is_cuda and any(_is_cuda(item) for item in (*args[1:], *kwargs.values())):
            return torch.empty(args[0].shape, dtype=_dtype_of(args, kwargs), device="cuda")
        if func is Tensor.new_tensor and args[0].is_cuda:
            return torch.empty(torch.tensor(args[1]).shape, dtype=kwargs.get("dtype", args[0].dtype), device="cuda")
        if func is Tensor.contiguous and args[0].is_cuda:
            return args[0] if args[0].is_contiguous() else aten.clone(args[0], memory_format=torch.contiguous_format)
        if func is Tensor.__invert__ and args[0].is_cuda:
            return aten.bitwise_not(args[0])
        if func is Tensor.__getitem__ and args[0].is_cuda:
            return _look_up(*args)
        if func is Tensor.__setitem__ and args[0].is_cuda:
            return _assign(*args)
        return func(*args, **kwargs)


def _is_cuda(item: Any) -> bool:
    if isinstance(item, Tensor):
        return item.is_cuda
    return isinstance(item, str | torch.device) and torch.device(item).type == "cuda"


def _dtype_of(args: Any, kwargs: Any) -> torch.dtype:
    given = (*args[1:], *kwargs.values())
    found = [item if isinstance(item, torch.dtype) else item.dtype for item in given if isinstance(item, torch.dtype | Tensor)]
    return found[0] if found else args[0].dtype


def _split(x: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """The view that an index's integers, slices and None take of x, and the tensors that it is then indexed by, if any."""
    items = list(index) if isinstance(index, tuple) else [index]
    taken = sum(
        1 if not isinstance(item, Tensor) or item.dtype != torch.bool else item.ndim for item in items if item is not None
    )
    if any(item is Ellipsis for item in items):
        place = next(number for number, item in enumerate(items) if item is Ellipsis)
        items[place : place + 1] = [slice(None)] * (x.ndim - taken + 1)
    tensors: list[Tensor | None] = []
    axis = 0
    for item in items:
        if item is None:
            x = aten.unsqueeze(x, axis)
        elif isinstance(item, slice):
            x = aten.slice(x, axis, item.start, item.stop, item.step or 1)
        elif isinstance(item, int):
            x = aten.select(x, axis, item)
            continue
        else:
            fancy = item if isinstance(item, Tensor) else torch.empty(len(item), dtype=torch.int64, device="cuda")
            tensors += [None] * (axis - len(tensors)) + [fancy]
        axis += 1
    return x, tensors


def _look_up(x: Tensor, index: Any) -> Tensor:
    view, tensors = _split(x, index)
    return aten.index(view, tensors) if tensors else view


def _assign(x: Tensor, index: Any, value: Any) -> None:
    view, tensors = _split(x, index)
    if tensors:
        aten.index_put_(view, tensors, value if isinstance(value, Tensor) else torch.empty((), dtype=x.dtype, device="cuda"))
    elif isinstance(value, Tensor):
        aten.copy_(view, value)
    else:
        aten.fill_(view, value)
