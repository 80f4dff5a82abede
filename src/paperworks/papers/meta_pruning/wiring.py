"""How the neurons of a traced network are wired: which nodes a weight joins, and which vectors sit at which nodes.

The walk of ``paperworks.structure.trace`` carries numbers of positions through the network. Here they keep the layer
that wrote them: a weight reads nodes of the layers in front of it, a vector (bias, gain, running mean) sits at the
nodes that it acts on, and a sum of two layers joins their nodes by identity edges.

That walk gives an axis of length 1 no atom: nothing can leave it. A layer of one unit has a node all the same, so that
here such axes have atoms too (``single_axes``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paperworks.papers.meta_pruning.single_axes import single_rules, with_single_axes
from paperworks.structure.trace import Value, Walk, rules_linear, rules_norm, rules_pointwise, rules_shape  # noqa: F401
from paperworks.structure.trace.algebra import FIXED
from paperworks.structure.trace.capture import Captured
from paperworks.structure.trace.walk import Mode, Rule, SplitTaken

Ids = NDArray[np.int64]

WEIGHTED: dict[str, tuple[int, int, int]] = {
    "linear": (0, 1, 0),
    "addmm": (1, 2, 1),
    **{f"conv{d}d": (0, 1, 0) for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": (0, 1, 1) for d in (1, 2, 3)},
    "convolution": (0, 1, 0),
}
"""Operator -> places of input and weight among its arguments, and the axis of the weight that it writes."""
NORM_ROLES = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
AFFINE_ROLES = {"weight": "gain", "bias": "shift"}


@dataclass(eq=False)
class Layer:
    """The nodes that one weight (or norm) writes.

    Attributes
    ----------
    name : of the parameter that makes the nodes.
    first, size : numbers of the nodes are ``first`` to ``first + size``.
    vectors : role -> name of the parameter or buffer ``[size]`` whose values the nodes carry.
    """

    name: str
    first: int
    size: int
    vectors: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> Ids:
        return np.arange(self.first, self.first + self.size, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Bundle:
    """The edges of one weight: from the nodes that it reads to the nodes that it writes.

    Attributes
    ----------
    param, shape : the weight ``[out, in, ...]``, or ``[in, out, ...]`` where ``transposed``.
    target, source : numbers of its output and input nodes, int64 ``[out]`` and ``[in of all groups]``.
    groups : of a grouped convolution.
    """

    param: str
    shape: tuple[int, ...]
    target: Ids
    source: Ids
    groups: int
    transposed: bool

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.shape[2:]

    def index(self) -> Ids:
        """int64 ``[2, edges]``, output nodes above input nodes, in the row-major order of ``[out, in / groups]``."""
        out, inner = len(self.target), len(self.source) // self.groups
        group = np.arange(out) // (out // self.groups)
        columns = group[:, None] * inner + np.arange(inner)[None]
        return np.stack([np.repeat(self.target, inner), self.source[columns].ravel()])


@dataclass(eq=False)
class Wiring:
    """Layers of nodes, edges of weights, and identity edges ``(target nodes, source nodes)`` of sums."""

    layers: list[Layer] = field(default_factory=list)
    bundles: list[Bundle] = field(default_factory=list)
    identities: list[tuple[Ids, Ids]] = field(default_factory=list)
    nodes: int = 0

    def add(self, name: str, size: int) -> Layer:
        """A new layer of nodes."""
        self.layers.append(Layer(name, self.nodes, size))
        self.nodes += size
        return self.layers[-1]


@dataclass(eq=False)
class _WiringWalk(Walk):
    """A walk that notes what meets."""

    wiring: Wiring = field(default_factory=Wiring)
    _layer_at: dict[int, Layer] = field(default_factory=dict)
    _sits_at: dict[str, Ids] = field(default_factory=dict)
    _read: dict[tuple[int, int], tuple[Value, Ids]] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _known: Ids = field(default_factory=lambda: np.empty(0, np.int64))

    def _input(self, node: Any) -> Any:
        """What layers and norms read has atoms on axes of length 1 too."""
        value, name = super()._input(node), self.captured.parameters.get(node.name)
        if name not in self.values or not any(_reads_vectors(user) for user in node.users):
            return value
        self.values[name] = with_single_axes(self.atoms, name, self.values[name])
        return self.values[name]

    def family(self, atom: int) -> tuple[str, int, int]:
        """Parameter, axis and first atom of the axis that an atom belongs to."""
        found = self.atoms.families[int(np.searchsorted(self._starts(), atom, side="right")) - 1]
        return found.param, found.axis, found.start

    def _starts(self) -> Ids:
        """First atoms of all axes, ascending."""
        families = self.atoms.families
        if len(self._known) != len(families):
            self._known = np.array([f.start for f in families], np.int64)
        return self._known

    def name_of(self, value: Any) -> str | None:
        """The parameter or buffer that a value is, if it is one."""
        return next((name for name, own in self.values.items() if own is value), None)

    def layer_of(self, ids: Ids) -> Layer | None:
        """The layer that these atoms are, all of it and in order."""
        found = self._layer_at.get(int(ids[0])) if len(ids) else None
        whole = found is not None and len(ids) == found.size and bool((np.diff(ids) == 1).all())
        return found if whole else None

    def nodes_at(self, ids: Ids | None) -> Ids | None:
        """The node of each atom, -1 for those of no layer; None where no atom is of one."""
        if ids is None or not len(ids):
            return None
        atoms = self._unrepeated(ids)
        own = self._starts_of(atoms)
        found = np.full(len(atoms), -1, np.int64)
        for start in np.unique(own[atoms != FIXED]).tolist():
            layer = self._layer_at.get(start)
            if layer is not None:
                inside = (own == start) & (atoms != FIXED)
                found[inside] = layer.first + atoms[inside] - start
        return found if (found >= 0).any() else None

    def _starts_of(self, atoms: Ids) -> Ids:
        """The first atom of the axis that each atom belongs to."""
        starts = self._starts()
        return starts[np.maximum(np.searchsorted(starts, atoms, side="right") - 1, 0)]

    def _unrepeated(self, ids: Ids) -> Ids:
        """Ids of heads, repeated over the channels of each, become those of the channels again."""
        n = len(np.unique(ids))
        if n == len(ids) or n < 2 or len(ids) % n:
            return ids
        each = len(ids) // n
        table = ids.reshape(n, each)
        if not bool((table == table[:, :1]).all()) or not bool((np.diff(table[:, 0]) == each).all()):
            return ids
        channels = (table + np.arange(each)).ravel()
        one = bool((self._starts_of(channels) == self._starts_of(table[:1, 0])).all())
        return channels if one else ids

    def make_layer(self, name: str, ids: Ids | None, size: int) -> Layer:
        layer = self.wiring.add(name, size)
        if ids is not None:
            self._layer_at[int(ids[0])] = layer
        return layer

    def meet(self, left: Ids | None, right: Ids | None, *, left_size: int = -1, right_size: int = -1) -> Ids | None:
        joined = super().meet(left, right, left_size=left_size, right_size=right_size)
        for ids, other in ((right, left), (left, right)):
            vector = self._vector(ids)
            if vector is not None and ids is not None:
                return self._sit(other, ids, vector)
        if left is None or right is None or left is right:
            return joined
        a, b = self.nodes_at(left), self.nodes_at(right)
        if a is not None and b is not None and len(a) == len(b):
            self._same(a, b)
            return left
        return right if a is None and b is not None and len(right) == len(left) else joined

    def _same(self, target: Ids, source: Ids) -> None:
        """Note identity edges between nodes, where both are known."""
        known = (target >= 0) & (source >= 0) & (target != source)
        if known.any():
            self.wiring.identities.append((target[known], source[known]))

    def _vector(self, ids: Ids | None) -> str | None:
        """The vector ``[n]`` that these atoms are, if they are one that is no layer of nodes yet."""
        if ids is None or not len(ids):
            return None
        name, _, start = self.family(int(ids[0]))
        one = len(self.values[name].shape) == 1 and int(ids[0]) == start and start not in self._layer_at
        return name if one and len(ids) == self.values[name].shape[0] else None

    def _sit(self, left: Ids | None, right: Ids, name: str) -> Ids:
        """A vector sits at the nodes that it acts on; where they are not one layer, or have one, it makes its own.

        One that sits somewhere already stays there, and identity edges join the nodes that it acts on next.
        """
        role, before = self._role(name), self.nodes_at(left)
        layer = None if left is None else self.layer_of(left)
        if name in self._sits_at:
            if before is not None:
                self._same(before, self._sits_at[name])
            return right if left is None else left
        if layer is not None and left is not None and role not in layer.vectors:
            layer.vectors[role] = name
            self._sits_at[name] = layer.nodes
            return left
        made = self.make_layer(name, right, len(right))
        made.vectors[role] = name
        self._sits_at[name] = made.nodes
        if before is not None:
            self._same(made.nodes, before)
        return right

    def _role(self, name: str) -> str:
        leaf = name.rpartition(".")[2]
        operator = str(self._node.target)
        if "batch_norm" in operator or "instance_norm" in operator:
            return NORM_ROLES.get(leaf, leaf)
        if "norm" in operator:
            return AFFINE_ROLES.get(leaf, leaf)
        return "bias" if any(f"aten.{o}." in operator for o in WEIGHTED) else leaf

    def weighted(self, node: Any, x: Value, weight: Value, out_axis: int, channel: int, groups: int) -> None:
        """Note the edges of a weight the first time that it is used."""
        name = self.name_of(weight)
        if name is None or len(weight.shape) < 2 or (out_axis and groups > 1):
            return
        if name in self._seen:
            return
        self._seen.add(name)
        source = self._sources(x, channel, name)
        layer = self.make_layer(name, weight.axes[out_axis], weight.shape[out_axis])
        self.wiring.bundles.append(Bundle(name, weight.shape, layer.nodes, source, groups, bool(out_axis)))

    def _sources(self, x: Value, channel: int, name: str) -> Ids:
        """The nodes that a weight reads. What no layer makes (inputs) gets new ones, the same for all its readers."""
        if (id(x), channel) in self._read:
            return self._read[id(x), channel][1]
        known = self.nodes_at(x.axes[channel])
        source = np.full(x.shape[channel], -1, np.int64) if known is None else known
        new = source < 0
        if new.any():
            source[new] = self.wiring.add(f"{name}:in", int(new.sum())).nodes
        self._read[id(x), channel] = (x, source)
        return source


def _operator(node: Any) -> str:
    """The name of a node's operator without its overload."""
    return [*str(node.target).split("."), ""][1]


