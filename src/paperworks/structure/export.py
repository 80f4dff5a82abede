"""What form a pruned model can be stored in: the stock architecture where it is uniform, its own record elsewhere."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from paperworks.errors import InputError
from paperworks.structure.export_experts import common_record, width_keys, with_even_channels
from paperworks.structure.families import Family, stock_classes
from paperworks.structure.layers_pruned import (
    ALIGNED,
    BLOCK_ENDS,
    head_size,
    kept_pairs,
    linear_at,
    norm_paths,
    rotary_pairs,
    trained_record,
)
from paperworks.structure.modeling_pruned import pruned_class
from paperworks.structure.units import base_of, family_of, records_of, stream_width

HEADS_FIXED_BY_WIDTH = ("gpt2", "opt", "bert", "gpt_neox", "bloom", "falcon", "stablelm", "helium", "olmo2")
"""Stock classes whose heads cannot change in number: their width is taken from hidden size and number of heads, or a
norm over all of them has an eps of its own afterwards."""


UNEQUAL = "layers of equal widths (uniform_export makes them so)"


def stock_config(model: Any) -> Any | None:
    """The plain configuration that describes a pruned model, or None where the stock class cannot have its shape.

    All layers must be equal, and what is left must be whole heads, feed-forward channels and, behind RMS norms,
    dimensions of the stream. ``LlamaConfig`` wants a hidden size that is a multiple of its heads.
    """
    found = _stock(model)
    return None if isinstance(found, str) else found


def _stock(model: Any) -> Any:
    """The plain configuration of a pruned model, or, in words, what the stock class would need."""
    base, family, records = base_of(model), family_of(model), records_of(model)
    first, config = common_record(records), base.config
    if first is None or not first["heads"] or (not first["ffn"] and "sparse" not in first):
        return UNEQUAL
    if any(first[name] is not None for name in ("qk", "v", *BLOCK_ENDS)):
        return "whole heads, and blocks that read and write the whole stream (uniform_export fills them up)"
    channels = first.get("sparse", {}).get("expert_channels", 0)
    if channels % ALIGNED and channels != getattr(config, family.experts.width_key if family.experts else "", None):
        return f"channels of experts in multiples of {ALIGNED} (uniform_export fills them up)"
    made = plain_config(config, family, first, stream_width(model))
    if isinstance(made, str):
        return made
    with torch.device("meta"):
        skeleton = stock_classes(family)[1](made, **_pooling(base))
    shapes = [{name: p.shape for name, p in m.named_parameters()} for m in (base, skeleton)]
    return made if shapes[0] == shapes[1] else f"the parameters of {family.model_class}, without others beside them"


def plain_config(config: Any, family: Family, record: dict[str, Any], width: int) -> Any:
    """The stock configuration with the widths of ``record`` in every layer and a stream of ``width`` dimensions.

    Where the stock class does not take them: in words, what it would need.
    """
    trained = trained_record(config, family)
    heads_changed = (record["heads"], record["kv_heads"]) != (trained["heads"], trained["kv_heads"])
    if width != config.hidden_size and (family.norm != "rms" or family.qk_norms or family.gain_offset):
        return f"a stream of {config.hidden_size} dimensions: the norms of {family.model_type} have no other"
    if heads_changed and family.model_type in HEADS_FIXED_BY_WIDTH:
        return f"{trained['heads']} heads: {family.config_class} takes their width from their number"
    stock_class, _ = stock_classes(family)
    fields = _plain(config)
    keys = {"num_attention_heads": record["heads"], **width_keys(family, record)}
    if "num_key_value_heads" in fields:
        keys["num_key_value_heads"] = record["kv_heads"]
    if heads_changed or width != config.hidden_size:
        keys |= {"head_dim": head_size(config, family), "hidden_size": width}
        if width != config.hidden_size:
            keys["rms_norm_eps"] = config.rms_norm_eps * config.hidden_size / width
    for name, value in keys.items():
        fields[stock_class.attribute_map.get(name, name)] = value
    fields["architectures"] = [family.model_class]
    try:
        made = stock_class(**fields)
        types = getattr(config, "layer_types", None)
        if types and list(getattr(made, "layer_types", types)) != list(types):
            made = stock_class(**fields, layer_types=list(types))  # they do not follow from the layers' numbers
    except (ValueError, TypeError, StrictDataclassError) as error:  # what it does not accept, it refuses by itself
        if width % record["heads"]:
            return f"a number of heads that divides the hidden size {width}, as {family.config_class} asks for"
        return f"what {family.config_class} accepts: {error}"
    return made


def uniform_shape(model: Any, groups: int, width: int, ffn: int) -> tuple[dict[str, Any], int]:
    """The smallest shape of the stock class with so many key-value groups, dimensions and channels at least.

    Returns the record of every layer and the width of the stream. The dense shape is always one.
    """
    base, family, records = base_of(model), family_of(model), records_of(model)
    config = base.config
    trained = trained_record(config, family)
    size = max((record["heads"] // record["kv_heads"] for record in records if record["kv_heads"]), default=1)
    found = []
    for number in range(groups, trained["kv_heads"] + 1):
        heads = number * size
        widths = {width, -(-width // heads) * heads, config.hidden_size}
        for wide in sorted(w for w in widths if width <= w <= config.hidden_size):
            record = {**trained, "heads": heads, "kv_heads": number, "ffn": ffn}
            if not isinstance(plain_config(config, family, record, wide), str):
                rows = 2 * (heads + number) * head_size(config, family) + 3 * ffn
                found.append((wide * rows, number, wide, record))
                break
    if not found:
        return {**trained, "ffn": ffn}, config.hidden_size
    _, _, wide, record = min(found, key=lambda entry: entry[:3])
    return record, wide


def _plain(config: Any) -> dict[str, Any]:
    """The fields of a configuration without those that only ours have."""
    fields = config.to_dict()
    for name in (
        "layer_widths",
        "hidden_width",
        "added_biases",
        "auto_map",
        "model_type",
        "add_pooling_layer",
        "transformers_version",
        "layer_types" if len(set(fields.get("layer_types") or [0])) == 1 else "",
    ):
        fields.pop(name, None)
    return fields


def _refuse_added_biases(config: Any) -> None:
    added = getattr(config, "added_biases", None)
    if added:
        raise InputError(
            "added_biases", added, "none: a stock class has no place for them (save the model with its code)"
        )


def _pooling(base: Any) -> dict[str, bool]:
    return {"add_pooling_layer": False} if getattr(base, "pooler", False) is None else {}


def as_stock(model: Any, config: Any | None = None) -> Any:
    """The same weights in an instance of the stock class (shared, not copied).

    Raises InputError where there is no plain configuration for them.
    """
    config = _stock(model) if config is None else config
    if isinstance(config, str):
        raise InputError("level", "stock", f"{config}; or level 'code'")
    base, family = base_of(model), family_of(model)
    _, stock_class = stock_classes(family)
    with torch.device("meta"):
        stock = stock_class(copy.deepcopy(config), **_pooling(base))
    stock.load_state_dict(base.state_dict(), strict=False, assign=True)
    stock.tie_weights()
    owners = dict(base.named_modules())
    for name, module in stock.named_modules():
        for leaf, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:  # buffers that no checkpoint holds: rotary frequencies, position ids
                setattr(module, leaf, getattr(owners[name], leaf))
    stock.generation_config = getattr(base, "generation_config", None)
    return stock.train(base.training)


def per_layer_config(model: Any) -> dict[int, dict[str, int]]:
    """The widths as ``per_layer_config`` of transformers: {layer: {field: value}}, with the fields that differ.

    For architectures that read it (as of transformers 5.23: Gemma-4, Step-3.7 and others, not the families here).

    Raises InputError for what that format has no word for: a part of the stream, of the rotary pairs, or of the values
    alone.
    """
    family, records, config = family_of(model), records_of(model), base_of(model).config
    _refuse_added_biases(config)
    found: dict[int, dict[str, int]] = {}
    for number, record in enumerate(records):
        odd = [name for name in ("qk", "v", *BLOCK_ENDS) if record[name] is not None]
        if odd:
            raise InputError(f"layer_widths[{number}].{odd[0]}", record[odd[0]], "None: whole heads and channels only")
        trained = trained_record(config, family, number)
        names = {"heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "ffn": "intermediate_size"}
        changes = {word: record[name] for name, word in names.items() if record[name] != trained[name]}
        if changes:
            found[number] = changes
    return found


def uniform_export(model: Any, mode: Literal["max", "round"] = "max", *, multiple_of: int = 1) -> Any:
    """A model of the stock class that computes the same: narrower layers are filled up with units of zeros.

    Rotary pairs, value channels and ends of blocks that were cut are filled up to what they were trained with. The
    stream and the number of key-value groups are filled up to the least that the stock class accepts (``LlamaConfig``
    wants a hidden size that is a multiple of its heads; LayerNorms want the trained one).

    Parameters
    ----------
    model : a stock or pruned model without adapters.
    mode : ``max`` gives every layer the largest widths that any layer has; ``round`` also rounds the feed-forward up to
        ``multiple_of`` (and to no more than it was trained with, where that is less).
    multiple_of : of feed-forward channels, such as 64 or 128 for tensor-parallel serving; needs ``round``.

    Returns
    -------
    a new model; the weights are copies. Where the widths agree with those trained, so does the configuration.

    Raises
    ------
    InputError : adapters that are not merged, or biases that the stock class has no place for.
    """
    if mode not in ("max", "round"):
        raise InputError("mode", mode, "max or round")
    if multiple_of < 1 or (multiple_of > 1 and mode == "max"):
        raise InputError("multiple_of", multiple_of, "1, or more with mode 'round'")
    base, family, records = base_of(model), family_of(model), records_of(model)
    if base is not model:
        raise InputError("model", type(model).__name__, "merged adapters (merge_and_unload)")
    config = base.config
    _refuse_added_biases(config)
    if family.experts is not None:
        return copy.deepcopy(as_stock(with_even_channels(model, multiple_of)))
    trained = trained_record(config, family)
    groups = max(record["kv_heads"] for record in records)
    if family.model_type in HEADS_FIXED_BY_WIDTH:
        groups = trained["kv_heads"]
    ffn = max(max(record["ffn"] for record in records), 1)
    if mode == "round":
        ffn = -(-ffn // multiple_of) * multiple_of
        ffn = trained["ffn"] if ffn > trained["ffn"] and trained["ffn"] % multiple_of == 0 else ffn
    uniform, width = uniform_shape(model, max(groups, 1), stream_width(model), ffn)
    wide = skeleton_with(model, uniform, width)
    weights = _padded_stream(base, family, wide, stream_width(model), width)
    for number, record in enumerate(records):
        weights |= _padded_layer(base, family, number, record, uniform, wide)
    norm_names = [name for name, _ in wide.named_parameters() if name not in weights]
    weights |= {name: base.get_parameter(name) for name in norm_names}
    wide.load_state_dict({n: t.detach().clone() for n, t in weights.items()}, strict=False, assign=True)
    wide.tie_weights()
    owners = dict(base.named_modules())
    for name, module in wide.named_modules():
        for leaf, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                setattr(module, leaf, getattr(owners[name], leaf).clone())
    wide.generation_config = getattr(base, "generation_config", None)
    return as_stock(wide.train(base.training))


def skeleton_with(model: Any, record: dict[str, Any], width: int) -> Any:
    """The pruned class of a model with ``record`` in every layer and a stream of ``width``, on the meta device."""
    base, family = base_of(model), family_of(model)
    made = copy.deepcopy(base.config)
    made.__class__ = pruned_class(family).config_class
    made.layer_widths = [dict(record) for _ in records_of(model)]
    made.hidden_width = None if width == made.hidden_size else width
    with torch.device("meta"):
        return pruned_class(family)(made, **_pooling(base))


def _padded_stream(base: Any, family: Family, wide: Any, old: int, new: int) -> dict[str, torch.Tensor]:
    """What lies outside the layers, and all norms over the stream, with zeros in the dimensions from ``old`` on.

    An RMS norm over more dimensions gets gain * sqrt(old / new): its eps is that of the new width.
    """
    found = {name: value for name, value in base.state_dict().items() if not name.startswith(f"{family.layers}.")}
    if new == old:
        return found
    shapes = {name: parameter.shape for name, parameter in wide.named_parameters(remove_duplicate=False)}
    norms = {f"{path}.{leaf}" for path in norm_paths(base, family) for leaf in ("weight", "bias")}
    stored = dict(base.named_parameters(remove_duplicate=False))
    for name in {*found, *norms} & stored.keys() & shapes.keys():
        part = stored[name].detach()
        if part.shape == shapes[name]:
            found[name] = part
            continue
        larger = part.new_zeros(shapes[name])
        larger[tuple(slice(n) for n in part.shape)] = part
        found[name] = larger * math.sqrt(old / new) if name in norms and family.norm == "rms" else larger
    return found


def _padded_layer(
    base: Any, family: Family, number: int, old: dict[str, Any], new: dict[str, Any], wide: Any
) -> dict[str, torch.Tensor]:
    """Every matrix of a layer, laid into zeros of the uniform size."""
    config = base.config
    hd, pairs = head_size(config, family), rotary_pairs(config, family)
    width = stream_width(base)
    prefix = f"{family.layers}.{number}."
    turned, _ = kept_pairs(old, config, family)
    if old["qk"] is None:
        channels = torch.arange(hd)
    else:
        ids = torch.tensor(old["qk"])
        first, still = ids[:turned], ids[turned:] - pairs + 2 * pairs
        channels = torch.cat([first, first + pairs, still])
    values = torch.arange(hd if old["v"] is None else old["v"])
    group = old["heads"] // old["kv_heads"] if old["kv_heads"] else 0
    new_group = new["heads"] // new["kv_heads"]
    heads = torch.tensor([k * new_group + g for k in range(old["kv_heads"]) for g in range(group)], dtype=torch.int64)
    kv_heads = torch.arange(old["kv_heads"])

    def rows(which: torch.Tensor, inner: torch.Tensor, offset: int = 0) -> torch.Tensor:
        return (which[:, None] * hd + inner[None, :]).flatten() + offset

    query, key, value = rows(heads, channels), rows(kv_heads, channels), rows(kv_heads, values)
    if family.by_group:
        each = (new_group + 2) * hd
        starts = heads // new_group * each + heads % new_group * hd
        query = (starts[:, None] + channels[None, :]).flatten()
        key = (kv_heads[:, None] * each + new_group * hd + channels[None, :]).flatten()
        value = (kv_heads[:, None] * each + (new_group + 1) * hd + values[None, :]).flatten()
        order = torch.arange(len(query) + len(key) + len(value))
        parts = [part.view(len(kv_heads), -1) for part in (query, key, value)] if len(kv_heads) else []
        outputs = [torch.cat(parts, 1).flatten() if parts else order]
    elif len(family.attention.inputs) == 1:
        key = key + new["heads"] * hd
        value = value + (new["heads"] + new["kv_heads"]) * hd
        outputs = [torch.cat([query, key, value])]
    else:
        outputs = [query, key, value]
    core = base.get_submodule(prefix + family.core)
    mlp = base.get_submodule(prefix + family.mlp) if family.mlp else None
    ends = {
        "attention_in": getattr(core, "stream_reads", None),
        "attention_out": getattr(core, "stream_writes", None),
        "feed_forward_in": getattr(mlp, "stream_reads", None),
        "feed_forward_out": getattr(mlp, "stream_writes", None),
    }
    whole = torch.arange(width)
    places = {name: whole if index is None else index.cpu() for name, index in ends.items()}
    ffn = torch.arange(old["ffn"])
    gate_up = torch.cat([ffn, ffn + new["ffn"]]) if family.fused_gate_up else ffn
    laid: list[tuple[str, torch.Tensor, torch.Tensor]] = [
        (path, index, places["attention_in"]) for path, index in zip(family.attention.inputs, outputs, strict=True)
    ]
    laid.append((family.attention.outputs[0], places["attention_out"], rows(heads, values)))
    laid += [(path, gate_up, places["feed_forward_in"]) for path in family.feed_forward.inputs]
    laid.append((family.feed_forward.outputs[0], places["feed_forward_out"], ffn))
    found: dict[str, torch.Tensor] = {}
    for path, out_index, in_index in laid:
        module, target = linear_at(base, prefix + path), wide.get_submodule(prefix + path)
        found |= {f"{prefix}{path}.{leaf}": t for leaf, t in _laid(module, target, out_index, in_index).items()}
    if old["qk"] is not None:
        for path in family.qk_norms:
            cut: Any = base.get_submodule(prefix + path).weight
            whole_gain = cut.new_zeros(hd)
            whole_gain[channels.to(cut.device)] = cut.detach() * math.sqrt(len(channels) / hd)
            found[f"{prefix}{path}.weight"] = whole_gain
    for path, part in zip(family.wide_qk_norms, ("heads", "kv_heads"), strict=False):
        stored: Any = base.get_submodule(prefix + path).weight
        gains = stored.new_zeros(new[part] * hd)
        gains[: len(stored)] = stored.detach() * math.sqrt(max(old[part], 1) / new[part])
        found[f"{prefix}{path}.weight"] = gains
    return found


def _laid(module: nn.Module, target: nn.Module, out_index: torch.Tensor, in_index: torch.Tensor) -> dict[str, Any]:
    old: Any = module
    device = old.weight.device
    rows, columns = (in_index, out_index) if hasattr(module, "nf") else (out_index, in_index)
    weight = old.weight.new_zeros(target.weight.shape)  # type: ignore[arg-type]
    weight[rows.to(device)[:, None], columns.to(device)[None, :]] = old.weight.detach()
    found = {"weight": weight}
    if old.bias is not None:
        found["bias"] = old.bias.new_zeros(weight.shape[1] if hasattr(module, "nf") else weight.shape[0])
        found["bias"][out_index.to(device)] = old.bias.detach()
    return found
