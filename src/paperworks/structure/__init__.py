"""The prunable structure of a transformer: its units, masks and scores, cuts, changes of its stream, saving, counting.

Light to import: torch and transformers come with the first name that is used.
"""

# ruff: noqa: F401 - names that type checkers see; at run time __getattr__ brings each when it is first used
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paperworks.structure.activations import ActivationMoments, ReadChannels, activation_scores, read_channels
    from paperworks.structure.budgets import Cost, count, exact_fill, solve_ratio
    from paperworks.structure.calibration import ChannelMoments, LayerContexts, SecondMoment, StreamStore, TokenBatches
    from paperworks.structure.checkpoints import CheckpointReader, FolderWeights, LiveWeights, save_model
    from paperworks.structure.compensation import add_output_biases, compensate
    from paperworks.structure.cost import StreamCost, cost_of
    from paperworks.structure.export import per_layer_config, stock_config, uniform_export
    from paperworks.structure.families import FAMILIES, Block, Family
    from paperworks.structure.gates import HardConcrete, StraightThroughGumbel
    from paperworks.structure.masks import masked
    from paperworks.structure.plan import KeepPlan
    from paperworks.structure.registry import (
        check_config,
        check_model,
        read_config,
        register_spec,
        skeleton_of,
        spec_for,
    )
    from paperworks.structure.scores import LayerChange, TaylorScores, magnitude_scores, random_scores
    from paperworks.structure.stream import cuts_of, fold_norms, rotate, slice_stream
    from paperworks.structure.streamed import (
        LayerStream,
        StreamedScores,
        layer_stream_bytes,
        streamed_scores,
        streamed_taylor,
    )
    from paperworks.structure.surgery import check_prunable, prune
    from paperworks.structure.units import KINDS, Gate, IndexMap, Slice, Units, UnitSet, kinds_of, records_of, units_of

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


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULE:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
