"""Rules of norms, reductions and softmax: statistics over an axis with atoms couple its units."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.structure.trace.algebra import Ids, Value
from paperworks.structure.trace.walk import Site, Walk, rule

COUPLED = "norm_coupled"
"""Tag of units whose removal changes the statistics that others are normalised with."""


def _affine(walk: Walk, ids: Ids | None, size: int, *tensors: Any) -> Ids | None:
    for tensor in tensors:
        if isinstance(tensor, Value):
            ids = walk.meet(ids, tensor.axes[-1], left_size=size, right_size=tensor.shape[-1])
    return ids


@rule("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "instance_norm")
def batch_norm(walk: Walk, node: Any, x: Value, *tensors: Any, **kwargs: Any) -> Any:
    """Channels (axis 1) with gain, shift, mean and variance."""
    axes = list(x.axes)
    vectors = [t for t in tensors[:4] if isinstance(t, Value)]
    axes[1] = _affine(walk, axes[1], x.shape[1], *vectors)
    for i, ids in enumerate(axes):
        if i != 1:
            walk.freeze(ids, "is normalised over")
    zero = [i == 1 and axes[1] is not None and (x.zero[1] or bool(vectors)) for i in range(len(axes))]
    made = Value(x.shape, tuple(axes), tuple(zero))
    return [made, Value.free((0,)), Value.free((0,))] if isinstance(node.meta["val"], list | tuple) else made


@rule("layer_norm", "native_layer_norm")
def layer_norm(
    walk: Walk, node: Any, x: Value, shape: list[int], weight: Any = None, bias: Any = None, *args: Any
) -> Any:
    """The last axes; their units share mean and variance."""
    made = _normalised(walk, x, len(shape), weight, bias)
    return [made, Value.free((0,)), Value.free((0,))] if isinstance(node.meta["val"], list | tuple) else made


@rule("rms_norm", "_fused_rms_norm")
def rms_norm(walk: Walk, node: Any, x: Value, shape: list[int], weight: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The last axes; their units share the mean square."""
    made = _normalised(walk, x, len(shape), weight, None)
    return [made, Value.free((0,))] if isinstance(node.meta["val"], list | tuple) else made


def _normalised(walk: Walk, x: Value, count: int, weight: Any, bias: Any) -> Value:
    axes, first = list(x.axes), len(x.shape) - count
    zero = [z and not isinstance(bias, Value) for z in x.zero]
    for i in range(first, len(axes)):
        for tensor in (weight, bias):
            if isinstance(tensor, Value):
                axes[i] = walk.meet(
                    axes[i], tensor.axes[i - first], left_size=x.shape[i], right_size=tensor.shape[i - first]
                )
        walk.atoms.tag(axes[i], COUPLED)
        ids = axes[i]
        if ids is not None and count == 1:
            walk.sites.append(Site("norm", walk.module, ids, 1))
        zero[i] = axes[i] is not None and isinstance(weight, Value)
    return Value(x.shape, tuple(axes), tuple(zero))


