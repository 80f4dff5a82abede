"""The layout of the paper for residual networks and for plain ones with biases: fixed features, padded kernels.

    ResNet  nodes  gamma, beta, mean, var of the norm; the same four of the shortcut's norm
            edges  9: a kernel of 3x3; 1x1 and fully connected at the centre of zeros
    VGG     nodes  gamma, beta, mean, var, bias of the convolution
            edges  9

Values that a node lacks are neutral: gamma 1, beta 0, mean 0, variance 1. The bias of the last layer sits in ``beta``
of a residual network and in ``bias`` of a plain one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.meta_pruning.graph import (
    Layout,
    NodeTable,
    edge_table,
    identity_table,
    kept_parameters,
)
from paperworks.papers.meta_pruning.wiring import Bundle, Layer, Wiring

NORM = ("gamma", "beta", "mean", "var")
RESIDUAL = (*NORM, *(f"shortcut {role}" for role in NORM))
PLAIN = (*NORM, "bias")
SIDE = 3


def paper_layout(wiring: Wiring, model: nn.Module) -> Layout:
    """The layout of a traced ResNet or VGG. Raises InputError naming a layer that has no place in it."""
    for bundle in wiring.bundles:
        kernel = bundle.kernel
        if len(kernel) not in (0, 2) or any(k > SIDE or k % 2 == 0 for k in kernel):
            expected = "convolutions of 3x3 and 1x1 and linear layers; layout auto takes any kernel"
            raise InputError(f"layer {bundle.param}", f"a kernel of {'x'.join(map(str, kernel))}", expected)
    residual = bool(wiring.identities)
    merged = _merged(wiring) if residual else wiring
    roles = RESIDUAL if residual else PLAIN
    parts = tuple((layer.size, _columns(layer, roles)) for layer in merged.layers)
    ids = torch.cat([torch.arange(layer.first, layer.first + layer.size) for layer in merged.layers])
    nodes = {f"paper {len(roles)}": NodeTable(roles, ids, parts)}
    edges = {f"{SIDE}x{SIDE}": edge_table(merged.bundles, SIDE * SIDE), **identity_table(merged)}
    return Layout(merged.nodes, nodes, edges, kept_parameters(model, nodes, edges))


def _columns(layer: Layer, roles: tuple[str, ...]) -> tuple[str | None, ...]:
    vectors = dict(layer.vectors)
    if "bias" in vectors and "bias" not in roles:
        if "beta" in vectors:
            raise InputError(f"layer {layer.name}", "a bias and a norm", "one of them in a residual network")
        vectors["beta"] = vectors.pop("bias")
    odd = [role for role in vectors if role not in roles]
    if odd:
        raise InputError(f"layer {layer.name}", f"{odd[0]} ({vectors[odd[0]]})", f"{', '.join(roles)}")
    return tuple(vectors.get(role) for role in roles)


def _merged(wiring: Wiring) -> Wiring:
    """Nodes of a shortcut's convolution are those of the convolution that it is added to; nodes are numbered anew."""
    read = {int(node) for bundle in wiring.bundles for node in bundle.source}
    by_first = {layer.first: layer for layer in wiring.layers}
    bundle_of = {bundle.param: bundle for bundle in wiring.bundles}
    into: dict[int, Layer] = {}
    for left, right in wiring.identities:
        pair = [by_first.get(int(left[0])), by_first.get(int(right[0]))]
        for main, other in (pair, pair[::-1]):
            if main is None or other is None or other.first in into or main.first in into:
                continue
            own = bundle_of.get(other.name)
            unread = other.first not in read
            if unread and own is not None and np.prod(own.kernel, dtype=int) == 1 and "gamma" in other.vectors:
                into[other.first] = main
                break
    number = np.zeros(wiring.nodes, np.int64)
    made = Wiring()
    fresh: dict[int, Layer] = {}
    for layer in wiring.layers:
        if layer.first not in into:
            new = made.add(layer.name, layer.size)
            new.vectors = dict(layer.vectors)
            fresh[layer.first] = new
            number[layer.first : layer.first + layer.size] = np.arange(new.first, new.first + new.size)
    for first, main in into.items():
        layer, new = by_first[first], fresh[main.first]
        new.vectors.update({f"shortcut {role}": name for role, name in layer.vectors.items()})
        number[first : first + layer.size] = np.arange(new.first, new.first + new.size)
    made.bundles = [_renumbered(bundle, number) for bundle in wiring.bundles]
    made.identities = [(number[left], number[right]) for left, right in wiring.identities]
    return made


def _renumbered(bundle: Bundle, number: np.ndarray) -> Bundle:
    return replace(bundle, target=number[bundle.target], source=number[bundle.source])
