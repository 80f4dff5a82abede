"""Cutting units out of a model: the weights get smaller, the function is that of the masked model.

Everything is checked before anything is changed. Weights are cut one at a time: at most one matrix exists twice.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.structure.families import Family
from paperworks.structure.layers_pruned import BLOCK_ENDS, dress_model, linear_at, norm_paths, rotary_pairs
from paperworks.structure.modeling_pruned import pruned_class
from paperworks.structure.plan import KeepPlan, Masks, name_of
from paperworks.structure.registry import check_config
from paperworks.structure.selection import select
from paperworks.structure.units import Units, base_of, family_of, records_of, stream_width, units_of

Cuts = list[tuple[int, torch.Tensor]]
ADAM_STATE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


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
    replaced = _Replaced()
    with torch.no_grad():
        if fold:
            _fold(base, family, units, fold)
        records, width = _new_records(base, family, plan)
        old_width = stream_width(base)
        keep = _kept_positions(base, units, plan)
        for path, sides in keep.items():
            _cut_module(base, path, sides, replaced)
        _cut_streams(base, family, plan)
        if width != old_width:
            _scale_gains(base, family, math.sqrt(old_width / width), norm_paths(base, family))
        _scale_head_norms(base, family, records)
        _scale_wide_norms(base, family, records)
        _remove_layers(base, family, plan, records)
        _adopt(base, family, records, width)
    if optimizer is not None:
        _follow(optimizer, replaced, {id(p) for p in model.parameters()})
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
        if not hasattr(module, "lora_A") or not (isinstance(inner, nn.Linear) or _is_conv1d(inner)):
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
        if key[1] == "layer" and not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(name, "soft values", "0 or 1: what a layer adds depends on its attention's share")
    left = left_heads(records, plan)
    if not any(left):
        raise InputError("plan", "no layer with attention", "at least one layer that keeps a head")
    if 0 in left and family.kinds is not None:
        raise InputError("plan", "a layer without heads", f"at least one head in every layer of {family.model_type}")
    types = getattr(base_of(model).config, "layer_types", None)
    if types and len(set(types)) > 1 and 0 in left:
        raise InputError("plan", "a layer without heads among layers of several attention types", "at least one head")


def left_heads(records: list[dict[str, Any]], plan: KeepPlan) -> list[int]:
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
    for end in BLOCK_ENDS:
        if (number, end) in plan.kept and len(plan.kept[number, end]) < plan.sizes[number, end]:
            found[end] = len(plan.kept[number, end])
    return found


def _new_records(base: Any, family: Family, plan: KeepPlan) -> tuple[list[dict[str, Any]], int]:
    records = [record_after(i, record, plan) for i, record in enumerate(records_of(base))]
    hidden = plan.kept.get((None, "hidden"))
    return records, stream_width(base) if hidden is None else len(hidden)


def _kept_positions(base: Any, units: Units, plan: KeepPlan) -> dict[str, dict[str, dict[int, torch.Tensor]]]:
    """Module, parameter, axis: a boolean mask of the positions that stay. Several kinds may share an axis."""
    found: dict[str, dict[str, dict[int, torch.Tensor]]] = defaultdict(lambda: defaultdict(dict))
    for key, ids in plan.kept.items():
        unit_set = units[key]
        gone = sorted(set(range(unit_set.n_units)) - set(ids))
        if not gone:
            continue
        gone_ids = torch.tensor(gone)
        for piece in unit_set.slices:
            leaf = piece.param.rpartition(".")[2]
            axes = found[piece.module][leaf]
            if piece.axis not in axes:
                size = getattr(linear_at(base, piece.module), leaf).shape[piece.axis]
                axes[piece.axis] = torch.ones(size, dtype=torch.bool)
            axes[piece.axis][piece.index.positions(gone_ids)] = False
    return found


def _cut_module(
    base: Any,
    path: str,
    leaves: dict[str, dict[int, torch.Tensor]],
    replaced: _Replaced,
) -> None:
    outer = base.get_submodule(path)
    module = linear_at(base, path)
    for leaf, axes in leaves.items():
        old = getattr(module, leaf)
        cuts = [(axis, mask.nonzero().flatten()) for axis, mask in axes.items()]
        setattr(module, leaf, _smaller(old, cuts, replaced))
    _set_sizes(module)
    if outer is not module:
        weight_axes = leaves["weight"]
        axis_of_input = 0 if _is_conv1d(module) else 1
        for matrices, side, axis in ((outer.lora_A, axis_of_input, 1), (outer.lora_B, 1 - axis_of_input, 0)):
            if side in weight_axes:
                for adapter in matrices.values():
                    adapter.weight = _smaller(adapter.weight, [(axis, weight_axes[side].nonzero().flatten())], replaced)
                    _set_sizes(adapter)
        outer.in_features, outer.out_features = _features(module)


def _smaller(
    old: nn.Parameter,
    cuts: Cuts,
    replaced: _Replaced,
) -> nn.Parameter:
    before = replaced.find(old)
    if before is not None:  # tied: cut once
        return before[0]
    # the axis that leaves least goes first: the second selection then copies little
    cuts = sorted(cuts, key=lambda cut: len(cut[1]) / old.shape[cut[0]])
    new = nn.Parameter(_select(old.detach(), cuts), requires_grad=old.requires_grad)
    replaced.add(old, new, cuts)
    return new


def _select(tensor: torch.Tensor, cuts: Cuts) -> torch.Tensor:
    for axis, index in cuts:
        tensor = select(tensor, axis, index)
    return tensor


class _Replaced:
    """Which parameter stands in the place of which. The old ones are not kept alive: memory is freed as it goes."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[weakref.ref[nn.Parameter], nn.Parameter, Cuts]] = {}

    def add(self, old: nn.Parameter, new: nn.Parameter, cuts: Cuts) -> None:
        self._found[id(old)] = (weakref.ref(old), new, cuts)

    def find(self, old: nn.Parameter) -> tuple[nn.Parameter, Cuts] | None:
        reference, new, cuts = self._found.get(id(old), (None, None, None))
        # another parameter may have come to live where a freed one was
        if reference is None or reference() is not old or new is None or cuts is None:
            return None
        return new, cuts


