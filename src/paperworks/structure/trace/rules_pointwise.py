"""Rules of operators that act position by position: broadcasting joins axes of equal length."""

from __future__ import annotations

from typing import Any

from paperworks.structure.trace.algebra import Ids, Value
from paperworks.structure.trace.walk import RULES, Walk, rule

ZERO_STAYS = frozenset(
    [
        "relu",
        "relu6",
        "gelu",
        "silu",
        "tanh",
        "hardswish",
        "leaky_relu",
        "elu",
        "celu",
        "selu",
        "mish",
        "neg",
        "abs",
        "sin",
        "tan",
        "asin",
        "atan",
        "sinh",
        "asinh",
        "sign",
        "sqrt",
        "erf",
        "expm1",
        "log1p",
        "floor",
        "ceil",
        "round",
        "trunc",
        "softsign",
        "hardshrink",
        "softshrink",
        "tanhshrink",
        "square",
        "to",
        "_to_copy",
        "clone",
        "contiguous",
        "dropout",
        "feature_dropout",
        "alpha_dropout",
        "alias",
        "detach",
        "type_as",
        "float",
        "half",
        "double",
        "bfloat16",
        "dropout2d",
        "nan_to_num",
        "native_dropout",
        "lift_fresh_copy",
        "lift_fresh",
        "positive",
        "requires_grad",
        "zeros_like",
        "real",
        "prelu",
        "_prelu_kernel",
    ]
)
"""Functions of one tensor with f(0) = 0."""
PASS = [
    "to",
    "_to_copy",
    "clone",
    "contiguous",
    "dropout",
    "feature_dropout",
    "alias",
    "detach",
    "type_as",
    "float",
    "half",
    "double",
    "bfloat16",
    "lift_fresh",
    "lift_fresh_copy",
    "requires_grad",
    "zeros_like",
    "ones_like",
    "full_like",
    "rand_like",
    "randn_like",
    "empty_like",
    "positive",
    "nan_to_num",
    "masked_fill",
    "where",
    "clamp",
    "clamp_min",
    "clamp_max",
    "hardtanh",
    "relu",
    "relu6",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "mish",
    "softplus",
    "softsign",
    "hardshrink",
    "softshrink",
    "tanhshrink",
    "logsigmoid",
    "log_sigmoid",
    "threshold",
    "rrelu",
    "alpha_dropout",
    "square",
    "add",
    "sub",
    "mul",
    "div",
    "true_divide",
    "rsub",
    "pow",
    "copy",
    "addcmul",
    "addcdiv",
    "lerp",
    "maximum",
    "minimum",
    "fmod",
    "remainder",
    "floor_divide",
    "__and__",
    "__or__",
    "__xor__",
    "logical_and",
    "logical_or",
    "logical_not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "isnan",
    "isinf",
    "expand_as_pointwise",
    "special_erf",
    "erf",
    "exp",
    "sin",
    "cos",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "neg",
    "abs",
    "log",
]


def _zero_of(name: str, position: int, tensors: list[Value], zeros: list[bool], args: tuple[Any, ...]) -> bool:
    """Whether removed positions of the result hold zeros; ``zeros``: of each tensor along the axis."""
    if name in ("mul", "__and__", "logical_and"):
        return any(zeros)
    if name in ("add", "sub", "maximum", "minimum", "rsub", "lerp"):
        return len(tensors) > 1 and all(zeros)
    if name in ("div", "true_divide"):
        return zeros[0] and isinstance(args[0], Value)
    if name == "pow":
        return zeros[0] and isinstance(args[0], Value) and isinstance(args[1], int | float) and args[1] > 0
    if name in ("clamp", "hardtanh"):
        low, high = ([*args[1:3], None, None])[:2]
        if name == "hardtanh":
            low, high = -1 if low is None else low, 1 if high is None else high
        numbers = all(bound is None or isinstance(bound, int | float) for bound in (low, high))
        return zeros[0] and numbers and (low is None or low <= 0) and (high is None or high >= 0)
    return name in ZERO_STAYS and zeros[0]


