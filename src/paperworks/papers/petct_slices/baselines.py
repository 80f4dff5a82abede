"""What a network must beat: one number per slice, its position, and two small models of such numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    from paperworks.papers.petct_slices.slice_table import SliceTable

BINS = 20
NAMES = ("SUVmax of the slice", "area above SUV 4", "position", "logistic regression", "boosted quantiles")


def baseline_scores(
    table: SliceTable, train: np.ndarray, test: np.ndarray, random_state: int = 0
) -> dict[str, np.ndarray]:
    """Scores of the test slices by five simple ways, each ``[len(test)]``; training slices alone are fitted to.

    - the largest SUV of the slice, and its area above SUV 4: nothing is fitted;
    - the share of positive training slices at this height of the scan (20 bins, with one slice of the mean added);
    - logistic regression on SUVmax, area, position and its square;
    - gradient boosting on quantiles of the SUV in the body.

    Raises InputError for training slices of one class.
    """
    check_seed("random_state", random_state)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, y = table.rows, table.labels[train]
    if len(set(y.tolist())) < 2:
        raise InputError("label", "training slices of one class", "positive and negative slices")
    position = rows["feature_position"].to_numpy()
    simple = rows[["feature_suv_max", "feature_hot_mm2"]].to_numpy()
    numbers = np.column_stack([simple, np.log1p(simple), position, position**2])
    quantiles = rows[[name for name in rows if str(name).startswith("feature_q")]].to_numpy()
    logistic: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    boosted = HistGradientBoostingClassifier(max_iter=100, random_state=random_state)
    return {
        NAMES[0]: simple[test, 0],
        NAMES[1]: simple[test, 1],
        NAMES[2]: position_prior(position[train], y, position[test]),
        NAMES[3]: logistic.fit(numbers[train], y).predict_proba(numbers[test])[:, 1],
        NAMES[4]: boosted.fit(quantiles[train], y).predict_proba(quantiles[test])[:, 1],
    }


def position_prior(position: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The share of positive slices at a height (0 feet, 1 head), from labelled slices."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.digitize(position, edges)
    positive, count = np.bincount(bins, labels, BINS), np.bincount(bins, minlength=BINS)
    return ((positive + labels.mean()) / (count + 1))[np.digitize(wanted, edges)]
