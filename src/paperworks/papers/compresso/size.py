"""The size of a model as a polynomial in its kept units: a product of sums, exact in integers and in float64.

A matrix that reads or writes the stream has (kept stream dimensions) x (rows of kept units) entries. With d kept
dimensions and n_k kept units of set k,

    size = fixed + d (rows + sum_k along_k n_k) + sum_k alone_k n_k

For a Llama with D dimensions, H heads of hd channels and F feed-forward channels, counted over the prunable matrices,
this is the paper's E = 4 hd d sum(heads) + 3 d sum(channels); with key-value groups of G query heads, (2 G + 2) hd in
place of 4 hd.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch

from paperworks.structure import Units, kinds_of, units_of
from paperworks.structure.units import Key, base_of, family_of, records_of

Measure = Literal["prunable", "parameters"]
HIDDEN: Key = (None, "hidden")
Number = TypeVar("Number", int, torch.Tensor)


@dataclass(frozen=True)
class Size:
    """The polynomial of one model.

    Attributes
    ----------
    fixed : entries that no mask touches.
    width : D, the dimensions of the stream.
    rows : entries along every stream dimension that belong to no maskable unit.
    along : entries of one unit along every stream dimension, by unit set.
    alone : entries of one unit that do not depend on the stream (biases), by unit set.
    counts : units of every set.
    """

    fixed: int
    width: int
    rows: int
    along: Mapping[Key, int]
    alone: Mapping[Key, int]
    counts: Mapping[Key, int]

    @classmethod
    def of(cls, model: Any, measure: Measure = "prunable") -> Size:
        """Read a stock or pruned model, bare or with adapters, which are not counted.

        ``prunable`` counts the weights of the matrices inside the layers (the paper's M: no norms, embeddings, head
        or biases); ``parameters`` counts everything, tied tables once.
        """
        base = base_of(model)
        hidden = "hidden" in kinds_of(model)
        units = units_of(model, ["ffn", "kv_group", *(["hidden"] if hidden else [])])
        owners = _owners(units)
        wanted = _matrices(base) if measure == "prunable" else None
        fixed, rows = 0, 0
        along: dict[Key, int] = defaultdict(int)
        alone: dict[Key, int] = defaultdict(int)
        seen: set[int] = set()
        for full, parameter in base.named_parameters(remove_duplicate=False):
            name = full.replace(".base_layer.", ".")
            if ".lora_" in full or id(parameter) in seen or (wanted is not None and name not in wanted):
                continue
            seen.add(id(parameter))
            axes = owners.get(name, {})
            stream = next((axis for axis, keys in axes.items() if HIDDEN in keys), None)
            other = next((axis for axis, keys in axes.items() if HIDDEN not in keys), None)
            owned = 0
            for key, each in axes[other].items() if other is not None else ():
                owned += each * units[key].n_units
                if stream is None:
                    alone[key] += each * (parameter.numel() // parameter.shape[other])
                else:
                    along[key] += each
            if other is not None:
                left = parameter.shape[other] - owned
                rows += left if stream is not None else 0
                fixed += 0 if stream is not None else left * (parameter.numel() // parameter.shape[other])
            elif stream is not None:
                rows += parameter.numel() // parameter.shape[stream]
            else:
                fixed += parameter.numel()
        counts = {key: units[key].n_units for key in units if key != HIDDEN}
        width = units[HIDDEN].n_units if hidden else 1
        return cls(fixed, width, rows, {k: along[k] for k in counts}, {k: alone[k] for k in counts}, counts)

    def __call__(self, kept: Mapping[Key, Number]) -> Number:
        """The size with so many kept units (or expected ones, as float64 scalars); sets that are not named are whole.

        The exact integer for integers.
        """
        d: Any = kept.get(HIDDEN, self.width)
        inner: Any = self.rows
        outer: Any = self.fixed
        for key, each in self.along.items():
            n = kept.get(key, self.counts[key])
            inner = inner + each * n
            outer = outer + self.alone[key] * n
        return outer + d * inner

    @property
    def whole(self) -> int:
        """The size with every unit."""
        return self({})

    def cost(self, key: Key, kept: Mapping[Key, int]) -> int:
        """What removing one more unit of a set saves, given the kept numbers."""
        if key == HIDDEN:
            return self.rows + sum(each * kept.get(k, self.counts[k]) for k, each in self.along.items())
        return self.along[key] * kept.get(HIDDEN, self.width) + self.alone[key]


def _owners(units: Units) -> dict[str, dict[int, dict[Key, int]]]:
    """Parameter -> axis -> unit set -> positions of one unit."""
    found: dict[str, dict[int, dict[Key, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for key, unit_set in units.items():
        for piece in unit_set.slices:
            if unit_set.n_units:
                found[piece.param][piece.axis][key] += int((piece.index.table[0] >= 0).sum())
    return found


def _matrices(base: Any) -> set[str]:
    family = family_of(base)
    return {
        f"{family.layers}.{number}.{path}.weight"
        for number in range(len(records_of(base)))
        for block in (family.attention, family.feed_forward)
        for path in (*block.inputs, *block.outputs)
    }
