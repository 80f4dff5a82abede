"""Known tables, read and split in one way for the studies and the benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from paperworks.inputs.tables import BUNDLED, find_table, read_table
from paperworks.papers.fold_se import published
from paperworks.papers.fold_se.evaluation import holdout


@dataclass(frozen=True)
class Task:
    """A table split for one comparison: text and float64 columns without gaps in the text, labels as text."""

    name: str
    train: pd.DataFrame
    train_labels: np.ndarray
    test: pd.DataFrame
    test_labels: np.ndarray
    numeric: tuple[str, ...]
    positive: str

    @property
    def categorical(self) -> tuple[str, ...]:
        """The columns that are not numeric."""
        return tuple(c for c in self.train.columns if c not in self.numeric)


@dataclass(frozen=True)
class Source:
    """How a known table is read: its label, what is left out, which numbers are codes, which label is positive."""

    label: str = "label"
    drop: tuple[str, ...] = ("id",)
    categorical: tuple[str, ...] = ()
    positive: str = ""


SOURCES = {
    "adult": Source(drop=(), positive="<=50K"),
    "credit_card": Source("DEFAULT_PAYMENT", ("ID",), ("SEX", "EDUCATION", "MARRIAGE"), "0"),
    "mushroom": Source(positive="p"),
    "krkp": Source(positive="won"),
    "heart": Source(categorical=published.HEART_CODES, positive="absent"),
    "voting": Source(positive="republican"),
    "wine": Source(drop=()),
    "ecoli": Source(drop=()),
}


def load_task(name: str, *, seed: int = 0, rows: int | None = None) -> Task | None:
    """A known or bundled table split 80/20 by label, at most ``rows`` of it; None if its file is not here."""
    if name in BUNDLED:
        source, path, label = Source(drop=()), name, None
    else:
        source = SOURCES[name]
        shipped = published.TABLES / f"{name}.csv"
        found = shipped if shipped.exists() else find_table(name)
        if found is None:
            return None
        path, label = str(found), source.label
    # Missing markers stay values here, as in the published runs: '?' is a category like any other.
    table = read_table(path, label, drop=source.drop, categorical=source.categorical, missing=("",))
    assert table.label is not None
    labels = table.label.astype(str).to_numpy(dtype=object)
    chosen = np.arange(len(labels))
    if rows is not None and rows < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(chosen))[:rows])
    train, test, _ = holdout(labels[chosen], 0.2, seed)
    train, test = chosen[train], chosen[test]
    features = table.features.copy()
    features[list(table.categorical)] = features[list(table.categorical)].fillna("")
    values, counts = np.unique(labels[train], return_counts=True)
    positive = source.positive or (str(values[np.argmax(counts)]) if len(values) == 2 else "")
    return Task(name, features.iloc[train], labels[train], features.iloc[test], labels[test], table.numeric, positive)


def tasks(names: tuple[str, ...], fallback: tuple[str, ...], fast: bool) -> tuple[list[Task], str]:
    """The named tables that are here, else scikit-learn's own; and a word on which."""
    rows = 2000 if fast else None
    found = [task for name in names if (task := load_task(name, rows=rows)) is not None]
    note = f" On the first {rows} rows drawn." if fast else ""
    if found:
        return found, "Tables: " + ", ".join(t.name for t in found) + "." + note
    found = [task for name in fallback if (task := load_task(name, rows=rows)) is not None]
    said = ", ".join(t.name for t in found)
    return found, f"The larger tables are not here (PAPERWORKS_DATA); tables: {said}.{note}"
