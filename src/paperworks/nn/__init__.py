"""Devices, number formats and modes of PyTorch modules."""

from paperworks.nn.devices import resolve_device, resolve_dtype
from paperworks.nn.modes import evaluation_mode, preserved_modes

__all__ = ["evaluation_mode", "preserved_modes", "resolve_device", "resolve_dtype"]
