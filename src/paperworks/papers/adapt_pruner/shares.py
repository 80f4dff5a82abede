"""How the training data is dealt out to the stages of Adapt-Accel."""

from __future__ import annotations

import math
from typing import Literal

from paperworks.errors import InputError

Split = Literal["linear", "constant", "cosine"]


def data_shares(stages: int, split: Split = "linear") -> list[float]:
    """The share of the data for every stage; they sum to 1.

    - ``linear`` (the paper): ``2 s / (T (T + 1))``, so that later, smaller models see more;
    - ``constant``: ``1 / T``;
    - ``cosine``: ``cos(pi (s-1) / 2T) - cos(pi s / 2T)``.
    """
    if stages < 1:
        raise InputError("stages", stages, "1 or more")
    numbers = range(1, stages + 1)
    if split == "linear":
        return [2 * s / (stages * (stages + 1)) for s in numbers]
    if split == "constant":
        return [1 / stages for _ in numbers]
    if split == "cosine":
        return [math.cos(math.pi * (s - 1) / (2 * stages)) - math.cos(math.pi * s / (2 * stages)) for s in numbers]
    raise InputError("data_split", split, "linear, constant or cosine")


def dealt(total: int, shares: list[float]) -> list[int]:
    """``total`` whole things by ``shares``: each within one of its share, and the sum exact (largest remainders)."""
    exact = [total * share for share in shares]
    found = [math.floor(e + 1e-9) for e in exact]
    by_rest = sorted(range(len(shares)), key=lambda i: (found[i] - exact[i], i))
    for i in by_rest[: total - sum(found)]:
        found[i] += 1
    return found
