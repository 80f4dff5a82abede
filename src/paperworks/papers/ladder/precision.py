"""How well found slices cover known ones: precision at k and average precision, of each slice and its complement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from paperworks.errors import InputError
from paperworks.metrics import precision_at_k


@dataclass(frozen=True)
class SliceMatch:
    """The found slice that fits a known one best.

    Attributes
    ----------
    known : number of the known slice.
    found : number of the found slice; complement : whether its complement fits.
    precision : share of the k rows ranked first that are in the known slice.
    average_precision : of the same ranking.
    """

    known: int
    found: int
    complement: bool
    precision: float
    average_precision: float


def match_slices(membership: Any, known: Any, k: int = 10) -> list[SliceMatch]:
    """For each known slice the found slice, or the complement of one, with the highest precision at ``k``.

    Parameters
    ----------
    membership : soft membership of each row in each found slice ``[n, H]``: the higher, the surer. -inf puts a row
        last for the slice and for its complement.
    known : membership in the known slices, bool ``[n, S]`` or ``[n]``.
    k : rows ranked first; ties are broken by the row's number.
    """
    soft, truth = np.asarray(membership, np.float64), np.asarray(known, bool)
    soft = soft[:, None] if soft.ndim == 1 else soft
    truth = truth[:, None] if truth.ndim == 1 else truth
    if len(soft) != len(truth):
        raise InputError("membership and known", f"{len(soft)} and {len(truth)} rows", "one row per sample in both")
    if np.isnan(soft).any():
        raise InputError("membership", "NaN", "numbers")
    if not 1 <= k <= len(soft):
        raise InputError("k", k, f"1 to {len(soft)}, the rows")
    found = []
    for number in range(truth.shape[1]):
        if not truth[:, number].any():
            raise InputError(f"known[:, {number}]", "no row in it", "known slices that have rows")
        matches = []
        for slice_number in range(soft.shape[1]):
            for complement in (False, True):
                ranking = soft[:, slice_number]
                ranking = np.where(np.isneginf(ranking), ranking, -ranking) if complement else ranking
                scores = _places(ranking)
                matches.append(
                    SliceMatch(
                        number,
                        slice_number,
                        complement,
                        precision_at_k(scores, truth[:, number], k),
                        float(average_precision_score(truth[:, number], scores)),
                    )
                )
        if matches:
            found.append(max(matches, key=lambda m: (m.precision, m.average_precision)))
    return found


def _places(ranking: np.ndarray) -> np.ndarray:
    """Distinct scores in the order of the ranking; of equal rows the first is higher."""
    order = np.argsort(-ranking, kind="stable")
    scores = np.empty(len(ranking))
    scores[order] = np.arange(len(ranking), 0, -1)
    return scores
