"""The mean cost of a shape over all widths and depths, and the penalty that steers it to a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from paperworks.errors import InputError
from paperworks.papers.tas.costs import CostFunction, Wire, macs, wires
from paperworks.papers.tas.shapes import NetworkShape


@dataclass(frozen=True)
class _Table:
    wire: Wire
    costs: tuple[torch.Tensor, ...]
    """One for each source: the costs of all widths, float64 ``[input candidates, output candidates]``."""


class ExpectedCost:
    """The mean cost of the networks of a search space, when every width and depth is chosen on its own.

    ::

        E = sum over operators of  P(the block is kept)  sum_ij p_input(i) p_output(j) cost(operator, c_i, c_j)

    This is the mean over all combinations, exactly, whatever the cost function: an operator depends on one width at
    each end. The first operator of a stage depends on the depth of the stage before, too. Shortcuts that become
    convolutions where their ends differ count with the probability of that.

    Parameters
    ----------
    shape : the full network.
    size : height and width of the images.
    widths : candidates of every convolution, as in ``shape.widths``.
    depths : candidate numbers of blocks of every stage.
    cost : see ``CostFunction``.
    """

    def __init__(
        self,
        shape: NetworkShape,
        size: tuple[int, int],
        widths: Sequence[tuple[int, ...]],
        depths: Sequence[tuple[int, ...]],
        cost: CostFunction = macs,
    ) -> None:
        self.depths = tuple(depths)

        def values(source: int | None, fixed: int) -> tuple[int, ...]:
            return (fixed,) if source is None else widths[source]

        self._tables = []
        for wire in wires(shape, size):
            outs = values(wire.target, shape.outputs)
            tables = []
            for source in wire.sources or (None,):
                rows = [[cost(wire.operator, i, o) for o in outs] for i in values(source, shape.channels)]
                tables.append(torch.tensor(rows, dtype=torch.float64))
            if not all(bool(torch.isfinite(t).all()) and bool((t >= 0).all()) for t in tables):
                raise InputError("cost", f"not a finite number of 0 or more at {wire.operator.name}", "one")
            self._tables.append(_Table(wire, tuple(tables)))

    def __call__(self, widths: Sequence[torch.Tensor], depths: Sequence[torch.Tensor]) -> torch.Tensor:
        """The mean cost, a float64 scalar with a gradient.

        Parameters
        ----------
        widths, depths : probabilities of the candidates, float ``[candidates]`` by convolution and by stage.
        """
        inside = [w.double().cpu() for w in widths]
        kept = [self._kept(stage, q.double().cpu()) for stage, q in enumerate(depths)]
        one = torch.ones(1, dtype=torch.float64)
        total = torch.zeros((), dtype=torch.float64)
        for table in self._tables:
            wire = table.wire
            out = one if wire.target is None else inside[wire.target]
            ends = [one if source is None else inside[source] for source in wire.sources or (None,)]
            parts = [p @ costs @ out for p, costs in zip(ends, table.costs, strict=True)]
            mean = parts[0]
            if wire.source_stage is not None:
                exactly = kept[wire.source_stage] - torch.cat([kept[wire.source_stage][1:], 0 * one])
                mean = (exactly * torch.stack(parts)).sum()
            total = total + (mean if wire.stage is None else mean * kept[wire.stage][wire.block])
        return total

    def _kept(self, stage: int, chances: torch.Tensor) -> torch.Tensor:
        """The probability that each block of a stage is kept, float64 ``[blocks]``."""
        candidates = torch.tensor(self.depths[stage])
        blocks = torch.arange(int(candidates.max()))
        return ((candidates[:, None] > blocks).double() * chances[:, None]).sum(0)


def cost_penalty(
    expected: torch.Tensor,
    actual: float,
    target: float,
    tolerance: float = 0.05,
    *,
    rule: Literal["paper", "code"] = "paper",
    full: float | None = None,
) -> torch.Tensor:
    """The piecewise penalty: down where the most probable network costs too much, up where it costs too little.

    ::

        log E    if F > (1 + t) R          E: expected cost, F: cost of the most probable network
        0        in between                R: target, t: tolerance
        -log E   if F < (1 - t) R

    Parameters
    ----------
    rule : ``code`` is the released code's band: F > R above, F < R - t F_full below.
    full : cost of the full network, for ``code``.
    """
    if not 0 <= tolerance < 1:
        raise InputError("tolerance", tolerance, "a share from 0 to below 1")
    low, high = (1 - tolerance) * target, (1 + tolerance) * target
    if rule == "code":
        if full is None:
            raise InputError("full", None, "the cost of the full network")
        low, high = target - tolerance * full, target
    if actual > high:
        return expected.log()
    return -expected.log() if actual < low else 0 * expected
