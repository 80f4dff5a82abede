"""The metanetwork: a graph network that reads a network and returns it with slightly changed weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from paperworks.errors import InputError
from paperworks.nn.saving import SavedNetwork, require
from paperworks.papers.meta_pruning.graph import IDENTITY, Block, Layout, NetGraph
from paperworks.parameters import check_seed

VARIANCE_FLOOR = 1e-5
"""Below this variance a standard deviation is 0: its square root has no bounded gradient."""

Features = dict[str, torch.Tensor]


class GraphMetaNetwork(SavedNetwork):
    """Message passing over the graph of a network, with edits as residuals.

    ::

        x = Linear(node features), a = Linear(edge features)          one per type of node and of edge
        layers *:   z = LayerNorm(x), s = (+1, ..., +1, -1, ..., -1)
                    (n1, d1) = conv(z, along the edges, a);   (n2, d2) = conv(z, against them, s a)    the same weights
                    x += n1 + n2;   a += d1 + s d2
        node' = node + rho * decode(x);   edge' = edge + rho * decode(a)

        conv:  message of an edge from u to v = f2(z_v) * f1(z_u) * a
               node v: Linear(mean, standard deviation, maximum, minimum of its messages);   edge: f3(z_u) * f4(z_v) * a

    Neurons of a layer that are permuted get permuted edits. With ``rho`` 0 the network comes back as it was.

    Parameters
    ----------
    node_types, edge_types : number of features by type; ``Layout.node_types`` and ``Layout.edge_types``.
    hidden : width h, an even number.
    layers : of message passing.
    rho : size of the edits.
    checkpointing : compute layers anew in the backward pass, which keeps memory at one layer.
    """

    def __init__(
        self,
        *,
        node_types: Mapping[str, int],
        edge_types: Mapping[str, int],
        hidden: int = 16,
        layers: int = 4,
        rho: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            node_types=dict(node_types),
            edge_types=dict(edge_types),
            hidden=hidden,
            layers=layers,
            rho=rho,
            checkpointing=checkpointing,
        )
        require("hidden", hidden, hidden >= 2 and hidden % 2 == 0, "an even number of 2 or more")
        require("layers", layers, layers >= 1, "1 or more")
        require("rho", rho, 0 <= rho < float("inf"), "0 or a positive number")
        require("node_types", dict(node_types), bool(node_types), "at least one type of nodes")
        require("edge_types", dict(edge_types), bool(edge_types), "at least one type of edges")
        self.node_names, self.edge_names = list(node_types), list(edge_types)
        self.node_encoders = _linears(node_types, hidden)
        self.edge_encoders = _linears(edge_types, hidden)
        self.convolutions = nn.ModuleList(_Convolution(hidden) for _ in range(layers))
        self.node_decoders = _decoders(node_types, hidden)
        self.edge_decoders = _decoders(edge_types, hidden)
        half = hidden // 2
        self.sign: torch.Tensor
        self.register_buffer("sign", torch.cat([torch.ones(half), -torch.ones(hidden - half)]), persistent=False)

    @classmethod
    def for_layouts(cls, *layouts: Layout, seed: int = 0, **options: Any) -> GraphMetaNetwork:
        """A metanetwork with random weights for the types of some layouts; options as of the class."""
        check_seed("seed", seed)
        if not layouts:
            raise InputError("layouts", "none", "at least one")
        nodes = {name: width for layout in layouts for name, width in layout.node_types.items()}
        edges = {name: width for layout in layouts for name, width in layout.edge_types.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            return cls(node_types=nodes, edge_types=edges, **options)

    @property
    def rho(self) -> float:
        return float(self.config["rho"])

    def check(self, layout: Layout) -> None:
        """Raise InputError naming a type of the layout that this metanetwork has no encoder for."""
        for what, known, found in (
            ("nodes", self.config["node_types"], layout.node_types),
            ("edges", self.config["edge_types"], layout.edge_types),
        ):
            for name, width in found.items():
                if known.get(name) != width:
                    raise InputError(
                        f"type of {what}",
                        f"{name!r} with {width} features",
                        f"one that the metanetwork was made for: {', '.join(f'{k} ({v})' for k, v in known.items())}; "
                        "train a metanetwork for this family of networks",
                    )

    def forward(self, layout: Layout, nodes: Features, edges: Features) -> tuple[Features, Features]:
        """Edited features of nodes and edges, by type.

        Parameters
        ----------
        layout : of the network.
        nodes, edges : its features, see ``Layout.read``.
        """
        device = self.sign.device
        hidden = int(self.config["hidden"])
        x = self.sign.new_zeros(layout.nodes, hidden)
        for name, table in layout.node_tables.items():
            x = x.index_copy(0, table.ids.to(device), self.node_encoders[self._node(name)](nodes[name]))
        parts = [self.edge_encoders[self._edge(name)](edges[name]) for name in layout.edge_tables]
        a = torch.cat(parts)
        blocks = layout.blocks
        for convolution in self.convolutions:
            if self.config["checkpointing"] and torch.is_grad_enabled():
                x, a = checkpoint(self._layer, convolution, x, a, blocks, use_reentrant=False)  # type: ignore[misc]
            else:
                x, a = self._layer(convolution, x, a, blocks)
        return self._decoded(layout, nodes, edges, x, a)

    def _layer(
        self, convolution: nn.Module, x: torch.Tensor, a: torch.Tensor, blocks: tuple[Block, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        z = _normalised(x)
        n1, d1 = convolution(z, a, blocks, against=False)
        n2, d2 = convolution(z, self.sign * a, blocks, against=True)
        return x + n1 + n2, a + d1 + self.sign * d2

    def _decoded(
        self, layout: Layout, nodes: Features, edges: Features, x: torch.Tensor, a: torch.Tensor
    ) -> tuple[Features, Features]:
        changed_nodes, changed_edges = {}, {}
        for name, table in layout.node_tables.items():
            edit = self.node_decoders[self._node(name)](_normalised(x[table.ids.to(x.device)]))
            changed_nodes[name] = nodes[name] + self.rho * edit
        start = 0
        for name, edge_table in layout.edge_tables.items():
            count = edge_table.index.shape[1]
            changed_edges[name] = edges[name]
            if name != IDENTITY:
                edit = self.edge_decoders[self._edge(name)](_normalised(a[start : start + count]))
                changed_edges[name] = edges[name] + self.rho * edit
            start += count
        return changed_nodes, changed_edges

    def _node(self, name: str) -> int:
        return self.node_names.index(name)

    def _edge(self, name: str) -> int:
        return self.edge_names.index(name)

    def edit(self, graph: NetGraph) -> NetGraph:
        """The graph of the edited network, without gradients."""
        self.check(graph.layout)
        device = self.sign.device
        nodes = {name: value.to(device) for name, value in graph.nodes.items()}
        edges = {name: value.to(device) for name, value in graph.edges.items()}
        with torch.no_grad():
            changed_nodes, changed_edges = self(graph.layout, nodes, edges)
        return graph.with_features(changed_nodes, changed_edges)

    def edited_tensors(self, layout: Layout, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Edited parameters by name, with their graph: what meta-training differentiates."""
        nodes, edges = layout.read(tensors)
        return layout.write(*self(layout, nodes, edges))


