"""Groups of units out of the atoms: what can be removed, what cannot and why, in a form that people can read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from paperworks.structure.trace.algebra import Components, Family, Ids, Reason
from paperworks.structure.trace.rules_norm import COUPLED
from paperworks.structure.trace.walk import SIZED, Mode, Walk
from paperworks.structure.units import IndexMap, Key, Slice, UnitSet


@dataclass(frozen=True)
class TracedGroup:
    """Units of one kind that are alike: each takes the same number of positions from the same tensors.

    Attributes
    ----------
    units : the units; ``units.slices`` are of parameters.
    buffers : the positions that leave buffers with them (running statistics, tables).
    kind : ``channel`` (convolution), ``ffn`` (linear), ``head``, ``head_dim``, ``hidden`` (a stream that norms are
        taken over), ``conv_group``, ``norm_group``, ``block`` or ``embedding``.
    root : the parameter whose operator makes the channels first.
    norm_coupled : a norm is taken over the units: after a cut it is taken over those that are left, which is another
        function than that of zeros.
    sized : the code names lengths of these axes where it calls operators; they may be read from tensors, or fixed.
    by_default : whether plans for all groups include it. Those that overlap another group,
        coupled ones, and those whose sizes are fixed in the code are not.
    note : why not.
    """

    units: UnitSet
    buffers: tuple[Slice, ...]
    kind: str
    root: str
    mode: Mode
    norm_coupled: bool
    sized: bool = False
    by_default: bool = True
    note: str = ""

    @property
    def name(self) -> str:
        return self.units.kind

    @property
    def key(self) -> Key:
        return self.units.key

    @property
    def n_units(self) -> int:
        return self.units.n_units

    @property
    def slices(self) -> tuple[Slice, ...]:
        return (*self.units.slices, *self.buffers)

    def __str__(self) -> str:
        head = f"{self.name}: {self.n_units} units{f'  [not by default: {self.note}]' if not self.by_default else ''}"
        width = max(len(piece.param) for piece in self.slices)
        rows = []
        for piece in self.slices:
            each = piece.index.table.shape[1]
            several = f"  {each} positions a unit" if each > 1 else ""
            rows.append(f"    {piece.param:<{width}}  axis {piece.axis}{several}")
        return "\n".join([head, *rows])


@dataclass(frozen=True)
class Blocked:
    """Channels that an operator makes and that cannot be removed."""

    param: str
    positions: int
    reason: Reason

    def __str__(self) -> str:
        return f"{self.param} ({self.positions} positions): {self.reason}"


@dataclass(eq=False)
class Solved:
    """A walk and what its atoms came to: the number of the group and of the unit in it of every label (or -1)."""

    walk: Walk
    parts: Components
    group: Ids
    unit: Ids

    def groups_at(self, ids: Ids) -> Ids:
        """The group of every position of an axis, -1 where there is none."""
        return self.group[self.parts.label[ids]]

    def kept_at(self, ids: Ids, kept: dict[int, NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Whether each position stays, when ``kept[group]`` says which units do."""
        label = self.parts.label[ids]
        stays = np.ones(len(ids), dtype=np.bool_)
        for number, mask in kept.items():
            inside = self.group[label] == number
            stays[inside] = mask[self.unit[label[inside]]]
        return stays


def _mixed(family: int, counts: NDArray[Any]) -> NDArray[np.uint64]:
    """64 well-mixed bits of (family, count): sums of these tell signatures apart."""
    x = np.uint64(family + 1) * np.uint64(0x9E3779B97F4A7C15) + counts.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def solve(walk: Walk, taken: dict[Any, int], groups: list[TracedGroup]) -> Solved:
    """Add the groups of a walk to ``groups``. A group that is there already (``taken``) keeps its number."""
    with np.errstate(over="ignore"):
        return _solve(walk, taken, groups)


def _solve(walk: Walk, taken: dict[Any, int], groups: list[TracedGroup]) -> Solved:
    parts = walk.atoms.solve()
    label, count = parts.label, int(parts.label.max()) + 1
    blocked = np.zeros(count, dtype=np.bool_)
    blocked[list(parts.reasons)] = True
    signature = np.zeros(count, dtype=np.uint64)
    seen = np.zeros(count, dtype=np.bool_)
    families = [f for f in walk.atoms.families if parts.touched[f.start : f.start + f.size].any()]
    for number, family in enumerate(families):
        labels, counts = np.unique(label[family.start : family.start + family.size], return_counts=True)
        signature[labels] += _mixed(number, counts)
        seen[labels] = True
    good = np.flatnonzero(seen & ~blocked)
    kinds, inverse = np.unique(signature[good], return_inverse=True)
    local = np.full(count, -1, dtype=np.int64)
    local[good] = inverse
    members: dict[int, list[Family]] = defaultdict(list)
    for family in families:
        for number in np.unique(local[label[family.start : family.start + family.size]]).tolist():
            if number >= 0:
                members[number].append(family)
    solved = Solved(walk, parts, np.full(count, -1, dtype=np.int64), np.full(count, -1, dtype=np.int64))
    order = _starts(walk, walk.produced)
    roots: dict[int, Family] = {}
    for number in range(len(kinds)):
        writers = [f for f in members[number] if f.start in order and not f.buffer]
        if writers:
            roots[number] = min(writers, key=lambda f: (order[f.start], f.start))
    for number, root in sorted(roots.items(), key=lambda item: (order[item[1].start], item[1].start, item[0])):
        at_root = label[root.start : root.start + root.size]
        at_root = at_root[local[at_root] == number]
        labels = at_root[np.sort(np.unique(at_root, return_index=True)[1])]
        if len(labels) < 2:
            text = f"all {root.size} positions leave together, or none"
            parts.reasons.setdefault(int(labels[0]), Reason(text, root.param.rpartition(".")[0]))
            continue
        solved.unit[labels] = np.arange(len(labels))
        made, identity = _group(walk, solved, members[number], local == number, labels, root, groups)
        if identity not in taken:
            taken[identity] = len(groups)
            groups.append(made)
        solved.group[labels] = taken[identity]
    return solved


