"""Pools with clusters whose labels are noise, a small model to train, and a judge: one setting for all methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier

from paperworks.embedding import KMeans, encode_to_file, load_text_encoder
from paperworks.papers.diversify_conquer.iterative import IterativeSelector
from paperworks.papers.diversify_conquer.methods import select
from paperworks.papers.diversify_conquer.selector import KMeansSelector
from paperworks.papers.diversify_conquer.studies.geometry import glosses

CLUSTERS, CORRUPTED, BUDGET, ROUNDS = 30, 9, 150, 3
POOL, JUDGE, TEST = 1197, 150, 450
LEAST = 1e-6
"""The least probability that a judge gives."""
DEITA = 0.05
"""Least squared distance of unit rows: the published 0.9 leaves fewer than 150 of these pools."""


@dataclass
class NoisyPool:
    """Rows [n, d] with given labels, of which those in ``noisy`` clusters are random; a judge; clean test rows."""

    x: np.ndarray
    given: np.ndarray
    corrupted: np.ndarray
    clusters: np.ndarray
    centers: np.ndarray
    noisy: np.ndarray
    judge: Any
    test: tuple[np.ndarray, np.ndarray]

    def judged(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The judge's log-probability of labels of some rows."""
        return log_probability(self.judge, self.x[rows], labels)

    def accuracy(self, rows: np.ndarray, model: Any = None) -> float:
        """Test accuracy of a model trained on some rows."""
        model = LogisticRegression(max_iter=300) if model is None else model
        return float(fit(model, self.x[rows], self.given[rows]).score(*self.test))


def fit(model: Any, x: np.ndarray, labels: np.ndarray) -> Any:
    """A trained classifier; where all labels are the same, one that always says it."""
    return (model if len(np.unique(labels)) > 1 else DummyClassifier()).fit(x, labels)


