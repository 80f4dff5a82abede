"""The options of a pruning call, checked, and what tells one call from another."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from paperworks.errors import InputError
from paperworks.papers.adapt_pruner.importance import REDUCTIONS, TAYLOR_MODES
from paperworks.pruning.target import Target
from paperworks.structure import Units, check_prunable, kinds_of, units_of
from paperworks.structure.units import base_of, family_of, records_of

Part = Literal["attention", "mlp"]
KIND_OF = {"attention": "kv_group", "mlp": "ffn"}


def one_of(field: str, value: object, names: Sequence[str]) -> None:
    """Raise InputError unless ``value`` is a function or one of ``names``."""
    if not callable(value) and value not in names:
        raise InputError(field, repr(value), f"one of {', '.join(names)}")


def check_amounts(target: int | str | None, ratio: float | None, steps: int, amplitude: float) -> None:
    """Raise InputError for a budget that says nothing, or numbers out of bounds."""
    if target is None and ratio is None:
        raise InputError("target", None, "a number of parameters, or a ratio")
    if isinstance(target, str):
        Target.parse(target)
    elif target is not None and target < 1:
        raise InputError("target", target, "1 parameter or more")
    if ratio is not None and not (0 < ratio < 1 or (ratio == 1 and target is not None)):
        raise InputError("ratio", ratio, "a share above 0 and below 1 (1 where target ends the pruning)")
    if steps < 1:
        raise InputError("steps", steps, "1 or more")
    if not (math.isfinite(amplitude) and amplitude >= 0):
        raise InputError("amplitude", amplitude, "0 or a positive number")


def check_choices(layer_importance: Any, normalise: Any, unit_importance: Any, taylor: Any, reduction: Any) -> None:
    """Raise InputError for a name that no option has."""
    one_of("layer_importance", layer_importance, ("cosine", "euclidean", "manhattan"))
    one_of("unit_importance", unit_importance, ("taylor", "l1", "l2", "random"))
    for field, value, names in (
        ("normalise", normalise, ("max", "zscore", "rank")),
        ("taylor", taylor, TAYLOR_MODES),
        ("reduction", reduction, REDUCTIONS),
    ):
        if value not in names:
            raise InputError(field, repr(value), f"one of {', '.join(names)}")


def check_model(model: Any, needs_gradients: bool) -> None:
    """Raise InputError for a model that cannot be pruned by a next-token loss."""
    check_prunable(model)
    family, base = family_of(model), base_of(model)
    if not family.head:
        raise InputError("model", f"{family.model_type}, an encoder", "a causal language model")
    dtype = next(base.parameters()).dtype
    if needs_gradients and dtype == torch.float16:
        raise InputError("model", "float16 weights, whose gradients under- or overflow", "float32 or bfloat16")


def sets_to_prune(model: Any, parts: Sequence[str], layers: Sequence[int] | None) -> Units:
    """The KV-head groups and FFN channels that may go, as they are now. Sets without units are left out."""
    if not parts or any(part not in KIND_OF for part in parts):
        raise InputError("prune", list(parts), "attention, mlp or both")
    kinds = [KIND_OF[part] for part in dict.fromkeys(parts)]
    possible = kinds_of(model)
    if "ffn" in kinds and "expert" in possible:
        kinds = ["expert" if kind == "ffn" and "ffn" not in possible else kind for kind in kinds]
        kinds += ["expert"] if "expert" not in kinds else []
    for part, kind in KIND_OF.items():
        if kind in kinds and kind not in possible:
            able = [other for other, units in KIND_OF.items() if units in possible]
            raise InputError("prune", f"{part}, which this family cannot lose", ", ".join(able) or "another model")
    found = units_of(model, kinds, layers)
    return Units(unit_set for unit_set in found.values() if unit_set.n_units)


def widths(model: Any) -> tuple[list[int], list[int]]:
    """KV groups and FFN channels of every layer; of a layer that has experts alone, its experts."""
    records = records_of(model)
    ffn = [record["ffn"] or record.get("experts", 0) for record in records]
    return [record["kv_heads"] for record in records], ffn


def experts_of(model: Any) -> list[int]:
    """Experts of every layer; 0 where it has none."""
    return [record.get("experts", 0) for record in records_of(model)]


def head_dims_of(units: Units) -> dict[int, int]:
    """Channels of a key head by layer (rows of k for one group)."""
    found = {}
    for (layer, kind), unit_set in units.items():
        if kind == "kv_group" and layer is not None:
            weights = [piece for piece in unit_set.slices if not piece.param.endswith(".bias")]
            # the narrowest member of a group: its one key head, not its query heads
            found[layer] = min(int((piece.index.table[0] >= 0).sum()) for piece in weights)
    return found


def weights_fingerprint(model: Any) -> str:
    """A digest of a sample of every weight."""
    digest = hashlib.sha256()
    for name, parameter in base_of(model).named_parameters():
        sample = parameter.detach().flatten()[:512].double().cpu().numpy()
        digest.update(name.encode() + str(tuple(parameter.shape)).encode() + sample.tobytes())
    return digest.hexdigest()