@rule(*PASS, "add.pointwise")
def pointwise(walk: Walk, node: Any, *args: Any, **kwargs: Any) -> Any:
    """Align from the right; equal lengths meet; length 1 gives way."""
    name = str(node.target).split(".")[1].rstrip("_") if str(node.target).startswith("aten.") else ""
    name = str(node.target).split(".")[1] if name.startswith("__") else name
    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Value)]
    if not tensors or "val" not in node.meta or not hasattr(node.meta["val"], "shape"):
        return walk.free_like(node) if "val" in node.meta else None
    shape = walk.shape_of(node)
    if name in ("type_as", "requires_grad"):
        tensors = tensors[:1]
    axes: list[Ids | None] = []
    zero: list[bool] = []
    for place in range(1, len(shape) + 1):
        ids: Ids | None = None
        size, zeros = 1, []
        for tensor in tensors:
            here = len(tensor.shape) - place
            length = tensor.shape[here] if here >= 0 else 1
            other = tensor.axes[here] if here >= 0 else None
            zeros.append(tensor.zero[here] and other is not None if here >= 0 else False)
            if length > 1:
                ids = walk.meet(ids, other, left_size=size, right_size=length)
                size = length
        axes.append(ids)
        zero.append(ids is not None and _zero_of(name, place, tensors, zeros, args))
    if name in ("add", "sub") and len(tensors) == 1:
        zero = [False] * len(zero)
    return Value(shape, tuple(axes[::-1]), tuple(zero[::-1]))


@rule("prelu", "_prelu_kernel")
def prelu(walk: Walk, node: Any, x: Value, weight: Value) -> Value:
    """The slopes belong to the channels (axis 1)."""
    axes = list(x.axes)
    if weight.shape and weight.shape[0] > 1 and len(x.shape) > 1:
        axes[1] = walk.meet(x.axes[1], weight.axes[0])
    return Value(x.shape, tuple(axes), x.zero)


def _spatial(walk: Walk, node: Any, x: Value, count: int) -> Any:
    """The last ``count`` axes are resampled; the others pass."""
    keep = len(x.shape) - count
    for ids in x.axes[keep:]:
        walk.freeze(ids, "is resampled along this axis")
    shapes = node.meta["val"]
    made = []
    for tensor in shapes if isinstance(shapes, list | tuple) else [shapes]:
        shape = tuple(int(size) for size in tensor.shape)
        made.append(Value(shape, (*x.axes[:keep], *[None] * count), (*x.zero[:keep], *[False] * count)))
    return made if isinstance(shapes, list | tuple) else made[0]


for _count in (1, 2, 3):
    _names = [f"{kind}_pool{_count}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "_adaptive_avg", "lp")]
    _names += [f"max_pool{_count}d_with_indices", f"upsample_nearest{_count}d", f"_upsample_nearest_exact{_count}d"]
    _names += [f"reflection_pad{_count}d", f"replication_pad{_count}d"]
    if _count == 1:
        _names.append("upsample_linear1d")
    if _count == 2:
        _names += ["upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"]
    if _count == 3:
        _names.append("upsample_trilinear3d")

    def _resample(walk: Walk, node: Any, x: Value, *args: Any, _count: int = _count, **kwargs: Any) -> Any:
        return _spatial(walk, node, x, _count)

    for _name in _names:
        RULES[_name] = _resample


@rule("pad", "constant_pad_nd")
def pad(walk: Walk, node: Any, x: Value, amounts: list[int], *args: Any, **kwargs: Any) -> Value:
    """Axes that nothing is added to pass."""
    shape = walk.shape_of(node)
    axes, zero = list(x.axes), list(x.zero)
    mode = next((a for a in args if isinstance(a, str)), "constant")
    value = next((a for a in args if isinstance(a, int | float)), 0) or kwargs.get("value") or 0
    for i in range(len(amounts) // 2):
        axis = len(shape) - 1 - i
        if amounts[2 * i] or amounts[2 * i + 1]:
            walk.freeze(axes[axis], "is padded along this axis")
            axes[axis], zero[axis] = None, False
            if mode == "constant" and value != 0:
                zero = [False] * len(zero)
    return Value(shape, tuple(axes), tuple(zero))


@rule("glu")
def glu(walk: Walk, node: Any, x: Value, dim: int = -1) -> Value:
    """First half times the sigmoid of the second: equal positions of the halves leave together."""
    axis = dim % len(x.shape)
    ids = x.axes[axis]
    axes = list(x.axes)
    if ids is not None:
        half = len(ids) // 2
        walk.atoms.join(ids[:half], ids[half:])
        axes[axis] = ids[:half]
    return Value(walk.shape_of(node), tuple(axes), x.zero)


@rule(
    *[
        "_assert_tensor_metadata",
        "_assert_async",
        "sym_size",
        "sym_numel",
        "arange",
        "zeros",
        "ones",
        "full",
        "empty",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "scalar_tensor",
        "tensor",
        "eye",
        "linspace",
        "randn",
        "rand",
        "size",
        "numel",
        "_assert_scalar",
        "tril_indices",
    ]
)
def no_atoms(walk: Walk, node: Any, *args: Any, **kwargs: Any) -> Any:
    """Makes something new, or nothing: what it is given goes no further."""
    return walk.free_like(node)


@rule("getitem")
def getitem(walk: Walk, node: Any, values: Any, index: int) -> Any:
    """One of several outputs."""
    return values[index]
