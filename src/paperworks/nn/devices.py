"""Devices and number formats by name."""

from __future__ import annotations

import torch

from paperworks.errors import InputError

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float64": torch.float64,
}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``auto`` is the first CUDA device, else Apple's GPU, else the CPU.

    Raises InputError for a name that PyTorch does not know, or a device that this machine does not have.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError(
            "device", repr(device), "auto, cpu, cuda, cuda:1, mps or another that this machine has"
        ) from error
    return found


def resolve_dtype(dtype: str | torch.dtype | None, default: torch.dtype = torch.float32) -> torch.dtype:
    """The floating-point format of that name (float32, bfloat16, float16, float64); None or ``auto`` is the default."""
    if dtype is None or dtype == "auto":
        return default
    if isinstance(dtype, torch.dtype):
        if not dtype.is_floating_point:
            raise InputError("dtype", dtype, "a floating-point format")
        return dtype
    if dtype not in _DTYPES:
        raise InputError("dtype", dtype, f"one of auto, {', '.join(_DTYPES)}")
    return _DTYPES[dtype]
