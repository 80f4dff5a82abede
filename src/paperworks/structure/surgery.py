"""Cutting units out of a model: the weights get smaller, the function is that of the masked model.

Everything is checked before anything is changed. Weights are cut one at a time: at most one matrix exists twice.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.structure.cutting import ParameterReplacements, cut_module, follow, is_conv1d, kept_positions
from paperworks.structure.families import Family
from paperworks.structure.folding import fold_masks, scale_gains, scale_head_norms, scale_wide_norms
from paperworks.structure.layers_pruned import BLOCK_ENDS, apply_layer_widths, is_sparse, linear_at, norm_paths
from paperworks.structure.modeling_pruned import pruned_class
from paperworks.structure.plan import KeepPlan, Masks, name_of
from paperworks.structure.registry import check_config
from paperworks.structure.units import base_of, family_of, records_of, stream_width, units_of
from paperworks.structure.widths import kept_query_heads, record_after


def prune(
    model: Any,
    plan: KeepPlan,
    *,
    inplace: bool = True,
    fold: Masks | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    multiple_of: int | dict[str, int] = 1,
    min_units: int = 0,
    ffn_gate: Literal["intermediate", "gate_up"] = "intermediate",
) -> Any:
    """Remove what ``plan`` does not keep. Edits and returns ``model`` (or a copy), which becomes its pruned class.

    Parameters of the model are new objects afterwards, except those that nothing was cut from. A layer that is left
    without heads or without channels keeps its other half. A hidden cut gives RMS norms gain * sqrt(D / d) and
    eps * D / d, and LayerNorms the divisor D, so that the scale is that of the masked model.

    Parameters
    ----------
    model : a stock or pruned model of transformers, bare or with LoRA adapters of peft, which are cut with it.
    plan : for the model as it is now; several kinds at once are removed together.
    inplace : False leaves ``model`` as it is and returns a pruned copy.
    fold : soft mask values of kept units, multiplied into the weights first, at the places where ``masked`` applies
        them (``ffn_gate`` must be the same there).
    optimizer : its parameters and moments follow the surgery. Gradients are dropped.
    multiple_of, min_units : see ``KeepPlan.validate``.

    Raises
    ------
    InputError : an architecture, adapter, weight type or plan that cannot be cut. Nothing has been changed then.
    """
    check_prunable(model)
    family = family_of(model)
    _check_plan(model, family, plan, fold, multiple_of, min_units, ffn_gate)
    if not inplace:
        if optimizer is not None:
            raise InputError("inplace", False, "True where an optimizer is to follow")
        model = copy.deepcopy(model)
    base = base_of(model)
    kinds = {kind for _, kind in plan.kept} | {kind for _, kind in fold or {}}
    units = units_of(
        model,
        kinds,
        {layer for layer, _ in plan.kept if layer is not None}
        | {layer for layer, _ in fold or {} if layer is not None},
        ffn_gate=ffn_gate,
    )
    replaced = ParameterReplacements()
    with torch.no_grad():
        if fold:
            fold_masks(base, family, units, fold)
        records, width = _new_records(base, family, plan)
        old_width = stream_width(base)
        keep = kept_positions(base, units, plan)
        for path, sides in keep.items():
            cut_module(base, path, sides, replaced)
        _cut_streams(base, family, plan)
        if width != old_width:
            scale_gains(base, family, math.sqrt(old_width / width), norm_paths(base, family))
        scale_head_norms(base, family, records)
        scale_wide_norms(base, family, records)
        _remove_layers(base, family, plan, records)
        _adopt(base, family, records, width)
    if optimizer is not None:
        follow(optimizer, replaced, {id(p) for p in model.parameters()})
    return model


def check_prunable(model: Any) -> None:
    """Raise InputError for a model that cannot be cut: unknown, quantised, on the meta device, or oddly adapted."""
    base, family = base_of(model), family_of(model)
    if type(base).__name__ not in (family.model_class, pruned_class(family).__name__):
        raise InputError("model", type(base).__name__, f"{family.model_class}, whose every weight this knows")
    check_config(base.config, family)
    for name, parameter in base.named_parameters():
        if parameter.is_meta:
            raise InputError(name, "a parameter on the meta device", "weights in memory")
        if not parameter.is_floating_point() or parameter.element_size() < 2:
            raise InputError(name, f"weights of type {parameter.dtype}", "float16, bfloat16, float32 or float64")
    for name, module in base.named_modules():
        if not hasattr(module, "base_layer"):
            continue
        inner = module.base_layer
        if not hasattr(module, "lora_A") or not (isinstance(inner, nn.Linear) or is_conv1d(inner)):
            raise InputError(name, f"an adapter of type {type(module).__name__}", "LoRA on linear modules, or none")
        if len(getattr(module, "lora_magnitude_vector", ())):
            raise InputError(name, "DoRA", "LoRA without magnitudes: merge the adapter first")
        if getattr(module, "merged", False):
            raise InputError(name, "an adapter that is merged for now", "unmerge it, or merge_and_unload")


def _check_plan(
    model: Any, family: Family, plan: KeepPlan, fold: Masks | None, multiple_of: Any, min_units: int, ffn_gate: str
) -> None:
    plan.validate(model, multiple_of=multiple_of, min_units=min_units)
    records = records_of(model)
    has_ends = any(record[end] is not None for record in records for end in BLOCK_ENDS)
    cuts_ends = any(kind in BLOCK_ENDS for _, kind in plan.kept)
    if "hidden" in {kind for _, kind in plan.kept} and (has_ends or cuts_ends):
        raise InputError("plan[model/hidden]", "a model whose blocks read parts of the stream", "one of the two cuts")
    if cuts_ends and stream_width(model) != base_of(model).config.hidden_size:
        raise InputError("plan", "parts of a stream that was cut as a whole", "one of the two cuts")
    for key, mask in (fold or {}).items():
        name = f"fold[{name_of(key)}]"
        size = units_of(model, [key[1]], None if key[0] is None else [key[0]])[key].n_units
        if mask.shape != (size,):
            raise InputError(name, f"shape {tuple(mask.shape)}", f"({size},)")
        if not bool(torch.isfinite(mask).all()):
            raise InputError(name, "NaN or infinite values", "finite values")
        if key[1] in ("layer", "expert") and not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(
                name, "soft values", "0 or 1: a share of a whole layer or expert is not one of its weights"
            )
    left = kept_query_heads(records, plan)
    if not any(left):
        raise InputError("plan", "no layer with attention", "at least one layer that keeps a head")
    if 0 in left and family.kinds is not None:
        raise InputError("plan", "a layer without heads", f"at least one head in every layer of {family.model_type}")
    types = getattr(base_of(model).config, "layer_types", None)
    if types and len(set(types)) > 1 and 0 in left:
        raise InputError("plan", "a layer without heads among layers of several attention types", "at least one head")


def _new_records(base: Any, family: Family, plan: KeepPlan) -> tuple[list[dict[str, Any]], int]:
    records = [record_after(i, record, plan) for i, record in enumerate(records_of(base))]
    hidden = plan.kept.get((None, "hidden"))
    return records, stream_width(base) if hidden is None else len(hidden)


def _cut_streams(base: Any, family: Family, plan: KeepPlan) -> None:
    """Note which dimensions of the stream the blocks read and write from now on."""
    for (layer, kind), ids in plan.kept.items():
        if kind not in BLOCK_ENDS or len(ids) == plan.sizes[layer, kind]:
            continue
        path = family.core if kind.startswith("attention") else family.mlp
        module = base.get_submodule(f"{family.layers}.{layer}.{path}")
        name = "stream_reads" if kind.endswith("_in") else "stream_writes"
        index = torch.tensor(ids, device=next(module.parameters()).device)
        old = getattr(module, name, None)
        if hasattr(module, name):
            delattr(module, name)
        module.register_buffer(name, index if old is None else old[index])


def _remove_layers(base: Any, family: Family, plan: KeepPlan, records: list[dict[str, Any]]) -> None:
    kept = plan.kept.get((None, "layer"))
    if kept is None or len(kept) == len(records):
        return
    layers = base.get_submodule(family.layers)
    base.set_submodule(family.layers, nn.ModuleList([layers[i] for i in kept]))
    records[:] = [records[i] for i in kept]
    if family.experts is not None:
        sparse = [is_sparse(base.config, number) for number in kept]
        base.config.mlp_only_layers = [new for new, has in enumerate(sparse) if not has]
        base.config.decoder_sparse_step = 1
        base.config.first_k_dense_replace = 0
    for name, values in _per_layer(base.config, len(layers)).items():
        setattr(base.config, name, [values[i] for i in kept])
    if getattr(base.config, "scale_attn_by_inverse_layer_idx", False):
        _keep_scales(base, family, kept)


def _per_layer(config: Any, layers: int) -> dict[str, list[Any]]:
    """Settings that hold one value for every layer: kinds of attention, layers without positions, ..."""
    return {
        name: value
        for name, value in vars(config).items()
        if isinstance(value, list) and len(value) == layers and name != "layer_widths" and "token" not in name
    }


def _keep_scales(base: Any, family: Family, kept: tuple[int, ...]) -> None:
    """GPT-2's scores are divided by the number of the layer: what a new number changes goes into the queries."""
    for new, old in enumerate(kept):
        core = base.get_submodule(f"{family.layers}.{new}.{family.core}")
        matrix = linear_at(base, f"{family.layers}.{new}.{family.attention.inputs[0]}")
        queries = matrix.weight.shape[1] // 3
        factor = (new + 1) / (old + 1)
        matrix.weight[:, :queries].mul_(factor)
        matrix.bias[:queries].mul_(factor)
        core.scaling = core.scaling / factor


def _adopt(base: Any, family: Family, records: list[dict[str, Any]], width: int) -> None:
    """Make the model, whose weights have their sizes by now, an instance of its pruned class."""
    config = base.config
    model_class: Any = pruned_class(family)
    if type(base) is not model_class:
        if family.poolers:
            config.add_pooling_layer = getattr(base, "pooler", None) is not None
        config.__class__ = model_class.config_class
        config.architectures = [model_class.__name__]
        base.__class__ = model_class
    config.num_hidden_layers = len(records)
    config.layer_widths = records
    config.hidden_width = None if width == config.hidden_size else width
    apply_layer_widths(base, family)
