"""What a game is checked for before it is played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.active_learn.observations import Binary, Observation

DTYPE = torch.float32


@dataclass(frozen=True)
class Box:
    """All theta with ``low <= theta_i <= high``."""

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high or not abs(self.low) + abs(self.high) < float("inf"):
            raise InputError("theta_set", f"a box from {self.low} to {self.high}", "low below high, both finite")

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


def threshold_outputs(n: int) -> np.ndarray:
    """z_j(i) = 1{i >= j} for j = 0..n, ``[n + 1, n]`` (points are numbered from 0)."""
    return (np.arange(n)[None] >= np.arange(n + 1)[:, None]).astype(np.float64)


def merge_equal_rows(rows: torch.Tensor, names: list[str]) -> tuple[torch.Tensor, list[str], list[str]]:
    """Different rows in their order, their names (at most three joined by " / "), and what to say about it."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for i, row in enumerate(rows.tolist()):
        groups.setdefault(tuple(row), []).append(i)
    if len(groups) == len(rows):
        return rows, names, []
    joined = []
    for members in groups.values():
        text = " / ".join(names[i] for i in members[:3])
        joined.append(text + (f" and {len(members) - 3} more" if len(members) > 3 else ""))
    said = [f"{len(rows)} items have {len(groups)} different rows: items that no question tells apart count as one."]
    return rows[[members[0] for members in groups.values()]], joined, said


def matrix(name: str, values: ArrayLike | torch.Tensor) -> torch.Tensor:
    """``values`` as float32 ``[rows, columns]``. Raises InputError for another shape, no rows, or NaN."""
    try:
        found = torch.as_tensor(np.asarray(values, dtype=np.float64), dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise InputError(name, str(error), "numbers") from None
    if found.ndim != 2 or 0 in found.shape:
        raise InputError(
            name, f"an array of shape {tuple(found.shape)}", "numbers [rows, columns], at least one of each"
        )
    if not bool(torch.isfinite(found).all()):
        raise InputError(name, "NaN or an infinity", "finite numbers")
    return found


def check_loss(
    kind: str, losses: torch.Tensor | None, z: torch.Tensor | None, n_outputs: int, thetas: Box | torch.Tensor, d: int
) -> None:
    """Raise InputError for a loss, outputs and thetas that do not go together."""
    if kind not in ("error", "regret", "matrix"):
        raise InputError("loss", repr(kind), "error, regret, or a matrix [thetas, outputs]")
    if losses is not None:
        if isinstance(thetas, Box):
            raise InputError("loss", "a matrix, beside a box of theta", "error or regret, or a finite theta_set")
        if losses.shape != (len(thetas), n_outputs):
            raise InputError("loss", f"shape {tuple(losses.shape)}", f"{(len(thetas), n_outputs)}: thetas, outputs")
    elif z is None:
        raise InputError("outputs", f"a number of outputs, with loss {kind}", "vectors [outputs, d], or a loss matrix")
    if z is not None:
        if z.shape[1] != d:
            raise InputError("outputs", f"{z.shape[1]} columns", f"{d}, as queries have")
        if len(torch.unique(z, dim=0)) < len(z):
            raise InputError("outputs", "two identical rows", "different rows: they can never be told apart")


def useful_queries(
    x: torch.Tensor, names: Sequence[str], thetas: Box | torch.Tensor, link: object
) -> tuple[list[int], list[str]]:
    """The queries whose mean answer differs between theta, and a note for those that were dropped."""
    if isinstance(thetas, Box):
        useful = x.abs().amax(1) > 0 if link is None else torch.ones(len(x), dtype=torch.bool)
    elif callable(link):
        means = link(thetas)
        useful = means.amax(0) > means.amin(0)
    else:
        if thetas.shape[1] != x.shape[1]:
            raise InputError("theta_set", f"{thetas.shape[1]} columns", f"{x.shape[1]}, as queries have")
        means = thetas @ x.T
        useful = means.amax(0) - means.amin(0) > 1e-7
    kept = torch.nonzero(useful).flatten().tolist()
    if not kept:
        raise InputError("queries", "no query whose answer depends on theta", "queries that separate something")
    dropped = [name for i, name in enumerate(names) if i not in set(kept)]
    if not dropped:
        return kept, []
    some = ", ".join(dropped[:5]) + (f" and {len(dropped) - 5} more" if len(dropped) > 5 else "")
    return kept, [f"Left out, since the answer is the same for all: {some}."]


def check_means(law: Observation, means: torch.Tensor) -> None:
    """Raise InputError for mean answers that the law cannot have (probabilities outside 0 to 1)."""
    if isinstance(law, Binary):
        low, high = float(means.min()), float(means.max())
        if low < law.low - 1e-6 or high > law.high + 1e-6:
            raise InputError(
                "theta_set", f"mean answers from {low:g} to {high:g}", f"means from {law.low:g} to {law.high:g}"
            )


def check_span(queries: torch.Tensor, outputs: torch.Tensor) -> None:
    """Raise InputError unless the outputs' differences are combinations of queries.

    Where they are not, no number of answers tells the outputs apart.
    """
    differences, rows = (outputs[1:] - outputs[:1]).double(), queries.double()
    rank = torch.linalg.matrix_rank(rows)
    if len(differences) and torch.linalg.matrix_rank(torch.cat([rows, differences])) > rank:
        raise InputError(
            "queries",
            "queries that do not span the differences of outputs: the complexity is infinite for all theta",
            "queries of which every z - z' is a combination",
        )


def are_indices(thetas: object) -> bool:
    """Whether instances are given by their numbers in a finite set, not as rows of theta."""
    kind = np.asarray(thetas)
    return kind.ndim <= 1 and kind.dtype.kind in "iu"
