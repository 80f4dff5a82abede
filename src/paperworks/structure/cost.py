"""What a model costs as a function of the widths of its stream: parameters, multiplications per token, cache.

Closed forms over the shapes of the dense model's matrices (SliceGPT's counts for Llama, OPT and Phi-2 are instances);
nothing is built at the new size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from paperworks.structure.families import Family
from paperworks.structure.layers_sliced import part, sums_bias_of
from paperworks.structure.registry import check_rotation, skeleton_of, spec_for


@dataclass(frozen=True)
class BlockCost:
    """Per block: rows of the matrices that read the stream, columns of those that write it, biases that follow it."""

    reads: int
    writes: int
    output_biases: int
    map_bias: int


@dataclass(frozen=True)
class StreamCost:
    """A model's counts with widths left open.

    ``width``: D. ``tables``: rows of all embeddings. ``head``: rows of the head (0: none). ``fixed``: parameters that
    no width touches, new biases included. ``dense_parameters``: of the stock model, a tied head counted once;
    ``untied_parameters``: counted apart. ``cache_values``: numbers in the key-value cache per token.
    """

    family: Family
    width: int
    tables: int
    head: int
    fixed: int
    layers: tuple[tuple[BlockCost, ...], ...]
    dense_parameters: int
    untied_parameters: int
    cache_values: int

    @property
    def cuts(self) -> int:
        """Points of the stream that can be cut, the last one (which the head reads) included."""
        return 1 + sum(len(blocks) for blocks in self.layers)

    def stream_widths(self, cuts: Sequence[int]) -> list[list[int]]:
        """Per layer ``[d_in, ..., d_out]``, from one width per point of the stream."""
        found, start = [], 0
        for blocks in self.layers:
            found.append([int(w) for w in cuts[start : start + len(blocks) + 1]])
            start += len(blocks)
        return found

    def parameters(self, cuts: Sequence[int], slice_head: bool = False) -> int:
        """Parameters of the sliced model with ``cuts`` widths, one per point of the stream. Equals ``sum(p.numel())``.

        ``slice_head``: whether the last point has a basis of its own; an encoder then has a last map back to D.

        Llama, one width d, head not sliced: V d + V D + L [(2 hq + 2 hk) d + 3 F d + 2 d^2] + (D - d)(F + d).
        """
        total = self.fixed + self.tables * cuts[0] + self.head * cuts[-1]
        cut = 0
        for blocks in self.layers:
            for block in blocks:
                d_in, d_out = cuts[cut], cuts[cut + 1]
                cut += 1
                total += block.reads * d_in + (block.writes + block.output_biases + d_in + block.map_bias) * d_out
        if not self.head and slice_head:
            # the last norm gives its gain and bias to a map that leads back to D dimensions
            total += cuts[-1] * self.width + self.width - 2 * self.width
        return total

    def macs(self, cuts: Sequence[int], slice_head: bool = False) -> int:
        """Multiply-accumulates per token in the matrices of the sliced model; attention scores are not counted."""
        total = self.head * cuts[-1]
        cut = 0
        for blocks in self.layers:
            for block in blocks:
                total += block.reads * cuts[cut] + (block.writes + cuts[cut]) * cuts[cut + 1]
                cut += 1
        return total + (cuts[-1] * self.width if not self.head and slice_head else 0)

    @property
    def dense_macs(self) -> int:
        """Multiply-accumulates per token in the matrices of the dense model, counted the same way."""
        rows = sum(block.reads + block.writes for blocks in self.layers for block in blocks)
        return (rows + self.head) * self.width


def cost_of(model: nn.Module | PreTrainedConfig | str | Path) -> StreamCost:
    """The counts of a stock model, of a configuration, or of a checkpoint folder."""
    if not isinstance(model, nn.Module):
        model = skeleton_of(model)
    family = spec_for(model)
    check_rotation(family)
    config: Any = model.config
    width = config.hidden_size
    biases = sums_bias_of(model, family)
    layers, counted = [], 0
    for layer, fed in zip(part(model, family.layers), biases, strict=True):
        blocks = []
        for block, has_bias in zip(family.blocks, fed, strict=True):
            inputs = [part(layer, path) for path in block.inputs]
            outputs = [part(layer, path) for path in block.outputs]
            reads = sum(module.weight.numel() // width for module in inputs)
            writes = sum(module.weight.numel() // width for module in outputs)
            output_biases = sum(module.bias is not None for module in outputs)
            map_bias = int(has_bias and family.topology == "post_norm")
            blocks.append(BlockCost(reads, writes, output_biases, map_bias))
            counted += (reads + writes + output_biases) * width
            counted += sum(p.numel() for p in part(layer, block.norm).parameters())
            if has_bias:
                counted -= sum(m.weight.numel() // width for m in inputs if m.bias is None)
        layers.append(tuple(blocks))
    for path in (family.embedding_norm, family.final_norm):
        if path:
            counted += sum(p.numel() for p in part(model, path).parameters())
    tables = sum(part(model, path).num_embeddings for path in family.embeddings)
    head_rows = 0
    if family.head:
        head = part(model, family.head)
        head_rows = head.out_features
        if getattr(part(model, family.final_norm), "bias", None) is not None and head.bias is None:
            counted -= head_rows
    elif family.topology == "post_norm":
        # the last norm stays as it is while the last sum is whole
        last = part(model, family.layers)[-1].get_submodule(family.blocks[-1].norm)
        counted -= sum(p.numel() for p in last.parameters())
    dense = sum(p.numel() for p in model.parameters())
    shared = 0
    if family.head:
        table = part(model, family.embeddings[0]).weight
        tied = part(model, family.head).weight is table or bool(config.tie_word_embeddings)
        shared = table.numel() if tied else 0
        dense -= shared if part(model, family.head).weight is not table else 0
    untied = dense + shared
    fixed = untied - counted - tables * width - head_rows * width
    key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or width // config.num_attention_heads
    cache = 2 * len(layers) * key_heads * head_dim if family.head else 0
    return StreamCost(family, width, tables, head_rows, fixed, tuple(layers), dense, untied, cache)
