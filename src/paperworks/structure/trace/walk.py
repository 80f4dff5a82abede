"""The walk over a captured graph: each node's rule gets values with atom ids and gives values with atom ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from paperworks.structure.trace.algebra import Atoms, Ids, Reason, Value
from paperworks.structure.trace.capture import Captured

Mode = Literal["outer", "inner"]
"""Where an axis is split into several: which part keeps its atoms, the first (heads) or the last (channels of each)."""

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
SIZED = "sized"
"""Tag of units along axes whose length, or a part of it, is a number when the code calls an operator."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of ATen operators, by name without overload: ``rule(walk, node, *args, **kwargs)``."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


class SplitTaken(Exception):
    """Code picks single positions out of the part of a split axis that kept the atoms: another part has to."""

    def __init__(self, split: str, part: int) -> None:
        self.split, self.part = split, part


@dataclass(frozen=True, eq=False)
class Site:
    """An operator whose module has a number of groups: which atoms its input channels carry."""

    kind: Literal["conv", "group_norm", "norm"]
    module: str
    channels: Ids
    groups: int


@dataclass(frozen=True, eq=False)
class Work:
    """Multiply-accumulates of one node: the product of these axis lengths (atoms, or a number that stays)."""

    node: str
    module: str
    operator: str
    factors: tuple[Ids | int, ...]


