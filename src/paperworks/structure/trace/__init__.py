"""To make any torch module smaller: traced into groups of units, scored, planned, cut, counted and saved.

    groups = analyze(model, torch.randn(2, 3, 64, 64))
    print(groups)
    plan = ranked_plan(groups, magnitude_scores(model, groups.units), macs=0.5)
    smaller = cut(groups, plan)
    save_cut(smaller, "smaller")

``magnitude_scores``, ``TaylorScores`` and ``random_scores`` of ``paperworks.structure`` score traced units too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.structure.trace.algebra import Reason, Value
    from paperworks.structure.trace.analysis import TracedGroups, analyze
    from paperworks.structure.trace.attention import PrunableMultiheadAttention, prunable_attention
    from paperworks.structure.trace.cost import CostModel, Polynomial, TracedCost
    from paperworks.structure.trace.cutting import cut
    from paperworks.structure.trace.deployment import Latency, export_onnx, measure_latency
    from paperworks.structure.trace.groups import Blocked, TracedGroup
    from paperworks.structure.trace.positions import mask_model, masked_outputs
    from paperworks.structure.trace.ranking import ranked_plan
    from paperworks.structure.trace.saving import load_cut, save_cut
    from paperworks.structure.trace.selftest import Verdict, verify
    from paperworks.structure.trace.walk import Walk
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Blocked",
    "CostModel",
    "Latency",
    "Polynomial",
    "PrunableMultiheadAttention",
    "Reason",
    "TracedCost",
    "TracedGroup",
    "TracedGroups",
    "Value",
    "Verdict",
    "Walk",
    "analyze",
    "cut",
    "export_onnx",
    "load_cut",
    "mask_model",
    "masked_outputs",
    "measure_latency",
    "prunable_attention",
    "ranked_plan",
    "save_cut",
    "verify",
]
