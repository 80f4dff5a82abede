"""Rules of operators with weights and of products of activations: linear, convolution, embedding, attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.structure.trace.algebra import Ids, Value
from paperworks.structure.trace.walk import Site, Walk, rule

Zeros = tuple[bool, ...]


def _length(ids: Ids | None, size: int) -> tuple[Ids | None, int]:
    return ids, size


def _lengths(value: Value) -> list[tuple[Ids | None, int]]:
    return list(zip(value.axes, value.shape, strict=True))


def _contract(walk: Walk, a: Value, i: int, b: Value, j: int, text: str = "multiplied and summed up") -> None:
    """Axis i of a against axis j of b: removed positions must hold zeros on one side, or the sum would differ."""
    ids = walk.meet(a.axes[i], b.axes[j], left_size=a.shape[i], right_size=b.shape[j])
    if ids is not None and not (a.zero[i] or b.zero[j]):
        walk.freeze(ids, f"is {text} while its masked positions are not zero")


def _bias(walk: Walk, bias: Any, out: Ids | None) -> None:
    if isinstance(bias, Value):
        walk.meet(bias.axes[-1], out, left_size=bias.shape[-1], right_size=0 if out is None else len(out))


def _out_zero(weight: Value, axis: int, bias: Any) -> bool:
    return weight.zero[axis] and (not isinstance(bias, Value) or bias.zero[-1])


@rule("linear")
def linear(walk: Walk, node: Any, x: Value, weight: Value, bias: Any = None) -> Value:
    """x [..., in], weight [out, in]."""
    return _linear(walk, node, x, weight, bias, 0)


def _linear(walk: Walk, node: Any, x: Value, weight: Value, bias: Any, out_axis: int) -> Value:
    _contract(walk, x, len(x.shape) - 1, weight, 1 - out_axis)
    out = weight.axes[out_axis]
    _bias(walk, bias, out)
    walk.produce(out)
    walk.work(*_lengths(x), _length(out, weight.shape[out_axis]))
    plain = not isinstance(bias, Value)
    zero = tuple(z and plain for z in x.zero[:-1])
    return Value(walk.shape_of(node), (*x.axes[:-1], out), (*zero, _out_zero(weight, out_axis, bias)))


@rule("addmm")
def addmm(walk: Walk, node: Any, bias: Value, x: Value, weight: Value, **kwargs: Any) -> Value:
    """bias + x [n, in] @ weight [in, out], as transformers' Conv1D has it."""
    return _linear(walk, node, x, weight, bias, 1)


