"""What the layers of a model have after a plan."""

from __future__ import annotations

from typing import Any

from paperworks.structure.layers_pruned import BLOCK_ENDS
from paperworks.structure.plan import KeepPlan


def kept_query_heads(records: list[dict[str, Any]], plan: KeepPlan) -> list[int]:
    """Query heads of every layer that a plan keeps."""
    layers = plan.kept.get((None, "layer"), range(len(records)))
    return [record_after(i, records[i], plan)["heads"] for i in layers]


def record_after(number: int, record: dict[str, Any], plan: KeepPlan) -> dict[str, Any]:
    """The record of layer ``number`` after a plan."""
    found = dict(record)
    groups, heads = plan.kept.get((number, "kv_group")), plan.kept.get((number, "q_head"))
    if groups is not None or heads is not None:
        size = record["heads"] // record["kv_heads"] if record["kv_heads"] else 1
        groups = tuple(range(record["kv_heads"])) if groups is None else groups
        chosen = range(record["heads"]) if heads is None else heads
        found["heads"] = sum(h // size in set(groups) for h in chosen) if groups else 0
        found["kv_heads"] = len(groups) if found["heads"] else 0
    if (number, "ffn") in plan.kept:
        found["ffn"] = len(plan.kept[number, "ffn"])
    if (number, "v_channel") in plan.kept and len(plan.kept[number, "v_channel"]) < plan.sizes[number, "v_channel"]:
        found["v"] = len(plan.kept[number, "v_channel"])
    ids = plan.kept.get((number, "qk_pair"))
    if ids is not None and len(ids) < plan.sizes[number, "qk_pair"]:
        found["qk"] = list(ids) if record["qk"] is None else [record["qk"][i] for i in ids]
    if (number, "expert") in plan.kept:
        found["experts"] = len(plan.kept[number, "expert"])
    if (number, "expert_channel") in plan.kept:
        found["expert_channels"] = len(plan.kept[number, "expert_channel"]) // record["experts"]
    for end in BLOCK_ENDS:
        if (number, end) in plan.kept and len(plan.kept[number, end]) < plan.sizes[number, end]:
            found[end] = len(plan.kept[number, end])
    return found