def _is_conv1d(module: Any) -> bool:
    return hasattr(module, "nf")


def _features(module: Any) -> tuple[int, int]:
    rows, columns = module.weight.shape
    return (rows, columns) if _is_conv1d(module) else (columns, rows)


def _set_sizes(module: Any) -> None:
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif _is_conv1d(module):
        module.nx, module.nf = module.weight.shape
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)


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


def _scale_gains(base: Any, family: Family, factor: float, paths: list[str]) -> None:
    """gain <- gain * sqrt(D / d) for RMS norms over fewer dimensions; LayerNorms get their divisor instead."""
    if family.norm != "rms":
        return
    for path in paths:
        norm = base.get_submodule(path)
        gain = (norm.weight.double() + family.gain_offset) * factor - family.gain_offset
        norm.weight.copy_(gain)


def _scale_head_norms(base: Any, family: Family, records: list[dict[str, Any]]) -> None:
    if not family.qk_norms:
        return
    for number, (old, new) in enumerate(zip(records_of(base), records, strict=True)):
        if old["qk"] != new["qk"]:
            before = base.config.head_dim if old["qk"] is None else _channels_of(base, family, old)
            factor = math.sqrt(before / _channels_of(base, family, new))
            _scale_gains(base, family, factor, [f"{family.layers}.{number}.{path}" for path in family.qk_norms])


def _scale_wide_norms(base: Any, family: Family, records: list[dict[str, Any]]) -> None:
    """A norm over the heads that are left keeps the scale that it had with the others as zeros."""
    for number, (old, new) in enumerate(zip(records_of(base), records, strict=True)):
        for path, part in zip(family.wide_qk_norms, ("heads", "kv_heads"), strict=False):
            if new[part] and old[part] != new[part]:
                _scale_gains(base, family, math.sqrt(old[part] / new[part]), [f"{family.layers}.{number}.{path}"])


def _channels_of(base: Any, family: Family, record: dict[str, Any]) -> int:
    pairs = rotary_pairs(base.config, family)
    return sum(2 if unit < pairs else 1 for unit in record["qk"])


def _remove_layers(base: Any, family: Family, plan: KeepPlan, records: list[dict[str, Any]]) -> None:
    kept = plan.kept.get((None, "layer"))
    if kept is None or len(kept) == len(records):
        return
    layers = base.get_submodule(family.layers)
    base.set_submodule(family.layers, nn.ModuleList([layers[i] for i in kept]))
    records[:] = [records[i] for i in kept]
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
    dress_model(base, family)


def _fold(base: Any, family: Family, units: Units, fold: Masks) -> None:
    hidden = fold.get((None, "hidden"))
    tables, head = base.get_submodule(family.embeddings[0]), base.get_submodule(family.head) if family.head else None
    if hidden is not None and head is not None and head.weight is tables.weight:
        # the head is scaled with the embedding that it is tied to: the norm in front of it makes up for that
        norm = base.get_submodule(family.final_norm)
        share = torch.where(hidden == 0, 1, hidden).to(norm.weight.device, torch.float64)
        norm.weight.copy_((norm.weight.double() + family.gain_offset) / share - family.gain_offset)
        if getattr(norm, "bias", None) is not None:
            norm.bias.copy_(norm.bias.double() / share)
    done: set[tuple[int, str]] = set()
    for key, mask in fold.items():
        if key[1] == "layer":
            continue
        for gate in (*units[key].gates, *units[key].couplings):
            outer, module = base.get_submodule(gate.module), linear_at(base, gate.module)
            for tensor, axis in _folded(outer, module, gate.side):
                mark = (id(tensor), f"{key}{axis}{gate.index.table[0, 0]}")
                if mark in done:  # tied
                    continue
                done.add(mark)
                size = tensor.shape[axis]
                value = torch.cat([mask.detach().double().cpu(), torch.ones(1, dtype=torch.float64)])
                factor = value[gate.index.owner(size)].to(tensor.device)
                tensor.copy_(tensor.double() * (factor if axis == tensor.ndim - 1 else factor[:, None]))


def _folded(outer: Any, module: Any, side: str) -> Iterator[tuple[torch.Tensor, int]]:
    weight = module.weight
    if weight.ndim == 1 or isinstance(module, nn.Embedding):
        yield weight, weight.ndim - 1
    else:
        yield weight, int((side == "in") != _is_conv1d(module))
    if side == "out" and getattr(module, "bias", None) is not None:
        yield module.bias, 0
    if outer is not module:
        for adapter in (outer.lora_A if side == "in" else outer.lora_B).values():
            yield adapter.weight, 1 if side == "in" else 0


def _follow(
    optimizer: torch.optim.Optimizer,
    replaced: _Replaced,
    present: set[int],
) -> None:
    """Put the new parameters in the place of the old, with their moments cut alike; removed layers leave."""
    for group in optimizer.param_groups:
        parameters = []
        for old in group["params"]:
            new, cuts = replaced.find(old) or (old, [])
            if id(new) not in present:
                optimizer.state.pop(old, None)
                continue
            if new is not old and old in optimizer.state:
                state = optimizer.state.pop(old)
                optimizer.state[new] = {
                    name: _select(value, cuts) if name in ADAM_STATE and value is not None else value
                    for name, value in state.items()
                }
            parameters.append(new)
        group["params"] = parameters
