"""Units as index algebra: which positions of which parameters belong to unit u of a kind, for every layer.

Everything else (scores, masks, surgery, counts, optimiser state, adapters) is derived from these lists. In PyTorch's
layout (weights [out, in]), with G query heads per key-value head and hd channels per head:

- ``ffn``: rows u of gate and up, column u of down;
- ``kv_group``: a key-value head with its G query heads: rows of q, k, v, columns of o;
- ``q_head``: one query head; every group of a layer must keep equally many;
- ``qk_pair``: channels (j, j + half) of every query and key head of a layer, and their rotary frequency; channels that
  positions do not turn are units of one channel;
- ``v_channel``: channel j of every value head of a layer, and the columns of o that read it;
- ``hidden``: one dimension of the stream, in the whole model;
- ``attention_in``, ``attention_out``, ``feed_forward_in``, ``feed_forward_out``: one dimension of the stream, as one
  block reads or writes it (``stream_in`` and ``stream_out`` of a block);
- ``layer``: a whole layer;
- ``expert``: a whole expert of a layer, with its row of the router;
- ``expert_channel``: one channel of one expert; every expert of a layer must keep equally many.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch

from paperworks.errors import InputError
from paperworks.structure.families import EXPERT_UNITS, FAMILIES, Family
from paperworks.structure.layers_pruned import (
    BLOCK_ENDS,
    expert_axis,
    feed_forward_of,
    head_dims,
    kept_pairs,
    linear_at,
    norm_paths,
    trained_record,
)
from paperworks.structure.registry import NOT_SLICED, spec_for
from paperworks.structure.unit_sets import Gate, IndexMap, Key, Side, Slice, Units, UnitSet

__all__ = [
    "GROUPED",
    "KINDS",
    "LAYER_KINDS",
    "MODEL_KINDS",
    "Gate",
    "IndexMap",
    "Key",
    "Slice",
    "UnitSet",
    "Units",
    "base_of",
    "family_of",
    "kinds_of",
    "records_of",
    "slices_of",
    "stream_width",
    "units_of",
]

LAYER_KINDS = ("ffn", "kv_group", "q_head", "qk_pair", "v_channel", *BLOCK_ENDS, *EXPERT_UNITS)
GROUPED = ("q_head", "expert_channel")
"""Kinds whose units form groups (key-value heads, experts) that must keep equally many."""
MODEL_KINDS = ("hidden", "layer")
KINDS = (*LAYER_KINDS, *MODEL_KINDS)


def base_of(model: Any) -> Any:
    """The model of transformers inside an adapter's wrapper (or the model itself)."""
    return model.get_base_model() if type(model).__module__.startswith("peft.") else model


def family_of(model: Any) -> Family:
    """The family of a stock or pruned model or configuration. Raises InputError for any other."""
    config = getattr(base_of(model), "config", model)
    kind = str(getattr(config, "model_type", ""))
    if kind.startswith("pruned_"):
        return FAMILIES[kind.removeprefix("pruned_")]
    if kind.startswith("sliced_"):
        raise InputError("model", kind, NOT_SLICED)
    return spec_for(config)


def records_of(model: Any) -> list[dict[str, Any]]:
    """Per layer: heads, channels and widths as they are now (see ``PrunedConfig.layer_widths``); a copy."""
    config = base_of(model).config
    if getattr(config, "layer_widths", None):
        return [dict(record) for record in config.layer_widths]
    return [trained_record(config, family_of(model), number) for number in range(config.num_hidden_layers)]


def stream_width(model: Any) -> int:
    """How many dimensions the stream of the model has now."""
    config = base_of(model).config
    return getattr(config, "hidden_width", None) or config.hidden_size


