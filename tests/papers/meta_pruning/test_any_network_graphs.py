"""Properties of the graph of any network: residual branches, norms, groups, concatenation, layers of one unit."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest
import torch
from drawn_networks import Concatenated, Residual, SharedNorm, networks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from paperworks.papers.meta_pruning import Layout, NetGraph
from paperworks.papers.meta_pruning.graph import tensors_of_model
from paperworks.structure.trace import TracedGroup, analyze
from paperworks.structure.trace.positions import tensor_at

few = settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def norm_in_a_branch_of_one_unit() -> tuple[nn.Module, torch.Tensor]:
    branch = nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 3, 3, padding=1))
    return nn.Sequential(Residual(branch), nn.Flatten(), nn.Linear(27, 1)), torch.rand(2, 3, 3, 3)


def images_of_one_channel_beside_what_is_made_of_them() -> tuple[nn.Module, torch.Tensor]:
    both = Concatenated([nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 2, 1)], own=True)
    return nn.Sequential(both, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2)), torch.rand(2, 1, 3, 3)


def one_norm_after_two_layers() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Linear(2, 3), SharedNorm(3), nn.Linear(3, 2)), torch.rand(2, 2)


@pytest.mark.parametrize(
    "make",
    [norm_in_a_branch_of_one_unit, images_of_one_channel_beside_what_is_made_of_them, one_norm_after_two_layers],
)
def test_what_random_networks_found(make: Callable[[], tuple[nn.Module, torch.Tensor]]) -> None:
    model, inputs = make()
    comes_back(model.eval(), inputs)


def test_readers_of_one_input_read_the_same_nodes() -> None:
    graph = NetGraph.from_module(*images_of_one_channel_beside_what_is_made_of_them())
    bundles = {bundle.param: bundle for table in graph.layout.edge_tables.values() for bundle in table.bundles}
    first, second = bundles["0.branches.0.weight"], bundles["0.branches.1.weight"]
    assert first.source.tolist() == second.source.tolist()
    # the norm over all four channels has nodes of its own, joined to those that a layer made
    pairs = sorted(graph.layout.edge_tables["identity"].index.T.tolist())
    assert [source for _, source in pairs] == [*first.target.tolist(), *second.target.tolist()]


@few
@given(networks())
def test_every_parameter_is_in_the_graph_once_and_comes_back(found: tuple[nn.Module, torch.Tensor]) -> None:
    comes_back(*found)


def comes_back(model: nn.Module, inputs: torch.Tensor) -> None:
    """Each parameter and statistic is in the graph once, and both ways between network and graph are the identity."""
    graph = NetGraph.from_module(model, inputs)
    places = Counter(bundle.param for table in graph.layout.edge_tables.values() for bundle in table.bundles)
    for table in graph.layout.node_tables.values():
        places.update(name for _, names in table.parts for name in names if name is not None)
    assert places == Counter(tensors_of_model(model).keys())
    assert not graph.layout.kept
    written = graph.to_tensors()
    assert set(written) == {name for name, _ in model.named_parameters()}
    for name, value in graph.to_module().state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    # and the other way: whatever the features are, the network that they make has them
    changed = graph.with_features(
        {kind: torch.rand_like(value) for kind, value in graph.nodes.items()},
        {kind: torch.rand_like(value) for kind, value in graph.edges.items()},
    )
    read = NetGraph.from_module(changed.to_module(), inputs, graph.layout)
    for name, value in changed.to_tensors().items():
        assert torch.equal(read.to_tensors()[name], value), name


@few
@given(networks(), st.randoms(use_true_random=False))
def test_permuted_units_are_permuted_nodes(found: tuple[nn.Module, torch.Tensor], random: object) -> None:
    model, inputs = found
    graph = NetGraph.from_module(model, inputs)
    for group in analyze(model, inputs).values():
        order = list(range(group.n_units))
        random.shuffle(order)  # type: ignore[attr-defined]
        mixed = permuted(model, group, torch.tensor(order))
        assert torch.allclose(mixed(inputs), model(inputs), rtol=1e-4, atol=1e-5)
        nodes = permuted_nodes(graph.layout, group, torch.tensor(order))
        assert connections(NetGraph.from_module(mixed, inputs, graph.layout)) == connections(graph, nodes)


def permuted(model: nn.Module, group: TracedGroup, order: torch.Tensor) -> nn.Module:
    """The same function: unit u of the group is what unit ``order[u]`` was, weights and statistics."""
    made = copy.deepcopy(model)
    for piece in group.slices:
        tensor = tensor_at(made, piece.param)
        rows = torch.arange(tensor.shape[piece.axis])
        rows[piece.index.table] = piece.index.table[order]
        tensor.data = tensor.data.index_select(piece.axis, rows)
    return made


def permuted_nodes(layout: Layout, group: TracedGroup, order: torch.Tensor) -> dict[int, int]:
    """Node -> the node that it was. All tensors of the group must say the same."""
    places: dict[tuple[str, int], torch.Tensor] = {}
    for table in layout.edge_tables.values():
        for bundle in table.bundles:
            places[bundle.param, 0] = torch.from_numpy(bundle.target)
            if bundle.groups == 1:
                places[bundle.param, 1] = torch.from_numpy(bundle.source)
    for table in layout.node_tables.values():
        start = 0
        for size, names in table.parts:
            places.update({(name, 0): table.ids[start : start + size] for name in names if name is not None})
            start += size
    found: dict[int, int] = {}
    for piece in group.slices:
        if (piece.param, piece.axis) in places:
            ids = places[piece.param, piece.axis]
            here, there = ids[piece.index.table].flatten(), ids[piece.index.table[order]].flatten()
            for node, was in zip(here.tolist(), there.tolist(), strict=True):
                assert found.setdefault(node, was) == was
    return found


def connections(graph: NetGraph, nodes: dict[int, int] | None = None) -> dict[object, object]:
    """All nodes and edges with their features, by number; ``nodes`` renames: node n is what nodes[n] was."""
    name = {was: node for node, was in (nodes or {}).items()}
    found: dict[object, list[tuple[float, ...]]] = defaultdict(list)
    for kind, table in graph.layout.node_tables.items():
        for node, row in zip(table.ids.tolist(), graph.nodes[kind].tolist(), strict=True):
            found[kind, name.get(node, node)].append(tuple(row))
    for kind, edges in graph.layout.edge_tables.items():
        for (target, source), row in zip(edges.index.T.tolist(), graph.edges[kind].tolist(), strict=True):
            found[kind, name.get(target, target), name.get(source, source)].append(tuple(row))
    return {place: sorted(rows) for place, rows in found.items()}
