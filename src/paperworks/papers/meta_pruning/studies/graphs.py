"""Exact parts: graphs and back, symmetry of the metanetwork, the sparsity gradient against autograd."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from paperworks import runs
from paperworks.nn import build_network
from paperworks.papers.meta_pruning.criterion import group_importance, members, pull, slice_norms, sparsity_gradient
from paperworks.papers.meta_pruning.graph import NetGraph, tensors_of_model
from paperworks.papers.meta_pruning.metanetwork import GraphMetaNetwork
from paperworks.runs import Finding, Run, largest, smallest
from paperworks.structure.trace import analyze

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (24, 16), "batch_norm": True},
    "small-cnn": {"widths": (8, 12)},
    "tiny-vit": {"width": 16, "layers": 2, "heads": 2},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1]},
    "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    "convnext": {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2},
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]},
}
REG, ALPHA = 0.3, 16.0


class Plain(nn.Sequential):
    """Convolutions with biases and batch norms, as VGG has them."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, width in ((1, 8), (8, 12), (12, 12)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


@torch.no_grad()
def drawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """The network with random values in all parameters and statistics, in evaluation mode."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return model.eval()


@runs.study(
    claims=["graph-round-trip", "equivariance", "sparsity-gradient"],
    title="Networks as graphs and back, permuted neurons, and the sparsity gradient",
    minutes=0.5,
)
def graphs(run: Run, fast: bool) -> Iterator[Finding]:
    """Random weights of eight networks; nothing is trained."""
    generator = run.torch_rng("weights")
    images = torch.rand(2, 1, 16, 16, generator=generator)
    names = ["mlp", "small-cnn"] if fast else list(NETWORKS)
    models = {name: build_network(name, image_size=16, **NETWORKS[name]) for name in names}
    cases = [(name, "auto", model) for name, model in models.items()]
    cases += [
        ("small-cnn", "paper", models["small-cnn"]),
        ("VGG-like", "auto", Plain()),
        ("VGG-like", "paper", Plain()),
    ]
    for name, layout, model in cases:
        yield _round_trip(name, layout, drawn(model, generator), images, generator)
    yield _equivariance(generator)
    yield from _gradient(models["small-cnn"], images)


def _round_trip(name: str, layout: str, model: nn.Module, images: torch.Tensor, generator: torch.Generator) -> Finding:
    """Values that differ: network to graph to network, and a graph of other values to a network and back."""
    graph = NetGraph.from_module(model, images, layout)  # type: ignore[arg-type]
    parameters = dict(model.named_parameters())
    written = graph.to_tensors()
    wrong = sum(int((value != parameters[key]).sum()) for key, value in written.items())
    missing = set(parameters) - set(written) - set(graph.layout.kept)
    wrong += sum(parameters[key].numel() for key in missing)
    other = graph.with_features(
        {k: v + torch.rand(v.shape, generator=generator) for k, v in graph.nodes.items()},
        {k: v + torch.rand(v.shape, generator=generator) for k, v in graph.edges.items()},
    )
    again = NetGraph.from_module(other.to_module(), images, graph.layout).to_tensors()
    wrong += sum(int((value != again[key]).sum()) for key, value in other.to_tensors().items())
    kept = ", ".join(graph.layout.kept) or "nothing"
    return Finding(
        "graph-round-trip",
        f"{name}, layout {layout}: weights that differ after a graph is made and turned back, both ways",
        "exact",
        float(wrong),
        "==",
        0.0,
        detail=f"{sum(p.numel() for p in written.values()):,} weights in the graph; kept outside: {kept}",
    )


def _equivariance(generator: torch.Generator) -> Finding:
    """The largest difference between editing permuted neurons and permuting edited ones."""
    model = drawn(build_network("mlp", image_size=8, **NETWORKS["mlp"]), generator)
    images = torch.rand(2, 1, 8, 8, generator=generator)
    graph = NetGraph.from_module(model, images)
    metanetwork = GraphMetaNetwork.for_layouts(graph.layout, hidden=16, layers=4, rho=1.0)
    edited = tensors_of_model(metanetwork.edit(graph).to_module())
    order = torch.randperm(24, generator=generator)

    def permuted(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {k: v[order] if k.startswith(("layers.0.", "layers.1.")) else v for k, v in tensors.items()}
        found["layers.3.weight"] = found["layers.3.weight"][:, order]
        return found

    mixed = copy.deepcopy(model)
    mixed.load_state_dict({**mixed.state_dict(), **permuted(tensors_of_model(model))})
    found = tensors_of_model(metanetwork.edit(NetGraph.from_module(mixed, images)).to_module())
    worst = max(float((found[k] - v).abs().max()) for k, v in permuted(edited).items())
    size = max(float((edited[k] - v).abs().max()) for k, v in tensors_of_model(model).items())
    return Finding(
        "equivariance",
        "permuting the neurons of a hidden layer before the edit or after it: the largest difference",
        "exact",
        worst,
        "<=",
        1e-5,
        detail=f"24 neurons, 4 layers of message passing; the largest edit is {size:.3g}",
    )


def _gradient(model: nn.Module, images: torch.Tensor) -> Iterator[Finding]:
    groups = analyze(model, images)
    tensors = {k: v.double().requires_grad_(True) for k, v in tensors_of_model(model).items()}
    total = torch.zeros((), dtype=torch.float64)
    low, high = float("inf"), 0.0
    for units in groups.units.values():
        pulls = pull(group_importance(tensors, units), ALPHA)
        low, high = smallest((low, float(pulls.min()))), largest((high, float(pulls.max())))
        for name, axis, table in members(units):
            total = total + 0.5 * REG * (pulls.detach() * slice_norms(tensors[name], axis, table)).sum()
    total.backward()
    found = sparsity_gradient({k: v.detach() for k, v in tensors.items()}, groups, REG, ALPHA)
    worst = 0.0
    for name, value in tensors.items():
        if value.grad is not None:
            mine = found.get(name, torch.zeros_like(value))
            worst = largest((worst, float((mine - value.grad).abs().max() / value.grad.abs().max())))
    yield Finding(
        "sparsity-gradient",
        "the added gradient and autograd of the weighted squared norm: the largest relative difference",
        "exact",
        worst,
        "<=",
        1e-10,
        detail=f"{len(groups.units)} groups of a residual network, float64",
    )
    yield Finding(
        "sparsity-gradient",
        "the pull on the weakest channel over that on the strongest",
        "exact",
        high / low,
        "==",
        ALPHA,
        tolerance=1e-9,
        detail=f"pulls from {low:.3g} to {high:.3g}",
    )
