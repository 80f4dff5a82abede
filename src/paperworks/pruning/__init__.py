"""What every method that prunes language models shares above the core: budgets in words, a common job, figures.

A paper's folder that prunes has a ``method.py`` with ``prune(job) -> Pruned``; ``paperworks compare-methods`` calls it.
Light to import: torch and transformers come with the first name that is used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "target": ("Target", "resolved"),
    "job": ("Pruned", "PruningJob"),
    "baselines": ("BASELINES",),
    "quality": ("measured", "quality_of", "size_of", "weights_bytes"),
    "recovery": ("recover",),
    "tables": ("before_and_after", "kept_widths_figure", "trajectory_figure"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