def kinds_of(model: Any) -> tuple[str, ...]:
    """The kinds of units that a model of this family has."""
    family, config = family_of(model), base_of(model).config
    kinds = [kind for kind in KINDS if (kind not in EXPERT_UNITS if family.kinds is None else kind in family.kinds)]
    if family.experts and "ffn" in kinds and not any(feed_forward_of(family, record) for record in records_of(model)):
        kinds.remove("ffn")
    if not family.mlp:
        kinds = [kind for kind in kinds if kind not in BLOCK_ENDS]
    if getattr(config, "qk_layernorm", False):
        kinds.remove("qk_pair")
    if family.model_type == "gemma":
        kinds.remove("hidden")  # the embeddings are scaled by the root of the configured width
    return tuple(kinds)


def units_of(
    model: Any,
    kinds: Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    *,
    ffn_gate: Literal["intermediate", "gate_up"] = "intermediate",
) -> Units:
    """The units of a model as it is now; nothing is traced and no weight is read (the meta device will do).

    Parameters
    ----------
    model : a stock or pruned model of transformers, or one with LoRA adapters of peft.
    kinds : of ``KINDS``; None means ``ffn`` and ``kv_group``.
    layers : numbers of layers; None means all.
    ffn_gate : where a mask over feed-forward channels acts: on the product that down reads, or on gate and up in front
        of the activation (Compresso); a plain feed-forward always has the former.

    Raises
    ------
    InputError : an unknown architecture, kind or layer, or a kind that the family does not have.
    """
    base, family = base_of(model), family_of(model)
    wanted = ("ffn", "kv_group") if kinds is None else tuple(kinds)
    possible = kinds_of(model)
    for kind in wanted:
        if kind not in possible:
            raise InputError("kinds", kind, f"for {family.model_type} one of {', '.join(possible)}")
    records = records_of(model)
    chosen = range(len(records)) if layers is None else sorted(set(layers))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < len(records):
        raise InputError("layers", list(chosen), f"numbers from 0 to {len(records) - 1}")
    sets: list[UnitSet] = []
    for number in chosen:
        reader = _LayerReader(base, family, number, records[number], ffn_gate)
        sets += [reader.unit_set(kind) for kind in wanted if kind in LAYER_KINDS and reader.has(kind)]
    if "hidden" in wanted:
        sets.append(_hidden(base, family, records))
    if "layer" in wanted:
        gates = [Gate(f"{family.layers}.{i}", "out", _single(1)) for i in range(len(records))]
        sets.append(UnitSet(None, "layer", len(records), (), tuple(gates)))
    return Units(sets)


def _single(n: int, offset: int = 0) -> IndexMap:
    return IndexMap(torch.arange(offset, offset + n)[:, None])


def _blocks(n: int, size: int, offset: int = 0) -> IndexMap:
    return IndexMap(torch.arange(n * size).view(n, size) + offset)


def _channels(channels: torch.Tensor, heads: int, width: int, offset: int = 0) -> IndexMap:
    """``channels`` [n, c] of one head (-1: none), repeated for all heads: [n, heads * c]."""
    table = channels[:, None, :] + (torch.arange(heads) * width)[None, :, None] + offset
    table = torch.where(channels[:, None, :] >= 0, table, -1)
    return IndexMap(table.reshape(len(channels), -1))


