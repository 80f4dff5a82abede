"""Thresholds that are chosen on validation slices, never on the test's; smoothing and runs of slices; cases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paperworks.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

RULES = "a number between 0 and 1, youden, f1, or sensitivity-0.95 and the like"


def choose_threshold(labels: np.ndarray, probabilities: np.ndarray, rule: str = "0.5") -> float:
    """The threshold by a rule on labelled slices; a slice is positive from the threshold on.

    Parameters
    ----------
    rule : a number; ``youden``: the largest sensitivity + specificity; ``f1``: the largest F1; ``sensitivity-S``: the
        highest threshold with a sensitivity of at least S. Of several, the highest.

    Raises
    ------
    InputError : another rule, or a rule that needs both classes on slices of one.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    try:
        fixed = float(rule)
    except ValueError:
        fixed = -1.0
    if 0 < fixed < 1:
        return fixed
    wanted = re.fullmatch(r"sensitivity-(0\.\d+|1(\.0*)?)", rule)
    if rule not in ("youden", "f1") and not wanted:
        raise InputError("threshold", repr(rule), RULES)
    if len(set(np.asarray(labels).tolist())) < 2:
        raise InputError("threshold", f"{rule} on validation slices of one class", "0.5, or more validation patients")
    if rule == "f1":
        precision, recall, thresholds = precision_recall_curve(labels, probabilities)
        value = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = np.flatnonzero(value[:-1] >= value[:-1].max() - 1e-12)[-1]
        return float(thresholds[best])
    false, true, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    if rule == "youden":
        value = (true - false)[1:]
        return float(thresholds[1:][np.flatnonzero(value >= value.max() - 1e-12)[0]])
    assert wanted is not None
    return float(thresholds[np.flatnonzero(true >= float(wanted[1]) - 1e-12)[0]])


def median_of_three(probabilities: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Each slice's median with its neighbours in the scan; the first and the last slice keep their values.

    Rows of a scan must follow each other in the order of its slices.
    """
    out = np.array(probabilities, dtype=np.float64)
    same = (cases[:-2] == cases[1:-1]) & (cases[2:] == cases[1:-1])
    middle = np.median(np.stack([probabilities[:-2], probabilities[1:-1], probabilities[2:]]), axis=0)
    out[1:-1] = np.where(same, middle, probabilities[1:-1])
    return out


@dataclass(frozen=True)
class ZRange:
    """A run of positive slices of a scan: first and last slice, and the mm between their outer faces."""

    case_id: str
    first: int
    last: int
    from_mm: float
    to_mm: float
    highest: float


def z_ranges(rows: pd.DataFrame, probabilities: np.ndarray, threshold: float) -> list[ZRange]:
    """The runs of slices from the threshold on, by scan, from the feet up.

    ``rows`` has ``case_id``, ``slice``, ``z_mm`` and ``thickness_mm`` of every slice. Heights are in the coordinates of
    the scan (RAS), of the faces of the outermost slices.
    """
    found = []
    for case, part in rows.assign(_p=np.asarray(probabilities)).groupby("case_id", sort=False):
        ordered = part.sort_values("slice")
        values, z = ordered["_p"].to_numpy(), ordered["z_mm"].to_numpy()
        number, half = ordered["slice"].to_numpy(), ordered["thickness_mm"].to_numpy() / 2
        positive = np.concatenate([[False], values >= threshold, [False]])
        for start, stop in zip(
            np.flatnonzero(~positive[:-1] & positive[1:]), np.flatnonzero(positive[:-1] & ~positive[1:]), strict=True
        ):
            last = stop - 1
            ends = sorted((float(z[start] - half[start]), float(z[last] + half[last])))
            highest = float(values[start:stop].max())
            found.append(ZRange(str(case), int(number[start]), int(number[last]), ends[0], ends[1], highest))
    return found


def case_scores(cases: np.ndarray, probabilities: np.ndarray, top: int = 1) -> dict[str, float]:
    """A score per scan: the mean of its ``top`` highest probabilities; 1 is the maximum."""
    if top < 1:
        raise InputError("top", top, "1 or more slices")
    return {str(case): float(np.sort(probabilities[cases == case])[-top:].mean()) for case in dict.fromkeys(cases)}
