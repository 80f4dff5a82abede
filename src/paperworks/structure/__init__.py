"""The prunable structure of a transformer: its units, masks and scores, cuts, changes of its stream, saving, counting.

Light to import: torch and transformers come with the first name that is used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "families": ("FAMILIES", "Block", "Family"),
    "registry": ("check_config", "check_model", "read_config", "register_spec", "skeleton_of", "spec_for"),
    "stream": ("cuts_of", "fold_norms", "rotate", "slice_stream"),
    "activations": ("ActivationMoments", "ReadChannels", "activation_scores", "read_channels"),
    "streamed": ("LayerStream", "StreamedScores", "layer_stream_bytes", "streamed_scores", "streamed_taylor"),
    "compensation": ("add_output_biases", "compensate"),
    "calibration": ("ChannelMoments", "LayerContexts", "SecondMoment", "StreamStore", "TokenBatches"),
    "checkpoints": ("CheckpointReader", "FolderWeights", "LiveWeights", "save_model"),
    "units": ("Gate", "IndexMap", "KINDS", "Slice", "UnitSet", "Units", "kinds_of", "records_of", "units_of"),
    "plan": ("KeepPlan",),
    "surgery": ("check_prunable", "prune"),
    "masks": ("masked",),
    "gates": ("HardConcrete", "StraightThroughGumbel"),
    "export": ("per_layer_config", "stock_config", "uniform_export"),
    "scores": ("LayerChange", "TaylorScores", "magnitude_scores", "random_scores"),
    "budgets": ("Cost", "count", "exact_fill", "solve_ratio"),
    "cost": ("StreamCost", "cost_of"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