class _LayerReader:
    def __init__(self, base: Any, family: Family, number: int, record: dict[str, Any], ffn_gate: str) -> None:
        self.base, self.family, self.number, self.record = base, family, number, record
        self.prefix = f"{family.layers}.{number}."
        self.ffn_gate = ffn_gate
        self.qk, self.v = head_dims(record, base.config, family)

    def has(self, kind: str) -> bool:
        """Whether the layer has the part whose units these are: of a model with experts, some layers have none."""
        if kind == "ffn":
            return feed_forward_of(self.family, self.record) is not None
        return kind not in EXPERT_UNITS or bool(self.record["experts"])

    def unit_set(self, kind: str) -> UnitSet:
        if kind in EXPERT_UNITS:
            return self._expert_units(kind)
        members, gates, n, groups, *more = getattr(self, "_ends" if kind in BLOCK_ENDS else f"_{kind}")(kind)
        slices: list[Slice] = []
        for path, side, index in members:
            slices += self._slices(path, side, index)
        if kind in ("kv_group", "q_head"):
            size = self.record["heads"] // n if n else 1
            for path in self.family.head_parameters:
                slices.append(Slice(self.prefix + path, 0, _blocks(n, size)))
        made = tuple(Gate(self.prefix + path, side, index) for path, side, index in gates)
        coupled = tuple(Gate(self.prefix + path, side, index) for path, side, index in (more[0] if more else ()))
        return UnitSet(self.number, kind, n, tuple(slices), made, groups, couplings=coupled)

    def _slices(self, path: str, side: Side, index: IndexMap) -> list[Slice]:
        return slices_of(self.base, self.prefix + path, side, index)

    def _projections(self) -> list[tuple[str, int]]:
        """Paths of query, key and value, and where their rows start."""
        inputs, heads, kv_heads = self.family.attention.inputs, self.record["heads"], self.record["kv_heads"]
        if len(inputs) == 3:
            return [(path, 0) for path in inputs]
        return [
            (inputs[0], 0),
            (inputs[0], heads * self.qk),
            (inputs[0], (heads + kv_heads) * self.qk),
        ]

    def _ffn(self, kind: str) -> Any:
        n, block = self.record["ffn"], feed_forward_of(self.family, self.record)
        assert block is not None
        rows = _single(n)
        if self.family.fused_gate_up:
            rows = IndexMap(torch.stack([torch.arange(n), torch.arange(n) + n], 1))
        reads: list[Any] = [(path, "out", rows) for path in block.inputs]
        down: Any = (block.outputs[0], "in", _single(n))
        gated = self.family.fused_gate_up or len(block.inputs) == 2
        return [*reads, down], reads if gated and self.ffn_gate == "gate_up" else [down], n, 1

    def _kv_group(self, kind: str) -> Any:
        n, heads = self.record["kv_heads"], self.record["heads"]
        group = heads // n if n else 1
        o: Any = (self.family.attention.outputs[0], "in", _blocks(n, group * self.v))
        if self.family.by_group:
            rows = _blocks(n, (group + 1) * self.qk + self.v)
            return [(self.family.attention.inputs[0], "out", rows), o], [o], n, 1
        (q, q0), (k, k0), (v, v0) = self._projections()
        norms = zip(self.family.wide_qk_norms, (group * self.qk, self.qk), strict=False)
        members = [
            *((path, "out", _blocks(n, width)) for path, width in norms),
            (q, "out", _blocks(n, group * self.qk, q0)),
            (k, "out", _blocks(n, self.qk, k0)),
            (v, "out", _blocks(n, self.v, v0)),
            o,
        ]
        coupled = [] if not self.family.wide_qk_norms else [member for member in members if member[0] in (q, k)]
        return members, [o], n, 1, coupled

    def _q_head(self, kind: str) -> Any:
        n = self.record["heads"]
        q, q0 = self._projections()[0]
        o: Any = (self.family.attention.outputs[0], "in", _blocks(n, self.v))
        return [(q, "out", _blocks(n, self.qk, q0)), o], [o], n, max(1, self.record["kv_heads"])

    def _expert_units(self, kind: str) -> UnitSet:
        """Whole experts, or the channels of all experts of the layer, those of the first expert first."""
        experts, n, channels = self.family.experts, self.record["experts"], self.record["expert_channels"]
        assert experts is not None
        matrices: Any = self.base.get_submodule(self.prefix + experts.matrices)
        router = self.prefix + experts.router
        names = [name for name, _ in matrices.named_parameters(recurse=False)]
        paths = {name: f"{self.prefix}{experts.matrices}.{name}" for name in names}
        if kind == "expert":
            slices = [Slice(path, 0, _single(n)) for path in paths.values()]
            slices += slices_of(self.base, router, "out", _single(n))
            least = int(getattr(self.base.config, experts.top_key))
            gates = (Gate(router, "out", _single(n)),)
            return UnitSet(self.number, kind, n, tuple(slices), gates, least=least)
        units = torch.arange(n * channels)
        expert, channel = units // max(channels, 1), units % max(channels, 1)
        both = [channel, channel + channels] if not experts.transposed else [2 * channel, 2 * channel + 1]
        gate_up = torch.stack([expert * 2 * channels + place for place in both], 1)
        slices = [
            Slice(path, axis, IndexMap(gate_up) if name.startswith("gate_up") else _single(n * channels), 0)
            for name, path in paths.items()
            if (axis := expert_axis(experts, name))
        ]
        gate = Gate(self.prefix + experts.matrices, "in", _single(n * channels))
        return UnitSet(self.number, kind, n * channels, tuple(slices), (gate,), n)

    def _qk_pair(self, kind: str) -> Any:
        turned, still = kept_pairs(self.record, self.base.config, self.family)
        pairs = torch.arange(turned)
        single = torch.arange(2 * turned, 2 * turned + still)
        width = 2 if turned else 1
        channels = torch.full((turned + still, width), -1)
        if turned:
            channels[:turned] = torch.stack([pairs, pairs + turned], 1)
        channels[turned:, 0] = single
        (q, q0), (k, k0), _ = self._projections()
        members: list[Any] = [
            (q, "out", _channels(channels, self.record["heads"], self.qk, q0)),
            (k, "out", _channels(channels, self.record["kv_heads"], self.qk, k0)),
        ]
        norms = [(path, "out", IndexMap(channels)) for path in self.family.qk_norms]
        return [*members, *norms], members, turned + still, 1

    def _v_channel(self, kind: str) -> Any:
        channels = torch.arange(self.v)[:, None]
        v, v0 = self._projections()[2]
        o: Any = (self.family.attention.outputs[0], "in", _channels(channels, self.record["heads"], self.v))
        value: Any = (v, "out", _channels(channels, self.record["kv_heads"], self.v, v0))
        return [value, o], [value], self.v, 1

    def _ends(self, kind: str) -> Any:
        block = self.family.attention if kind.startswith("attention") else self.family.feed_forward
        n = self.record[kind] or stream_width(self.base)
        reads = kind.endswith("_in")
        members: Any = [(p, "in" if reads else "out", _single(n)) for p in (block.inputs if reads else block.outputs)]
        gates = members
        if self.record[kind] is not None:
            # masks act on the block's own dimensions in either case: on what its matrices read or write
            gates = members
        return members, gates, n, 1


