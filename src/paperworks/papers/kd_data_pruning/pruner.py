"""``DataPruner``: score a training set and keep a part of it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from paperworks.classification import as_examples
from paperworks.classification.data import as_labels, count_rows
from paperworks.embedding import herding, k_center_greedy
from paperworks.errors import InputError, nearest
from paperworks.papers.kd_data_pruning.scoring import METHODS, ExampleScores, MakeModel
from paperworks.papers.kd_data_pruning.selection import (
    class_quota,
    coverage_centric,
    default_beta,
    keep_best,
    kept_count,
    rank,
    with_minimum,
)
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainSettings

DEFAULT_SETTINGS = TrainSettings(
    steps=1000, batch_size=64, optimizer="sgd", learning_rate=0.05, weight_decay=5e-4, schedule="cosine", clip_norm=5.0
)
"""SGD with momentum 0.9 and a cosine schedule, for small networks."""


class DataPruner(BaseEstimator):
    """Choose the rows of a training set to keep.

    Parameters
    ----------
    method : a name of ``METHODS``.
    fraction : share of the rows that is kept, in (0, 1].
    balance : keep the same share of every class. Herding and k-center then choose within each class.
    min_per_class : keep at least so many rows of every class.
    settings : of the trainings that the scores need.
    early_steps, runs, memorization_models : see ``ExampleScores``.
    beta, strata : of CCS; see ``coverage_centric``. With ``balance`` every class loses the same share ``beta``.
    random_state : seed.

    Attributes
    ----------
    scores_ : float64 ``[n]``; None for methods that choose without one.
    ranking_ : rows in the order in which they are kept, int64 ``[n]``; None for CCS, herding and k-center.
    indices_ : the kept rows, sorted int64.
    """

    def __init__(
        self,
        method: str = "random",
        fraction: float = 0.1,
        *,
        balance: bool = False,
        min_per_class: int = 0,
        settings: TrainSettings = DEFAULT_SETTINGS,
        early_steps: int = 60,
        runs: int = 5,
        memorization_models: int = 20,
        beta: float | None = None,
        strata: int = 50,
        random_state: int = 0,
    ) -> None:
        self.method, self.fraction, self.balance, self.min_per_class = method, fraction, balance, min_per_class
        self.settings, self.early_steps, self.runs = settings, early_steps, runs
        self.memorization_models, self.beta, self.strata = memorization_models, beta, strata
        self.random_state = random_state
        self._check()

    def _check(self) -> None:
        """Raise InputError for an option that is out of bounds, also after ``set_params``."""
        check_seed("random_state", self.random_state)
        if self.method not in METHODS:
            raise InputError("method", repr(self.method), f"one of {', '.join(METHODS)}{nearest(self.method, METHODS)}")
        kept_count(1, self.fraction)
        if self.min_per_class < 0:
            raise InputError("min_per_class", self.min_per_class, "0 or more")
        if self.beta is not None and self.method != "ccs":
            raise InputError("beta", f"{self.beta} with {self.method}", "None, or the method ccs")

    def fit(
        self,
        make_model: MakeModel | None,
        data: Any,
        labels: Any,
        *,
        scores: ExampleScores | None = None,
        progress: Progress = no_progress,
    ) -> DataPruner:
        """Score the rows and choose.

        Parameters
        ----------
        make_model : makes a fresh classifier from a seed; None for "random", or with ``scores``.
        data, labels : all rows; see ``paperworks.classification.fit``.
        scores : scores of these rows that share their training runs with other methods.
        """
        self._check()
        examples = as_examples(data)
        self.labels_ = as_labels(labels, count_rows(examples)).numpy()
        if scores is None and METHODS[self.method].needs != "nothing":
            if make_model is None:
                raise InputError("make_model", "None", f"a function of a seed, since {self.method} needs a training")
            scores = ExampleScores(
                make_model,
                examples,
                self.labels_,
                self.settings,
                early_steps=self.early_steps,
                runs=self.runs,
                memorization_models=self.memorization_models,
                seed=self.random_state,
                progress=progress,
            )
        if scores is not None and len(scores.labels) != len(self.labels_):
            raise InputError("scores", f"of {len(scores.labels)} rows", f"of {len(self.labels_)}, as the data have")
        # what ``select`` needs: a fitted pruner holds neither the models nor the function that makes them
        chosen_by_features = scores is not None and self.method in ("herding", "k-center")
        self._features: np.ndarray | None = scores.features if scores is not None and chosen_by_features else None
        self.scores_: np.ndarray | None = None
        self.ranking_: np.ndarray | None = None
        keep = METHODS[self.method].keep
        if self.method == "random":
            self.ranking_ = np.random.default_rng([self.random_state, 0]).permutation(len(self.labels_))
        elif self.method == "ccs":
            assert scores is not None
            self.scores_ = scores.score("ccs")
        elif keep != "order":
            assert scores is not None
            self.scores_ = scores.score(self.method)
            self.ranking_ = rank(self.scores_, keep, seed=self.random_state, infinite=self.method == "forgetting")
        self.indices_ = self.select(self.fraction)
        return self

    def select(self, fraction: float) -> np.ndarray:
        """The rows that another fraction keeps, sorted int64, from the scores that ``fit`` computed.

        Warns where a class has no row left.
        """
        check_is_fitted(self, "labels_")
        kept = self._choose(fraction)
        lost = np.setdiff1d(self.labels_, self.labels_[kept])
        if len(lost):
            warnings.warn(
                f"no row of {len(lost)} of the classes is kept ({', '.join(map(str, lost[:5]))}): "
                "use balance or min_per_class",
                UserWarning,
                stacklevel=2,
            )
        return kept

    def _choose(self, fraction: float) -> np.ndarray:
        count = kept_count(len(self.labels_), fraction)
        if self.ranking_ is not None:
            if self.balance:
                return keep_best(self.ranking_, fraction, labels=self.labels_, min_per_class=self.min_per_class)
            kept = keep_best(self.ranking_, fraction)
            return with_minimum(kept, self.ranking_, self.labels_, self.min_per_class)
        if self.balance:
            parts = []
            for label, quota in class_quota(self.labels_, fraction, self.min_per_class).items():
                rows = np.flatnonzero(self.labels_ == label)
                if quota:
                    parts.append(rows[self._one_by_one(rows, quota, fraction)])
            return np.sort(np.concatenate(parts))
        kept = np.sort(self._one_by_one(np.arange(len(self.labels_)), count, fraction))
        spare = np.random.default_rng([self.random_state, 3]).permutation(len(self.labels_))
        return with_minimum(kept, spare, self.labels_, self.min_per_class)

    def _one_by_one(self, rows: np.ndarray, count: int, fraction: float) -> np.ndarray:
        """Positions within ``rows`` that CCS, herding or k-center choose; ``fraction`` is that of all rows."""
        if self.method == "ccs":
            assert self.scores_ is not None
            # the default is that of the share of all rows: a class's own is rounded, and may be beyond 10 %
            share, beta = count / len(rows), default_beta(fraction) if self.beta is None else self.beta
            if beta + fraction <= 1:
                beta = min(beta, 1 - share)  # of a small class, so much as its rounded quota leaves
            return coverage_centric(self.scores_[rows], share, beta=beta, strata=self.strata, seed=self.random_state)
        assert self._features is not None
        features = self._features[rows].astype(np.float64)
        if self.method == "herding":
            return herding(features, count)
        return k_center_greedy(features, count, random_state=self.random_state)
