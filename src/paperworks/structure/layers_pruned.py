"""Modules of stock layers at other widths: how their weights are resized, and what their forwards then need.

Most stock modules work at any width once their attributes say so; they stay what they are. Attention has a forward of
its own only where queries and values differ in width, where a layer has no heads or reads a part of the stream, or
where the stock code takes the number of heads from the configuration (Phi-3): see ``attention_pruned.py``.

This file depends on torch and transformers only and is saved with every checkpoint.
"""

# mypy: disable-error-code="misc, attr-defined, union-attr, assignment, arg-type, call-overload, index, operator"
# Stock modules have no declared types.
from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .attention_pruned import ATTENTION_CLASSES, MLP_CLASSES, EmptyConv1D, PartNorm
from .family import Block, Experts, Family
from .layers_sliced import give_bias, set_weight

ALIGNED = 8
"""Channels of experts are multiples of this wherever matrices of 16 bits are multiplied in groups (16 bytes a row)."""
BLOCK_ENDS = ("attention_in", "attention_out", "feed_forward_in", "feed_forward_out")


def trained_record(config: Any, family: Family, number: int = 0) -> dict[str, Any]:
    """The record of layer ``number`` of the model as it was trained."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, family.kv_key, None) if family.kv_key else None
    width = getattr(config, family.width_key, None) if family.width_key else None
    record = {
        "heads": heads,
        "kv_heads": kv_heads or heads,
        "ffn": width or 4 * config.hidden_size,
        "qk": None,
        "v": None,
        **dict.fromkeys(BLOCK_ENDS),
    }
    return (
        record if family.experts is None else record | _trained_experts(config, family.experts, number, record["ffn"])
    )


def _trained_experts(config: Any, experts: Experts, number: int, dense: int) -> dict[str, int]:
    if not is_sparse(config, number):
        return {"ffn": dense, "experts": 0, "expert_channels": 0}
    shared = math.prod(getattr(config, key) for key in experts.shared_keys) if experts.shared else 0
    counted = {"experts": experts.count_key, "expert_channels": experts.width_key}
    return {"ffn": shared, **{name: getattr(config, key) for name, key in counted.items()}}


def is_sparse(config: Any, number: int) -> bool:
    """Whether layer ``number`` of a model with experts has them: some families have dense layers among the others."""
    if number in (getattr(config, "mlp_only_layers", None) or ()):
        return False
    if number < (getattr(config, "first_k_dense_replace", None) or 0):
        return False
    return (number + 1) % (getattr(config, "decoder_sparse_step", None) or 1) == 0


def feed_forward_of(family: Family, record: dict[str, Any]) -> Block | None:
    """The feed-forward of a layer that every token goes through, or None where there are only experts."""
    return family.experts.shared if family.experts and record["experts"] else family.feed_forward


def head_size(config: Any, family: Family) -> int:
    """Channels of a trained head."""
    given = getattr(config, family.head_key, None) if family.head_key else None
    return given or config.hidden_size // config.num_attention_heads


def rotary_pairs(config: Any, family: Family) -> int:
    """How many pairs of channels of a trained head are turned by its positions."""
    if not family.rotary:
        return 0
    share = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    return int(head_size(config, family) * share) // 2


def kept_pairs(record: dict[str, Any], config: Any, family: Family) -> tuple[int, int]:
    """Rotary pairs and channels that are not turned, as many as a query head of the layer still has."""
    pairs = rotary_pairs(config, family)
    if record["qk"] is None:
        return pairs, head_size(config, family) - 2 * pairs
    turned = sum(unit < pairs for unit in record["qk"])
    return turned, len(record["qk"]) - turned


def head_dims(record: dict[str, Any], config: Any, family: Family) -> tuple[int, int]:
    """Channels of a query (and key) head, and of a value head."""
    if getattr(config, "kv_lora_rank", None):  # keys of two parts, made of a latent vector
        return config.qk_nope_head_dim + config.qk_rope_head_dim, config.v_head_dim
    turned, still = kept_pairs(record, config, family)
    return 2 * turned + still, head_size(config, family) if record["v"] is None else record["v"]


def has_heads(family: Family) -> bool:
    """Whether heads of the family can be cut: otherwise its attention stays as it is."""
    return family.kinds is None or "kv_group" in family.kinds


def linear_at(module: nn.Module, path: str) -> Any:
    """The module at ``path``, without the adapter around it."""
    found = module.get_submodule(path)
    return getattr(found, "base_layer", found)


def resize_model(model: nn.Module, family: Family) -> None:
    """Give a freshly built stock model new, empty weights of the sizes of ``config.layer_widths``."""
    config = model.config
    width = config.hidden_width or config.hidden_size
    for layer, record in zip(model.get_submodule(family.layers), config.layer_widths, strict=True):
        qk, v = head_dims(record, config, family)
        heads, kv_heads, ffn = record["heads"], record["kv_heads"], record["ffn"]
        for path in config.added_biases or ():
            give_bias(layer.get_submodule(path))
        rows = [heads * qk, kv_heads * qk, kv_heads * v]
        if has_heads(family):
            reads = record["attention_in"] or width
            sizes = rows if len(family.attention.inputs) == 3 else [sum(rows)]
            for path, size in zip(family.attention.inputs, sizes, strict=True):
                _resize(layer.get_submodule(path), size, reads)
            _resize(layer.get_submodule(family.attention.outputs[0]), record["attention_out"] or width, heads * v)
        block = feed_forward_of(family, record)
        for path in block.inputs if block else ():
            _resize(
                layer.get_submodule(path), ffn * (2 if family.fused_gate_up else 1), record["feed_forward_in"] or width
            )
        for path in block.outputs if block else ():
            _resize(layer.get_submodule(path), record["feed_forward_out"] or width, ffn)
        if family.experts and record["experts"]:
            _resize_experts(layer, family.experts, record)
        for path in family.head_parameters:
            owner, _, leaf = path.rpartition(".")
            old = layer.get_parameter(path)
            setattr(layer.get_submodule(owner), leaf, nn.Parameter(old.new_empty(heads)))
        for path in family.qk_norms:
            norm = layer.get_submodule(path)
            norm.weight = nn.Parameter(norm.weight.new_empty(qk))
        for path, size in zip(family.wide_qk_norms, rows, strict=False):
            norm = layer.get_submodule(path)
            norm.weight = nn.Parameter(norm.weight.new_empty(size))
    if width != config.hidden_size:
        for path in family.embeddings:
            table = model.get_submodule(path)
            set_weight(table, table.weight.new_empty(table.num_embeddings, width))
        for path in [family.head] if family.head else []:
            _resize(model.get_submodule(path), model.get_submodule(path).out_features, width)
        for path in family.poolers:
            if getattr(model, path.split(".")[0], None) is not None:
                _resize(model.get_submodule(path), model.get_submodule(path).out_features, width)
        for path in norm_paths(model, family):
            norm = model.get_submodule(path)
            norm.weight = nn.Parameter(norm.weight.new_empty(width))
            if getattr(norm, "bias", None) is not None:
                norm.bias = nn.Parameter(norm.bias.new_empty(width))


def _resize_experts(layer: nn.Module, experts: Experts, record: dict[str, Any]) -> None:
    number, channels = record["experts"], record["expert_channels"]
    router, matrices = layer.get_submodule(experts.router), layer.get_submodule(experts.matrices)
    for name in ("weight", "bias"):
        old = getattr(router, name, None)
        if old is not None:
            setattr(router, name, nn.Parameter(old.new_empty(number, *old.shape[1:])))
    for name, old in list(matrices.named_parameters(recurse=False)):
        shape = [number, *old.shape[1:]]
        axis = expert_axis(experts, name)
        if axis:
            shape[axis] = channels * (2 if name.startswith("gate_up") else 1)
        setattr(matrices, name, nn.Parameter(old.new_empty(shape)))


def expert_axis(experts: Experts, name: str) -> int:
    """Along which axis of a parameter of the experts their channels lie; 0 where it has none (down's bias)."""
    if name.endswith("_bias"):
        return 1 if name.startswith("gate_up") else 0
    return (1 if experts.transposed else 2) if name.startswith("down") else (2 if experts.transposed else 1)


def _set_expert_widths(layer: nn.Module, experts: Experts, record: dict[str, Any]) -> None:
    router, matrices = layer.get_submodule(experts.router), layer.get_submodule(experts.matrices)
    router.num_experts = matrices.num_experts = record["experts"]
    name = "intermediate_size" if hasattr(matrices, "intermediate_size") else "intermediate_dim"
    setattr(matrices, name, record["expert_channels"])


def _resize(module: Any, outputs: int, inputs: int) -> None:
    shape = (inputs, outputs) if hasattr(module, "nf") else (outputs, inputs)
    bias = None if module.bias is None else module.bias.new_empty(outputs)
    set_weight(module, module.weight.new_empty(shape), bias)


def norm_paths(model: nn.Module, family: Family) -> list[str]:
    """Paths of all norms over the stream."""
    paths = [path for path in (family.embedding_norm, family.final_norm) if path]
    for index in range(len(model.get_submodule(family.layers))):
        for block in family.blocks:
            paths.append(f"{family.layers}.{index}.{block.norm}")
    return paths


def apply_layer_widths(model: nn.Module, family: Family) -> None:
    """Bring every attribute and class of the model's modules in line with ``config.layer_widths``.

    Weights are not touched: they have their sizes already.
    """
    config = model.config
    place = 0
    for index, (layer, record) in enumerate(zip(model.get_submodule(family.layers), config.layer_widths, strict=True)):
        core = layer.get_submodule(family.core)
        if has_heads(family):
            _set_attention_widths(core, family, record, config)
        if hasattr(layer, "layer_idx"):
            layer.layer_idx = index
        if getattr(core, "layer_idx", None) is not None:
            # layers without attention keep nothing in the cache, whose first layer tells how long it is
            core.layer_idx = place
        place += record["heads"] > 0
        block = feed_forward_of(family, record)
        if family.experts and record["experts"]:
            _set_expert_widths(layer, family.experts, record)
        for path in (*family.attention.outputs, *(block.outputs if block else ())):
            output = linear_at(layer, path)
            if getattr(output, "nx", 1) == 0:
                output.__class__ = EmptyConv1D
        ends = (record["feed_forward_in"], record["feed_forward_out"])
        if family.mlp and ends != (None, None):
            mlp = layer.get_submodule(family.mlp)
            mlp.__class__ = MLP_CLASSES[family.model_type]
            _set_end_widths(mlp, ends, config)
        for path in family.qk_norms:
            if record["qk"] is not None:
                qk = head_dims(record, config, family)[0]
                _set_eps(layer.get_submodule(path), config.rms_norm_eps * head_size(config, family) / qk)
        if family.wide_qk_norms:
            trained = trained_record(config, family)
            for path, part in zip(family.wide_qk_norms, ("heads", "kv_heads"), strict=True):
                _set_eps(layer.get_submodule(path), config.rms_norm_eps * trained[part] / max(record[part], 1))
    if config.hidden_width is not None:
        for path in norm_paths(model, family):
            norm = model.get_submodule(path)
            if family.norm == "rms":
                _set_eps(norm, config.rms_norm_eps * config.hidden_size / config.hidden_width)
            elif not isinstance(norm, PartNorm):
                model.set_submodule(path, PartNorm(config.hidden_size, norm.eps, norm.weight, norm.bias))
    if any(record.get("expert_channels", 0) % ALIGNED for record in config.layer_widths):
        config._experts_implementation_internal = "eager"  # one expert after the other
    config.num_hidden_layers = len(config.layer_widths)


def _set_attention_widths(core: Any, family: Family, record: dict[str, Any], config: Any) -> None:
    heads, kv_heads = record["heads"], record["kv_heads"]
    qk, v = head_dims(record, config, family)
    if hasattr(core, "num_key_value_groups"):
        core.num_key_value_groups = heads // kv_heads if kv_heads else 1
    for name, value in (
        ("num_heads", heads),
        ("num_attention_heads", heads),
        ("num_key_value_heads", kv_heads),
        ("num_kv_heads", kv_heads),
        ("all_head_size", heads * v),
        ("split_size", heads * qk),
    ):
        if hasattr(core, name):
            setattr(core, name, value)
    ends = (record["attention_in"], record["attention_out"])
    stock = record["qk"] is None and record["v"] is None and heads and ends == (None, None)
    if family.model_type == "phi3":
        stock = stock and (heads, kv_heads) == (config.num_attention_heads, config.num_key_value_heads)
    if stock:
        return
    core.__class__ = ATTENTION_CLASSES[family.model_type]
    core.num_key_value_groups = heads // kv_heads if kv_heads else 1
    core.head_counts, core.head_widths = (heads, kv_heads), (qk, v)
    pairs = rotary_pairs(config, family)
    core.turned = None if record["qk"] is None else tuple(unit for unit in record["qk"] if unit < pairs)
    _set_end_widths(core, ends, config)


def _set_end_widths(module: Any, ends: tuple[int | None, int | None], config: Any) -> None:
    module.stream_width = config.hidden_size
    device = next(module.parameters()).device
    for name, size in zip(("stream_reads", "stream_writes"), ends, strict=True):
        if getattr(module, name, None) is None:
            # which dimensions they are is loaded, or set by the surgery
            buffer = None if size is None else torch.arange(size, device=device)
            if hasattr(module, name):
                delattr(module, name)
            module.register_buffer(name, buffer)


def _set_eps(norm: Any, eps: float) -> None:
    setattr(norm, "variance_epsilon" if hasattr(norm, "variance_epsilon") else "eps", eps)
