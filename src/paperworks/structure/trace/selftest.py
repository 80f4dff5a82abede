"""A self-test of an analysis: every group is cut by a few units in a copy, and compared with the masked model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from paperworks.errors import InputError
from paperworks.parameters import check_seed
from paperworks.structure.trace.analysis import TracedGroups
from paperworks.structure.trace.capture import call
from paperworks.structure.trace.cutting import cut
from paperworks.structure.trace.positions import largest_difference, masked_outputs


@dataclass(frozen=True)
class Verdict:
    """What became of one group: the same function (``exact``), another one on purpose (``coupled``), or refused."""

    name: str
    result: Literal["exact", "coupled", "refused"]
    difference: float
    """Of cut and masked outputs, relative to the largest output; NaN where nothing was compared."""
    reason: str = ""


def verify(groups: TracedGroups, *, seed: int = 0, units: int = 2, tolerance: float = 1e-5) -> list[Verdict]:
    """Cut up to ``units`` random units of each group in a copy of the model, one group at a time."""
    check_seed("seed", seed)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for group in groups.values():
        gone = torch.randperm(group.n_units, generator=generator)[: min(units, group.n_units - 1)].tolist()
        plan = groups.keep({group.name: [i for i in range(group.n_units) if i not in gone]})
        try:
            model = cut(groups, plan, tolerance=tolerance)
        except InputError as error:
            found.append(Verdict(group.name, "refused", float("nan"), str(error)))
            continue
        difference = float("nan")
        if not group.norm_coupled:
            masked = masked_outputs(groups, plan)
            difference = largest_difference(masked, call(model, groups.inputs))
        found.append(Verdict(group.name, "coupled" if group.norm_coupled else "exact", difference))
    return found
