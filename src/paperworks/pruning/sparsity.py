"""Group sparsity on LoRA weights: the entries of A and B that belong to a unit are one group.

peft stores A as [r, in] and B as [out, r]: a unit's rows of W are rows of B, its columns of W are columns of A.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.structure.layers_pruned import linear_at
from paperworks.structure.plan import name_of
from paperworks.structure.units import IndexMap, Key, Units, UnitSet, base_of

SMALL = 1e-20
"""Inside the root of a norm, so that it has a gradient at 0."""


def lora_parts(model: Any, unit_set: UnitSet) -> Iterator[tuple[torch.nn.Parameter, int, IndexMap]]:
    """Adapter weights that belong to the units of a set: (weight, axis, positions)."""
    base = base_of(model)
    for piece in unit_set.slices:
        outer, inner = base.get_submodule(piece.module), linear_at(base, piece.module)
        if not hasattr(outer, "lora_A") or not piece.param.endswith(".weight"):
            continue
        reads = (piece.axis == 1) != hasattr(inner, "nf")
        for adapter in (outer.lora_A if reads else outer.lora_B).values():
            yield adapter.weight, int(reads), piece.index


def lora_group_norms(model: Any, unit_set: UnitSet) -> torch.Tensor:
    """Joint Euclidean norm of the adapter entries of every unit, float32 [n_units], with a gradient.

    Raises InputError where no adapter touches the units.
    """
    squares = [
        index.reduce(weight.float().square().sum(1 - axis)) for weight, axis, index in lora_parts(model, unit_set)
    ]
    if not squares:
        raise InputError(name_of(unit_set.key), "no adapter on its matrices", "LoRA on the matrices of the units")
    return (torch.stack(squares).sum(0) + SMALL).sqrt()


def group_penalty(model: Any, units: Units, dropped: Mapping[Key, Iterable[int] | torch.Tensor]) -> torch.Tensor:
    """Sum over the dropped units of the norm of each of their adapter parts, averaged over the sets (ATP's GL term).

    Here every part (a row of B_gate, a row of B_up, a column of A_down, ...) has a norm of its own. A set without
    dropped units counts as 0.
    """
    terms = []
    for key, ids in dropped.items():
        chosen = torch.as_tensor(ids if isinstance(ids, torch.Tensor) else list(ids), dtype=torch.int64)
        parts = list(lora_parts(model, units[key]))
        if not parts:
            raise InputError(name_of(key), "no adapter on its matrices", "LoRA on the matrices of the units")
        total = parts[0][0].new_zeros((), dtype=torch.float32)
        for weight, axis, index in parts:
            squares = index.reduce(weight.float().square().sum(1 - axis))[chosen.to(weight.device)]
            total = total + (squares + SMALL).sqrt().sum()
        terms.append(total)
    if not terms:
        raise InputError("dropped", "no unit sets", "at least one")
    return torch.stack(terms).mean()


@torch.no_grad()
def proximal_step(
    model: Any,
    units: Units,
    dropped: Mapping[Key, Iterable[int] | torch.Tensor],
    threshold: float | Mapping[Key, float],
) -> None:
    """w_c <- w_c max(0, n_c - tau) / n_c for the adapter entries of every dropped unit c, with joint norm n_c.

    The proximal operator of tau times the group norm: apply it after every optimiser step. Other entries are untouched.
    ``threshold``: tau for all sets, or by set.
    """
    for key, ids in dropped.items():
        tau = threshold[key] if isinstance(threshold, Mapping) else threshold
        if tau < 0:
            raise InputError("threshold", tau, "0 or a positive number")
        norms = lora_group_norms(model, units[key])
        factor = torch.ones_like(norms)
        chosen = torch.as_tensor(ids if isinstance(ids, torch.Tensor) else list(ids), dtype=torch.int64).to(
            norms.device
        )
        factor[chosen] = (norms[chosen] - tau).clamp(min=0) / norms[chosen]
        for weight, axis, index in lora_parts(model, units[key]):
            size = weight.shape[axis]
            along = torch.cat([factor, factor.new_ones(1)])[index.owner(size).to(factor.device)].to(weight)
            weight.mul_(along if axis == 1 else along[:, None])


def zero_adapters(model: Any, units: Units, dropped: Mapping[Key, Iterable[int] | torch.Tensor]) -> None:
    """Set the adapter entries of dropped units to exactly 0: before merging and cutting."""
    proximal_step(model, units, dropped, float("inf"))
