"""What encoders are worth: zero-shot classification, linear probes on shares of the data, retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paperworks.errors import InputError
from paperworks.metrics import Interval, linear_probe, mean_interval, wilson_interval
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    from paperworks.papers.quilt1m.encoders import TrainedEncoders


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot classification.

    Attributes
    ----------
    accuracy : with the mean of all templates for a class.
    by_template : accuracy with each template alone.
    templates, classes : what it depends on, kept with the result.
    predicted : class of each picture, int ``[n]``.
    """

    accuracy: Interval
    by_template: tuple[float, ...]
    templates: tuple[str, ...]
    classes: tuple[str, ...]
    predicted: np.ndarray


def class_vectors(encoders: TrainedEncoders, classes: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Vectors of each class with each template, unit rows ``[templates, classes, D]``."""
    texts = [template.format(c=name) for template in templates for name in classes]
    return encoders.text_vectors(texts).reshape(len(templates), len(classes), -1)


def zero_shot(
    images: np.ndarray, labels: np.ndarray, by_template: np.ndarray, templates: Sequence[str], classes: Sequence[str]
) -> ZeroShot:
    """Each picture gets the class whose vector is nearest; a class's vector is the normalised mean over templates.

    Parameters
    ----------
    images : unit rows ``[n, D]``.
    labels : int ``[n]``.
    by_template : as ``class_vectors`` gives them.
    """
    mean = by_template.mean(0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True) + 1e-12
    predicted = (images @ mean.T).argmax(1)
    singles = tuple(float(((images @ one.T).argmax(1) == labels).mean()) for one in by_template)
    right = int((predicted == labels).sum())
    interval = wilson_interval(right, len(labels), unit="pictures")
    return ZeroShot(interval, singles, tuple(templates), tuple(classes), predicted)


def probe_fractions(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    seeds: int = 3,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[float, Interval]:
    """Accuracy of a logistic regression on frozen features, on shares of the training data.

    Each class has at least one row in a share. The penalty is chosen by cross-validation where every class has at least
    three rows, and is 1 otherwise. Intervals are over draws of the share; of the whole data there is one: Wilson's.
    """
    x, y = train
    result: dict[float, Interval] = {}
    for fraction in progress(list(fractions), "linear probes"):
        values = []
        draws = 1 if fraction >= 1 else seeds
        for number in range(draws):
            rows = stratified_rows(y, fraction, np.random.default_rng([seed, number, round(1e6 * fraction)]))
            least = int(np.bincount(y[rows])[np.unique(y[rows])].min())
            folds = min(3, least)
            Cs = (0.01, 0.1, 1.0) if folds >= 3 else (1.0,)
            found = linear_probe(x[rows], y[rows], *test, Cs=Cs, folds=max(2, folds), seed=number)
            values.append(found.accuracy)
        result[fraction] = values[0] if draws == 1 else mean_interval([v.estimate for v in values], unit="draws")
    return result


def stratified_rows(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of a share of each class, one at least."""
    rows = []
    for one in np.unique(labels):
        members = np.flatnonzero(labels == one)
        rows.append(rng.choice(members, max(1, round(fraction * len(members))), replace=False))
    return np.sort(np.concatenate(rows))


@dataclass(frozen=True)
class Recall:
    """Recall at k from pictures to texts and back, and what chance gives."""

    k: int
    to_text: Interval
    to_image: Interval
    chance_to_text: float
    chance_to_image: float


def retrieval(
    images: np.ndarray, texts: np.ndarray, belongs: Sequence[Sequence[int]], ks: Sequence[int] = (1, 50, 200)
) -> list[Recall]:
    """Share of queries with an item of theirs among the k nearest.

    Parameters
    ----------
    images, texts : unit rows ``[n, D]`` and ``[m, D]``.
    belongs : of each picture, the places of its texts.
    ks : those above the number of items are left out. Ties count as misses: equal vectors gain nothing.
    """
    relevant = np.zeros((len(images), len(texts)), bool)
    for row, places in enumerate(belongs):
        if not len(places):
            raise InputError(f"belongs[{row}]", "no text", "one text or more for every picture")
        relevant[row, list(places)] = True
    scores = images @ texts.T
    results = []
    for k in ks:
        if k > min(scores.shape):
            continue
        there, back = _hits(scores, relevant, k), _hits(scores.T, relevant.T, k)
        results.append(
            Recall(
                k,
                wilson_interval(int(there.sum()), len(there), unit="pictures"),
                wilson_interval(int(back.sum()), len(back), unit="texts"),
                _chance(relevant, k),
                _chance(relevant.T, k),
            )
        )
    return results


def alignment(images: np.ndarray, texts: np.ndarray, belongs: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Mean cosine of pictures and their own texts, and of pictures and all other texts (what shuffling would give).

    NaN for the second where every text belongs to every picture.
    """
    own = np.zeros((len(images), len(texts)), bool)
    for row, places in enumerate(belongs):
        own[row, list(places)] = True
    scores = images @ texts.T
    return float(scores[own].mean()), float(scores[~own].mean()) if (~own).any() else float("nan")


def _hits(scores: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Whether each query's best relevant item has fewer than k irrelevant ones at or above it, bool ``[queries]``."""
    asked = relevant.any(1)
    best = np.where(relevant, scores, -np.inf).max(1)
    above = ((scores >= best[:, None]) & ~relevant).sum(1)
    return (above < k)[asked]


def _chance(relevant: np.ndarray, k: int) -> float:
    """The mean probability that k items drawn at random have a relevant one among them."""
    items = relevant.shape[1]
    counts = relevant.sum(1)
    counts = counts[counts > 0]
    misses = np.ones(len(counts))
    for i in range(k):
        misses *= np.clip(items - counts - i, 0, None) / (items - i)
    return float((1 - misses).mean())
