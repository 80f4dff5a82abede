"""The prunable structure of a transformer: its units, masks and scores, cuts, changes of its stream, saving, counting.

Transformers have records (``units_of``, ``prune``). Any other torch module is traced (``analyze``, ``cut``; the rest is
in ``paperworks.structure.trace``). Light to import: torch and transformers come with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.structure.activations import ActivationMoments, ReadChannels, activation_scores, read_channels
    from paperworks.structure.budgets import Cost, count, exact_fill, solve_ratio
    from paperworks.structure.calibration import (
        ActivationStore,
        ChannelMoments,
        LayerContexts,
        SecondMoment,
        TokenBatches,
    )
    from paperworks.structure.checkpoints import CheckpointReader, FolderWeights, LiveWeights, save_model
    from paperworks.structure.compensation import add_output_biases, compensate
    from paperworks.structure.compose import stock_folder
    from paperworks.structure.cost import StreamCost, cost_of
    from paperworks.structure.export import per_layer_config, stock_config, uniform_export
    from paperworks.structure.families import FAMILIES, Block, Family
    from paperworks.structure.gates import HardConcrete, StraightThroughGumbel
    from paperworks.structure.layerwise import (
        LayerwiseRunner,
        LayerwiseScores,
        layerwise_memory_bytes,
        layerwise_scores,
    )
    from paperworks.structure.layerwise_gradients import layerwise_taylor
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
    from paperworks.structure.residual_stream import cuts_of, fold_norms, rotate, slice_stream
    from paperworks.structure.scores import LayerChange, TaylorScores, magnitude_scores, random_scores
    from paperworks.structure.surgery import check_prunable, prune
    from paperworks.structure.trace.analysis import TracedGroups, analyze
    from paperworks.structure.trace.cutting import cut
    from paperworks.structure.trace.ranking import ranked_plan
    from paperworks.structure.trace.saving import load_cut, save_cut
    from paperworks.structure.uniform import uniform_within
    from paperworks.structure.units import KINDS, Gate, IndexMap, Slice, Units, UnitSet, kinds_of, records_of, units_of
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "FAMILIES",
    "KINDS",
    "ActivationMoments",
    "ActivationStore",
    "Block",
    "ChannelMoments",
    "CheckpointReader",
    "Cost",
    "Family",
    "FolderWeights",
    "Gate",
    "HardConcrete",
    "IndexMap",
    "KeepPlan",
    "LayerChange",
    "LayerContexts",
    "LayerwiseRunner",
    "LayerwiseScores",
    "LiveWeights",
    "ReadChannels",
    "SecondMoment",
    "Slice",
    "StraightThroughGumbel",
    "StreamCost",
    "TaylorScores",
    "TokenBatches",
    "TracedGroups",
    "UnitSet",
    "Units",
    "activation_scores",
    "add_output_biases",
    "analyze",
    "check_config",
    "check_model",
    "check_prunable",
    "compensate",
    "cost_of",
    "count",
    "cut",
    "cuts_of",
    "exact_fill",
    "fold_norms",
    "kinds_of",
    "layerwise_memory_bytes",
    "layerwise_scores",
    "layerwise_taylor",
    "load_cut",
    "magnitude_scores",
    "masked",
    "per_layer_config",
    "prune",
    "random_scores",
    "ranked_plan",
    "read_channels",
    "read_config",
    "records_of",
    "register_spec",
    "rotate",
    "save_cut",
    "save_model",
    "skeleton_of",
    "slice_stream",
    "solve_ratio",
    "spec_for",
    "stock_config",
    "stock_folder",
    "uniform_export",
    "uniform_within",
    "units_of",
]
