"""What a plan costs, and plans that meet a cost: parameters, multiplications, memory, key-value cache.

Counts come from shapes and index lists alone: nothing is built at the new size.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from paperworks.errors import InputError
from paperworks.structure.layers_pruned import feed_forward_of, head_dims
from paperworks.structure.plan import KeepPlan
from paperworks.structure.units import GROUPED, Key, Units, base_of, family_of, records_of, units_of
from paperworks.structure.widths import kept_query_heads, record_after

Measure = Literal["parameters", "macs", "bytes", "cache"]


@dataclass(frozen=True)
class Cost:
    """Counts of a model.

    Attributes
    ----------
    parameters : all of them, tied ones once.
    prunable : parameters of the matrices (and their biases) inside the layers: what methods call 100 %.
    macs : multiply-accumulates for one token that sees ``context`` tokens: matrices, head and attention.
    bytes : of the weights, in the type that was counted in: the model's own, or the one that was asked for.
    cache : bytes of the key-value cache for each token of context, in the same type.
    cache_values : the numbers in it.
    """

    parameters: int
    prunable: int
    macs: int
    bytes: int
    cache: int
    cache_values: int = 0

    def shares(self, of: Cost) -> dict[str, float]:
        """This over ``of``, for every count that is not 0 there. The two conventions are both in it."""
        names = ("parameters", "prunable", "macs", "bytes", "cache")
        return {name: getattr(self, name) / getattr(of, name) for name in names if getattr(of, name)}


class Counter:
    """Counts a model under any plan. Made once for a model as it is; each count takes milliseconds.

    ``dtype``: bytes are counted as if all weights were of this type, such as that of the file; None takes their own.

    Raises InputError for a model that has no family.
    """

    def __init__(self, model: Any, *, context: int = 0, dtype: torch.dtype | None = None) -> None:
        base, self.family = base_of(model), family_of(model)
        self.base, self.context = base, context
        self.records = records_of(base)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.itemsize: dict[str, int] = {}
        self._names: dict[int, str] = {}
        for name, parameter in base.named_parameters(remove_duplicate=False):
            if any(part in name for part in (".lora_A.", ".lora_B.")):
                continue
            name = name.replace(".base_layer.", ".")
            self._names.setdefault(id(parameter), name)
            if self._names[id(parameter)] != name:
                continue
            self.shapes[name] = tuple(parameter.shape)
            self.itemsize[name] = parameter.element_size() if dtype is None else dtype.itemsize
        self.head = f"{self.family.head}.weight" if self.family.head else ""
        self.weight_size = next(base.parameters()).element_size() if dtype is None else dtype.itemsize
        self.tied = bool(self.head) and self.head not in self.shapes
        self._units: dict[Key, Any] = {}

    def __call__(self, plan: KeepPlan | None = None) -> Cost:
        """The counts after ``plan`` (None: now)."""
        plan = KeepPlan() if plan is None else plan
        shapes = self._after(plan)
        kept = plan.kept.get((None, "layer"), range(len(self.records)))
        names = self._counted(shapes, kept)
        prefix = f"{self.family.layers}."
        parameters = sum(math.prod(shapes[name]) for name in names)
        inner = self._matrices()
        prunable = sum(math.prod(shapes[name]) for name in names if name in inner)
        size = sum(math.prod(shapes[name]) * self.itemsize[name] for name in names)
        macs = sum(math.prod(shapes[n]) for n in names if n in inner and n.endswith(".weight") and n.startswith(prefix))
        if self.head:
            macs += math.prod(shapes[self.head if not self.tied else f"{self.family.embeddings[0]}.weight"])
        cache = 0
        for number in kept:
            record = record_after(number, self.records[number], plan)
            qk, v = head_dims(record, self.base.config, self.family)
            macs += self.context * record["heads"] * (qk + v) + self._expert_macs(number, shapes)
            cache += record["kv_heads"] * (qk + v) if self.family.head else 0
        return Cost(parameters, prunable, macs, size, cache * self.weight_size, cache)

    def _matrices(self) -> set[str]:
        found = set()
        for number, record in enumerate(self.records):
            prefix, experts = f"{self.family.layers}.{number}.", self.family.experts
            for block in (self.family.attention, feed_forward_of(self.family, record)):
                for path in (*block.inputs, *block.outputs) if block else ():
                    found |= {f"{prefix}{path}.{leaf}" for leaf in ("weight", "bias")}
            if experts and record["experts"]:
                found |= {f"{prefix}{experts.router}.{leaf}" for leaf in ("weight", "bias")}
                found |= {name for name in self.shapes if name.startswith(f"{prefix}{experts.matrices}.")}
        return found

    def _expert_macs(self, number: int, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Of the experts that one token goes to, and of the gate of the one that all go through."""
        experts = self.family.experts
        if experts is None or not self.records[number]["experts"]:
            return 0
        prefix = f"{self.family.layers}.{number}."
        one = sum(math.prod(shapes[f"{prefix}{experts.matrices}.{name}"][1:]) for name in ("gate_up_proj", "down_proj"))
        gate = shapes.get(f"{prefix}{experts.shared_gate}.weight", (0,))
        return one * int(getattr(self.base.config, experts.top_key)) + math.prod(gate)

    def _counted(self, shapes: Mapping[str, tuple[int, ...]], kept: Any) -> list[str]:
        prefix = f"{self.family.layers}."
        alive = {f"{prefix}{number}." for number in kept}
        return [n for n in shapes if not n.startswith(prefix) or n[: n.index(".", len(prefix)) + 1] in alive]

    def _set(self, key: Key) -> Any:
        if key not in self._units:
            found = units_of(self.base, [key[1]], None if key[0] is None else [key[0]])
            self._units[key] = found[key]
        return self._units[key]

    def _after(self, plan: KeepPlan) -> dict[str, tuple[int, ...]]:
        gone: dict[tuple[str, int, int | None], list[torch.Tensor]] = defaultdict(list)
        for key, ids in plan.kept.items():
            left = set(ids)
            out = [i for i in range(plan.sizes[key]) if i not in left]
            for piece in self._set(key).slices if out else ():
                if piece.param in self.shapes:
                    gone[piece.param, piece.axis, piece.outer].append(piece.index.positions(out))
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        for (name, axis, outer), positions in gone.items():
            removed = len(torch.cat(positions).unique())
            shapes[name][axis] -= removed if outer is None else removed // self.shapes[name][outer]
        return {name: tuple(shape) for name, shape in shapes.items()}