@dataclass(eq=False)
class Walk:
    """One pass over the graph in one mode."""

    captured: Captured
    mode: Mode
    rules: dict[str, Rule]
    fixed_parts: dict[str, set[int]] = field(default_factory=dict)
    atoms: Atoms = field(default_factory=Atoms)
    sites: list[Site] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    produced: list[tuple[Ids, int]] = field(default_factory=list)
    """Atoms of axes that operators write, with the order of the operator."""
    refused: list[tuple[Ids, int]] = field(default_factory=list)
    """The same of matrices that operators without a rule read: the rows, which stay."""
    made: list[tuple[str, str, list[Value]]] = field(default_factory=list)
    """Operator, module path and outputs of every node, in order."""
    _splits: dict[int, tuple[Ids, str, int]] = field(default_factory=dict)
    _order: int = 0
    _node: Any = None
    values: dict[str, Value] = field(default_factory=dict)

    def run(self) -> None:
        """Walk over the whole graph and freeze what reaches its outputs."""
        outputs = self._graph(self.captured.graph, None)
        for value in _values(outputs):
            for ids in value.axes:
                self.atoms.freeze(ids, Reason("reaches the output of the model", ""))

    def _graph(self, graph: torch.fx.Graph, operands: list[Any] | None) -> Any:
        env: dict[torch.fx.Node, Any] = {}
        given = iter(operands or ())
        owner = graph.owning_module
        for node in graph.nodes:
            if node.op == "placeholder":
                env[node] = self._input(node) if operands is None else next(given)
            elif node.op == "get_attr":
                found = getattr(owner, node.target, None)
                is_graph = isinstance(found, torch.fx.GraphModule)
                env[node] = found if is_graph else Value.free(tuple(getattr(found, "shape", ())))
            elif node.op == "call_function":
                args = torch.fx.map_arg(node.args, lambda n: env[n])
                kwargs = torch.fx.map_arg(node.kwargs, lambda n: env[n])
                env[node] = self._call(node, args, kwargs)
                self._note(node, env[node])
                if str(node.target).split(".")[1:2] and str(node.target).split(".")[1].endswith("_") and node.args:
                    first = node.args[0]
                    if isinstance(first, torch.fx.Node) and not str(node.target).startswith("aten.__"):
                        env[first] = env[node]
            elif node.op == "output":
                return torch.fx.map_arg(node.args[0], lambda n: env[n])
        return None

    def _input(self, node: torch.fx.Node) -> Any:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return value
        shape = tuple(int(size) for size in value.shape)
        name = self.captured.parameters.get(node.name)
        if name is None or not value.dtype.is_floating_point:
            return Value.free(shape)
        if name in self.values:
            return self.values[name]
        self.values[name] = self.atoms.allocate(name, shape, buffer=name in self.captured.buffers)
        return self.values[name]

    def _call(self, node: torch.fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._node, self._order = node, self._order + 1
        target: Any = node.target
        if isinstance(target, torch._ops.HigherOrderOperator):
            body = next((i for i, a in enumerate(args) if isinstance(a, torch.fx.GraphModule)), None)
            if body is None or "wrap_with" not in target.name():
                return self.unknown(node, args, kwargs)
            return self._graph(args[body].graph, list(args[body + 1 :]))
        name = (
            str(target).split(".")[1] if str(target).startswith("aten.") else getattr(target, "__name__", str(target))
        )
        found = self.rules.get(name) or self.rules.get(name.rstrip("_")) or self.rules.get(str(target))
        if found is not None:
            result = found(self, node, *args, **kwargs)
            return result if result is not NotImplemented else self.unknown(node, args, kwargs)
        if torch.Tag.pointwise in getattr(target, "tags", ()):
            return self.rules["add.pointwise"](self, node, *args, **kwargs)
        return self.unknown(node, args, kwargs)

    def _note(self, node: torch.fx.Node, value: Any) -> None:
        self.made.append((str(node.target), self.module, list(_values(value))))

    def unknown(self, node: torch.fx.Node, args: Any, kwargs: Any) -> Any:
        """An operator without a rule: what goes into it stays."""
        inputs = list(_values((args, kwargs)))
        name = str(node.target)
        why = "a module left out of the analysis" if "opaque" in name else f"operator {name}, which has no rule"
        path, parametrized, _ = self.module.partition(".parametrizations.")
        if parametrized:
            why += f"; torch.nn.utils.parametrize.remove_parametrizations of {path} leaves a weight that can be cut"
        for value in inputs:
            for ids in value.axes:
                self.atoms.freeze(ids, self.reason(f"goes through {why}"))
            if len(value.shape) > 1 and value.axes[0] is not None:
                self.refused.append((value.axes[0], self._order))
        return self.free_like(node)

    # -- what rules use

    @property
    def module(self) -> str:
        """The path of the module that the node is in."""
        stack = self._node.meta.get("nn_module_stack") if self._node is not None else None
        if not stack:
            return ""
        path = str(list(stack.values())[-1][0])
        return re.sub(r"@\d+", "", path.removeprefix("L['self']").removeprefix(".").removeprefix("self."))

    def reason(self, text: str) -> Reason:
        """A reason at the node."""
        return Reason(text, self.module, _line(self._node))

    def shape_of(self, node: torch.fx.Node) -> tuple[int, ...]:
        return tuple(int(size) for size in node.meta["val"].shape)

    def free_like(self, node: torch.fx.Node) -> Any:
        """Outputs of the node without atoms."""
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            return Value.free(tuple(int(size) for size in value.shape))
        if isinstance(value, list | tuple):
            return [Value.free(tuple(map(int, v.shape))) if isinstance(v, torch.Tensor) else v for v in value]
        return value

    def freeze(self, ids: Ids | None, text: str) -> None:
        self.atoms.freeze(ids, self.reason(text))

    def meet(self, left: Ids | None, right: Ids | None, *, left_size: int = -1, right_size: int = -1) -> Ids | None:
        """Two axes of the same length meet: their atoms leave together; beside a fixed axis they stay."""
        if left is not None and right is not None:
            self.atoms.join(left, right)
            return left
        present = left if left is not None else right
        other_size = right_size if left is not None else left_size
        if present is not None and other_size != 1 and len(present) > 1:
            self.freeze(present, "meets an axis whose length is fixed")
        return present

    def produce(self, ids: Ids | None) -> None:
        """Note that an operator writes these channels."""
        if ids is not None and len(ids):
            self.produced.append((ids, self._order))

    def work(self, *factors: tuple[Ids | None, int] | int) -> None:
        """Note multiply-accumulates: a product of axis lengths."""
        made = tuple(f if isinstance(f, int) else (f[1] if f[0] is None else f[0]) for f in factors)
        operator = str(self._node.target).split(".")[1]
        self.works.append(Work(self._node.name, self.module, operator, made))

    def split(self, ids: Ids, sizes: tuple[int, ...]) -> list[Ids | None]:
        """Row-major: one axis of atoms becomes axes of ``sizes``. One of them keeps the atoms; the rest stay whole."""
        table = ids.reshape(sizes)
        parts = [i for i, size in enumerate(sizes) if size > 1]
        axes: list[Ids | None] = [None] * len(sizes)
        for part in parts:
            rows = np.moveaxis(table, part, 0).reshape(sizes[part], -1)
            if bool((rows == rows[:, :1]).all()):
                axes[part] = np.ascontiguousarray(rows[:, 0])
                return axes
        fixed = self.fixed_parts.get(self._node.name, set())
        free = [part for part in parts if part not in fixed]
        if not free:
            self.freeze(ids, "single positions are picked out of every part of a split axis")
            return axes
        part = free[0] if self.mode == "outer" else free[-1]
        rows = np.moveaxis(table, part, 0).reshape(sizes[part], -1)
        self.atoms.join(np.ascontiguousarray(rows[:, 1:]), rows[:, :1])
        axes[part] = np.ascontiguousarray(rows[:, 0])
        self.atoms.tag(axes[part], "split")
        self._splits[id(axes[part])] = (axes[part], self._node.name, part)  # type: ignore[assignment]
        return axes

    def picked(self, ids: Ids | None, text: str) -> None:
        """Code picks single positions along an axis: its atoms stay, or another part of the split takes them."""
        if ids is None:
            return
        found = self._splits.get(id(ids))
        if found is not None:
            raise SplitTaken(found[1], found[2])
        self.freeze(ids, text)

    def same_place(self, pieces: Iterable[Ids]) -> None:
        """Equal positions of equally long pieces leave together, so that the pieces stay equally long."""
        first: Ids | None = None
        for piece in pieces:
            if first is None:
                first = piece
            elif len(piece) == len(first):
                self.atoms.join(piece, first)
            else:
                self.freeze(piece, "pieces of different lengths are cut out of one axis")
                self.freeze(first, "pieces of different lengths are cut out of one axis")


def walk(captured: Captured, mode: Mode, rules: dict[str, Rule]) -> Walk:
    """Walk until no split has to be taken another way."""
    fixed: dict[str, set[int]] = {}
    while True:
        found = Walk(captured, mode, rules, fixed)
        try:
            found.run()
        except SplitTaken as taken:
            fixed.setdefault(taken.split, set()).add(taken.part)
            continue
        return found


def _values(found: Any) -> Iterable[Value]:
    if isinstance(found, Value):
        yield found
    elif isinstance(found, list | tuple):
        for item in found:
            yield from _values(item)
    elif isinstance(found, dict):
        for item in found.values():
            yield from _values(item)


def _line(node: Any) -> str:
    """``file.py:12`` of the innermost line of the model's code that made the node."""
    trace = (node.meta.get("stack_trace") or "") if node is not None else ""
    found = re.findall(r'File "([^"]+)", line (\d+)', trace)
    own = [(file, line) for file, line in found if "/torch/" not in file.replace("\\", "/")]
    if not own:
        return ""
    file, line = own[-1]
    return f"{file.replace(chr(92), '/').rpartition('/')[2]}:{line}"
