"""Surgery: a cut is made, compared with the masked model and with the traced graph, and put back where it differs."""

from __future__ import annotations

import copy
import re
from typing import Literal

import torch
from torch import nn
from torch.utils import _pytree as pytree

from paperworks.errors import InputError
from paperworks.structure.plan import KeepPlan
from paperworks.structure.trace.analysis import TracedGroups
from paperworks.structure.trace.attention import is_replaceable
from paperworks.structure.trace.capture import call, capture
from paperworks.structure.trace.cutter import CutStep, Cutter
from paperworks.structure.trace.groups import TracedGroup, attention_of, isomorphism
from paperworks.structure.trace.positions import (
    kept_positions,
    kept_units,
    largest_difference,
    mask_model,
    masked_outputs,
    tensor_at,
)
from paperworks.structure.trace.sizes import changed_lengths, lengths_after, own_sizes_of, set_sizes
from paperworks.structure.trace.walk import walk

HISTORY = "_traced_cuts"
"""Attribute of a cut model: the steps that were applied to it, as plain data."""
_COPIES = {f"aten.{name}" for name in ("contiguous.default", "clone.default", "alias.default", "detach.default")}
_ROUNDING, _DOUBLE, _HALF = 1e-2, 1e-6, 5e-2
"""Differences that may be rounding in float32; that are not in float64; that are allowed in half precision."""
_OwnSizes = Literal["as they are", "clear", "shared"]
_TRIALS: tuple[_OwnSizes, ...] = ("as they are", "clear", "shared")
"""Sizes that the model's own modules keep: left; set where a length changes; set where some axis of it does."""


def cut(
    groups: TracedGroups,
    plan: KeepPlan,
    *,
    inplace: bool = False,
    optimizer: torch.optim.Optimizer | None = None,
    multiple_of: int = 1,
    check: bool = True,
    tolerance: float = 1e-5,
) -> nn.Module:
    """Remove what ``plan`` does not keep: a smaller module of the same class with the function of the masked one.

    The outputs at the example inputs are compared with those of the masked model (for plans without groups that norms
    are taken over; there, the shapes). Where they differ, as they do where code has a size as a number, everything is
    put back, bit for bit, and an error says which modules have such code.

    Parameters
    ----------
    plan : for the groups of this analysis (``groups.keep``, ``ranked_plan``).
    inplace : True edits the traced module. Analyse it anew before the next cut.
    optimizer : its parameters and moments follow (``inplace`` only).
    multiple_of : numbers of kept units must be multiples of this, for groups that lose some.
    check : False skips the comparison and the two forwards that it takes.
    tolerance : of the comparison, relative to the largest output (or 1).

    Raises
    ------
    InputError : a plan for other groups, one that empties a group, a model changed since, or code with fixed sizes.
    """
    groups.check(plan, multiple_of=multiple_of)
    _unchanged(groups)
    if optimizer is not None and not inplace:
        raise InputError("inplace", False, "True where an optimizer is to follow")
    kept = kept_positions(groups, plan)
    coupled = any(groups[name].norm_coupled and len(ids) < groups[name].n_units for (_, name), ids in plan.kept.items())
    model = groups.model if inplace else copy.deepcopy(groups.model)
    cutter = _applied(groups, plan, model) if not check else _checked(groups, plan, model, coupled, tolerance)
    if optimizer is not None:
        cutter.follow(optimizer)
    tensors = {name: {axis: positions.tolist() for axis, positions in axes.items()} for name, axes in kept.items()}
    steps = [*getattr(model, HISTORY, []), CutStep(tensors, cutter.attributes)]
    object.__setattr__(model, HISTORY, steps)
    return model


def _applied(groups: TracedGroups, plan: KeepPlan, model: nn.Module, *, own_sizes: _OwnSizes = "as they are") -> Cutter:
    cutter = Cutter(model)
    cutter.cut(kept_positions(groups, plan))
    set_sizes(groups, plan, cutter)
    if own_sizes != "as they are":
        own_sizes_of(groups, plan, cutter, shared=own_sizes == "shared")
    return cutter


def _checked(groups: TracedGroups, plan: KeepPlan, model: nn.Module, coupled: bool, tolerance: float) -> Cutter:
    """Cut and compare; once more with the sizes that the model's own modules keep; else put back and raise."""
    expected = call(groups.model, groups.inputs) if coupled else masked_outputs(groups, plan)
    problem, tried = "", -1
    for own_sizes in _TRIALS:
        cutter = _applied(groups, plan, model, own_sizes=own_sizes)
        if len(cutter.attributes) == tried:
            cutter.undo.back()
            continue
        tried = len(cutter.attributes)
        problem, rounding = _compared(groups, model, expected, coupled, tolerance)
        if not problem:
            problem = _structure(groups, plan, model)
        elif rounding:
            wide = copy.deepcopy(model).double()
            cutter.undo.back()
            if _differs_in_double(groups, plan, wide):
                continue
            cutter = _applied(groups, plan, model, own_sizes=own_sizes)
            problem = _structure(groups, plan, model)
        if not problem:
            return cutter
        cutter.undo.back()
    raise InputError("plan", problem, _fixed_sizes(groups, plan))


def _differs_in_double(groups: TracedGroups, plan: KeepPlan, wide: nn.Module) -> bool:
    """Compare once more in float64: deep networks add up the rounding of float32."""
    inputs = pytree.tree_map(
        lambda x: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x, groups.inputs
    )
    masked = mask_model(groups, plan).double()
    return not largest_difference(call(masked, inputs), call(wide, inputs)) <= _DOUBLE


