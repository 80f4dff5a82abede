"""Bits that are predicted from the past alone: by a classifier, or by a page's PLECO or POPU score.

A predictor is trained on the true bits of one trace (or of the first part of one) and then says for every request of
another trace, from what came before, how likely its page may be discarded. The threshold that turns this into a bit is
not fixed at 1/2: it is the one at which the algorithm that takes the bits missed least often on a part of the training
trace that the classifier did not see. What a wrong bit costs differs too much between the two kinds for any fixed one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from paperworks.errors import InputError
from paperworks.papers.paging.features import FEATURES, pleco_probabilities, popularity_gaps, request_features
from paperworks.papers.paging.flush import FlushWhenAll0s
from paperworks.papers.paging.mark_and_predict import MarkAndPredict
from paperworks.papers.paging.optimum import belady, phase_labels
from paperworks.papers.paging.policy import Policy, checked_size
from paperworks.papers.paging.simulation import simulate
from paperworks.papers.paging.trace import Trace, as_trace
from paperworks.parameters import check_seed, check_whole
from paperworks.runs.files import new_file

Target = Literal["discard", "phase"]
BLOCK = 1_000_000
"""Requests whose features are in memory at once: 80 bytes each."""


class BitPredictor(BaseEstimator):
    """Base of the predictors of the bit: ``fit`` chooses the threshold, ``predict`` gives causal bits.

    Parameters
    ----------
    target : the kind of bit, ``discard`` or ``phase``.
    thresholds : how many thresholds to try (quantiles of the scores, and none at all).
    """

    def __init__(self, target: Target = "discard", *, thresholds: int = 33) -> None:
        self.target = target
        self.thresholds = thresholds

    def fit(self, trace: Trace | object, k: int) -> BitPredictor:
        """Learn from the true bits of ``trace`` for a cache of ``k`` pages."""
        self._check()
        if self.target not in ("discard", "phase"):
            raise InputError("target", repr(self.target), "discard or phase")
        if self.thresholds < 1:
            raise InputError("thresholds", self.thresholds, "at least 1")
        trace, self.k_ = as_trace(trace), checked_size(k)
        if len(trace) < 4:
            raise InputError("trace", f"{len(trace)} requests", "at least 4 to learn from")
        truth = belady(trace, k).discard_labels if self.target == "discard" else phase_labels(trace, k).bits
        scores, held_out = self._learn(trace, truth)
        self.threshold_, self.misses_ = self._calibrate(trace, scores, held_out)
        return self

    def _check(self) -> None:
        """Raise InputError for an option of the subclass that is out of bounds."""

    def scores(self, trace: Trace | object) -> np.ndarray:
        """How likely each request's page may be discarded, from the requests before; float64 [T]."""
        check_is_fitted(self)
        return self._scores(as_trace(trace))

    def predict(self, trace: Trace | object) -> np.ndarray:
        """The bit of each request: uint8 [T], 1 where the score reaches the threshold."""
        return (self.scores(trace) >= self.threshold_).astype(np.uint8)

    def save(self, path: Path | str) -> None:
        """Write the predictor with joblib. Raises InputError if ``path`` exists."""
        import joblib

        with new_file(Path(path)) as aside:
            joblib.dump(self, aside, compress=3)

    @staticmethod
    def load(path: Path | str) -> BitPredictor:
        """Read what ``save`` wrote. A joblib file runs code when it is read: load only files that you trust."""
        import joblib

        try:
            predictor = joblib.load(path)
        except FileNotFoundError:
            raise InputError("path", f"{path}, which is not there", "a file that BitPredictor.save wrote") from None
        except Exception as error:
            raise InputError("path", f"{path} ({error})", "a file that BitPredictor.save wrote") from None
        if not isinstance(predictor, BitPredictor):
            raise InputError("path", f"{path} with a {type(predictor).__name__}", "a file that BitPredictor.save wrote")
        return predictor

    def _learn(self, trace: Trace, truth: np.ndarray) -> tuple[np.ndarray, slice]:
        """Train; returns the scores of all requests and the part on which to choose the threshold."""
        return self._scores(trace), slice(0, len(trace))

    def _scores(self, trace: Trace) -> np.ndarray:
        raise NotImplementedError

    def _policy(self) -> Policy:
        return FlushWhenAll0s(self.k_) if self.target == "discard" else MarkAndPredict(self.k_)

    def _calibrate(self, trace: Trace, scores: np.ndarray, held_out: slice) -> tuple[float, int]:
        """The threshold with the fewest misses of the algorithm that takes these bits."""
        part = trace.part(held_out.start, held_out.stop)
        own = scores[held_out]
        quantiles = np.unique(np.quantile(own, np.linspace(0, 1, self.thresholds)))
        # Above every score there is a threshold too: no bit is 1.
        candidates = [*quantiles.tolist(), np.inf]
        policy = self._policy()
        misses = [simulate(policy, part, (own >= c).astype(np.uint8)).misses for c in candidates]
        best = int(np.argmin(misses))
        return float(candidates[best]), misses[best]


