"""Domino's error-aware mixture (Eyuboglu et al. 2022), by its formulas: the slice discovery without words."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.special import logsumexp

from paperworks.errors import InputError
from paperworks.papers.ladder.checks import class_codes, matrix, predicted_codes, require_fit
from paperworks.parameters import check_seed

LEAST_VARIANCE = 1e-6


class ErrorAwareMixture:
    """A mixture of Gaussians over embeddings in which a component also has a distribution of labels and of predictions.

    ``p(z, y, y^) = sum_k pi_k N(z; mu_k, diag s_k) p_k(y)^g p_k(y^)^g`` with g the weight ``gamma`` of each. Fitted by
    EM; the components whose labels and predictions differ the most are the slices.

    Parameters
    ----------
    n_slices, n_components, n_pca : slices kept, components fitted, principal components of the embedding.
    gamma_y, gamma_pred : weights of labels and predictions: 1 in the authors' code, 10 in their paper as remembered.
    initialise : "confusion" begins each component in one cell of the confusion matrix, "kmeans" with k-means of the
        embedding. The authors' docstring says confusion, their signature kmeans.
    max_iter, tolerance : of EM: iterations, and the gain of the mean log-likelihood at which it ends.
    random_state : of the beginning.

    Attributes
    ----------
    weights_, means_, variances_ : ``[K]``, ``[K, d]``, ``[K, d]``.
    label_shares_, prediction_shares_ : p_k(y) and p_k(y^) ``[K, c]``.
    slices_ : the components that are slices ``[n_slices]``, the largest difference first.
    objective_ : mean log-likelihood after each iteration; it never falls.
    """

    def __init__(
        self,
        n_slices: int = 5,
        *,
        n_components: int = 25,
        n_pca: int = 128,
        gamma_y: float = 1.0,
        gamma_pred: float = 1.0,
        initialise: Literal["confusion", "kmeans"] = "confusion",
        max_iter: int = 100,
        tolerance: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        check_seed("random_state", random_state)
        if not 1 <= n_slices <= n_components:
            raise InputError("n_slices", n_slices, f"1 to {n_components}, the components")
        if initialise not in ("confusion", "kmeans"):
            raise InputError("initialise", repr(initialise), "confusion or kmeans")
        self.n_slices, self.n_components, self.n_pca = n_slices, n_components, n_pca
        self.gamma_y, self.gamma_pred, self.initialise = gamma_y, gamma_pred, initialise
        self.max_iter, self.tolerance, self.random_state = max_iter, tolerance, random_state

    def fit(self, embeddings: Any, y: Any, predictions: Any) -> ErrorAwareMixture:
        """Fit to embeddings ``[n, q]``, class codes ``[n]`` and predicted codes or probabilities ``[n, c]``."""
        z, labels, guessed = self._rows(embeddings, y, predictions, None)
        if len(z) < self.n_components:
            raise InputError("embeddings", f"{len(z)} rows", f"at least {self.n_components}, the components")
        self._center = z.mean(axis=0)
        _, _, right = np.linalg.svd(z - self._center, full_matrices=False)
        self._axes = right[: self.n_pca]
        z = (z - self._center) @ self._axes.T
        shares = self._start(z, labels, guessed)
        self.objective_: list[float] = []
        for _ in range(self.max_iter):
            self._maximise(z, labels, guessed, shares)
            joint = self._log_joint(z, labels, guessed)
            total = logsumexp(joint, axis=1)
            shares = np.exp(joint - total[:, None])
            self.objective_.append(float(total.mean()))
            if len(self.objective_) > 1 and self.objective_[-1] - self.objective_[-2] < self.tolerance:
                break
        difference = np.abs(self.label_shares_ - self.prediction_shares_).max(axis=1)
        self.slices_ = np.argsort(-difference, kind="stable")[: self.n_slices]
        return self

    def predict_proba(self, embeddings: Any, y: Any, predictions: Any) -> np.ndarray:
        """Share of each row in each slice ``[n, n_slices]``; the rest belongs to other components."""
        require_fit(self, "slices_")
        z, labels, guessed = self._rows(embeddings, y, predictions, self.label_shares_.shape[1])
        joint = self._log_joint((z - self._center) @ self._axes.T, labels, guessed)
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))[:, self.slices_]

    def _rows(
        self, embeddings: Any, y: Any, predictions: Any, classes: int | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = matrix("embeddings", embeddings)
        given = np.asarray(predictions)
        if classes is None:
            classes = given.shape[1] if given.ndim == 2 else int(max(np.max(y), np.ceil(given.max()))) + 1
        codes = class_codes("y", y, classes)
        if len(codes) != len(z):
            raise InputError("embeddings and y", f"{len(z)} and {len(codes)} rows", "one row per sample in both")
        guessed = predicted_codes(given, len(z), classes)
        soft = given.astype(np.float64) if given.ndim == 2 else np.eye(classes)[guessed]
        return z, np.eye(classes)[codes], soft

    def _start(self, z: np.ndarray, labels: np.ndarray, guessed: np.ndarray) -> np.ndarray:
        draw = np.random.default_rng(self.random_state)
        if self.initialise == "kmeans":
            from sklearn.cluster import KMeans

            found = KMeans(self.n_components, n_init=1, random_state=self.random_state).fit_predict(z)
            return np.eye(self.n_components)[found]
        cells = [(a, b) for a in range(labels.shape[1]) for b in range(labels.shape[1])]
        code, guess = labels.argmax(axis=1), guessed.argmax(axis=1)
        shares = draw.uniform(0, 1, (len(z), self.n_components))
        for k in range(self.n_components):
            a, b = cells[k % len(cells)]
            shares[:, k] *= np.where((code == a) & (guess == b), 1.0, 1e-3)
        return shares / shares.sum(axis=1, keepdims=True)

    def _maximise(self, z: np.ndarray, labels: np.ndarray, guessed: np.ndarray, shares: np.ndarray) -> None:
        sizes = shares.sum(axis=0) + 1e-12
        self.weights_ = sizes / sizes.sum()
        self.means_ = shares.T @ z / sizes[:, None]
        self.variances_ = np.maximum(shares.T @ z**2 / sizes[:, None] - self.means_**2, 0) + LEAST_VARIANCE
        self.label_shares_ = shares.T @ labels / sizes[:, None]
        self.prediction_shares_ = shares.T @ guessed / sizes[:, None]

    def _log_joint(self, z: np.ndarray, labels: np.ndarray, guessed: np.ndarray) -> np.ndarray:
        precision = 1 / self.variances_
        squares = z**2 @ precision.T - 2 * z @ (self.means_ * precision).T + (self.means_**2 * precision).sum(axis=1)
        gaussian = -0.5 * (squares + np.log(2 * np.pi * self.variances_).sum(axis=1))
        with np.errstate(divide="ignore"):
            of_y = labels @ np.log(np.maximum(self.label_shares_, 1e-300)).T
            of_guess = guessed @ np.log(np.maximum(self.prediction_shares_, 1e-300)).T
        return np.log(self.weights_) + gaussian + self.gamma_y * of_y + self.gamma_pred * of_guess