def slices_of(base: Any, path: str, side: Side, index: IndexMap) -> list[Slice]:
    """The parameters of the module at ``path`` along one side: weight, and bias where the side is its outputs."""
    module = linear_at(base, path)
    weight = module.weight
    if weight.ndim == 1:
        axis = 0
    elif isinstance(module, torch.nn.Embedding):
        axis = 1
    else:
        axis = int((side == "in") != hasattr(module, "nf"))
    found = [Slice(f"{path}.weight", axis, index)]
    if side == "out" and getattr(module, "bias", None) is not None:
        found.append(Slice(f"{path}.bias", 0, index))
    return found


def _hidden(base: Any, family: Family, records: list[dict[str, Any]]) -> UnitSet:
    n = stream_width(base)
    index = _single(n)
    members: list[tuple[str, Side]] = [(path, "out") for path in family.embeddings]
    gates: list[Gate] = [Gate(path, "out", index) for path in family.embeddings]
    for number in range(len(records)):
        for block in (family.attention, family.feed_forward):
            members += [(f"{family.layers}.{number}.{path}", "in") for path in block.inputs]
            members += [(f"{family.layers}.{number}.{path}", "out") for path in block.outputs]
            gates += [Gate(f"{family.layers}.{number}.{path}", "out", index) for path in block.outputs]
    norms = norm_paths(base, family)
    members += [(path, "out") for path in norms]
    if family.norm == "layer":
        # a LayerNorm gives dimensions that are zero a value: what reads it must not see that
        gates += [Gate(path, "out", index) for path in norms]
    members += [(family.head, "in")] if family.head else []
    members += [(path, "in") for path in family.poolers if getattr(base, path.split(".")[0], None) is not None]
    slices = [piece for path, side in members for piece in slices_of(base, path, side, index)]
    return UnitSet(None, "hidden", n, tuple(slices), tuple(gates))
