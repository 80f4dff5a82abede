"""Rules of operators that only move positions: what they do to a tensor they do to its arrays of ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paperworks.structure.trace.algebra import FIXED, Ids, Value
from paperworks.structure.trace.walk import SIZED, Walk, rule


@rule(
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "_unsafe_view",
    "view_as",
    "reshape_as",
    "squeeze",
    "unsqueeze",
    "_reshape_alias",
)
def view(walk: Walk, node: Any, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Row-major: the shapes fall into blocks of equal size, and each block is merged and split again."""
    if not isinstance(x, Value):
        return walk.free_like(node)
    new = walk.shape_of(node)
    axes: list[Ids | None] = []
    zero: list[bool] = []
    for old_block, new_block in blocks(x.shape, new):
        made, zeros = _block(walk, x, old_block, [new[i] for i in new_block])
        axes += made
        zero += zeros
    sizes = next((a for a in args if isinstance(a, list | tuple)), ())
    start = args[0] % len(x.shape) if args and isinstance(args[0], int) and sizes else 0
    for place, size in enumerate(sizes, start):
        if size != -1 and place < len(axes):
            walk.atoms.tag(axes[place], SIZED)
    return Value(new, tuple(axes), tuple(zero))


def blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The finest cut of two shapes of equal product into runs of axes with equal products."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [], []
        a = b = 1
        if i < len(old) and j < len(new):
            a, b = old[i], new[j]
            left, right = [i], [j]
            i, j = i + 1, j + 1
        elif i < len(old):
            left, a, i = [i], old[i], i + 1
        else:
            right, b, j = [j], new[j], j + 1
        if (a == 1) != (b == 1) and (a == 1 or b == 1):  # an axis of length 1 comes or goes
            if a == 1 and right:
                j, right, b = j - 1, [], 1
            elif b == 1 and left:
                i, left, a = i - 1, [], 1
        while a != b:
            if a < b:
                left.append(i)
                a, i = a * old[i], i + 1
            else:
                right.append(j)
                b, j = b * new[j], j + 1
        found.append((left, right))
    return found


def _block(walk: Walk, x: Value, old: list[int], sizes: list[int]) -> tuple[list[Ids | None], list[bool]]:
    carriers = [i for i in old if x.axes[i] is not None]
    none: list[Ids | None] = [None] * len(sizes)
    if not carriers:
        return none, [False] * len(sizes)
    if len(carriers) > 1:
        for i in carriers:
            walk.freeze(x.axes[i], "is flattened together with another axis that has units")
        return none, [False] * len(sizes)
    carrier = carriers[0]
    ids = x.axes[carrier]
    if len([s for s in sizes if s > 1]) == 1 and len([i for i in old if x.shape[i] > 1]) == 1:
        return [ids if s > 1 else None for s in sizes], [s > 1 and x.zero[carrier] for s in sizes]
    before = int(np.prod([x.shape[i] for i in old if i < carrier]))
    after = int(np.prod([x.shape[i] for i in old if i > carrier]))
    assert ids is not None
    flat = np.tile(np.repeat(ids, after), before)
    axes = walk.split(flat, tuple(sizes))
    return axes, [a is not None and x.zero[carrier] for a in axes]


@rule("transpose", "permute", "t", "numpy_T", "movedim", "swapaxes", "adjoint", "mT")
def permute(walk: Walk, node: Any, x: Value, *args: Any) -> Any:
    """Reorder axes."""
    name, count = str(node.target).split(".")[1].rstrip("_"), len(x.shape)
    order = list(range(count))
    if name == "permute":
        order = [d % count for d in args[0]]
    elif name in ("transpose", "swapaxes"):
        a, b = args[0] % count, args[1] % count
        order[a], order[b] = b, a
    elif name == "movedim":
        moved, places = ([v] if isinstance(v, int) else list(v) for v in args)
        order = [int(i) for i in np.moveaxis(np.arange(count).reshape([1] * 0 + [count]), 0, 0)]
        rest = [i for i in range(count) if i not in [m % count for m in moved]]
        for place, axis in sorted((p % count, m % count) for p, m in zip(places, moved, strict=True)):
            rest.insert(place, axis)
        order = rest
    elif name in ("adjoint", "mT"):
        order[-1], order[-2] = order[-2], order[-1]
    else:
        order = order[::-1]
    return Value(tuple(x.shape[i] for i in order), tuple(x.axes[i] for i in order), tuple(x.zero[i] for i in order))


def _replaced(walk: Walk, node: Any, x: Value, axis: int, ids: Ids | None) -> Value:
    axes = list(x.axes)
    axes[axis] = ids
    return Value(walk.shape_of(node), tuple(axes), x.zero)