@rule("group_norm", "native_group_norm")
def group_norm(walk: Walk, node: Any, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Outer: whole groups leave, which changes no statistic. Inner: the same channel of every group leaves."""
    native = isinstance(node.meta["val"], list | tuple)
    if native:
        weight, bias, groups = args[0], args[1], args[5]
    else:
        groups, weight, bias = ([*args, None, None])[:3]
    ids = _affine(walk, x.axes[1], x.shape[1], weight, bias)
    for i, other in enumerate(x.axes):
        if i != 1:
            walk.freeze(other, "is normalised over")
    if ids is not None:
        table = ids.reshape(groups, -1)
        walk.sites.append(Site("group_norm", walk.module, ids, groups))
        if table.shape[1] > 1 and (walk.mode == "outer" and groups > 1):
            walk.atoms.join(np.ascontiguousarray(table[:, 1:]), table[:, :1])
            walk.atoms.tag(table[:, 0], "norm_group")
        elif table.shape[1] > 1:
            if groups > 1:
                walk.atoms.join(np.ascontiguousarray(table[1:]), np.broadcast_to(table[:1], table[1:].shape))
            walk.atoms.tag(ids, COUPLED)
    axes = (x.axes[0], ids, *x.axes[2:])
    zero = tuple(i == 1 and ids is not None and (isinstance(weight, Value) or x.zero[1]) for i in range(len(axes)))
    made = Value(x.shape, axes, zero)
    return [made, Value.free((0,)), Value.free((0,))] if native else made


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "logsumexp_keep", "sort", "cumprod")
def softmax(walk: Walk, node: Any, x: Value, dim: int = -1, *args: Any, **kwargs: Any) -> Any:
    """Every position along ``dim`` depends on all others there."""
    axis = dim % max(1, len(x.shape))
    walk.freeze(x.axes[axis] if x.axes else None, "is taken together along this axis (softmax or a running sum)")
    axes = [None if i == axis else ids for i, ids in enumerate(x.axes)]
    made = Value(x.shape, tuple(axes), (False,) * len(axes))
    return [made, made] if isinstance(node.meta["val"], list | tuple) else made


def _reduced(walk: Walk, node: Any, x: Value, dims: Any, keep: bool, *, zero: bool) -> Value:
    count = len(x.shape)
    chosen = (
        range(count) if dims is None or dims == [] else [d % count for d in ([dims] if isinstance(dims, int) else dims)]
    )
    pairs: list[tuple[Ids | None, bool]] = []
    for i in range(count):
        if i not in chosen:
            pairs.append((x.axes[i], x.zero[i] and zero))
        elif keep:
            pairs.append((None, False))
    return Value(walk.shape_of(node), tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))


def _over(x: Value, dims: Any) -> list[int]:
    count = len(x.shape)
    return (
        list(range(count))
        if dims is None or dims == []
        else [d % count for d in ([dims] if isinstance(dims, int) else dims)]
    )


def _options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
    dims = args[0] if args and not isinstance(args[0], bool) else kwargs.get("dim")
    keep = next((a for a in args[1:] if isinstance(a, bool)), kwargs.get("keepdim", False))
    return dims, bool(keep)


@rule("mean", "var", "std")
def mean(walk: Walk, node: Any, x: Value, *args: Any, **kwargs: Any) -> Any:
    """A statistic over an axis with atoms couples them: after a cut it is taken over those that are left."""
    dims, keep = _options(args, kwargs)
    if len(args) > 1 and str(node.target).endswith(".correction"):
        keep = kwargs.get("keepdim", False)
    for axis in _over(x, dims):
        walk.atoms.tag(x.axes[axis], COUPLED)
    return _reduced(walk, node, x, dims, keep, zero=True)


@rule("sum", "linalg_vector_norm", "linalg_norm", "norm")
def total(walk: Walk, node: Any, x: Value, *args: Any, **kwargs: Any) -> Any:
    """A sum, or a norm of order 0 or more, over positions that hold zeros does not change when they leave."""
    name = str(node.target).split(".")[1]
    if name != "sum":
        order, args = (args[0] if args else kwargs.get("ord", kwargs.get("p"))), args[1:]
        if not _of_vectors(order, _options(args, kwargs)[0], x):
            for ids in x.axes:
                walk.freeze(ids, "goes into a norm that zeros change (of a negative order, or of a matrix)")
            return walk.free_like(node)
    dims, keep = _options(args, kwargs)
    for axis in _over(x, dims):
        if not x.zero[axis]:
            walk.freeze(x.axes[axis], "is summed up while its masked positions are not zero")
    return _reduced(walk, node, x, dims, keep, zero=True)


def _of_vectors(order: Any, dims: Any, x: Value) -> bool:
    """Whether a norm of this order ignores zeros: not a matrix norm, and not a negative power."""
    if order is None:
        return True
    return isinstance(order, int | float) and order >= 0 and (isinstance(dims, int) or len(_over(x, dims)) == 1)


@rule("cosine_similarity")
def cosine_similarity(walk: Walk, node: Any, x: Value, y: Value, dim: int = 1, *args: Any) -> Any:
    """Three sums along an axis: of the products and of both squares."""
    if x.shape != y.shape:
        return NotImplemented
    axis = dim % len(x.shape)
    axes = tuple(walk.meet(a, b, left_size=n, right_size=n) for a, b, n in zip(x.axes, y.axes, x.shape, strict=True))
    both = Value(x.shape, axes, tuple(a and b for a, b in zip(x.zero, y.zero, strict=True)))
    if not both.zero[axis]:
        walk.freeze(axes[axis], "is summed up while its masked positions are not zero")
    return _reduced(walk, node, both, axis, False, zero=True)


@rule("amax", "amin", "max", "min", "argmax", "argmin", "prod", "any", "all", "logsumexp")
def extreme(walk: Walk, node: Any, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Along an axis with atoms: they stay."""
    if args and isinstance(args[0], Value):
        return walk.rules["maximum"](walk, node, x, *args)
    dims, keep = _options(args, kwargs)
    for axis in _over(x, dims):
        walk.freeze(x.axes[axis], "is reduced along this axis (a maximum or the like)")
    if isinstance(node.meta["val"], list | tuple):
        made = [_shaped(x, dims, keep, tuple(map(int, v.shape))) for v in node.meta["val"]]
        return made
    return _reduced(walk, node, x, dims, keep, zero=False)


def _shaped(x: Value, dims: Any, keep: bool, shape: tuple[int, ...]) -> Value:
    over = _over(x, dims)
    axes = [None if i in over else ids for i, ids in enumerate(x.axes) if keep or i not in over]
    return Value(shape, tuple(axes), (False,) * len(axes))