def _starts(walk: Walk, noted: list[tuple[Ids, int]]) -> dict[int, int]:
    """First atom of a family whose axis operators noted -> the order of the first such operator."""
    starts = np.array([f.start for f in walk.atoms.families], dtype=np.int64)
    found: dict[int, int] = {}
    for ids, order in noted:
        real = ids[ids > 0]
        for place in np.unique(np.searchsorted(starts, real, side="right") - 1).tolist():
            found.setdefault(int(starts[place]), order)
    return found


def _group(
    walk: Walk,
    solved: Solved,
    families: list[Family],
    mine: NDArray[np.bool_],
    labels: Ids,
    root: Family,
    groups: list[TracedGroup],
) -> tuple[TracedGroup, Any]:
    label = solved.parts.label
    slices: list[Slice] = []
    buffers: list[Slice] = []
    for family in families:
        here = label[family.start : family.start + family.size]
        places = np.flatnonzero(mine[here])
        places = places[np.argsort(solved.unit[here[places]], kind="stable")]
        index = IndexMap(torch.from_numpy(places.reshape(len(labels), -1)))
        (buffers if family.buffer else slices).append(Slice(family.param, family.axis, index))
    identity = tuple((s.param, s.axis, s.index.table.numpy().tobytes()) for s in (*slices, *buffers))
    tags = {name for name, tagged in solved.parts.tags.items() if int(labels[0]) in tagged}
    weight = walk.values[root.param]
    kind = _kind(tags, walk.mode, len(weight.shape))
    base = f"{root.param.rpartition('.')[0] or root.param}/{kind}"
    names = {g.name for g in groups}
    name, number = base, 2
    while name in names:
        name, number = f"{base}.{number}", number + 1
    units = UnitSet(None, name, len(labels), tuple(slices))
    return TracedGroup(units, tuple(buffers), kind, root.param, walk.mode, COUPLED in tags, SIZED in tags), identity


def _kind(tags: set[str], mode: Mode, dimensions: int) -> str:
    if "split" in tags and mode == "outer":
        return "head" if "batched" in tags else "block"
    if "split" in tags:
        return "head_dim"
    if COUPLED in tags:
        return "hidden"
    if "batched" in tags:  # heads that have an axis of their own
        return "head"
    for tag in ("conv_group", "norm_group", "embedding"):
        if tag in tags:
            return tag
    return "channel" if dimensions > 2 else "ffn"


def chosen_by_default(groups: Iterable[TracedGroup]) -> list[TracedGroup]:
    """Mark the groups that plans include unless told otherwise: uncoupled, and none that overlaps an earlier one."""
    used: dict[tuple[str, int], set[int]] = defaultdict(set)
    made = []
    for group in groups:
        places = [((s.param, s.axis), set(s.index.table.flatten().tolist())) for s in group.slices]
        overlaps = any(used[where] & taken for where, taken in places)
        note = "a norm is taken over the units" if group.norm_coupled else "overlaps another group" if overlaps else ""
        if not note:
            for where, taken in places:
                used[where] |= taken
        made.append(replace(group, by_default=not note, note=note))
    return made


def attention_of(model: nn.Module, group: TracedGroup) -> str:
    """The path of an nn.MultiheadAttention that the units are an input, an output or heads of, or an empty string.

    It compares the widths of what it is given with the number that it was made with.
    """
    for piece in group.units.slices:
        for path in (piece.module, piece.module.rpartition(".")[0]):
            if isinstance(model.get_submodule(path), nn.MultiheadAttention):
                return path
    return ""


def isomorphism(group: TracedGroup) -> str:
    """Equal for groups that have the same members: kind, parameter names apart from numbers, axes, counts."""
    members = [(re.sub(r"\d+", "#", s.param), s.axis, s.index.table.shape[1]) for s in group.slices]
    return str((group.kind, sorted(members)))


def blocked_of(solved: list[Solved], groups: list[TracedGroup]) -> list[Blocked]:
    """Channels that are written, or are weights of operators without a rule, and in no group; with the first reason."""
    free: dict[tuple[str, int], set[int]] = defaultdict(set)
    for group in groups:
        for piece in group.units.slices:
            free[piece.param, piece.axis] |= set(piece.index.table.flatten().tolist())
    walk, parts = solved[0].walk, solved[0].parts
    order = {**_starts(walk, walk.refused), **_starts(walk, walk.produced)}
    found = []
    for family in sorted((f for f in walk.atoms.families if f.start in order), key=lambda f: order[f.start]):
        by_reason: dict[Reason, int] = defaultdict(int)
        for place, number in enumerate(parts.label[family.start : family.start + family.size].tolist()):
            if place not in free[family.param, family.axis] and number in parts.reasons:
                by_reason[parts.reasons[number]] += 1
        found += [Blocked(family.param, positions, reason) for reason, positions in by_reason.items()]
    return found
