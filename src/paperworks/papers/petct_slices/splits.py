"""Which slices train and which test: by patient, by center, or by slice, which leaks and must be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.petct_slices.slice_table import SliceTable
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    import pandas as pd

Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Leak:
    """What a split by slice gives away.

    Attributes
    ----------
    patient_share : share of test slices whose patient has slices in the training set.
    median_slices, median_mm : distance of a test slice to the nearest training slice of its scan (slices of scans
        without any are left out; NaN if there are none).
    """

    patient_share: float
    median_slices: float
    median_mm: float


def patient_split(table: SliceTable | pd.DataFrame, test_size: float = 0.2, seed: int = 0) -> Rows:
    """Rows of training and test, so that no patient is on both sides, drawn within center and disease.

    A patient with several scans counts once; centers and diseases keep their shares as well as whole patients allow.

    Raises
    ------
    InputError : a share outside (0, 1), or fewer than two patients.
    """
    check_seed("seed", seed)
    frame = _frame(table)
    _check_share(test_size)
    whose = frame.drop_duplicates("patient_id")
    patients = whose["patient_id"].to_numpy(dtype=str)
    if len(patients) < 2:
        raise InputError("cases", f"{len(patients)} patient", "at least two: one for training and one for the test")
    rng = np.random.default_rng([seed, 1])
    wanted = min(max(round(test_size * len(patients)), 1), len(patients) - 1)
    chosen = _drawn(whose["center"].astype(str) + "\0" + whose["disease"].astype(str), wanted, rng)
    test = frame["patient_id"].isin(patients[chosen]).to_numpy()
    return checked(frame, (np.flatnonzero(~test), np.flatnonzero(test)))


def _drawn(strata: pd.Series, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Places of ``wanted`` patients, shared among the strata by the largest remainders."""
    names, code = np.unique(strata.to_numpy(dtype=str), return_inverse=True)
    sizes = np.bincount(code)
    ideal = sizes * wanted / len(code)
    counts = np.floor(ideal).astype(int)
    order = np.lexsort((rng.random(len(names)), counts - ideal))
    counts[order[: wanted - counts.sum()]] += 1
    return np.concatenate([rng.permutation(np.flatnonzero(code == i))[: counts[i]] for i in range(len(names))])


def leave_center_out(table: SliceTable | pd.DataFrame, center: str) -> Rows:
    """Rows of training (all other centers) and test (this center): external validation.

    A patient who was scanned at both is left out of the training.
    """
    frame = _frame(table)
    centers = sorted(set(frame["center"].astype(str)))
    if center not in centers:
        raise InputError("test_center", repr(center), f"one of {', '.join(centers)}")
    test = (frame["center"] == center).to_numpy()
    both = frame["patient_id"].isin(frame.loc[test, "patient_id"]).to_numpy()
    train = ~test & ~both
    if not train.any():
        raise InputError("test_center", repr(center), "a table with at least one other center")
    return checked(frame, (np.flatnonzero(train), np.flatnonzero(test)))


def slice_split(
    table: SliceTable | pd.DataFrame, test_size: float = 0.2, seed: int = 0, *, allow_leakage: bool = False
) -> tuple[np.ndarray, np.ndarray, Leak]:
    """Rows of training and test drawn slice by slice, and how much that gives away. Only to measure the leak.

    Raises InputError unless ``allow_leakage``: slices of one patient end up on both sides.
    """
    check_seed("seed", seed)
    if not allow_leakage:
        found = "slice, which puts slices of one patient on both sides"
        raise InputError("split", found, "patient (or allow_leakage, to measure how much it overestimates)")
    _check_share(test_size)
    frame = _frame(table)
    order = np.random.default_rng([seed, 2]).permutation(len(frame))
    wanted = min(max(round(test_size * len(frame)), 1), len(frame) - 1)
    train, test = np.sort(order[wanted:]), np.sort(order[:wanted])
    return train, test, measured_leak(frame, train, test)


def measured_leak(table: SliceTable | pd.DataFrame, train: np.ndarray, test: np.ndarray) -> Leak:
    """How much a split gives away: 0 for a split by patient."""
    frame = _frame(table)
    known = set(frame["patient_id"].iloc[train])
    share = float(frame["patient_id"].iloc[test].isin(known).mean())
    slices, millimetres = [], []
    training = dict(iter(frame.iloc[train].groupby("case_id")))
    for case, part in frame.iloc[test].groupby("case_id"):
        if case in training:
            near = np.abs(part["slice"].to_numpy()[:, None] - training[case]["slice"].to_numpy()[None]).min(1)
            slices.append(near)
            millimetres.append(near * part["thickness_mm"].to_numpy())
    if not slices:
        return Leak(share, float("nan"), float("nan"))
    return Leak(share, float(np.median(np.concatenate(slices))), float(np.median(np.concatenate(millimetres))))


def patient_folds(table: SliceTable | pd.DataFrame, n_splits: int = 5, seed: int = 0) -> Iterator[Rows]:
    """Folds in which every patient is in one test set, with scikit-learn's ``StratifiedGroupKFold``."""
    check_seed("seed", seed)
    from sklearn.model_selection import StratifiedGroupKFold

    frame = _frame(table)
    patients = frame["patient_id"].nunique()
    if not 2 <= n_splits <= patients:
        raise InputError("n_splits", n_splits, f"2 to {patients}, the number of patients")
    folds = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    strata = frame["center"].astype(str) + "\0" + frame["label"].astype(str)
    for train, test in folds.split(frame, strata, frame["patient_id"]):
        yield checked(frame, (train, test))


def checked(table: SliceTable | pd.DataFrame, split: Rows) -> Rows:
    """The split. Raises InputError if a patient is on both sides, or a side is empty."""
    frame = _frame(table)
    train, test = (np.asarray(rows) for rows in split)
    if not len(train) or not len(test):
        raise InputError("split", "an empty side", "slices in training and test")
    both = set(frame["patient_id"].iloc[train]) & set(frame["patient_id"].iloc[test])
    if both:
        expected = "every patient on one side (group by patient, not by scan)"
        raise InputError("split", f"{len(both)} patient(s) in training and test", expected)
    return train, test


def _frame(table: Any) -> pd.DataFrame:
    return table.rows if isinstance(table, SliceTable) else table


def _check_share(test_size: float) -> None:
    if not 0 < test_size < 1:
        raise InputError("test_size", test_size, "a share above 0 and below 1")
