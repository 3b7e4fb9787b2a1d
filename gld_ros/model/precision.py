"""Which parts may run in 16 bits.

Statistics, the depth and ray head, and the time embedding carry ``keep_fp32``; cameras and PRoPE matrices are
computed in float64 and applied in fp32; norms keep fp32 sums. Everything else follows the chosen type.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gld_ros.errors import GldError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_ALIASES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
VOLTA, AMPERE, ORIN = (7, 0), (8, 0), (8, 7)  # CUDA compute capabilities
Module = TypeVar("Module", bound=nn.Module)


def dtype_named(name: str) -> torch.dtype:
    """fp32, bf16 or fp16 (or torch's long names). Raises GldError on anything else."""
    dtype = DTYPES.get(_ALIASES.get(name, name))
    if dtype is None:
        raise GldError(f"dtype is {name!r}, must be one of {', '.join(DTYPES)}")
    return dtype


def dtype_for(device: torch.device, precision: str = "auto") -> torch.dtype:
    """The type a network computes in: as named, or with ``auto`` what the device is good at, fp32 off CUDA."""
    if precision != "auto":
        return dtype_named(precision)
    if device.type != "cuda":
        return torch.float32
    return dtype_of_capability(torch.cuda.get_device_capability(device))


def dtype_of_capability(capability: tuple[int, int]) -> torch.dtype:
    """fp16 on Jetson Orin (8.7) and on what is older than Ampere, bf16 on other GPUs, fp32 without tensor cores.

    Orin multiplies both at the same rate, and fp16 keeps three more bits; a result that overflows is refused.
    """
    if capability == ORIN:
        return torch.float16
    if capability >= AMPERE:
        return torch.bfloat16
    return torch.float16 if capability >= VOLTA else torch.float32


def upload(x: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; to a GPU through page-locked memory, so that the CPU goes on while it is under way."""
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def cast(module: Module, dtype: torch.dtype) -> Module:
    """Convert in place all but what must stay fp32; returns the module."""
    kept = fp32_names(module)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float32 if name in kept else dtype)
    return module


def fp32_names(module: nn.Module, prefix: str = "") -> set[str]:
    """Names of parameters and buffers that stay fp32."""
    if getattr(module, "keep_fp32", False):
        return {prefix + name for name in module.state_dict()}
    names: set[str] = set()
    for child_name, child in module.named_children():
        names |= fp32_names(child, f"{prefix}{child_name}.")
    return names


def no_autocast(device_type: str) -> AbstractContextManager[None]:
    """Within, a training loop's autocast does not apply; the meta device has none."""
    return nullcontext() if device_type == "meta" else torch.autocast(device_type, enabled=False)


@contextmanager
def full_fp32(device_type: str) -> Iterator[None]:
    """Within, fp32 means fp32: no autocast, and no TF32, which GPUs use in convolutions unless told otherwise."""
    switches: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = False
        with no_autocast(device_type):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