def count(model: Any, plan: KeepPlan | None = None, *, context: int = 0, dtype: torch.dtype | None = None) -> Cost:
    """The counts of a model, now or after a plan. ``parameters`` equals ``sum(p.numel())`` of the pruned model.

    With LoRA adapters attached, the adapters are not counted. ``context``: tokens that one more token attends to.
    ``dtype``: that bytes are counted in, where the weights are saved in another type than they have in memory.
    """
    return Counter(model, context=context, dtype=dtype)(plan)


def uniform_plan(
    units: Units,
    scores: Mapping[Key, torch.Tensor],
    share: float | Mapping[Key, float],
    *,
    multiple_of: int = 1,
    min_units: int = 1,
) -> KeepPlan:
    """Keep the best ``share`` of every set (or a share by set), rounded down to ``multiple_of`` units.

    Query heads and channels of experts are chosen inside their groups, equally many in each.
    """
    kept: dict[Key, list[int]] = {}
    for key, score in scores.items():
        size, groups = units[key].n_units, units[key].groups if key[1] in GROUPED else 1
        part = share if isinstance(share, float | int) else share[key]
        if not 0 <= part <= 1:
            raise InputError("share", part, "a number from 0 to 1")
        each = size // groups
        n = math.floor(part * each + 1e-9) // multiple_of * multiple_of
        n = max(n, min(max(min_units, units[key].least), each))
        best = [row.argsort(descending=True, stable=True)[:n].tolist() for row in score.reshape(groups, each)]
        kept[key] = [group * each + unit for group, row in enumerate(best) for unit in row]
    return KeepPlan.of(units, kept)


