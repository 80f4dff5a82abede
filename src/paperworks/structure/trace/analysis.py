"""The analysis of a module: its groups, what they cost, and what can be done with them."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError, nearest
from paperworks.structure.plan import KeepPlan
from paperworks.structure.trace import rules_linear, rules_norm, rules_pointwise, rules_shape  # noqa: F401
from paperworks.structure.trace.algebra import Reason
from paperworks.structure.trace.capture import Captured, Inputs, canonical_names, capture
from paperworks.structure.trace.cost import CostModel, TracedCost, cost_model
from paperworks.structure.trace.groups import (
    Blocked,
    TracedGroup,
    attention_of,
    blocked_of,
    chosen_by_default,
    solve,
)
from paperworks.structure.trace.walk import RULES, Mode, Rule, Walk, walk
from paperworks.structure.units import Units

MODES: tuple[Mode, ...] = ("outer", "inner")


class TracedGroups(Mapping[str, TracedGroup]):
    """The groups of a traced module, by name. ``print`` shows what goes together and what is refused.

    Attributes
    ----------
    model, inputs : what was traced. The groups are those of the model as it was then.
    blocked : channels that cannot be removed, with reason, module and line of code.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, walks: list[Walk], opaque: Sequence[str] = ()) -> None:
        self.model, self.inputs, self.opaque, self.rules = model, inputs, tuple(opaque), walks[0].rules
        taken: dict[Any, int] = {}
        found: list[TracedGroup] = []
        self.solved = [solve(one, taken, found) for one in walks]
        found = [replace(group, sized=True) if attention_of(model, group) else group for group in found]
        self.ordered = chosen_by_default(found)
        self._groups = {group.name: group for group in self.ordered}
        self.blocked: list[Blocked] = blocked_of(self.solved, self.ordered)

    def __getitem__(self, name: str) -> TracedGroup:
        try:
            return self._groups[name]
        except KeyError:
            raise InputError("group", name, f"a group of this model{nearest(name, self._groups)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, name: object) -> bool:
        return name in self._groups

    def __str__(self) -> str:
        lines = [str(group) for group in self.values()]
        if self.blocked:
            lines.append("refused:")
            lines += [f"    {entry}" for entry in self.blocked]
        return "\n".join(lines) or "no groups"

    @cached_property
    def all_units(self) -> Units:
        """The unit sets of all groups, by (None, name)."""
        return Units([group.units for group in self.ordered])

    @cached_property
    def units(self) -> Units:
        """The unit sets of the groups that plans include by default: what scores are computed for."""
        return Units([group.units for group in self.ordered if group.by_default])

    @cached_property
    def cost_model(self) -> CostModel:
        """Parameters and multiply-accumulates as polynomials in the shares of kept units."""
        return cost_model(self.solved, self.ordered)

    def cost(self, plan: KeepPlan | None = None) -> TracedCost:
        """The counts after ``plan`` (None: now)."""
        if plan is not None:
            self.check(plan)
        return self.cost_model(plan)

    def check(self, plan: KeepPlan, *, multiple_of: int = 1, min_units: int = 1) -> None:
        """Raise InputError for a plan that names other groups or numbers, or that empties a group."""
        for (layer, name), ids in plan.kept.items():
            if layer is not None or name not in self._groups:
                known = nearest(name, self._groups)
                raise InputError("plan", f"{name!r}", f"the name of a group of this model{known}")
            group = self._groups[name]
            if plan.sizes[layer, name] != group.n_units:
                raise InputError(f"plan[{name}]", f"made for {plan.sizes[layer, name]} units", f"{group.n_units}")
            if len(ids) < max(1, min_units):
                expected = f"at least {max(1, min_units)}: an empty group would cut the model in two"
                raise InputError(f"plan[{name}]", f"{len(ids)} units kept", expected)
            if len(ids) < group.n_units and len(ids) % multiple_of:
                raise InputError(f"plan[{name}]", f"{len(ids)} units", f"a multiple of {multiple_of}")

    def demote(self, name: str, note: str) -> None:
        """Take a group out of what plans include by default."""
        self.ordered = [replace(g, by_default=False, note=note) if g.name == name else g for g in self.ordered]
        self._groups = {group.name: group for group in self.ordered}
        self.__dict__.pop("units", None)

    @property
    def captured(self) -> Captured:
        """The graph that the groups were found in."""
        return self.solved[0].walk.captured

    def of(self, model: nn.Module) -> TracedGroups:
        """The same groups for another module of this architecture, such as a copy that was trained on: no new trace.

        Raises InputError for one whose tensors have other names or shapes.
        """
        shapes = {name: tuple(t.shape) for name, t in [*model.named_parameters(), *model.named_buffers()]}
        for name, value in self.solved[0].walk.values.items():
            if shapes.get(name) != value.shape:
                raise InputError("model", f"{name} of shape {shapes.get(name)}", f"{value.shape}, as it was traced")
        made = copy.copy(self)
        made.model = model
        return made

    def keep(self, kept: Mapping[str, Sequence[int] | torch.Tensor]) -> KeepPlan:
        """A plan from the kept units of some groups, by name: ids or boolean masks."""
        return KeepPlan.of(self.all_units, {self[name].key: ids for name, ids in kept.items()})


def analyze(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    ignore: Sequence[str] = (),
    ties: Sequence[tuple[tuple[str, int], tuple[str, int]]] = (),
    rules: Mapping[str, Rule] | None = None,
    opaque: Sequence[str] = (),
) -> TracedGroups:
    """Trace a module and find the groups of units that can be removed from it.

    The model is traced by ``torch.export`` in evaluation mode; it is not changed, and no weight is read. What reaches
    the model's outputs, comes from its inputs or goes through an operator without a rule stays.

    Parameters
    ----------
    model : any module that torch.export can trace; of transformers, timm, or one's own.
    example_inputs : a tensor, a tuple of positional arguments, or a dict of keyword arguments. A batch of 2 is enough.
    ignore : patterns of parameter names (``"head.*"``) whose channels stay.
    ties : pairs of ((parameter, axis), (parameter, axis)) of equal length whose positions leave together.
    rules : rules of operators by name (``"my_op"`` or ``"library.my_op.default"``), which see and return ``Value``s.
    opaque : paths of modules that are not traced; everything that goes into them stays.

    Raises
    ------
    InputError : the module cannot be traced (where, and what to do), or an argument names what is not there.
    """
    if not isinstance(model, nn.Module):
        raise InputError("model", type(model).__name__, "a torch.nn.Module")
    _check_copies(model)
    names, _ = canonical_names(model)
    for pattern in ignore:
        if not fnmatch.filter(names, pattern):
            raise InputError("ignore", pattern, f"a pattern that matches a parameter{nearest(pattern, names)}")
    captured = capture(model, example_inputs, opaque)
    captured.count_unused(model)
    walks = []
    for mode in MODES:
        found = walk(captured, mode, {**RULES, **(rules or {})})
        for name, value in found.values.items():
            if any(fnmatch.fnmatch(name, pattern) for pattern in ignore):
                for ids in value.axes:
                    found.atoms.freeze(ids, Reason("is on the list of what stays", name.rpartition(".")[0]))
        for left, right in ties:
            found.atoms.join(_tied(found, left), _tied(found, right))
        walks.append(found)
    groups = TracedGroups(model, example_inputs, walks, opaque)
    from paperworks.structure.trace.cutting import leave_fixed_sizes_out

    leave_fixed_sizes_out(groups)
    return groups


def _check_copies(model: nn.Module) -> None:
    """Raise InputError for a tensor that a module computed and keeps, as old weight norms do: torch cannot copy it."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                where = ".".join(filter(None, (path, name)))
                found = f"a tensor that was computed from parameters ({type(value.grad_fn).__name__})"
                raise InputError(
                    f"model.{where}",
                    found,
                    f"a module that can be copied: torch.nn.utils.remove_weight_norm(model.{path}) "
                    "or remove_spectral_norm first, where one of them made it",
                )


def _tied(found: Walk, place: tuple[str, int]) -> Any:
    name, axis = place
    value = found.values.get(name)
    ids = value.axes[axis] if value is not None and -len(value.axes) <= axis < len(value.axes) else None
    if ids is None:
        raise InputError("ties", place, "the name of a parameter that the model uses, and one of its axes")
    return ids