def log_probability(model: Any, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log of a classifier's probability of labels, at least log 1e-6."""
    known = {c: i for i, c in enumerate(model.classes_)}
    p = model.predict_proba(x)
    found = np.array([p[i, known[c]] if c in known else 0.0 for i, c in enumerate(labels)])
    return np.log(np.maximum(found, LEAST))


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels 0 to 1 and classes of scikit-learn's digits."""
    found = load_digits()
    return found.data / 16, found.target


def parts_of_speech(path: Any, progress: Any) -> tuple[np.ndarray, np.ndarray]:
    """MiniLM vectors of 1,797 word glosses, each column with deviation 1, and whether each is noun, verb, adjective.

    Of unit vectors as they are, logistic regression learns little more than the most frequent class.
    """
    wanted = {"noun": 0, "verb": 1, "adjective": 2}
    records = [(r, r.instruction.rstrip("):").rpartition("(")[2]) for r in glosses()]
    records = [(r, kind) for r, kind in records if kind in wanted][: POOL + JUDGE + TEST]
    labels = np.array([wanted[kind] for _, kind in records])
    if path.is_file():
        vectors = np.load(path)
    else:
        texts = [str(r.response) for r, _ in records]
        vectors = np.asarray(encode_to_file(load_text_encoder(), texts, path, progress=progress))
    spread = vectors.std(axis=0)
    return vectors / np.where(spread > 1e-6, spread, 1.0), labels  # the encoder has constant columns


def make_pool(x: np.ndarray, y: np.ndarray, seed: int) -> NoisyPool:
    """Split, cluster (seed 42), and replace the labels of random clusters by random ones."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    pool, judge, test = order[:POOL], order[POOL : POOL + JUDGE], order[POOL + JUDGE : POOL + JUDGE + TEST]
    fitted = KMeans(CLUSTERS, random_state=42).fit(x[pool])
    noisy = np.zeros(CLUSTERS, bool)
    noisy[rng.choice(CLUSTERS, CORRUPTED, replace=False)] = True
    corrupted = noisy[fitted.labels_]
    given = y[pool].copy()
    given[corrupted] = rng.choice(np.unique(y), size=int(corrupted.sum()))
    return NoisyPool(
        x[pool],
        given,
        corrupted,
        fitted.labels_,
        fitted.cluster_centers_,
        noisy,
        LogisticRegression(max_iter=300).fit(x[judge], y[judge]),
        (x[test], y[test]),
    )


def selector_of(pool: NoisyPool, sampling: Any, quality: np.ndarray | None, seed: int) -> KMeansSelector:
    """The pool's clusters, with a draw inside them."""
    made = KMeansSelector(CLUSTERS, sampling, BUDGET, random_state=seed)
    return made.use_clusters(pool.x, pool.clusters, pool.centers, quality)


Feedback = Callable[[NoisyPool, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""``(pool, rows, generated labels, their log-probabilities of (given, generated)) -> scores (Eq. 4)``."""


def reward(pool: NoisyPool, rows: np.ndarray, generated: np.ndarray, own: np.ndarray) -> np.ndarray:
    """A reward model: the judge's log-probability of the given label less that of the generated one."""
    return pool.judged(rows, pool.given[rows]) - pool.judged(rows, generated)


def rating(pool: NoisyPool, rows: np.ndarray, generated: np.ndarray, own: np.ndarray) -> np.ndarray:
    """A judge that rates from 1 to 5: the judge's probability, rounded to five grades."""
    grades = [np.rint(1 + 4 * np.exp(pool.judged(rows, labels))) for labels in (pool.given[rows], generated)]
    return grades[0] - grades[1]


def perplexity(pool: NoisyPool, rows: np.ndarray, generated: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Eq. 7: log-perplexity of the given label less that of the generated one, of the model itself."""
    return own[:, 1] - own[:, 0]


def iterate(pool: NoisyPool, selector: KMeansSelector, feedback: Feedback = reward, *, memorised: bool = False) -> Any:
    """Iterative selection with logistic regression, scored on its out-of-fold predictions (4 folds)."""

    def score(_: Any, rows: np.ndarray) -> np.ndarray:
        generated, own = np.empty(len(rows), pool.given.dtype), np.empty((len(rows), 2))
        folds: Any = KFold(4, shuffle=True, random_state=0).split(rows)
        if memorised:
            folds = [(np.arange(len(rows)), np.arange(len(rows)))]
        for train, held in folds:
            model = LogisticRegression(max_iter=2000 if memorised else 300, C=1e6 if memorised else 1.0)
            model = fit(model, pool.x[rows[train]], pool.given[rows[train]])
            x = pool.x[rows[held]]
            generated[held] = model.predict(x)
            own[held, 0] = log_probability(model, x, pool.given[rows[held]])
            own[held, 1] = log_probability(model, x, generated[held])
        return feedback(pool, rows, generated, own)

    with warnings.catch_warnings():
        if not memorised:
            warnings.simplefilter("ignore")
        return IterativeSelector(selector, ROUNDS, lambda *_: None, score).fit()


def choices(pool: NoisyPool, seed: int) -> dict[str, Any]:
    """Rows chosen by every method, by name; of the iterative ones the fitted selector."""
    quality = pool.judged(np.arange(len(pool.x)), pool.given)
    found: dict[str, Any] = {
        "kM-Random": selector_of(pool, "random", None, seed).indices_,
        "kM-Closest": selector_of(pool, "closest", None, seed).indices_,
        "kMQ": selector_of(pool, "quality", quality, seed).indices_,
        "iter-kM": iterate(pool, selector_of(pool, "random", None, seed)),
        "iter-kMQ": iterate(pool, selector_of(pool, "quality", quality, seed)),
    }
    unit = pool.x / np.linalg.norm(pool.x, axis=1, keepdims=True)
    for name, method in (("random", "random"), ("k-center", "k-center"), ("top-quality", "top-quality")):
        found[name] = select(pool.x, BUDGET, method, quality=quality, random_state=seed)  # type: ignore[arg-type]
    found["Deita"] = select(unit, BUDGET, "deita", quality=quality, threshold=DEITA)
    found["QDIT"] = select(unit, BUDGET, "qdit", quality=quality)
    return found


OTHER_MODELS: dict[str, Callable[[], Any]] = {
    "random forest": lambda: RandomForestClassifier(100, random_state=0),
    "nearest neighbours": lambda: KNeighborsClassifier(3),
}
