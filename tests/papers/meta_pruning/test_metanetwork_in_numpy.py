"""The whole metanetwork beside its formulas in NumPy: encoders, messages along and against the edges, decoders."""

from __future__ import annotations

import numpy as np
import pytest
from networks_of_tests import build

from paperworks.papers.meta_pruning import GraphMetaNetwork, NetGraph
from paperworks.papers.meta_pruning.metanetwork import VARIANCE_FLOOR

State = dict[str, np.ndarray]


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def normalised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def linear(state: State, name: str, x: np.ndarray) -> np.ndarray:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def convolved(state: State, layer: int, x: np.ndarray, a: np.ndarray, source: np.ndarray, target: np.ndarray) -> tuple:
    """Changes of nodes and edges by one convolution whose messages run from ``source`` to ``target``."""
    one, two, three, four = (silu(linear(state, f"convolutions.{layer}.parts.{i}.0", x)) for i in range(4))
    messages = two[target] * one[source] * a
    rows = []
    for node in range(len(x)):
        own = messages[target == node]
        if not len(own):
            rows.append(np.zeros(4 * x.shape[1]))
            continue
        spread = np.where(own.var(0) > VARIANCE_FLOOR, own.std(0), 0.0)
        rows.append(np.concatenate([own.mean(0), spread, own.max(0), own.min(0)]))
    nodes = linear(state, f"convolutions.{layer}.combine", np.stack(rows))
    return nodes, three[source] * four[target] * a


@pytest.mark.parametrize("name", ["mlp", "residual", "mixed"])
def test_the_edit_is_that_of_the_formulas(name: str) -> None:
    model, inputs = build(name)
    graph = NetGraph.from_module(model, inputs)
    layout, rho = graph.layout, 0.7
    network = GraphMetaNetwork.for_layouts(layout, seed=5, hidden=6, layers=2, rho=rho).double()
    graph = graph.with_features(
        {k: v.double() for k, v in graph.nodes.items()}, {k: v.double() for k, v in graph.edges.items()}
    )
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    kinds, edge_kinds = list(layout.node_tables), list(layout.edge_tables)
    x = np.zeros((layout.nodes, 6))
    for number, kind in enumerate(kinds):
        x[layout.node_tables[kind].ids] = linear(state, f"node_encoders.{number}", graph.nodes[kind].numpy())
    a = np.concatenate(
        [linear(state, f"edge_encoders.{i}", graph.edges[kind].numpy()) for i, kind in enumerate(edge_kinds)]
    )
    target, source = layout.index().numpy()
    sign = np.array([1, 1, 1, -1, -1, -1])
    for layer in range(2):
        z = normalised(x)
        n1, d1 = convolved(state, layer, z, a, source, target)
        n2, d2 = convolved(state, layer, z, sign * a, target, source)
        x, a = x + n1 + n2, a + d1 + sign * d2
    found = network.edit(graph)

    def decoded(which: str, number: int, features: np.ndarray) -> np.ndarray:
        hidden = silu(linear(state, f"{which}_decoders.{number}.0", normalised(features)))
        return linear(state, f"{which}_decoders.{number}.2", hidden)

    for number, kind in enumerate(kinds):
        expected = graph.nodes[kind].numpy() + rho * decoded("node", number, x[layout.node_tables[kind].ids])
        np.testing.assert_allclose(found.nodes[kind].numpy(), expected, rtol=1e-6, atol=1e-8)
    start = 0
    for number, kind in enumerate(edge_kinds):
        count = layout.edge_tables[kind].index.shape[1]
        expected = graph.edges[kind].numpy()
        if kind != "identity":
            expected = expected + rho * decoded("edge", number, a[start : start + count])
        np.testing.assert_allclose(found.edges[kind].numpy(), expected, rtol=1e-6, atol=1e-8)
        start += count