def _reads_vectors(node: Any) -> bool:
    return _operator(node) in WEIGHTED or "norm" in _operator(node)


def _noting(original: Rule, places: tuple[int, int, int], operator: str) -> Rule:
    def noted(walk: _WiringWalk, node: Any, *args: Any, **kwargs: Any) -> Any:
        x, weight, out_axis = args[places[0]], args[places[1]], places[2]
        groups = 1
        if operator.startswith("conv"):
            at = {"convolution": 8}.get(operator, 7 if "transpose" in operator else 6)
            groups = int(args[at]) if len(args) > at else int(kwargs.get("groups", 1))
            if operator == "convolution" and args[6]:
                out_axis = 1
        spatial = len(weight.shape) - 2 if operator.startswith("conv") else 0
        channel = len(x.shape) - spatial - 1
        walk.weighted(node, x, weight, out_axis, channel, groups)
        made = original(walk, node, *args, **kwargs)
        own = weight.axes[out_axis]
        if walk.name_of(weight) is None or own is None or (out_axis and groups > 1):
            return made
        axes = list(made.axes)
        if made.shape[channel] == len(own):
            axes[channel] = own
        return Value(made.shape, tuple(axes), made.zero)

    return noted


def wire(captured: Captured) -> Wiring:
    """The wiring of a traced module. No weight is read."""
    rules: dict[str, Callable[..., Any]] = single_rules()
    for name, places in WEIGHTED.items():
        if name in rules:
            rules[name] = _noting(rules[name], places, name)
    mode: Mode = "outer"
    fixed: dict[str, set[int]] = {}
    while True:
        found = _WiringWalk(captured, mode, rules, fixed)
        try:
            found.run()
        except SplitTaken as taken:
            fixed.setdefault(taken.split, set()).add(taken.part)
            continue
        return found.wiring
