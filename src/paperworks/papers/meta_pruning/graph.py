"""A trained network as a graph, and back: nodes are neurons or channels, edges are scalar pairs that a weight connects.

kind of value                        place in the graph                          edited
weight [out, in, k...]               edges (out, in), prod(k) features each      yes
bias, gain, shift                    a feature of the node that it acts on       yes
running mean and variance            a feature of the node                       no: read, and copied from the network
sum of two layers (shortcuts)        identity edges with one feature, 1          no
anything else (position tables, ...) not in the graph                            no
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.meta_pruning.wiring import Bundle, Wiring, wire
from paperworks.structure.trace import TracedGroups
from paperworks.structure.trace.capture import Inputs, canonical_names, capture
from paperworks.structure.trace.positions import tensor_at

LayoutName = Literal["auto", "paper"]
Tensors = Mapping[str, torch.Tensor]
READ_ONLY = ("mean", "var", "shortcut mean", "shortcut var")
"""Roles that the graph shows and does not write back."""
NEUTRAL = {"gamma": 1.0, "var": 1.0, "gain": 1.0}
IDENTITY = "identity"


@dataclass(frozen=True, eq=False)
class NodeTable:
    """The nodes of one type: the same roles in the same order.

    Attributes
    ----------
    roles : of the columns.
    ids : numbers of the nodes, int64 ``[n]``.
    parts : for each layer in turn, its size and the tensor of each role (None: a neutral value).
    """

    roles: tuple[str, ...]
    ids: torch.Tensor
    parts: tuple[tuple[int, tuple[str | None, ...]], ...]

    def read(self, tensors: Tensors) -> torch.Tensor:
        """Features float ``[n, roles]``; one column of ones where there is no role."""
        if not self.roles:
            like = next(iter(tensors.values()))
            return torch.ones(len(self.ids), 1, dtype=like.dtype, device=like.device)
        rows = []
        for size, names in self.parts:
            columns = []
            for role, name in zip(self.roles, names, strict=True):
                neutral = NEUTRAL.get(role.removeprefix("shortcut "), 0.0)
                like = next(iter(tensors.values()))
                columns.append(like.new_full((size,), neutral) if name is None else tensors[name].reshape(size))
            rows.append(torch.stack(columns, 1))
        return torch.cat(rows)

    def write(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """The tensors whose values the columns are, without those that are only read."""
        found, start = {}, 0
        for size, names in self.parts:
            for column, (role, name) in enumerate(zip(self.roles, names, strict=True)):
                if name is not None and role not in READ_ONLY:
                    found[name] = features[start : start + size, column]
            start += size
        return found


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """The edges of one type: weights with the same kernel, one behind the other, or identity edges.

    Attributes
    ----------
    index : int64 ``[2, E]``, output nodes above input nodes.
    bundles : the weights; none for identity edges.
    width : features of an edge; a smaller kernel is placed at the centre of zeros (``paper`` layout).
    """

    index: torch.Tensor
    bundles: tuple[Bundle, ...]
    width: int

    def read(self, tensors: Tensors) -> torch.Tensor:
        """Features float ``[E, width]``."""
        if not self.bundles:
            like = next(iter(tensors.values()))
            return torch.ones(self.index.shape[1], 1, dtype=like.dtype, device=like.device)
        return torch.cat([self._padded(bundle, tensors[bundle.param]) for bundle in self.bundles])

    def write(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weights whose values the edges are. What lies on the padding of a kernel is dropped."""
        found, start = {}, 0
        for bundle in self.bundles:
            shape = _rows(bundle)
            count, own = shape[0] * shape[1], int(np.prod(bundle.kernel, dtype=int))
            part = features[start : start + count]
            if own != self.width:
                part = part[:, self._places(bundle)]
            weight = part.reshape(*shape, *bundle.kernel)
            found[bundle.param] = weight.transpose(0, 1) if bundle.transposed else weight
            start += count
        return found

    def _padded(self, bundle: Bundle, weight: torch.Tensor) -> torch.Tensor:
        rows = weight.transpose(0, 1) if bundle.transposed else weight
        flat = rows.reshape(rows.shape[0] * rows.shape[1], -1)
        if flat.shape[1] == self.width:
            return flat
        wide = flat.new_zeros(len(flat), self.width)
        return wide.index_copy(1, torch.tensor(self._places(bundle), device=flat.device), flat)

    def _places(self, bundle: Bundle) -> list[int]:
        """Where the kernel lies in the square of ``width`` values: at its centre."""
        side = round(self.width**0.5)
        height, width = bundle.kernel if bundle.kernel else (1, 1)
        top, left = (side - height) // 2, (side - width) // 2
        return [(top + i) * side + left + j for i in range(height) for j in range(width)]