class HistoryPredictor(BitPredictor):
    """Bits from when a page's past requests say that it will return. Nothing is trained but the threshold.

    Parameters
    ----------
    rule : ``pleco`` weighs a request that is ``d`` requests old by ``(d + 10)^-1.8 exp(-d / 670)`` and takes a page's
        share of all weights as the probability that it is requested next; ``popu`` expects a page back after
        ``t / count(page)`` requests.
    """

    def __init__(
        self, rule: Literal["pleco", "popu"] = "pleco", target: Target = "discard", *, thresholds: int = 33
    ) -> None:
        super().__init__(target, thresholds=thresholds)
        self.rule = rule

    def next_times(self, trace: Trace | object) -> np.ndarray:
        """The predicted next request numbers, int64 [T], for the policies that take times."""
        trace = as_trace(trace)
        gaps = np.minimum(self._gaps(trace), 2.0**61)
        return (np.arange(len(trace)) + np.maximum(1.0, gaps)).astype(np.int64)

    def _gaps(self, trace: Trace) -> np.ndarray:
        if self.rule == "popu":
            return popularity_gaps(trace)
        if self.rule == "pleco":
            return 1.0 / np.maximum(pleco_probabilities(trace), 1e-18)
        raise InputError("rule", repr(self.rule), "pleco or popu")

    def _scores(self, trace: Trace) -> np.ndarray:
        return self._gaps(trace)


class LearnedPredictor(BitPredictor):
    """Gradient-boosted trees on a page's last ten gaps and ten decayed counters, as in LRB (Song et al. 2020).

    Parameters
    ----------
    target : ``discard`` or ``phase``.
    estimator : any scikit-learn classifier with ``predict_proba``; by default a ``HistGradientBoostingClassifier``.
    sample : at most this many requests are trained on, spread over the training part.
    random_state : seed of the default classifier.
    """

    def __init__(
        self,
        target: Target = "discard",
        *,
        estimator: Any = None,
        sample: int = 200_000,
        thresholds: int = 33,
        random_state: int = 0,
    ) -> None:
        super().__init__(target, thresholds=thresholds)
        self.estimator = estimator
        self.sample = sample
        self.random_state = random_state

    def _check(self) -> None:
        check_seed("random_state", self.random_state)
        check_whole("sample", self.sample, 10)

    def _learn(self, trace: Trace, truth: np.ndarray) -> tuple[np.ndarray, slice]:
        from sklearn.base import clone
        from sklearn.ensemble import HistGradientBoostingClassifier

        end = max(2, 3 * len(trace) // 4)
        self.classes_ = np.unique(truth[:end])
        if len(self.classes_) == 2:
            chosen = np.unique(np.linspace(0, end - 1, min(end, self.sample)).astype(np.int64))
            features = np.empty((len(chosen), FEATURES), np.float32)
            for first, block in request_features(trace, BLOCK):
                own = chosen[(chosen >= first) & (chosen < first + len(block))]
                features[np.searchsorted(chosen, own)] = block[own - first]
            if self.estimator is None:
                self.estimator_ = HistGradientBoostingClassifier(
                    learning_rate=0.1,
                    max_iter=150,
                    max_leaf_nodes=31,
                    max_depth=6,
                    random_state=self.random_state % 2**32,
                )
            else:
                self.estimator_ = clone(self.estimator)
            self.estimator_.fit(features, truth[chosen])
        return self._scores(trace), slice(end, len(trace))

    def _scores(self, trace: Trace) -> np.ndarray:
        if len(self.classes_) < 2:  # the training trace had one kind of bit only
            return np.full(len(trace), float(self.classes_[0]))
        return np.concatenate(
            [self.estimator_.predict_proba(block)[:, 1] for _, block in request_features(trace, BLOCK)]
        )