def solve_ratio(
    model: Any,
    plan_of: Callable[[float], KeepPlan],
    target: float,
    *,
    measure: Measure = "parameters",
    context: int = 0,
    steps: int = 40,
) -> tuple[float, KeepPlan]:
    """The largest kept share whose plan meets ``target``, by bisection, and that plan.

    Raises InputError where even the share 0 costs more (with the least that can be reached), or 1 costs no more.

    Parameters
    ----------
    plan_of : the plan for a kept share in [0, 1]; a larger share must not cost less.
    target : most parameters, multiplications, bytes of weights or bytes of cache per token.
    """
    counter = Counter(model, context=context)

    def cost(share: float) -> int:
        return getattr(counter(plan_of(share)), measure)

    whole, least = cost(1.0), cost(0.0)
    if target >= whole:
        raise InputError(f"target_{measure}", target, f"less than the model has, {whole:,}")
    if target < least:
        raise InputError(f"target_{measure}", target, f"at least {least:,}, which is the least these units can reach")
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= target else (low, middle)
    return low, plan_of(low)


def is_within(model: Any, target: float, measure: Measure = "parameters", *, context: int = 0) -> bool:
    """Whether a model already costs no more than ``target``: the stop rule of progressive methods."""
    return getattr(count(model, context=context), measure) <= target


def exact_fill(
    model: Any,
    units: Units,
    scores: Mapping[Key, torch.Tensor],
    target: float,
    *,
    measure: Measure = "parameters",
    min_units: int = 1,
    context: int = 0,
    per_cost: bool = True,
) -> KeepPlan:
    """Remove units with the least score per cost, over all sets at once, until ``target`` is met; then fill up again.

    ``per_cost``: False takes the scores as they are, for those that are comparable and may be negative.
    The cost of a unit is what removing it alone would save. After the greedy pass, units that still fit are taken back,
    best first, so that the model ends within less than its cheapest removed unit of the target, unless ``min_units``
    forbids more. Query heads cannot be filled one by one: use ``uniform_plan``.

    Raises InputError where the target cannot be reached.
    """
    if any(kind in (*GROUPED, "hidden", "layer") for _, kind in scores):
        raise InputError(
            "scores", sorted({kind for _, kind in scores}), "kinds whose units can go one by one in a layer"
        )
    counter = Counter(model, context=context)
    now = getattr(counter(), measure)
    if target >= now:
        raise InputError(f"target_{measure}", target, f"less than the model has, {now:,}")
    costs = {}
    for key in scores:
        size = units[key].n_units
        one = KeepPlan({key: tuple(range(1, size))}, {key: size})
        costs[key] = now - getattr(counter(one), measure)
    order = sorted(
        (
            (float(score) / (max(costs[key], 1) if per_cost else 1), name, unit, key)
            for name, (key, row) in enumerate(scores.items())
            for unit, score in enumerate(row.tolist())
        ),
        key=lambda entry: entry[:3],
    )
    kept = {key: set(range(units[key].n_units)) for key in scores}

    def cost_of_kept() -> int:
        return getattr(counter(KeepPlan.of(units, kept)), measure)

    estimate, removed = now, []
    for _, _, unit, key in order:
        if estimate <= target:
            estimate = cost_of_kept()  # units that share a matrix save less together than one by one
            if estimate <= target:
                break
        if costs[key] > 0 and len(kept[key]) > max(min_units, units[key].least):
            kept[key].discard(unit)
            removed.append((key, unit))
            estimate -= costs[key]
    reached = cost_of_kept()
    if reached > target:
        raise InputError(f"target_{measure}", target, f"at least {reached:,}, which is the least these units can reach")
    for key, unit in reversed(removed):
        if costs[key] <= target - reached:
            kept[key].add(unit)
            again = cost_of_kept()
            if again <= target:
                reached = again
            else:
                kept[key].discard(unit)
    return KeepPlan.of(units, kept)


def keeps_attention(model: Any, plan: KeepPlan) -> bool:
    """Whether a plan leaves at least one head somewhere, without which no position reaches another."""
    return any(kept_query_heads(records_of(model), plan))
