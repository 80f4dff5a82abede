"""Rectification: one retrained last layer per hypothesis, and a choice of layer for each sample (step 6)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from paperworks.errors import InputError
from paperworks.papers.ladder.checks import class_codes, digest, matrix, require_fit
from paperworks.papers.ladder.discovery import SliceDiscovery
from paperworks.papers.ladder.heads import (
    LinearHead,
    Loss,
    Optimizer,
    as_head,
    distilled_head,
    probabilities,
    train_head,
)
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    import torch

    from paperworks.papers.ladder.modules import RectifiedHead

LEAST_MINORITY = 0.05
"""Below this share of one pseudo-label the split says nothing, and the slice's threshold is used."""
LEAST_SIDE = 60
"""Rows on each side of each class, where not told otherwise: at least so many."""


class SliceRectifier(ClassifierMixin, BaseEstimator):
    """A classifier of features ``[n, p]`` whose last layer was retrained on what discovery found; no attribute labels.

    Parameters
    ----------
    discovery : a fitted ``SliceDiscovery``.
    head : the classifier's last layer: (weight, bias), an ``nn.Linear``, or a linear classifier of scikit-learn. None:
        a linear layer that repeats the predictions seen by ``fit``.
    balance : "extremes": of each class the n rows most and the n least similar to the hypothesis; "pseudo_label": as
        many rows of each class and pseudo-attribute.
    n : rows on each side of each class (extremes; at most half of the class), or rows of each group at most
        (pseudo_label). None: a tenth of the smallest class, at least 60; all that balance allows.
    optimizer, epochs, lr, weight_decay, batch_size, loss : see ``heads.train_head``. None goes to the optimum (lbfgs)
        where neither ``lr`` nor ``batch_size`` is given, else it is "sgd"; ``lr=1e-3, epochs=9`` is the paper's for
        Waterbirds.
    combine : "select" predicts with the head of the most similar hypothesis, "mean" averages the heads' logits.
    faithful : as released: a head for every hypothesis, confirmed or not, and the choice by raw similarities, which are
        not on one scale. By default heads are for confirmed hypotheses, and similarities are standardised first.
    random_state : seed of the choice of rows and of SGD.

    Attributes
    ----------
    head_ : the original ``LinearHead``; heads_ : position of a slice -> its ``LinearHead``.
    rows_ : position of a slice -> the validation rows that its head was trained on.
    changed_ : whether there is any head; otherwise predictions are the original ones.
    agreement_ : share of predictions that the stand-in for a missing head repeats, else 1.
    classes_ : class codes. notes_ : what a reader should know.
    """

    def __init__(
        self,
        discovery: SliceDiscovery,
        head: Any = None,
        *,
        balance: Literal["extremes", "pseudo_label"] = "extremes",
        n: int | None = None,
        optimizer: Optimizer | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        loss: Loss = "ce",
        combine: Literal["select", "mean"] = "select",
        faithful: bool = False,
        random_state: int = 0,
    ) -> None:
        self.discovery = discovery
        self.head = head
        self.balance = balance
        self.n = n
        self.optimizer = optimizer
        self.epochs = epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.loss = loss
        self.combine = combine
        self.faithful = faithful
        self.random_state = random_state

    def fit(
        self, features_val: Any, y_val: Any, *, pred_val: Any = None, progress: Progress = no_progress
    ) -> SliceRectifier:
        """Train the heads on validation rows ``[n, p]`` and their class codes ``[n]``.

        ``pred_val`` are the classifier's predicted codes, where no ``head`` was given; by default those that discovery
        got with the same rows.
        """
        check_seed("random_state", self.random_state)
        if self.balance not in ("extremes", "pseudo_label"):
            raise InputError("balance", repr(self.balance), "extremes or pseudo_label")
        if self.combine not in ("select", "mean"):
            raise InputError("combine", repr(self.combine), "select or mean")
        if self.n is not None and self.n < 1:
            raise InputError("n", self.n, "1 or more, or None")
        require_fit(self.discovery, "vectors_")
        x = matrix("features_val", features_val)
        classes = len(self.discovery.class_names_)
        y = class_codes("y_val", y_val, classes)
        if len(y) != len(x):
            raise InputError("features_val and y_val", f"{len(x)} and {len(y)} rows", "one row per sample in both")
        self.notes_: list[str] = []
        self.head_ = self._original(x, pred_val, classes)
        if self.head_.classes < classes:
            raise InputError("head and y_val", f"{self.head_.classes} and {classes} classes", "an output per class")
        self.classes_ = np.arange(self.head_.classes)
        slices = self.discovery.slices_
        self.active_ = list(range(len(slices))) if self.faithful else self.discovery.confirmed_
        self.changed_ = bool(self.active_)
        self.heads_: dict[int, LinearHead] = {}
        self.rows_: dict[int, np.ndarray] = {}
        self.n_features_in_ = x.shape[1]
        if not self.changed_:
            self._note("No hypothesis is confirmed: the classifier is left as it is.")
            return self
        scores = self.discovery.score(x)
        steps: Optimizer = "lbfgs" if self.lr is None and self.batch_size is None else "sgd"
        for position in progress(self.active_, "retraining the last layer"):
            rows = self._balanced(scores[:, position], y, slices[position].threshold, slices[position].name)
            self.rows_[position] = rows
            self.heads_[position] = train_head(
                self.head_,
                x[rows],
                y[rows],
                optimizer=self.optimizer or steps,
                epochs=self.epochs,
                lr=self.lr,
                weight_decay=self.weight_decay,
                batch_size=self.batch_size,
                loss=self.loss,
                random_state=self.random_state,
            )
        return self

    def logits(self, features: Any) -> np.ndarray:
        """Logits ``[n, o]`` of the chosen head, or the mean of all heads."""
        check_is_fitted(self, "head_")
        x = matrix("features", features)
        original = self.head_.logits(x)
        if not self.changed_:
            return original
        made = np.stack([self.heads_[p].logits(x) for p in self.active_])
        if self.combine == "mean":
            return made.mean(axis=0)
        return made[self._choice(x), np.arange(len(x))]

    def predict_proba(self, features: Any) -> np.ndarray:
        """Probabilities ``[n, c]``."""
        return probabilities(self.logits(features))

    def predict(self, features: Any) -> np.ndarray:
        """Class codes ``[n]``."""
        return self.predict_proba(features).argmax(axis=1)

    def chosen_slices(self, features: Any) -> np.ndarray:
        """Position of the slice whose head predicts each row ``[n]``; -1 where the classifier is unchanged."""
        check_is_fitted(self, "head_")
        x = matrix("features", features)
        if not self.changed_:
            return np.full(len(x), -1)
        return np.array(self.active_)[self._choice(x)]

    def evaluate(self, features: Any, y: Any, groups: Any = None) -> dict[str, float]:
        """Accuracy before and after on other rows, and of the worst group where groups ``[n]`` are given.

        One predictor, which sees no label, predicts all rows. Raises InputError for the validation rows.
        """
        from paperworks.metrics import worst_group_accuracy

        x = matrix("features_test", features)
        self.discovery.require_other_rows(x)
        truth = class_codes("y_test", y, len(self.classes_))
        before, after = probabilities(self.head_.logits(x)).argmax(axis=1), self.predict(x)
        found = {"accuracy before": float((before == truth).mean()), "accuracy after": float((after == truth).mean())}
        if groups is not None:
            found["worst group before"] = worst_group_accuracy(truth, before, groups)
            found["worst group after"] = worst_group_accuracy(truth, after, groups)
        return found

    def to_head(self) -> RectifiedHead:
        """An ``nn.Module`` from features ``[n, p]`` to logits ``[n, o]`` with heads and selector, to take the place of
        the last linear layer.
        """
        from paperworks.papers.ladder.modules import RectifiedHead

        return RectifiedHead.from_arrays(*self._selector(), *self._stacked(), combine=self.combine)

    def to_module(self, module: torch.nn.Module, layer: str | None = None) -> torch.nn.Module:
        """A copy of a classifier whose last linear layer is ``to_head()``; all its other weights are the same and
        frozen.
        """
        from paperworks.papers.ladder.modules import with_head

        return with_head(module, self.to_head(), layer)

    def save(self, path: str | Path) -> None:
        """Write ``to_head()`` as one safetensors file: ``RectifiedHead.load`` reads it."""
        self.to_head().save(path)

    def _original(self, x: np.ndarray, pred_val: Any, classes: int) -> LinearHead:
        self.agreement_ = 1.0
        if self.head is not None:
            found = as_head(self.head)
            if found.weight.shape[1] != x.shape[1]:
                shapes = f"{found.weight.shape[1]} and {x.shape[1]} columns"
                raise InputError("head and features_val", shapes, "the layer that these features go into")
            return found
        if pred_val is None and digest(x) == self.discovery.validation_digest_:
            pred_val = getattr(self.discovery, "predicted_", None)  # a discovery that was loaded has none
        if pred_val is None:
            raise InputError("head", "none, and no pred_val", "the last layer, or the classifier's predictions")
        predicted = class_codes("pred_val", pred_val, classes)
        found, self.agreement_ = distilled_head(x, predicted, classes)
        self._note(f"The last layer was not given: a linear one repeats {self.agreement_:.1%} of the predictions.")
        return found

    def _balanced(self, s: np.ndarray, y: np.ndarray, threshold: float, name: str) -> np.ndarray:
        sizes = np.bincount(y)
        if self.balance == "extremes":
            n = max(int(sizes[sizes > 0].min()) // 10, LEAST_SIDE) if self.n is None else self.n
            return extremes(s, y, n)
        labels = expit(s) > 0.5
        alike = min(labels.mean(), 1 - labels.mean()) < LEAST_MINORITY
        if alike or any(np.ptp(labels[y == code].astype(int)) == 0 for code in np.unique(y)):
            self._note(
                f"Pseudo-labels of {name!r} are nearly all alike{'' if alike else ' in a class'}: similarities have "
                "one sign. The slice's threshold splits them instead."
            )
            labels = s >= threshold
        return balanced_rows(y, labels, self.n, np.random.default_rng(self.random_state))

    def _choice(self, x: np.ndarray) -> np.ndarray:
        weight, bias = self._selector()
        return (x @ weight.T + bias).argmax(axis=1)

    def _selector(self) -> tuple[np.ndarray, np.ndarray]:
        """The choice as one linear map of the features: standardised similarities, or raw ones."""
        vectors, aligner = self.discovery.vectors_[self.active_], self.discovery.aligner_
        weight, bias = vectors @ aligner.weight_, vectors @ aligner.bias_
        if self.faithful:
            return weight, bias
        mean = np.array([self.discovery.slices_[p].mean for p in self.active_])
        deviation = self.discovery.deviations_[self.active_]
        return weight / deviation[:, None], (bias - mean) / deviation

    def _stacked(self) -> tuple[np.ndarray, np.ndarray]:
        heads = [self.heads_[p] for p in self.active_] or [self.head_]
        return np.stack([h.weight for h in heads]), np.stack([h.bias for h in heads])

    def _note(self, text: str) -> None:
        self.notes_.append(text)
        warnings.warn(text, stacklevel=3)


def extremes(s: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """Of each class the ``n`` rows with the largest ``s`` and the ``n`` with the smallest; at most half of the class on
    each side, so that no row counts twice. A class of one row gives that row.
    """
    found = []
    for code in np.unique(y):
        rows = np.flatnonzero(y == code)
        side = min(n, len(rows) // 2)
        order = rows[np.argsort(s[rows], kind="stable")]
        found.append(np.concatenate([order[:side], order[len(order) - side :]]) if side else order)
    return np.concatenate(found)


def balanced_rows(y: np.ndarray, labels: np.ndarray, n: int | None, draw: np.random.Generator) -> np.ndarray:
    """As many rows of each group (class, label) that there is, drawn at random; at most ``n`` of each."""
    groups = [np.flatnonzero((y == code) & (labels == label)) for code in np.unique(y) for label in np.unique(labels)]
    groups = [g for g in groups if len(g)]
    size = min(len(g) for g in groups)
    size = size if n is None else min(size, n)
    return np.concatenate([np.sort(draw.permutation(g)[:size]) for g in groups])