@rule("conv1d", "conv2d", "conv3d")
def conv(
    walk: Walk,
    node: Any,
    x: Value,
    weight: Value,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """x [N, in, ...], weight [out, in / groups, ...]."""
    return _conv(walk, node, x, weight, bias, groups, transposed=False)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(
    walk: Walk,
    node: Any,
    x: Value,
    weight: Value,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """x [N, in, ...], weight [in, out / groups, ...]."""
    return _conv(walk, node, x, weight, bias, groups, transposed=True)


@rule("convolution")
def convolution(
    walk: Walk,
    node: Any,
    x: Value,
    weight: Value,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Value:
    """The general form."""
    return _conv(walk, node, x, weight, bias, groups, transposed=transposed)


def _conv(walk: Walk, node: Any, x: Value, weight: Value, bias: Any, groups: int, *, transposed: bool) -> Value:
    shape = walk.shape_of(node)
    spatial = len(weight.shape) - 2
    batch = len(x.shape) - spatial - 1
    for ids in x.axes[batch + 1 :]:
        walk.freeze(ids, "is a spatial axis of a convolution")
    channels = x.axes[batch]
    size_in, size_out = x.shape[batch], shape[batch]
    if groups == 1:
        _contract(walk, x, batch, weight, 0 if transposed else 1)
        out: Ids | None = weight.axes[1 if transposed else 0]
        zero = _out_zero(weight, 1 if transposed else 0, bias)
    else:
        out, zero = _grouped(walk, channels, weight, groups, size_in, size_out, transposed=transposed), True
        if isinstance(bias, Value) and bias.axes[0] is None:
            zero = False
    _bias(walk, bias, out)
    walk.produce(out)
    kernel = int(np.prod(weight.shape[2:]))
    places = int(np.prod(x.shape[batch + 1 :] if transposed else shape[batch + 1 :]))
    if groups == 1:
        walk.work(shape[0] if batch else 1, _length(channels, size_in), _length(out, size_out), kernel * places)
    elif transposed:
        walk.work(
            shape[0] if batch else 1,
            _length(channels, size_in),
            _length(weight.axes[1], weight.shape[1]),
            kernel * places,
        )
    else:
        walk.work(
            shape[0] if batch else 1, _length(out, size_out), _length(weight.axes[1], weight.shape[1]), kernel * places
        )
    axes = (*x.axes[:batch], out, *[None] * spatial)
    return Value(shape, axes, (*[False] * batch, zero and out is not None, *[False] * spatial))


def _grouped(
    walk: Walk, channels: Ids | None, weight: Value, groups: int, size_in: int, size_out: int, *, transposed: bool
) -> Ids | None:
    """Outer: whole groups leave. Inner: the same channel of every group leaves, on either side by itself.

    With one channel in each group (depthwise) a channel leaves with all outputs that it makes.
    """
    per_in, per_out = size_in // groups, size_out // groups
    first, second = weight.axes[:2]
    if channels is None and per_in * groups > 1:
        walk.freeze(first, "is read by a grouped convolution from channels that stay")
    rows = first if first is not None else np.zeros(weight.shape[0], dtype=np.int64)
    own = rows.reshape(groups, -1)  # [groups, outputs (inputs where transposed) of each]
    sites = channels if channels is not None else np.zeros(size_in, dtype=np.int64)
    walk.sites.append(Site("conv", walk.module, sites, groups))
    inputs = sites.reshape(groups, per_in)
    depthwise = per_in == 1 if not transposed else per_in == 1 and per_out == 1
    if walk.mode == "outer" or depthwise:
        walk.atoms.join(own, inputs[:, :1])
        walk.atoms.join(inputs, inputs[:, :1])
        walk.freeze(second, "is inside a group of a convolution")
        if not depthwise:
            walk.atoms.tag(own[:, 0], "conv_group")
        return np.repeat(own[:, 0], per_out)
    walk.atoms.join(own[1:], np.broadcast_to(own[:1], own[1:].shape))
    walk.atoms.join(inputs[1:], np.broadcast_to(inputs[:1], inputs[1:].shape))
    within_in = own[0] if transposed else second
    within_out = second if transposed else own[0]
    if within_in is not None:
        walk.atoms.join(inputs[0], within_in)
    else:
        walk.freeze(inputs[0], "is read by a grouped convolution with one channel in each group")
    if within_out is None:
        within_out = np.zeros(per_out, dtype=np.int64)
    walk.atoms.tag(within_out, "in_conv_group")
    return np.tile(within_out, groups)


@rule("embedding")
def embedding(walk: Walk, node: Any, weight: Value, index: Value, *args: Any, **kwargs: Any) -> Value:
    """Columns of the table; its rows stay."""
    walk.produce(weight.axes[1])
    walk.atoms.tag(weight.axes[1], "embedding")
    free = [None] * len(index.shape)
    return Value(walk.shape_of(node), (*free, weight.axes[1]), (*[False] * len(free), weight.zero[1]))


@rule("matmul", "bmm", "mm", "mv", "dot")
def matmul(walk: Walk, node: Any, a: Value, b: Value) -> Any:
    """Batch axes meet; the contracted axes meet and must hold zeros; the others pass."""
    if len(a.shape) < 2 or len(b.shape) < 2:
        return NotImplemented
    _contract(walk, a, len(a.shape) - 1, b, len(b.shape) - 2)
    shape = walk.shape_of(node)
    axes: list[Ids | None] = []
    zero: list[bool] = []
    for place in range(3, len(shape) + 1):
        i, j = len(a.shape) - place, len(b.shape) - place
        size_a, size_b = a.shape[i] if i >= 0 else 1, b.shape[j] if j >= 0 else 1
        left = a.axes[i] if i >= 0 and size_a > 1 else None
        right = b.axes[j] if j >= 0 and size_b > 1 else None
        ids = walk.meet(left, right, left_size=size_a, right_size=size_b)
        axes.append(ids)
        zero.append((left is not None and a.zero[i]) or (right is not None and b.zero[j]))
        walk.atoms.tag(ids, "batched")
    axes, zero = axes[::-1], zero[::-1]
    rows, columns = a.axes[-2], b.axes[-1]
    for ids in (rows, columns):  # of a matrix or a stack of them; what comes from activations was written before
        walk.produce(ids)
    made = Value(shape, (*axes, rows, columns), (*zero, a.zero[-2], b.zero[-1]))
    walk.work(*_lengths(made), _length(a.axes[-1] if a.axes[-1] is not None else b.axes[-2], a.shape[-1]))
    return made


@rule("baddbmm")
def baddbmm(walk: Walk, node: Any, bias: Value, a: Value, b: Value, **kwargs: Any) -> Value:
    """bias + a @ b."""
    made = matmul(walk, node, a, b)
    axes = list(made.axes)
    for place in range(1, len(axes) + 1):
        i = len(bias.shape) - place
        if i >= 0 and bias.shape[i] > 1:
            axes[-place] = walk.meet(axes[-place], bias.axes[i], left_size=made.shape[-place], right_size=bias.shape[i])
    return Value(made.shape, tuple(axes), (False,) * len(axes))


@rule("einsum")
def einsum(walk: Walk, node: Any, equation: str, operands: list[Value], **kwargs: Any) -> Any:
    """One letter, one axis: equal letters meet; letters that are summed up must hold zeros."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or any(len(set(term)) < len(term) for term in terms):
        return NotImplemented
    axes: dict[str, Ids | None] = {}
    sizes: dict[str, int] = {}
    zero: dict[str, bool] = {}
    for term, value in zip(terms, operands, strict=True):
        for letter, ids, size, is_zero in zip(term, value.axes, value.shape, value.zero, strict=True):
            if letter in axes:
                ids = walk.meet(axes[letter], ids, left_size=sizes[letter], right_size=size)
            axes[letter], sizes[letter] = ids, max(size, sizes.get(letter, 1))
            zero[letter] = zero.get(letter, False) or (is_zero and ids is not None)
    for letter, ids in axes.items():
        if letter not in right and ids is not None and not zero[letter]:
            walk.freeze(ids, "is summed up while its masked positions are not zero")
    for letter in right:
        if len(terms) > 1 and all(letter in term for term in terms):
            walk.atoms.tag(axes[letter], "batched")
        walk.produce(axes[letter])
    held = dict.fromkeys(terms[0])
    for number, term in enumerate(terms[1:], 1):  # operands are multiplied one after the other
        held |= dict.fromkeys(term)
        walk.work(*((axes[letter], sizes[letter]) for letter in held))
        later = "".join(terms[number + 1 :]) + right
        held = dict.fromkeys(letter for letter in held if letter in later)
    return Value(walk.shape_of(node), tuple(axes[c] for c in right), tuple(zero[c] for c in right))


@rule("scaled_dot_product_attention")
def attention(
    walk: Walk,
    node: Any,
    q: Value,
    k: Value,
    v: Value,
    mask: Any = None,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    attn_mask: Any = None,
) -> Any:
    """q [..., h, L, e], k [..., h, S, e], v [..., h, S, f] -> [..., h, L, f]."""
    mask = attn_mask if mask is None else mask
    _contract(walk, q, len(q.shape) - 1, k, len(k.shape) - 1)
    if scale is None:
        walk.freeze(q.axes[-1], "sets the scale of attention (1 / sqrt of its length): pass scale= to free it")
    for value in (q, k, v):
        walk.freeze(value.axes[-2], "is the time axis of attention")
    axes: list[Ids | None] = []
    for axis in range(len(q.shape) - 2):
        a, b, c = q.axes[axis], k.axes[axis], v.axes[axis]
        if enable_gqa and axis == len(q.shape) - 3 and q.shape[axis] != k.shape[axis]:
            times = q.shape[axis] // k.shape[axis]
            b = None if b is None else np.repeat(b, times)
            c = None if c is None else np.repeat(c, times)
        ids = walk.meet(walk.meet(a, b, left_size=q.shape[axis], right_size=k.shape[axis]), c, right_size=v.shape[axis])
        place = len(q.shape) - axis
        if isinstance(mask, Value) and len(mask.shape) >= place and mask.shape[-place] > 1:
            ids = walk.meet(ids, mask.axes[-place], left_size=q.shape[axis], right_size=mask.shape[-place])
        axes.append(ids)
        walk.atoms.tag(ids, "batched")
    if isinstance(mask, Value):
        for ids in mask.axes[-2:]:
            walk.freeze(ids, "is the time axis of attention")
    walk.work(*_lengths(q)[:-2], q.shape[-2], k.shape[-2], _length(q.axes[-1], q.shape[-1]))
    walk.work(*_lengths(q)[:-2], q.shape[-2], k.shape[-2], _length(v.axes[-1], v.shape[-1]))
    return Value(walk.shape_of(node), (*axes, None, v.axes[-1]), (*v.zero[: len(axes)], False, v.zero[-1]))
