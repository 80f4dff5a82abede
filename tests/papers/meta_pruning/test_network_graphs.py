"""Networks as graphs and back; the metanetwork's symmetries and gradients."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from networks_of_tests import PlainCNN, build
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.meta_pruning import GraphMetaNetwork, NetGraph, aggregate
from paperworks.papers.meta_pruning.graph import Block, tensors_of_model

CASES = [
    ("mlp", "auto"),
    ("residual", "auto"),
    ("residual", "paper"),
    ("plain", "auto"),
    ("plain", "paper"),
    ("vit", "auto"),
    ("mixed", "auto"),
]


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_a_graph_holds_every_parameter_bit_for_bit(name: str, layout: str) -> None:
    model, inputs = build(name)
    graph = NetGraph.from_module(model, inputs, layout)  # type: ignore[arg-type]
    written = graph.to_tensors()
    parameters = dict(model.named_parameters())
    assert set(written) | set(graph.layout.kept) == set(parameters)
    assert not set(written) & set(graph.layout.kept)
    assert set(graph.layout.kept) <= {"class_token", "positions", "table"}
    for key, value in written.items():
        assert torch.equal(value, parameters[key]), key
    again = torch.func.functional_call(model, written, (inputs,))
    assert torch.allclose(again, model(inputs), rtol=1e-4)  # other strides and kernels: sums in another order


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_changed_graphs_come_back_from_the_network_that_they_make(name: str, layout: str) -> None:
    model, inputs = build(name)
    before = copy.deepcopy(model.state_dict())
    graph = NetGraph.from_module(model, inputs, layout)  # type: ignore[arg-type]
    nodes = {key: value + torch.rand_like(value) for key, value in graph.nodes.items()}
    edges = {key: value + torch.rand_like(value) for key, value in graph.edges.items()}
    changed = graph.with_features(nodes, edges)
    made = changed.to_module()
    read = NetGraph.from_module(made, inputs, graph.layout)
    written = read.to_tensors()
    for key, value in changed.to_tensors().items():
        assert torch.equal(written[key], value)
        assert not torch.equal(value, before[key])
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])  # the network itself is not changed
        if "running" in key:
            assert torch.equal(made.state_dict()[key], value)  # statistics are read only


def test_edges_join_what_the_weights_join() -> None:
    model, inputs = build("mixed")
    graph = NetGraph.from_module(model, inputs)
    layout = graph.layout
    ends = {}
    for table in layout.edge_tables.values():
        start = 0
        for bundle in table.bundles:
            count = bundle.index().shape[1]
            ends[bundle.param] = (table.index[:, start : start + count], bundle)
            start += count
    left, right = ends["left.weight"][1].target, ends["right.weight"][1].target
    depth_index, depth = ends["depthwise.weight"]
    assert depth_index.shape == (2, 6)  # one edge a channel
    joined = layout.edge_tables["identity"].index.T.tolist()
    for channel, node in enumerate([*left.tolist(), *right.tolist()]):
        assert [int(depth.source[channel]), node] in joined  # the norm over both has nodes of its own
    grouped_index, grouped = ends["grouped.weight"]
    pairs = set(map(tuple, grouped_index.T.tolist()))
    expected = {
        (int(grouped.target[o]), int(depth.target[i])) for o in range(4) for i in range(6) if (o < 2) == (i < 3)
    }
    assert pairs == expected
    head_index, _head = ends["head.weight"]
    up = ends["up.weight"][1]
    assert torch.equal(head_index[1][: 3 * 64], torch.from_numpy(up.target).repeat_interleave(64))
    assert head_index.shape[1] == model.head.weight.numel()


def test_the_layout_of_the_paper_has_its_features() -> None:
    model, inputs = build("residual")
    layout = NetGraph.from_module(model, inputs, "paper").layout
    assert layout.node_types == {"paper 8": 8}
    assert layout.edge_types == {"3x3": 9, "identity": 1}
    assert layout.nodes == 1 + 4 + 4 + 4 + 6 + 6 + 3  # the shortcut's convolution shares the nodes of its block
    assert layout.edge_tables["identity"].index.shape[1] == 4  # diagonal only, of the shortcut without weights
    graph = NetGraph.from_module(model, inputs, "paper")
    block = graph.nodes["paper 8"][1 + 4 + 4 + 4 + 6 : -3]
    shortcut = model.blocks[1].shortcut[1]
    assert torch.equal(block[:, 4], shortcut.weight)
    assert torch.equal(block[:, 7], shortcut.running_var)
    assert torch.equal(graph.nodes["paper 8"][0], torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 1]))  # an input: neutral
    assert torch.equal(graph.nodes["paper 8"][-3:, 1], model.head.bias)
    plain, inputs = build("plain")
    found = NetGraph.from_module(plain, inputs, "paper")
    assert found.layout.node_types == {"paper 5": 5}
    assert torch.equal(found.nodes["paper 5"][-3:, 4], plain.head.bias)
    fc = found.edges["3x3"][-15:]
    assert torch.equal(fc[:, 4].reshape(3, 5), plain.head.weight)
    assert float(fc[:, [0, 1, 2, 3, 5, 6, 7, 8]].abs().max()) == 0


def test_the_layout_of_the_paper_names_a_layer_without_a_place() -> None:
    with pytest.raises(InputError, match=r"features\.0\.weight.*5x5"):
        NetGraph.from_module(PlainCNN(5), torch.rand(2, 2, 8, 8), "paper")
    model, inputs = build("vit")
    with pytest.raises(InputError, match="layer"):
        NetGraph.from_module(model, inputs, "paper")
    with pytest.raises(InputError, match="layout"):
        NetGraph.from_module(model, inputs, "none")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="weights"):
        NetGraph.from_module(nn.ReLU(), inputs)


def metanetwork(graph: NetGraph, rho: float = 0.1, **options: int) -> GraphMetaNetwork:
    return GraphMetaNetwork.for_layouts(graph.layout, seed=1, rho=rho, **{"hidden": 8, "layers": 2} | options)


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_without_a_size_of_edits_the_network_comes_back(name: str, layout: str) -> None:
    model, inputs = build(name)
    graph = NetGraph.from_module(model, inputs, layout)  # type: ignore[arg-type]
    made = metanetwork(graph, 0.0).edit(graph).to_module()
    for key, value in model.state_dict().items():
        assert torch.equal(made.state_dict()[key], value)


def test_what_lies_on_the_padding_of_a_kernel_is_dropped() -> None:
    model, inputs = build("residual")
    graph = NetGraph.from_module(model, inputs, "paper")
    made = metanetwork(graph).edit(graph).to_module()
    weight = made.blocks[1].shortcut[0].weight
    assert weight.shape == model.blocks[1].shortcut[0].weight.shape
    assert not torch.equal(weight, model.blocks[1].shortcut[0].weight)


def test_permuted_neurons_get_permuted_edits() -> None:
    model, inputs = build("mlp")
    graph = NetGraph.from_module(model, inputs)
    network = metanetwork(graph, layers=3)
    edited = network.edit(graph).to_module().state_dict()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = copy.deepcopy(model)
    state = mixed.state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        state[f"layers.{name}"] = state[f"layers.{name}"][order]
    state["layers.3.weight"] = state["layers.3.weight"][:, order]
    mixed.load_state_dict(state)
    assert torch.allclose(mixed(inputs), model(inputs), atol=1e-5)  # the same function
    found = network.edit(NetGraph.from_module(mixed, inputs)).to_module().state_dict()
    for name, value in edited.items():
        expected = value[order] if name.startswith(("layers.0", "layers.1")) and value.ndim else value
        expected = expected[:, order] if name == "layers.3.weight" else expected
        assert torch.allclose(found[name].float(), expected.float(), atol=1e-5), name
    assert not torch.equal(edited["layers.0.weight"], model.layers[0].weight)


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_the_gradient_reaches_every_parameter_of_the_metanetwork(name: str) -> None:
    model, inputs = build(name)
    graph = NetGraph.from_module(model, inputs)
    network = metanetwork(graph)
    tensors = tensors_of_model(model)
    out = torch.func.functional_call(model, network.edited_tensors(graph.layout, tensors), (inputs,))
    out.square().sum().backward()
    # edits of what is not written back (no role, identity edges) have decoders without a gradient
    idle = [k for k, p in network.named_parameters() if p.grad is None or float(p.grad.abs().sum()) == 0]
    unused = [f"node_decoders.{network.node_names.index('plain')}."]
    unused += [f"edge_decoders.{network.edge_names.index(n)}." for n in network.edge_names if n == "identity"]
    assert all(any(key.startswith(start) for start in unused) for key in idle), idle


def test_recomputed_layers_give_the_same_gradient() -> None:
    model, inputs = build("mlp")
    graph = NetGraph.from_module(model, inputs)
    found = []
    for again in (0, 1):
        network = metanetwork(graph, checkpointing=again)
        made = network.edited_tensors(graph.layout, tensors_of_model(model))
        sum(value.square().sum() for value in made.values()).backward()  # type: ignore[union-attr]
        found.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert torch.allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "residual", "mixed"])
def test_blocks_of_edges_give_what_single_edges_give(name: str) -> None:
    model, inputs = build(name)
    graph = NetGraph.from_module(model, inputs)
    network = metanetwork(graph)
    index = graph.layout.index()
    whole = network.edit(graph)
    listed = replace(graph.layout)
    listed.__dict__["blocks"] = (Block(0, index.shape[1], index[0], index[1], False),)
    single = network.edit(replace(graph, layout=listed))
    for kind, value in whole.edges.items():
        assert torch.allclose(value, single.edges[kind], atol=1e-6)
    for kind, value in whole.nodes.items():
        assert torch.allclose(value, single.nodes[kind], atol=1e-6)


def test_messages_are_aggregated_as_their_definition_says() -> None:
    generator = torch.Generator().manual_seed(0)
    messages, target = torch.randn(9, 3, generator=generator), torch.tensor([0, 0, 0, 2, 2, 4, 4, 4, 4])
    found = aggregate(messages, target, 5)
    for node in range(5):
        own = messages[target == node]
        if not len(own):
            assert torch.equal(found[node], torch.zeros(12))
            continue
        expected = torch.cat([own.mean(0), own.std(0, correction=0), own.amax(0), own.amin(0)])
        assert torch.allclose(found[node], expected, atol=1e-5)
    alone = aggregate(torch.ones(1, 2), torch.tensor([0]), 1)
    assert torch.equal(alone, torch.tensor([[1.0, 1, 0, 0, 1, 1, 1, 1]]))  # no spread: 0, with a finite gradient


def test_a_metanetwork_is_saved_and_loaded(tmp_path: Path) -> None:
    model, inputs = build("mlp")
    graph = NetGraph.from_module(model, inputs)
    network = metanetwork(graph)
    network.save_pretrained(tmp_path / "network")
    again = GraphMetaNetwork.from_pretrained(tmp_path / "network")
    assert again.config == network.config
    for name, value in network.edit(graph).to_tensors().items():
        assert torch.equal(again.edit(graph).to_tensors()[name], value)


def test_another_family_of_networks_is_refused_by_the_type_that_is_new() -> None:
    model, inputs = build("mlp")
    network = metanetwork(NetGraph.from_module(model, inputs))
    other, images = build("residual")
    with pytest.raises(InputError, match="gamma"):
        network.edit(NetGraph.from_module(other, images))
    both = GraphMetaNetwork.for_layouts(
        NetGraph.from_module(model, inputs).layout, NetGraph.from_module(other, images).layout, hidden=4, layers=1
    )
    both.edit(NetGraph.from_module(other, images))
    both.edit(NetGraph.from_module(model, inputs))


@pytest.mark.parametrize(
    ("option", "value"), [("hidden", 3), ("hidden", 0), ("layers", 0), ("rho", -1.0), ("rho", float("nan"))]
)
def test_options_out_of_bounds_are_named(option: str, value: float) -> None:
    with pytest.raises(InputError, match=option):
        GraphMetaNetwork(node_types={"plain": 1}, edge_types={"1": 1}, **{option: value})  # type: ignore[arg-type]