class _Convolution(nn.Module):
    """Messages, their aggregate at every node, and the change of every edge."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU()) for _ in range(4))
        self.combine = nn.Linear(4 * hidden, hidden)

    def forward(
        self, x: torch.Tensor, a: torch.Tensor, blocks: tuple[Block, ...], *, against: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        one, two, three, four = (part(x) for part in self.parts)
        messages, changes = [], []
        for block in blocks:
            rows, columns = block.target.to(x.device), block.source.to(x.device)
            part = a[block.start : block.start + block.count]
            # messages run from the columns (sources) to the rows (targets); against the edges the other way
            if against:
                by_row, by_column, change_row, change_column = one, two, three, four
            else:
                by_row, by_column, change_row, change_column = two, one, four, three
            if block.full:
                part = part.view(len(rows), len(columns), -1)
                found = by_row[rows][:, None] * by_column[columns][None] * part
                change = change_row[rows][:, None] * change_column[columns][None] * part
                messages.append(_reduced(found, columns if against else rows, 0 if against else 1))
                changes.append(change.flatten(0, 1))
            else:
                found = by_row[rows] * by_column[columns] * part
                messages.append((columns if against else rows, found, found.square(), found, found, 1))
                changes.append(change_row[rows] * change_column[columns] * part)
        return self.combine(_combined(messages, len(x))), torch.cat(changes)


Partial = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]
"""Nodes; sum, sum of squares, maximum and minimum of some of their messages ``[nodes, h]``; how many these are."""


def _reduced(messages: torch.Tensor, nodes: torch.Tensor, over: int) -> Partial:
    """What the messages ``[rows, columns, h]`` of a full block bring to the nodes of the other axis."""
    total, squares = messages.sum(over), messages.square().sum(over)
    return nodes, total, squares, messages.amax(over), messages.amin(over), messages.shape[over]


def aggregate(messages: torch.Tensor, target: torch.Tensor, nodes: int) -> torch.Tensor:
    """Mean, standard deviation, maximum and minimum of the messages at each node, float ``[nodes, 4 h]``.

    Parameters
    ----------
    messages : float ``[E, h]``.
    target : node of each message, int64 ``[E]``. Nodes without messages get zeros.
    """
    return _combined([(target, messages, messages.square(), messages, messages, 1)], nodes)


def _combined(parts: list[Partial], nodes: int) -> torch.Tensor:
    ids = torch.cat([part[0] for part in parts])
    total, squares, most, least = (torch.cat([part[i] for part in parts]) for i in range(1, 5))  # type: ignore[misc]
    numbers = torch.cat([total.new_full((len(part[0]),), part[5]) for part in parts])
    zeros = total.new_zeros(nodes, total.shape[1])
    count = total.new_zeros(nodes).index_add(0, ids, numbers).clamp_min(1)[:, None]
    mean = zeros.index_add(0, ids, total) / count
    variance = zeros.index_add(0, ids, squares) / count - mean.square()
    deviation = variance.clamp_min(VARIANCE_FLOOR).sqrt()
    deviation = torch.where(variance > VARIANCE_FLOOR, deviation, torch.zeros_like(deviation))
    index = ids[:, None].expand_as(total)
    highest = zeros.scatter_reduce(0, index, most, "amax", include_self=False)
    lowest = zeros.scatter_reduce(0, index, least, "amin", include_self=False)
    return torch.cat([mean, deviation, highest, lowest], 1)


def _normalised(x: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:])


def _linears(widths: Mapping[str, int], hidden: int) -> nn.ModuleList:
    """An encoder for each type; wide kernels (above 64 values) through a layer of 64."""
    return nn.ModuleList(
        nn.Linear(width, hidden)
        if width <= 64
        else nn.Sequential(nn.Linear(width, 64), nn.SiLU(), nn.Linear(64, hidden))
        for width in widths.values()
    )


def _decoders(widths: Mapping[str, int], hidden: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, width)) for width in widths.values()
    )
