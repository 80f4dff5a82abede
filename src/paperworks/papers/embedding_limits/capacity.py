"""What is known about the dimension that a relevance matrix needs: what is proved, and what is extrapolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.embedding_limits.bounds import (
    forster_bound_qrels,
    margin_bound,
    margin_bound_sets,
    subsets_bound,
)
from paperworks.papers.embedding_limits.critical import Curve, paper_curve
from paperworks.papers.embedding_limits.qrels import as_qrels, reduce_qrels

if TYPE_CHECKING:
    import pandas as pd

LARGEST_N = 10**18


@dataclass(frozen=True)
class Statement:
    """One statement about dimensions.

    Attributes
    ----------
    name : what it rests on.
    kind : "proof" holds for every encoder; "extrapolation" is the paper's fitted curve.
    direction : "at least" (needed), "at most" (enough) or "about".
    dimensions : the number, or None where the statement gives none.
    sentence : the same in words.
    margin : whether it is about the margin of Theorem 1; the others are about none.
    """

    name: str
    kind: Literal["proof", "extrapolation"]
    direction: Literal["at least", "at most", "about"]
    dimensions: int | None
    sentence: str
    margin: bool = False


@dataclass(frozen=True)
class CapacityReport:
    """Statements about the dimension, and about given dimensions.

    Attributes
    ----------
    statements : about the dimension that is needed.
    documents : for k-subsets of n documents: one row for each of ``dims`` with the most documents that the margin
        allows (proof) and the paper's curve has (k = 2; extrapolation beyond 45 dimensions). None for a matrix.
    """

    statements: tuple[Statement, ...]
    documents: pd.DataFrame | None

    @property
    def least(self) -> int:
        """Dimensions below which it is proved to be impossible without any margin."""
        return max(s.dimensions or 0 for s in self.statements if s.direction == "at least" and not s.margin)

    @property
    def enough(self) -> int:
        """Dimensions that are proved to be enough without any margin."""
        return min(s.dimensions for s in self.statements if s.direction == "at most" and s.dimensions is not None)

    def table(self) -> pd.DataFrame:
        """The statements, one row for each."""
        import pandas as pd

        return pd.DataFrame(
            [(s.name, s.kind, s.direction, s.dimensions) for s in self.statements],
            columns=["rests on", "kind", "direction", "dimensions"],
        ).astype({"dimensions": "Int64"})


def capacity_report(
    what: Any, gamma: float = 0.1, dims: Sequence[int] = (), *, curve: Curve | None = None
) -> CapacityReport:
    """Bounds for a relevance matrix, or for all k-subsets of n documents.

    Parameters
    ----------
    what : a matrix [queries, documents], or a pair (n, k) of numbers.
    gamma : the margin of Theorem 1, in (0, 1].
    dims : for a pair: dimensions for which the number of documents is reported.
    curve : critical n by dimensions for k = 2; by default the paper's.

    Raises
    ------
    InputError : k outside 1..n, a margin outside (0, 1], or a matrix that is no relevance matrix.
    """
    curve = curve or paper_curve()
    if isinstance(what, tuple) and len(what) == 2 and all(isinstance(x, (int, np.integer)) for x in what):
        n, k = int(what[0]), int(what[1])
        return CapacityReport(tuple(_of_subsets(n, k, gamma, curve)), _documents(k, gamma, dims, curve))
    return CapacityReport(tuple(_of_matrix(what, gamma)), None)


def _of_subsets(n: int, k: int, gamma: float, curve: Curve) -> list[Statement]:
    packing = margin_bound(n, k, gamma)
    few = min(k, n - k)
    two = 2 * few if few else 0
    least = subsets_bound(n, k)
    found = [
        Statement(
            "Theorem 1, with the margin",
            "proof",
            "at least",
            packing,
            f"Unit vectors that return every {k}-subset of {n:,} documents with margin {gamma:g} have at least "
            f"{packing} dimensions.",
            margin=True,
        ),
        Statement(
            "Radon's theorem, no margin",
            "proof",
            "at least",
            least,
            f"Without any margin {least} or more dimensions are needed for every {k}-subset of {n:,} documents.",
        ),
        Statement(
            "moment curve, no margin",
            "proof",
            "at most",
            two,
            f"Without a margin {two} dimensions are enough for any number of documents; {two + 1} with unit vectors. "
            "The gaps shrink fast as documents are added.",
        ),
    ]
    if few and n - 1 < two:
        found.append(
            Statement(
                "simplex, no margin",
                "proof",
                "at most",
                n - 1,
                f"{n} documents at the corners of a simplex never need more than {n - 1} dimensions.",
            )
        )
    if k == 2:
        d = curve.dimensions(n)
        inside = d is not None and d <= curve.fitted[1]
        words = "up to a million" if d is None else f"about {d}"
        beyond = (
            "" if inside else f" It extrapolates: it was fitted to {curve.fitted[0]} to {curve.fitted[1]} dimensions."
        )
        found.append(
            Statement(
                "the paper's curve",
                "extrapolation",
                "about",
                d,
                f"Vectors fitted to the answers return all pairs of {n:,} documents in {words} dimensions by the "
                f"paper's cubic. It measures an optimisation, not geometry.{beyond}",
            )
        )
    return found


def _documents(k: int, gamma: float, dims: Sequence[int], curve: Curve) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for d in dims:
        if d < 1:
            raise InputError("dims", d, "1 or more")
        fitted = max(0, int(curve(d))) if k == 2 else None
        inside = curve.fitted[0] <= d <= curve.fitted[1]
        kind = None if k != 2 else "within the fit" if inside else "extrapolation"
        rows.append((d, _most_documents(d, k, gamma), "any number" if d >= 2 * k else None, fitted, kind))
    most = f"at most, margin {gamma:g}"
    table = pd.DataFrame(rows, columns=["dimensions", most, "without margin", "curve", "curve is"], dtype=object)
    return table.astype({"dimensions": "Int64", most: "Int64", "curve": "Int64"})


def _most_documents(d: int, k: int, gamma: float) -> int | None:
    """The largest n whose k-subsets the margin bound allows in d dimensions; None above 10^18."""
    low, high = k, k + 1
    while margin_bound(high, k, gamma) <= d:
        low, high = high, 2 * high
        if high > LARGEST_N:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if margin_bound(middle, k, gamma) <= d else (low, middle)
    return low


def _of_matrix(qrels: Any, gamma: float) -> list[Statement]:
    matrix = as_qrels(qrels)
    small = reduce_qrels(matrix).matrix
    sizes = np.diff(small.indptr)
    largest = int(np.bincount(sizes).max())
    size = int(np.bincount(sizes).argmax())
    packing = margin_bound_sets(largest, gamma)
    m, n = small.shape
    constant = bool((sizes == n).all())
    two = 2 * int(np.minimum(sizes, n - sizes).max())
    trivial = 0 if constant else max(1, min(m, n - 1))
    forster = max(forster_bound_qrels(matrix), forster_bound_qrels(small))
    least = 0 if constant else max(1, ceil(forster - 1e-9) - 1)
    text = "says next to nothing here" if least <= 1 else f"at least {least} dimensions are needed without any margin"
    return [
        Statement(
            "Theorem 1, with the margin",
            "proof",
            "at least",
            packing,
            f"Unit vectors that return the {largest:,} different result sets of {size} documents with margin {gamma:g} "
            f"have at least {packing} dimensions.",
            margin=True,
        ),
        Statement(
            "Forster's bound, no margin",
            "proof",
            "at least",
            least,
            f"The sign rank is at least {forster:.3f} (Forster), and the dimension at least that less 1: this {text}.",
        ),
        Statement(
            "moment curve, no margin",
            "proof",
            "at most",
            two,
            f"Without a margin {two} dimensions are enough (twice the largest result set, or twice what the largest "
            f"leaves out where that is less); {two + 1} with unit vectors. The gaps can be tiny.",
        ),
        Statement(
            "size of the matrix, no margin",
            "proof",
            "at most",
            trivial,
            f"{m:,} different result sets over {n:,} different documents never need more than {trivial:,} dimensions.",
        ),
    ]
