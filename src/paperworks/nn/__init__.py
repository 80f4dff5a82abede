"""Devices, number formats and modes of PyTorch modules, and checkpoints that are loaded as they are or not at all."""

from paperworks.nn.devices import resolve_device, resolve_dtype
from paperworks.nn.loading import load_strict, stored_dtype
from paperworks.nn.modes import evaluation_mode, preserved_modes

__all__ = [
    "evaluation_mode",
    "load_strict",
    "preserved_modes",
    "resolve_device",
    "resolve_dtype",
    "stored_dtype",
]
