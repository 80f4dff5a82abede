"""Rules beside baselines on the same rows: a held-out split, cross-validation, and pictures of both."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from paperworks.errors import InputError
from paperworks.papers.fold_se.classifier import FoldSEClassifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TREE_ROWS = 200_000
"""The decision tree is trained on at most this many rows (it needs one-hot columns in memory)."""

TREE_CATEGORIES = 50
"""Values per categorical column that the tree can tell apart; rarer ones are one."""


@dataclass(frozen=True)
class Measured:
    """One classifier on one split. ``size`` counts rules with exceptions, or leaves; a tree has no ``literals``."""

    name: str
    accuracy: float
    balanced_accuracy: float
    f1: float
    size: int
    literals: int | None
    fit_seconds: float


def measure(
    name: str, predicted: np.ndarray, labels: np.ndarray, size: int, literals: int | None, seconds: float
) -> Measured:
    """Accuracy, balanced accuracy and macro F1 of predictions; a row without one counts as wrong."""
    guess, truth = np.array([str(p) for p in predicted]), np.array([str(x) for x in labels])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        balanced = balanced_accuracy_score(truth, guess)
    f1 = f1_score(truth, guess, average="macro", labels=np.unique(truth), zero_division=0.0)
    return Measured(name, float(np.mean(guess == truth)), float(balanced), float(f1), size, literals, seconds)


def holdout(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Training and held-out row numbers, stratified by label where every class has enough rows; and a note if not.

    Raises InputError if a part would be empty.
    """
    rows = np.arange(len(labels))
    held = int(np.ceil(share * len(labels)))
    if held >= len(labels):
        raise InputError("test_size", f"{share} of {len(labels)} rows", "a share that leaves rows to learn from")
    counts = np.unique(labels, return_counts=True)[1]
    enough = counts.min() >= 2 and held >= len(counts) and len(labels) - held >= len(counts)
    train, test = train_test_split(
        rows, test_size=share, random_state=seed % 2**32, stratify=labels if enough else None
    )
    note = "" if enough else "The split is not stratified: a class has too few rows."
    return train, test, note


def fold_rows(labels: np.ndarray, folds: int, seed: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Row numbers per fold, stratified where every class has a row in each fold; and a note if not."""
    if folds > len(labels):
        raise InputError("folds", folds, f"at most the number of rows ({len(labels)})")
    enough = np.unique(labels, return_counts=True)[1].min() >= folds
    kind = StratifiedKFold if enough else KFold
    splits = list(kind(folds, shuffle=True, random_state=seed % 2**32).split(labels.reshape(-1, 1), labels))
    return splits, "" if enough else "The folds are not stratified: a class has fewer rows than there are folds."


def decision_tree(numeric: Sequence[str], categorical: Sequence[str], leaves: int, seed: int) -> Pipeline:
    """A scikit-learn tree with at most ``leaves`` leaves on one-hot columns; numeric gaps are left to the tree."""
    one_hot = OneHotEncoder(
        handle_unknown="ignore", max_categories=TREE_CATEGORIES, sparse_output=False, dtype=np.float32
    )
    columns = make_column_transformer((one_hot, list(categorical)), ("passthrough", list(numeric)))
    return make_pipeline(columns, DecisionTreeClassifier(max_leaf_nodes=max(2, leaves), random_state=seed % 2**32))


def for_tree(features: pd.DataFrame, numeric: Sequence[str]) -> pd.DataFrame:
    """The table as the tree takes it: numbers only in numeric columns, a text for missing categories."""
    return features.apply(
        lambda column: (
            pd.to_numeric(column, errors="coerce") if column.name in numeric else column.fillna("").astype(str)
        )
    )


def compare(
    model: FoldSEClassifier,
    features: pd.DataFrame,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    *,
    seed: int,
    categorical: Sequence[str],
) -> tuple[FoldSEClassifier, list[Measured]]:
    """Fit the rules on the training rows, and beside them a tree with as many leaves as rules and the majority class.

    The tree has one leaf per rule of the program, exceptions included, and one for the default.
    """
    started = time.perf_counter()
    model.fit(features.iloc[train], labels[train])
    seconds = time.perf_counter() - started
    truth = labels[test]
    found = [measure("rules", model.predict(features.iloc[test]), truth, model.n_rules_, model.n_literals_, seconds)]
    numeric = [c for c in features.columns if c not in categorical]
    tree = decision_tree(numeric, categorical, model.n_rules_ + 1, seed)
    few = train if len(train) <= TREE_ROWS else np.random.default_rng(seed).choice(train, TREE_ROWS, replace=False)
    prepared = for_tree(features, numeric)
    started = time.perf_counter()
    tree.fit(prepared.iloc[few], labels[few])
    seconds = time.perf_counter() - started
    leaves = int(tree[-1].get_n_leaves())
    found.append(measure("decision tree", tree.predict(prepared.iloc[test]), truth, leaves, None, seconds))
    values, counts = np.unique(labels[train], return_counts=True)
    majority = np.full(len(test), values[np.argmax(counts)], dtype=values.dtype)
    found.append(measure("majority class", majority, truth, 0, None, 0.0))
    return model, found


def cross_validate(
    make: Callable[[], FoldSEClassifier],
    features: pd.DataFrame,
    labels: np.ndarray,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    seed: int,
    categorical: Sequence[str],
    jobs: int = 1,
    done: dict[int, list[dict[str, Any]]] | None = None,
) -> Any:
    """Measure every fold that is not in ``done``; yields ``(number, list of Measured as dicts)`` as they finish."""
    from joblib import Parallel, delayed

    def one(number: int, train: np.ndarray, test: np.ndarray) -> tuple[int, list[dict[str, Any]]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of small folds: classes that are not there, no rule
            found = compare(make(), features, labels, train, test, seed=seed, categorical=categorical)[1]
        return number, [asdict(m) for m in found]

    left = [(i, *split) for i, split in enumerate(splits) if i not in (done or {})]
    if jobs == 1:
        return (one(*item) for item in left)
    return Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(one)(*item) for item in left)


def rule_bars(report: pd.DataFrame) -> Figure:
    """Two bars per rule: the share of rows it decides, and how many of those rightly."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.45 * len(report) + 1.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(report))
    axes.barh(places - 0.19, report["coverage"], 0.36, label="coverage (share of rows decided)", color="#4c72b0")
    axes.barh(
        places + 0.19, report["precision"].fillna(0), 0.36, label="precision (share decided rightly)", color="#dd8452"
    )
    axes.set_yticks(places, [f"{rule}: {label}" for rule, label in zip(report["rule"], report["label"], strict=True)])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def confusion_figure(labels: np.ndarray, predicted: np.ndarray, classes: Iterable[Any]) -> Figure:
    """Rows: the label; columns: the prediction; each cell the number of rows, shaded by its share of the label."""
    from matplotlib.figure import Figure

    names = [str(c) for c in classes]
    names += sorted({str(label) for label in labels} - set(names))  # held-out rows may have a class of their own
    shown = [*names, *(["none"] if any(p is None for p in predicted) else [])]
    position = {name: i for i, name in enumerate(shown)}
    counts = np.zeros((len(names), len(shown)), dtype=int)
    for truth, guess in zip(labels, predicted, strict=True):
        counts[position[str(truth)], position["none" if guess is None else str(guess)]] += 1
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(9.0, 2.2 + 0.55 * len(shown))
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(names)):
        for column in range(len(shown)):
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", color="white" if dark else "black"
            )
    axes.set_xticks(range(len(shown)), shown, rotation=45 if len(shown) > 4 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    return figure
