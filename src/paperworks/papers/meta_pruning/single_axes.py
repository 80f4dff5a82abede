"""Layers of one unit in the wiring: atoms for axes of length 1, and rules that carry them on.

The walk of ``paperworks.structure.trace`` looks for what can be removed. From an axis of length 1 nothing can, so that
it gives such axes no atoms and drops them. In the graph of a network a layer of one unit has a node, with its bias and
its norm, like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.structure.trace.algebra import Atoms, Family, Ids, Value
from paperworks.structure.trace.rules_pointwise import pointwise
from paperworks.structure.trace.rules_shape import blocks, expand, split, view
from paperworks.structure.trace.walk import RULES, Rule, Walk


def with_single_axes(atoms: Atoms, name: str, value: Value) -> Value:
    """A weight or vector with an atom for its output and input axis also where that has length 1."""
    axes = list(value.axes)
    single = [axis for axis in range(min(2, len(axes))) if axes[axis] is None and value.shape[axis] == 1]
    if not single:
        return value
    for axis in single:
        atoms.families.append(Family(name, axis, atoms.count, 1, False))
        axes[axis] = np.array([atoms.count], np.int64)
        atoms.count += 1
    return Value(value.shape, tuple(axes), value.zero)


def _pointwise(walk: Walk, node: Any, *args: Any, **kwargs: Any) -> Any:
    """Axes of length 1 meet where none of the tensors is broadcast."""
    made = pointwise(walk, node, *args, **kwargs)
    if not isinstance(made, Value):
        return made
    axes = list(made.axes)
    for axis, size in enumerate(made.shape):
        if size == 1:
            for tensor in (*args, *kwargs.values()):
                here = axis - len(made.shape) + len(tensor.shape) if isinstance(tensor, Value) else -1
                if here >= 0:
                    axes[axis] = walk.meet(axes[axis], tensor.axes[here], left_size=1, right_size=1)
    return Value(made.shape, tuple(axes), made.zero)


def _view(walk: Walk, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """An axis of length 1 stays one, or is flattened together with those behind it."""
    single = {i for i, ids in enumerate(x.axes) if ids is not None and x.shape[i] == 1} if isinstance(x, Value) else ()
    if not single:
        return view(walk, node, x, *args, **kwargs)
    bare = tuple(None if i in single else ids for i, ids in enumerate(x.axes))
    made = view(walk, node, Value(x.shape, bare, x.zero), *args, **kwargs)
    axes: list[Ids | None] = list(made.axes)
    pairs = blocks(x.shape, made.shape)
    for number, (old, new) in enumerate(pairs):
        for axis in single.intersection(old):
            if [made.shape[i] for i in new] == [1]:
                axes[new[0]] = x.axes[axis]
            elif not new:
                behind, last = [i for pair in pairs[number + 1 :] for i in pair[0]], len(axes) - 1
                if [i for pair in pairs[number + 1 :] for i in pair[1]] == [last] and not any(
                    x.axes[i] is not None for i in behind
                ):
                    axes[last] = np.repeat(x.axes[axis], made.shape[last])
    return Value(made.shape, tuple(axes), made.zero)


def _split(walk: Walk, node: Any, x: Value, how: Any, dim: int = 0) -> list[Value]:
    """Pieces of length 1 keep their atom."""
    axis, start, found = dim % len(x.shape), 0, []
    for piece in split(walk, node, x, how, dim):
        axes, size, ids = list(piece.axes), piece.shape[axis], x.axes[axis]
        axes[axis] = None if ids is None else ids[start : start + size]
        found.append(Value(piece.shape, tuple(axes), piece.zero))
        start += size
    return found


def _expand(walk: Walk, node: Any, x: Value, *args: Any, **kwargs: Any) -> Value:
    """An axis of length 1 that becomes longer is broadcast: it has no atoms of its own."""
    made = expand(walk, node, x, *args, **kwargs)
    axes = [
        ids if ids is not None and len(ids) == size else None for ids, size in zip(made.axes, made.shape, strict=True)
    ]
    return Value(made.shape, tuple(axes), made.zero)


def single_rules() -> dict[str, Rule]:
    """The walk's rules, with those replaced that drop axes of length 1."""
    replaced: dict[Rule, Rule] = {pointwise: _pointwise, view: _view, split: _split, expand: _expand}
    return {name: replaced.get(own, own) for name, own in RULES.items()}