@rule("slice")
def slice_(walk: Walk, node: Any, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Value:
    """A part of an axis. Where its bounds are numbers in the code, the comparison after the cut finds it out."""
    axis = dim % len(x.shape)
    ids = x.axes[axis]
    part = None if ids is None else ids[slice(start, end, step)]
    if part is not None and ids is not None and len(part) != len(ids):
        walk.atoms.tag(ids, SIZED)
    return _replaced(
        walk, node, x, axis, ids if part is not None and ids is not None and len(part) == len(ids) else part
    )


@rule("narrow")
def narrow(walk: Walk, node: Any, x: Value, dim: int, start: int, length: int) -> Value:
    """A part of an axis."""
    return slice_(walk, node, x, dim, start, start + length)


@rule("select")
def select(walk: Walk, node: Any, x: Value, dim: int, index: int) -> Value:
    """One position; the others would be counted anew after a cut."""
    axis = dim % len(x.shape)
    walk.picked(x.axes[axis], "single positions are picked along this axis")
    keep = [i for i in range(len(x.shape)) if i != axis]
    return Value(walk.shape_of(node), tuple(x.axes[i] for i in keep), tuple(x.zero[i] for i in keep))


@rule("unbind")
def unbind(walk: Walk, node: Any, x: Value, dim: int = 0) -> list[Value]:
    """All positions, one by one."""
    axis = dim % len(x.shape)
    walk.picked(x.axes[axis], "single positions are picked along this axis")
    keep = [i for i in range(len(x.shape)) if i != axis]
    shape = tuple(x.shape[i] for i in keep)
    return [Value(shape, tuple(x.axes[i] for i in keep), tuple(x.zero[i] for i in keep))] * x.shape[axis]


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_chunk", "unsafe_split")
def split(walk: Walk, node: Any, x: Value, how: Any, dim: int = 0) -> list[Value]:
    """Pieces of an axis. Equally long pieces stay equally long: their positions leave together."""
    axis = dim % len(x.shape)
    sizes = [int(v.shape[axis]) for v in node.meta["val"]]
    ids = x.axes[axis]
    pieces: list[Ids | None] = [None] * len(sizes)
    if ids is not None:
        if "chunk" not in str(node.target):
            walk.atoms.tag(ids, SIZED)
        found = np.split(ids, np.cumsum(sizes)[:-1])
        if len(set(sizes)) == 1:
            if sizes[0] == 1:
                walk.picked(ids, "single positions are picked along this axis")
            walk.same_place(found)
        pieces = list(found)
    made = []
    for size, piece in zip(sizes, pieces, strict=True):
        axes = list(x.axes)
        axes[axis] = piece if size > 1 else None
        made.append(Value((*x.shape[:axis], size, *x.shape[axis + 1 :]), tuple(axes), x.zero))
        if size == 1:
            walk.freeze(piece, "single positions are picked along this axis")
    return made


@rule("cat", "concat", "concatenate")
def cat(walk: Walk, node: Any, tensors: list[Value], dim: int = 0) -> Value:
    """One array of ids behind the other; the other axes meet."""
    tensors = [t for t in tensors if t.shape != (0,)]
    first = tensors[0]
    axis = dim % len(first.shape)
    axes = list(first.axes)
    for i in range(len(axes)):
        for other in tensors[1:]:
            if i != axis:
                axes[i] = walk.meet(axes[i], other.axes[i], left_size=first.shape[i], right_size=other.shape[i])
    parts = [t.axes[axis] if t.axes[axis] is not None else np.full(t.shape[axis], FIXED) for t in tensors]
    has = any(t.axes[axis] is not None for t in tensors)
    axes[axis] = np.concatenate([p for p in parts if p is not None]) if has else None
    zero = [all(t.zero[i] and t.axes[i] is not None for t in tensors) for i in range(len(axes))]
    zero[axis] = all(t.zero[axis] for t in tensors if t.axes[axis] is not None)
    return Value(walk.shape_of(node), tuple(axes), tuple(zero))


@rule("stack")
def stack(walk: Walk, node: Any, tensors: list[Value], dim: int = 0) -> Value:
    """A new axis, which stays; the others meet."""
    shape = walk.shape_of(node)
    axes = list(tensors[0].axes)
    for other in tensors[1:]:
        axes = [
            walk.meet(a, b, left_size=n, right_size=n) for a, b, n in zip(axes, other.axes, other.shape, strict=True)
        ]
    zero = [all(t.zero[i] for t in tensors) for i in range(len(axes))]
    axis = dim % len(shape)
    return Value(shape, (*axes[:axis], None, *axes[axis:]), (*zero[:axis], False, *zero[axis:]))


@rule("expand_as")
def expand_as(walk: Walk, node: Any, x: Value, other: Value) -> Value:
    """Axes of length 1 take the length, and the units, of the other tensor; equal lengths meet."""
    shape = walk.shape_of(node)
    new = len(shape) - len(x.shape)
    axes: list[Ids | None] = list(other.axes[:new])
    zero = [False] * new
    for ids, wanted, size, holds in zip(x.axes, other.axes[new:], x.shape, x.zero, strict=True):
        axes.append(wanted if size == 1 else walk.meet(ids, wanted, left_size=size, right_size=size))
        zero.append(holds and size != 1)
    return Value(shape, tuple(axes), tuple(zero))


@rule("expand", "broadcast_to")
def expand(walk: Walk, node: Any, x: Value, *args: Any, **kwargs: Any) -> Value:
    """New axes and axes of length 1 become longer, by a number that the code fixes."""
    shape = walk.shape_of(node)
    new = len(shape) - len(x.shape)
    sizes = args[0] if args and isinstance(args[0], list | tuple) else ()
    for ids, size in zip(x.axes, sizes[new:], strict=False):
        if size != -1:
            walk.atoms.tag(ids, SIZED)
    return Value(shape, (*[None] * new, *x.axes), (*[False] * new, *x.zero))


@rule("repeat", "tile")
def repeat(walk: Walk, node: Any, x: Value, repeats: list[int]) -> Value:
    """The whole axis several times, one after the other."""
    shape = walk.shape_of(node)
    new = len(shape) - len(x.shape)
    times = [1] * (len(shape) - len(repeats)) + list(repeats)
    axes = [None if ids is None else np.tile(ids, times[new + i]) for i, ids in enumerate(x.axes)]
    return Value(shape, (*[None] * new, *axes), (*[False] * new, *x.zero))


@rule("repeat_interleave")
def repeat_interleave(walk: Walk, node: Any, x: Value, repeats: Any, dim: Any = None, **kwargs: Any) -> Any:
    """Each position several times."""
    if not isinstance(repeats, int) or dim is None:
        return NotImplemented
    axis = dim % len(x.shape)
    ids = x.axes[axis]
    return _replaced(walk, node, x, axis, None if ids is None else np.repeat(ids, repeats))


@rule("roll")
def roll(walk: Walk, node: Any, x: Value, shifts: Any, dims: Any = ()) -> Any:
    """Rolled axes with atoms stay: after a cut the same shift would move other positions."""
    chosen = [dims] if isinstance(dims, int) else list(dims) or list(range(len(x.shape)))
    for axis in chosen:
        walk.freeze(x.axes[axis % len(x.shape)], "is rolled by a number of positions")
    return x


@rule("flip")
def flip(walk: Walk, node: Any, x: Value, dims: list[int]) -> Value:
    """Backwards."""
    chosen = [d % len(x.shape) for d in dims]
    axes = [ids[::-1].copy() if i in chosen and ids is not None else ids for i, ids in enumerate(x.axes)]
    return Value(x.shape, tuple(axes), x.zero)


@rule("index", "index_select")
def index(walk: Walk, node: Any, x: Value, *args: Any) -> Any:
    """Rows that a tensor names: the axis that it counts along stays."""
    if str(node.target).split(".")[1] == "index_select":
        axis = args[0] % len(x.shape)
        walk.picked(x.axes[axis], "is indexed by a tensor")
        return _replaced(walk, node, x, axis, None)
    if not isinstance(x, Value):
        return NotImplemented
    given = [*args[0], *[None] * (len(x.shape) - len(args[0]))]
    places = [i for i, value in enumerate(given) if isinstance(value, Value)]
    for value in given:
        if isinstance(value, Value) and value.has_atoms:
            return NotImplemented
    for i in places:
        walk.picked(x.axes[i], "is indexed by a tensor")
    shape = walk.shape_of(node)
    rest = [i for i in range(len(given)) if i not in places]
    new = len(shape) - len(rest)
    if places and places != list(range(places[0], places[-1] + 1)):
        front = rest
        return Value(shape, (*[None] * new, *(x.axes[i] for i in front)), (*[False] * new, *(x.zero[i] for i in front)))
    start = places[0] if places else 0
    axes = [x.axes[i] for i in rest]
    zero = [x.zero[i] for i in rest]
    return Value(shape, (*axes[:start], *[None] * new, *axes[start:]), (*zero[:start], *[False] * new, *zero[start:]))


@rule("pixel_shuffle")
def pixel_shuffle(walk: Walk, node: Any, x: Value, factor: int) -> Value:
    """[N, C r r, H, W] -> [N, C, H r, W r]: the r r channels of one output channel leave together."""
    shape, axis = walk.shape_of(node), len(x.shape) - 3
    ids = x.axes[axis]
    axes = list(x.axes)
    if ids is not None:
        table = ids.reshape(shape[axis], -1)
        walk.atoms.join(table[:, 1:].copy(), table[:, :1])
        axes[axis] = table[:, 0].copy()
    for i in (axis + 1, axis + 2):
        walk.freeze(x.axes[i], "is a spatial axis of a pixel shuffle")
        axes[i] = None
    return Value(shape, tuple(axes), x.zero)


@rule("pixel_unshuffle")
def pixel_unshuffle(walk: Walk, node: Any, x: Value, factor: int) -> Value:
    """[N, C, H r, W r] -> [N, C r r, H, W]."""
    axis = len(x.shape) - 3
    ids = x.axes[axis]
    axes = list(x.axes)
    axes[axis] = None if ids is None else np.repeat(ids, factor * factor)
    for i in (axis + 1, axis + 2):
        walk.freeze(x.axes[i], "is a spatial axis of a pixel unshuffle")
        axes[i] = None
    return Value(walk.shape_of(node), tuple(axes), x.zero)