def _rows(bundle: Bundle) -> tuple[int, int]:
    first, second = bundle.shape[:2]
    return (second, first) if bundle.transposed else (first, second)


@dataclass(frozen=True, eq=False)
class Block:
    """Edges ``start`` to ``start + count`` of a layout.

    Attributes
    ----------
    target, source : nodes, int64. Where ``full``, the edges are all pairs of them, row-major ``[target, source]``; else
        the pairs one by one.
    """

    start: int
    count: int
    target: torch.Tensor
    source: torch.Tensor
    full: bool


@dataclass(frozen=True, eq=False)
class Layout:
    """Where every value of a network is in its graph: made once for an architecture, used for any weights of it.

    Attributes
    ----------
    nodes : number of nodes.
    node_tables, edge_tables : by type. Types of nodes are named by their roles, of edges by their kernel.
    kept : parameters that are not in the graph.
    """

    nodes: int
    node_tables: Mapping[str, NodeTable]
    edge_tables: Mapping[str, EdgeTable]
    kept: tuple[str, ...] = ()

    @property
    def node_types(self) -> dict[str, int]:
        """Features of each type of nodes."""
        return {name: max(1, len(table.roles)) for name, table in self.node_tables.items()}

    @property
    def edge_types(self) -> dict[str, int]:
        """Features of each type of edges."""
        return {name: table.width for name, table in self.edge_tables.items()}

    def index(self) -> torch.Tensor:
        """All edges, int64 ``[2, E]``, in the order of the types."""
        return torch.cat([table.index for table in self.edge_tables.values()], 1)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All edges in the same order, in blocks: full ones between two layers, and lists of pairs."""
        found, start = [], 0
        for table in self.edge_tables.values():
            first = start
            for bundle in table.bundles:
                ends = (torch.from_numpy(bundle.target), torch.from_numpy(bundle.source))
                count = bundle.index().shape[1]
                if bundle.groups > 1:
                    ends = tuple(table.index[:, start - first : start - first + count])  # type: ignore[assignment]
                found.append(Block(start, count, ends[0], ends[1], bundle.groups == 1))
                start += count
            if not table.bundles:
                found.append(Block(start, table.index.shape[1], table.index[0], table.index[1], False))
                start += table.index.shape[1]
        return tuple(found)

    def read(self, tensors: Tensors) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Features of nodes and edges by type, differentiable."""
        nodes = {name: table.read(tensors) for name, table in self.node_tables.items()}
        return nodes, {name: table.read(tensors) for name, table in self.edge_tables.items()}

    def write(self, nodes: Tensors, edges: Tensors) -> dict[str, torch.Tensor]:
        """Parameters by name out of features, differentiable; only those that the graph writes."""
        found: dict[str, torch.Tensor] = {}
        for name, table in self.node_tables.items():
            found.update(table.write(nodes[name]))
        for name, edge_table in self.edge_tables.items():
            found.update(edge_table.write(edges[name]))
        return found


