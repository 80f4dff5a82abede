"""Metadata mode on census data (experiment D)."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.metrics import bootstrap_interval
from paperworks.papers.ladder.backends.predicates import QUANTILES, MetadataBackend

MIN_SUPPORT = 0.05


@runs.study(claims=["metadata-slices"], title="Predicates on census data (D)", minutes=1.0)
def metadata(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """A logistic model that does not see the column sex; the predicates with the largest rise of the error."""
    from sklearn.model_selection import train_test_split

    from paperworks.inputs.tables import find_table, read_table
    from paperworks.papers.ladder.metadata import logistic_model

    path = find_table("adult")
    if path is None:
        raise InputError("adult", "nothing on this machine", "the command that brings it: paperworks data get adult")
    table = read_table(path, label=_label_column(path))
    assert table.label is not None
    frame, truth = table.features, table.label.astype(str).to_numpy()
    train, test = train_test_split(
        np.arange(len(truth)), test_size=0.4, random_state=run.seed, stratify=truth, train_size=2000 if fast else 0.3
    )
    hidden = [c for c in frame.columns if c.lower() in ("sex", "gender")]
    seen = frame.drop(columns=hidden)
    for _ in run.progress([None], "a logistic model without the column sex", 1):
        guess = logistic_model(seen).fit(seen.iloc[train], truth[train]).predict(seen.iloc[test])
    wrong, rows = guess != truth[test], frame.iloc[test].reset_index(drop=True)
    search = np.random.default_rng(run.seed).random(len(test)) < 0.5  # rows to search in; the others measure
    found = MetadataBackend(min_support=MIN_SUPPORT).find(rows[search], wrong[search])
    best = _exhaustive(rows[search], wrong[search])
    inside, other = found[0].passes(rows)[~search], ~wrong[~search]
    positive = truth[test] == sorted(set(truth))[-1]
    female = rows[hidden[0]].astype(str).str.lower().eq("female").to_numpy()
    return [
        runs.Finding(
            "metadata-slices",
            "Rise of the error of the first predicate minus the largest of an exhaustive enumeration",
            "exact",
            found[0].gap - best,
            "==",
            0.0,
            tolerance=1e-12,
            detail=f"{found[0]}: {found[0].error:.3f} inside, {found[0].error_outside:.3f} outside, {found[0].n} rows",
        ),
        runs.Finding(
            "metadata-slices",
            f"Accuracy outside over accuracy inside of {found[0]}, on other rows (the paper: 1.195, 1.1)",
            "empirical",
            bootstrap_interval(lambda right, flag: _mean(right, ~flag) / _mean(right, flag), other, inside),
            ">=",
            1.1,
            baseline=_mean(other, ~inside),
            baseline_name="accuracy outside",
        ),
        runs.Finding(
            "metadata-slices",
            "Error for women minus error for men, among people of high income, of a model that does not see the sex",
            "empirical",
            bootstrap_interval(
                lambda bad, flag: _mean(bad, flag) - _mean(bad, ~flag), wrong[positive], female[positive]
            ),
            ">",
            0.0,
            baseline=_mean(wrong[positive], ~female[positive]),
            baseline_name="error for men",
        ),
    ]


def _mean(flags: np.ndarray, where: np.ndarray) -> float:
    return float(flags[where].mean()) if where.any() else float("nan")


def _label_column(path: Any) -> str:
    import pandas as pd

    names = list(pd.read_csv(path, nrows=1).columns) if str(path).endswith((".csv", ".gz")) else ["class"]
    return next((n for n in ("class", "income", "label", "target") if n in names), str(names[-1]))


def _exhaustive(frame: Any, wrong: np.ndarray) -> float:
    """The largest rise over single predicates, by loops over rows' cells: nothing of the backend's code."""
    best = -np.inf

    def tried(inside: np.ndarray) -> None:
        nonlocal best
        if MIN_SUPPORT * len(wrong) <= inside.sum() < len(wrong):
            best = runs.largest((best, wrong[inside].mean() - wrong[~inside].mean()))

    for column in frame.columns:
        cells = frame[column]
        present = [c for c in cells if c == c and c is not None]
        numeric = all(isinstance(c, (int, float)) for c in present)
        if numeric:
            values = np.array([float(c) if c == c else np.nan for c in cells])
            for cut in np.quantile(np.array(present, float), QUANTILES):
                with np.errstate(invalid="ignore"):
                    tried(values >= cut)
                    tried(values < cut)
            if len(set(present)) > 10:
                continue
        for value in set(present):
            tried(np.array([c == value for c in cells]))
    return float(best)