def fits(groups: TracedGroups, plan: KeepPlan) -> bool:
    """Whether the code of the model adapts to the sizes of ``plan``: a trial on the model itself, which is put back."""
    tried = -1
    for own_sizes in _TRIALS:
        cutter = _applied(groups, plan, groups.model, own_sizes=own_sizes)
        try:
            if len(cutter.attributes) == tried:
                continue
            tried = len(cutter.attributes)
            if not _structure(groups, plan, groups.model):
                return True
        finally:
            cutter.undo.back()
    return False


def leave_fixed_sizes_out(groups: TracedGroups) -> None:
    """Take out of the default those groups whose sizes are numbers in the code. One of each sort is tried."""
    verdicts: dict[str, bool] = {}
    for group in groups.ordered:
        if group.by_default and group.sized:
            sort, less = isomorphism(group), groups.keep({group.name: range(1, group.n_units)})
            if sort not in verdicts:
                verdicts[sort] = fits(groups, less)
            if not verdicts[sort]:
                groups.demote(group.name, _why_fixed(groups, group, less))


def _why_fixed(groups: TracedGroups, group: TracedGroup, less: KeepPlan) -> str:
    attention = attention_of(groups.model, group)
    if attention:
        way = "; after prunable_attention(model) it can be cut"
        if not is_replaceable(groups.model.get_submodule(attention)):
            way = ", in a subclass or with keys of its own, which prunable_attention leaves as it is"
        return f"{attention}, an nn.MultiheadAttention, checks it{way}"
    lines = _sized_lines(groups, less)
    at = f" ({', '.join(lines[:3])})" if lines else ""
    return f"its size is a number in the code{at}, or has to equal that of another group"


def _unchanged(groups: TracedGroups) -> None:
    for name, value in groups.solved[0].walk.values.items():
        now = tuple(tensor_at(groups.model, name).shape)
        if now != value.shape:
            raise InputError(
                "groups", f"{name} of shape {now}", f"{value.shape}, as it was traced: analyse the model anew"
            )


def _compared(
    groups: TracedGroups, model: nn.Module, expected: list[torch.Tensor], coupled: bool, tolerance: float
) -> tuple[str, bool]:
    """What is wrong with the outputs, if anything, and whether it may be the rounding of float32."""
    try:
        found = call(model, groups.inputs)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"the cut model fails: {lines[0][:200]}", False
    if [a.shape for a in expected] != [b.shape for b in found]:
        return "the cut model gives outputs of other shapes", False
    if coupled:
        finite = all(bool(torch.isfinite(b).all()) for b in found if b.is_floating_point())
        return "" if finite else "the cut model gives outputs that are not finite", False
    half = any(a.dtype in (torch.float16, torch.bfloat16) for a in expected)
    difference = largest_difference(expected, found)
    if difference <= (max(tolerance, _HALF) if half else tolerance):
        return "", False
    text = f"the cut model differs from the masked one by {difference:.3g} of its largest output"
    return text, not half and difference < _ROUNDING


def _structure(groups: TracedGroups, plan: KeepPlan, model: nn.Module) -> str:
    """Trace the cut model: every operator must be the one that it was, with an output of the predicted shape."""
    if not any(groups[name].sized and len(ids) < groups[name].n_units for (_, name), ids in plan.kept.items()):
        return ""
    try:
        again = walk(capture(model, groups.inputs, groups.opaque, again=False), "outer", groups.rules).made
    except InputError as error:
        return f"the cut model fails: {error.found}"
    shapes = [
        (operator, shape)
        for operator, _, shape in lengths_after(groups, kept_units(groups, plan))
        if operator not in _COPIES
    ]
    found = [(operator, path, v.shape) for operator, path, values in again for v in values if operator not in _COPIES]
    if [entry[0] for entry in found] != [entry[0] for entry in shapes]:
        return "the cut model calls other operators"
    for (_, path, shape), (_, expected) in zip(found, shapes, strict=True):
        if shape != expected:
            return f"a tensor of the cut model in {path or 'the model'} has the shape {shape}, not {expected}"
    return ""


def _fixed_sizes(groups: TracedGroups, plan: KeepPlan) -> str:
    lines = _sized_lines(groups, plan)
    where = f"; sizes appear at {', '.join(lines[:12])}" if lines else ""
    return f"code that reads sizes from its tensors or its modules' attributes{where}. Nothing was changed"


def _sized_lines(groups: TracedGroups, plan: KeepPlan) -> list[str]:
    """The lines of code that give sizes to operators, in modules whose tensors get smaller by ``plan``."""
    paths = [path or "the model" for path, sizes in changed_lengths(groups, plan).items() if sizes]
    own = [
        p
        for p in paths
        if p == "the model" or not type(groups.model.get_submodule(p)).__module__.startswith("torch.nn.")
    ]
    lines = []
    graph = groups.solved[0].walk.captured.graph
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "call_function" and any(
            f"aten.{op}." in name for op in ("view", "reshape", "split", "expand", "unflatten")
        ):
            stack = node.meta.get("nn_module_stack") or {}
            path = str(list(stack.values())[-1][0]) if stack else ""
            if (path or "the model") in own:
                trace = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
                outside = [f"{f.rpartition('/')[2]}:{n}" for f, n in trace if "/torch/" not in f]
                lines += outside[-1:]
    return list(dict.fromkeys(lines))
