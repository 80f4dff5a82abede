"""What the recipe works on: weights of observed labels on rows that the classifier was not trained on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.loki.classifier import LokiClassifier, calibrate, sharpen
from paperworks.papers.loki.files import SHAPES, read_probabilities
from paperworks.papers.loki.frechet import FrechetMean, as_weights
from paperworks.papers.loki.selection import plan

if TYPE_CHECKING:
    from paperworks.papers.loki.recipe import Config


@dataclass
class Task:
    """Rows to predict.

    Attributes
    ----------
    mean : the label space and the observed labels.
    weights : float ``[B, K]``.
    rows : number of each row in the user's file.
    truth : indices of the true labels, or None.
    training_labels : true labels of training rows, on which a constant prediction is chosen, or None.
    """

    mean: FrechetMean
    weights: np.ndarray
    rows: np.ndarray
    truth: np.ndarray | None = None
    training_labels: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def from_probabilities(config: Config) -> Task:
    """Probabilities of the user's own classifier."""
    from paperworks.papers.loki.recipe import load_space_of

    values, classes, truth = read_probabilities(Path(str(config.probabilities)), config.label)
    notes = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        weights = as_weights(values, len(classes))
    notes += [str(w.message) for w in caught]
    weights = weights / weights.sum(axis=1, keepdims=True)  # a factor per row changes no prediction
    labels = _in_order({*classes, *(truth or [])}) if config.space in SHAPES else classes
    space = load_space_of(config, labels)
    if config.space in SHAPES:
        notes.append(f"The space {config.space} has the labels in this order: {_few(space.labels)}.")
    mean = FrechetMean(space, space.index(classes, "probabilities"))
    known = None if truth is None else space.index(truth, "label")
    temperature = _temperature(config)
    if isinstance(temperature, str):
        if known is None:
            raise InputError("temperature", config.temperature, "a number, since the rows have no true labels")
        half = np.arange(len(weights)) % 2 == 0
        by = "cost" if temperature == "calibrate-cost" else "nll"
        value = calibrate(weights[half], known[half], mean, by=by)  # type: ignore[arg-type]
        notes.append(f"Temperature {value:.3g} was chosen on every second row; the other rows are evaluated.")
        kept = np.flatnonzero(~half)
        return Task(mean, sharpen(weights[kept], value), kept, known[kept], known[half], notes)
    return Task(mean, sharpen(weights, temperature), np.arange(len(weights)), known, None, notes)


def from_table(config: Config, run: runs.Run) -> Task:
    """A table: a logistic regression on rows of observed labels, predictions on held-out rows of all labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from paperworks.papers.loki.recipe import load_space_of

    features, labels, notes = _read(config)
    space = load_space_of(config, _in_order(set(labels.tolist())))
    if config.space in SHAPES:
        notes.append(f"The space {config.space} has the labels in this order: {_few(space.labels)}.")
    truth = space.index(labels, "label")
    observed = _observed(config, space, truth, notes)
    temperature = _temperature(config)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    weights, rows, trained = [], [], []
    splits = [
        split
        for repeat in range(config.repeats)
        for split in KFold(config.folds, shuffle=True, random_state=(config.seed + repeat) % 2**32).split(features)
    ]
    for train, test in run.progress(splits, "cross-validation"):
        kept = train[np.isin(truth[train], observed)]
        missing = np.setdiff1d(observed, truth[kept])
        if len(missing):
            raise InputError(
                "observed",
                f"{space.labels[missing[0]]!r}, which no row of a training fold has",
                "labels with more rows, or fewer folds",
            )
        classifier = LokiClassifier(model, space, temperature=temperature).fit(features[kept], labels[kept])
        by_label = np.argsort(classifier.frechet_mean_.observed)
        weights.append(classifier.weights(features[test])[:, by_label])
        rows.append(test)
        trained.append(truth[train])
    at = np.concatenate(rows)
    mean = FrechetMean(space, np.sort(observed))
    return Task(mean, np.concatenate(weights), at, truth[at], np.concatenate(trained), notes)


def _read(config: Config) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features float64 ``[n, m]``, the label of each row, and notes."""
    notes: list[str] = []
    if config.data == "diabetes" and not Path(config.data).exists():
        from sklearn.datasets import load_diabetes

        features, values = load_diabetes(return_X_y=True)
        return (
            features,
            _quantiles(values, config.bins),
            [f"diabetes (442 patients, scikit-learn): disease progression in {config.bins} quantiles, 0 the mildest."],
        )
    import pandas as pd

    if config.label is None:
        raise InputError("label", "nothing", f"the name of the label's column in {config.data}")
    table = config.read_table(config.data, config.label)
    assert table.label is not None
    notes += table.notes
    encoded = pd.get_dummies(table.features, columns=list(table.categorical), dummy_na=False, dtype=float)
    encoded = encoded.apply(pd.to_numeric, errors="coerce")
    if encoded.isna().any().any():
        notes.append("Missing cells were replaced by the mean of their column.")
        encoded = encoded.fillna(encoded.mean()).fillna(0.0)
    labels = table.label.to_numpy()
    numbers = pd.to_numeric(pd.Series(labels), errors="coerce")
    if config.space == "ordinal" and not numbers.isna().any():
        labels = numbers.to_numpy()
        if len(np.unique(labels)) > config.bins:
            notes.append(f"The label {config.label} was cut into {config.bins} quantiles, 0 the lowest.")
            labels = _quantiles(labels, config.bins)
    return encoded.to_numpy(dtype=np.float64), labels, notes


def _quantiles(values: np.ndarray, bins: int) -> np.ndarray:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _observed(config: Config, space: Any, truth: np.ndarray, notes: list[str]) -> np.ndarray:
    """Indices of the labels to train on."""
    present = np.unique(truth)
    if config.observed:
        chosen = np.unique(space.index(config.observed, "observed"))
        absent = np.setdiff1d(chosen, present)
        if len(absent):
            raise InputError("observed", f"{space.labels[absent[0]]!r}, which no row has", "labels that rows have")
    else:
        order = plan(space, min(config.observe, len(space)))
        chosen = np.unique(order[np.isin(order, present)])
        notes.append(f"Observed labels: {_few([space.labels[i] for i in chosen])}; 'observed' names others.")
    if len(chosen) < 2:
        raise InputError("observed", f"{len(chosen)} label with rows", "at least two labels that rows have")
    return chosen


def _temperature(config: Config) -> Any:
    try:
        return float(config.temperature)
    except ValueError:
        return config.temperature


def _in_order(labels: set[Any]) -> list[Any]:
    """Sorted: numbers by value where all labels are numbers, text otherwise."""

    def number(label: Any) -> float | None:
        try:
            return float(label)
        except (TypeError, ValueError):
            return None

    if all(number(x) is not None for x in labels):
        return sorted(labels, key=lambda x: number(x) or 0.0)
    return sorted(labels, key=str)


def _few(labels: Any) -> str:
    shown = [str(x) for x in list(labels)[:12]]
    return ", ".join(shown) + (f", ... ({len(labels)} in all)" if len(labels) > 12 else "")