@dataclass(frozen=True, eq=False)
class NetGraph:
    """A network as a graph.

    Attributes
    ----------
    layout : where every value is.
    nodes : features by type of node, float ``[n, roles]``.
    edges : features by type of edge, float ``[E, width]``; ``layout.edge_tables[type].index`` has their ends.
    model : the network that the graph is of; it is not changed.
    """

    layout: Layout
    nodes: dict[str, torch.Tensor]
    edges: dict[str, torch.Tensor]
    model: nn.Module = field(repr=False)

    @classmethod
    def from_module(cls, model: nn.Module, example_inputs: Inputs, layout: LayoutName | Layout = "auto") -> NetGraph:
        """The graph of a module.

        Parameters
        ----------
        model : any module that torch.export can trace.
        example_inputs : a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        layout : ``auto`` has a type for every set of roles and every kernel size; ``paper`` is that of the paper for
            residual networks (8 features a node, 9 an edge) and plain ones like VGG (5 and 9); or a layout that was
            made for this architecture.

        Raises
        ------
        InputError : a module that cannot be traced, or one that the ``paper`` layout has no place for.
        """
        if not isinstance(layout, Layout):
            layout = make_layout(model, example_inputs, layout)
        nodes, edges = layout.read(tensors_of_model(model))
        graph = cls(layout, {k: v.clone() for k, v in nodes.items()}, {k: v.clone() for k, v in edges.items()}, model)
        return graph

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Parameters by name, for ``torch.func.functional_call``."""
        return self.layout.write(self.nodes, self.edges)

    @torch.no_grad()
    def to_module(self) -> nn.Module:
        """A copy of the network with the values of the graph. The rest is the network's own."""
        model = copy.deepcopy(self.model)
        for name, value in self.to_tensors().items():
            tensor_at(model, name).copy_(value)
        return model

    def with_features(self, nodes: dict[str, torch.Tensor], edges: dict[str, torch.Tensor]) -> NetGraph:
        """The same graph with other values."""
        return replace(self, nodes=nodes, edges=edges)

    def summary(self) -> str:
        """Types of nodes and edges with their numbers, and what is not in the graph."""
        lines = [f"{self.layout.nodes:,} nodes, {self.layout.index().shape[1]:,} edges"]
        for name, table in self.layout.node_tables.items():
            lines.append(f"    nodes  {name}: {len(table.ids):,}")
        for name, edges in self.layout.edge_tables.items():
            lines.append(f"    edges  {name}: {edges.index.shape[1]:,} with {edges.width} features")
        if self.layout.kept:
            lines.append(f"    not in the graph: {', '.join(self.layout.kept)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def tensors_of_model(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by their first name, detached."""
    names, _ = canonical_names(model)
    found = {name: tensor_at(model, name).detach() for name in dict.fromkeys(names.values())}
    return {name: value for name, value in found.items() if value.is_floating_point()}


def make_layout(
    model: nn.Module, example_inputs: Inputs, name: LayoutName = "auto", groups: TracedGroups | None = None
) -> Layout:
    """The layout of an architecture, see ``NetGraph.from_module``; ``groups`` of the model save a second trace."""
    if name not in ("auto", "paper"):
        raise InputError("layout", repr(name), "auto or paper")
    wiring = wire(capture(model, example_inputs) if groups is None else groups.captured)
    if not wiring.bundles:
        raise InputError("model", "no linear layer and no convolution", "a network with weights that can be traced")
    if name == "paper":
        from paperworks.papers.meta_pruning.paper_layout import paper_layout

        return paper_layout(wiring, model)
    tables: dict[str, list[Any]] = {}
    for layer in wiring.layers:
        tables.setdefault("+".join(layer.vectors) or "plain", []).append(layer)
    nodes = {}
    for kind, layers in tables.items():
        roles = tuple(layers[0].vectors)
        ids = torch.cat([torch.arange(layer.first, layer.first + layer.size) for layer in layers])
        parts = tuple((layer.size, tuple(layer.vectors[role] for role in roles)) for layer in layers)
        nodes[kind] = NodeTable(roles, ids, parts)
    bundles: dict[str, list[Bundle]] = {}
    for bundle in wiring.bundles:
        wide = [str(k) for k in bundle.kernel] if int(np.prod(bundle.kernel, dtype=int)) > 1 else ["1"]
        bundles.setdefault("x".join(wide), []).append(bundle)
    edges = {kind: edge_table(found) for kind, found in bundles.items()}
    edges.update(identity_table(wiring))
    return Layout(wiring.nodes, nodes, edges, kept_parameters(model, nodes, edges))


def edge_table(bundles: list[Bundle], width: int | None = None) -> EdgeTable:
    """One table of several weights."""
    index = np.concatenate([bundle.index() for bundle in bundles], 1)
    own = int(np.prod(bundles[0].kernel, dtype=int)) if width is None else width
    return EdgeTable(torch.from_numpy(index), tuple(bundles), own)


def identity_table(wiring: Wiring) -> dict[str, EdgeTable]:
    """The edges of sums, on the diagonal only; each pair of nodes once."""
    if not wiring.identities:
        return {}
    pairs = np.concatenate([np.stack(pair) for pair in wiring.identities], 1)
    pairs = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
    return {IDENTITY: EdgeTable(torch.from_numpy(np.ascontiguousarray(pairs)), (), 1)}


def kept_parameters(
    model: nn.Module, nodes: Mapping[str, NodeTable], edges: Mapping[str, EdgeTable]
) -> tuple[str, ...]:
    """Parameters that no table has."""
    used = {name for table in nodes.values() for _, names in table.parts for name in names if name is not None}
    used |= {bundle.param for table in edges.values() for bundle in table.bundles}
    names, buffers = canonical_names(model)
    return tuple(name for name in dict.fromkeys(names.values()) if name not in used and name not in buffers)
