"""What every method that prunes language models shares above the core: budgets in words, a common job, figures.

A paper's folder that prunes has a ``method.py`` with ``prune(job) -> Pruned``; ``paperworks compare-methods`` calls it.
Light to import: torch and transformers come with the first name that is used.
"""

# ruff: noqa: F401 - names that type checkers see; at run time __getattr__ brings each when it is first used
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paperworks.pruning.architecture import architecture_of, lora_targets
    from paperworks.pruning.baselines import BASELINES
    from paperworks.pruning.job import Pruned, PruningJob
    from paperworks.pruning.quality import measured, quality_of
    from paperworks.pruning.recovery import recover
    from paperworks.pruning.size import size_of, weights_bytes
    from paperworks.pruning.tables import before_and_after, kept_widths_figure, trajectory_figure
    from paperworks.pruning.target import Target, resolved

_HOME = {
    "target": ("Target", "resolved"),
    "job": ("Pruned", "PruningJob"),
    "baselines": ("BASELINES",),
    "architecture": ("architecture_of", "lora_targets"),
    "quality": ("measured", "quality_of"),
    "size": ("size_of", "weights_bytes"),
    "recovery": ("recover",),
    "tables": ("before_and_after", "kept_widths_figure", "trajectory_figure"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULE:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
