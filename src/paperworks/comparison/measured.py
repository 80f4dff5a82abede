"""What ``benchmarks/compare_methods.py`` measured: pruning methods at the same budgets, on the bundled model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "measured.json"
FIGURES = (
    *("method", "steps", "before", "before spread", "after", "after spread", "acc", "seconds", "parameters", "macs"),
    *("cache", "prefill ratio", "decode ratio"),
)
"""What is kept of a method's summary (``tables.summarise``)."""


@dataclass(frozen=True)
class Measured:
    """The figures of one benchmark.

    ``command`` measured them, on the day ``measured``, with so many ``seeds``; every model ended with ``steps``
    optimiser steps on the same text. ``budgets`` are targets as on the command line (``0.75p``), with a row for each
    method, the ``dense`` model first: means over the seeds of the perplexities ``before`` and ``after`` those steps,
    their spreads, accuracy, parameters, multiply-accumulates a token (``macs``), bytes of key-value cache a token,
    seconds of pruning, and the speeds of reading and writing over the dense model's, measured in turn with it.
    """

    command: str
    measured: str
    seeds: int
    steps: int
    budgets: tuple[tuple[str, tuple[dict[str, Any], ...]], ...]


@cache
def measured() -> Measured:
    """The figures that this package ships."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    budgets = tuple((budget["target"], tuple(budget["rows"])) for budget in data.pop("budgets"))
    return Measured(**data, budgets=budgets)
