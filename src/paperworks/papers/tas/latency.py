"""Measured time as a cost: a table of the operators of a shape on this machine, interpolated between widths."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.benchmark import Timer

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.tas.costs import Operator, wires
from paperworks.papers.tas.network import ConvNorm, halving_pool
from paperworks.papers.tas.shapes import NetworkShape
from paperworks.parameters import check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_file

GRID = (0.25, 0.5, 0.75, 1.0)
"""Widths at which an operator is timed, as shares of its full widths."""


@dataclass(frozen=True)
class LatencyTable:
    """Seconds of every operator by its widths: a cost for ``SearchNetwork`` and ``TransformableSearch``.

    ``table(operator, inputs, outputs)`` is bilinear between the widths that were timed, and what the nearest timed one
    takes outside them. ReLUs and sums are not timed.

    Attributes
    ----------
    entries : by operator: timed input widths, timed output widths, seconds ``[inputs, outputs]``.
    device, batch, threads : what was timed.
    """

    entries: dict[str, tuple[list[int], list[int], list[list[float]]]]
    device: str
    batch: int
    threads: int

    def __call__(self, operator: Operator, inputs: int, outputs: int) -> float:
        """Seconds of one operator for a batch. Raises InputError for an operator of another shape."""
        if operator.name not in self.entries:
            raise InputError("cost", f"no times of {operator.name}", "a table of this shape")
        if operator.part == "identity" and inputs == outputs:
            return 0.0
        rows, columns, seconds = self.entries[operator.name]
        along = [float(np.interp(outputs, columns, row)) for row in seconds]
        return float(np.interp(inputs, rows, along))

    def save(self, path: str | Path) -> None:
        """Write the table as JSON to a new file."""
        with new_file(Path(path)) as aside:
            aside.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """The table that ``save`` wrote. Raises InputError naming ``path`` for what is none."""
        try:
            values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            entries = {name: (list(i), list(o), [list(r) for r in s]) for name, (i, o, s) in values["entries"].items()}
            return cls(entries, str(values["device"]), int(values["batch"]), int(values["threads"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError("path", f"{path} ({error})", "a JSON file of LatencyTable.save") from error


def measure_latency_table(
    shape: NetworkShape,
    size: tuple[int, int],
    *,
    batch: int = 16,
    grid: Sequence[float] = GRID,
    threads: int = 1,
    seconds: float = 0.02,
    device: str = "auto",
    progress: Progress = no_progress,
) -> LatencyTable:
    """Time the operators of a shape for images of ``size`` at several widths. Operators that are alike are timed once.

    Parameters
    ----------
    batch : images of a pass.
    grid : shares of the full widths at which each operator is timed.
    threads : of torch.
    seconds : how long each is timed at least.

    Raises
    ------
    InputError : a grid outside (0, 1], or a batch below 1.
    """
    check_whole("batch", batch, 1)
    check_whole("threads", threads, 1)
    if not grid or not all(0 < share <= 1 for share in grid):
        raise InputError("grid", tuple(grid), "shares above 0, up to 1")
    place, full = resolve_device(device), shape.widths
    known: dict[Any, tuple[list[int], list[int], list[list[float]]]] = {}
    entries = {}
    for wire in progress(list(wires(shape, size)), "timing operators"):
        operator = wire.operator
        ends = (
            shape.channels if not wire.sources else full[wire.sources[-1]],
            shape.outputs if wire.target is None else full[wire.target],
        )
        key = (dataclasses.replace(operator, name=""), ends, bool(wire.sources), wire.target is None)
        if key not in known:
            inputs = _widths(ends[0], grid) if wire.sources else [ends[0]]
            outputs = _widths(ends[1], grid) if wire.target is not None else [ends[1]]
            times = [[_timed(operator, i, o, batch, threads, seconds, place) for o in outputs] for i in inputs]
            known[key] = (inputs, outputs, times)
        entries[operator.name] = known[key]
    return LatencyTable(entries, str(place), batch, threads)


def _widths(full: int, grid: Sequence[float]) -> list[int]:
    return sorted({max(1, round(share * full)) for share in grid})


def _timed(
    operator: Operator, inputs: int, outputs: int, batch: int, threads: int, seconds: float, device: torch.device
) -> float:
    module: nn.Module
    if operator.part == "linear":
        module, x = nn.Linear(inputs, outputs), torch.randn(batch, inputs)
    else:
        stride = 1 if operator.part == "shortcut" else operator.stride
        conv = ConvNorm(inputs, outputs, operator.kernel, stride, norm=operator.norm)
        pooled = operator.part == "shortcut" and operator.stride == 2
        module = nn.Sequential(halving_pool(), conv) if pooled else conv
        x = torch.randn(batch, inputs, *operator.side)
    module, x = module.to(device).eval(), x.to(device)
    with torch.no_grad():
        timer = Timer("module(x)", globals={"module": module, "x": x}, num_threads=threads)
        return float(timer.blocked_autorange(min_run_time=seconds).median)
