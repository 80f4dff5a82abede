"""Linear heads: what a classifier's last layer computes, and its retraining on chosen rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from paperworks.errors import InputError
from paperworks.papers.ladder.checks import matrix
from paperworks.runs import Progress, no_progress

Optimizer = Literal["lbfgs", "sgd", "adamw"]
Loss = Literal["ce", "bce"]


@dataclass(frozen=True)
class LinearHead:
    """``logits = features W^T + b``.

    Attributes
    ----------
    weight : W ``[o, p]``; o is the number of classes, or 1 for two classes with one logit (above 0: class 1).
    bias : b ``[o]``.
    """

    weight: np.ndarray
    bias: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes."""
        return max(len(self.bias), 2)

    def logits(self, features: Any) -> np.ndarray:
        """float64 ``[n, o]``."""
        x = matrix("features", features)
        if x.shape[1] != self.weight.shape[1]:
            raise InputError(
                "features and head", f"{x.shape[1]} and {self.weight.shape[1]} columns", "the same features"
            )
        return x @ self.weight.T + self.bias


def probabilities(logits: np.ndarray) -> np.ndarray:
    """``[n, c]`` from logits ``[n, o]``: softmax, or the logistic function of one logit."""
    if logits.shape[1] == 1:
        one = expit(logits)
        return np.concatenate([1 - one, one], axis=1)
    return softmax(logits, axis=1)


def as_head(head: Any) -> LinearHead:
    """A head from (weight, bias), an ``nn.Linear``, or a linear classifier of scikit-learn with ``coef_``."""
    if isinstance(head, LinearHead):
        return head
    if hasattr(head, "coef_") and hasattr(head, "intercept_"):
        weight, bias = head.coef_, head.intercept_
    elif hasattr(head, "weight") and hasattr(head, "in_features"):
        weight, bias = head.weight, head.bias
    elif isinstance(head, (tuple, list)) and len(head) == 2:
        weight, bias = head
    else:
        raise InputError("head", type(head).__name__, "(weight, bias), an nn.Linear, or a linear classifier")
    w = matrix("head weight", weight)
    if bias is None:
        bias = np.zeros(len(w))
    b = np.asarray(bias.detach().cpu().numpy() if hasattr(bias, "detach") else bias, np.float64).reshape(-1)
    if len(b) != len(w) or not np.isfinite(b).all():
        raise InputError("head bias", f"{len(b)} values for {len(w)} outputs", "a finite value for each output")
    return LinearHead(w, b)


def distilled_head(features: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[LinearHead, float]:
    """A linear head that repeats the classifier's predictions on features, and the share on which it agrees."""
    start = LinearHead(np.zeros((classes, features.shape[1])), np.zeros(classes))
    found = train_head(start, features, predicted, weight_decay=1e-4)
    return found, float((found.logits(features).argmax(axis=1) == predicted).mean())


def train_head(
    head: LinearHead,
    features: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: Optimizer = "lbfgs",
    epochs: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    batch_size: int | None = None,
    loss: Loss = "ce",
    sample_weight: np.ndarray | None = None,
    random_state: int = 0,
    progress: Progress = no_progress,
) -> LinearHead:
    """Train on from a head; with 0 epochs it is returned as it is.

    Parameters
    ----------
    features, y : rows ``[n, p]`` and class codes ``[n]``.
    optimizer : "lbfgs" goes to the optimum of the mean loss plus ``weight_decay / 2`` times the squared weights of
        standardised features, as last-layer retraining usually does; "sgd" (without momentum) and "adamw" take
        ``epochs`` passes from the trained head, as the paper does.
    epochs : passes; with L-BFGS iterations at most. Default 9, with L-BFGS 300.
    lr, batch_size : of SGD and AdamW; default 0.001 and 32.
    weight_decay : default 1e-4, with L-BFGS 1/n.
    loss : "ce", or "bce": each output against its class, or one output against class 1. A head with one output has
        "bce" in any case.
    sample_weight : ``[n]``, with L-BFGS only.
    """
    if optimizer not in ("lbfgs", "sgd", "adamw"):
        raise InputError("optimizer", repr(optimizer), "lbfgs, sgd or adamw")
    if loss not in ("ce", "bce"):
        raise InputError("loss", repr(loss), "ce or bce")
    for name, value in (("lr", lr), ("batch_size", batch_size)):
        if value is not None and optimizer == "lbfgs":
            raise InputError(name, value, "optimizer sgd or adamw: lbfgs takes all rows at once, without a rate")
    if epochs is not None and epochs < 0:
        raise InputError("epochs", epochs, "0 or more")
    if epochs == 0:
        return head
    one = len(head.bias) == 1
    targets = (y == 1).astype(np.float64)[:, None] if one else np.eye(len(head.bias))[y]
    if optimizer == "lbfgs":
        penalty = 1 / len(y) if weight_decay is None else weight_decay
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        return _converged(
            head, features, targets, weights / weights.sum(), penalty, epochs or 300, one or loss == "bce"
        )
    if sample_weight is not None:
        raise InputError("sample_weight", f"with {optimizer}", "optimizer lbfgs")
    import torch

    from paperworks.training import TrainSettings, binary_cross_entropy_loss, cross_entropy_loss, train

    layer = torch.nn.Linear(features.shape[1], len(head.bias))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))
    settings = TrainSettings(
        epochs=epochs or 9,
        batch_size=min(batch_size or 32, len(y)),
        optimizer=optimizer,
        learning_rate=1e-3 if lr is None else lr,
        betas=(0.9, 0.999),
        momentum=0.0,
        weight_decay=1e-4 if weight_decay is None else weight_decay,
        clip_norm=0.0,
        schedule="constant",
        device="cpu",
        seed=random_state,
    )
    binary = one or loss == "bce"
    labels = torch.from_numpy(targets.astype(np.float32)) if binary else torch.from_numpy(y.astype(np.int64))
    rows = {"inputs": torch.from_numpy(features.astype(np.float32)), "labels": labels}
    objective = binary_cross_entropy_loss() if binary else cross_entropy_loss()
    train(layer, rows, settings, loss=objective, progress=progress)
    return LinearHead(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())


def _converged(
    head: LinearHead,
    features: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    penalty: float,
    iterations: int,
    binary: bool,
) -> LinearHead:
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-12 * np.abs(features).max(initial=1e-300), scale, np.inf)  # constant: no weight
    x = (features - centre) / scale
    outputs, columns = head.weight.shape
    finite = np.where(np.isfinite(scale), scale, 0.0)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = flat[: outputs * columns].reshape(outputs, columns), flat[outputs * columns :]
        z = x @ w.T + b
        if binary:
            losses = (np.logaddexp(0, z) - targets * z).sum(axis=1) / outputs
            slope = (expit(z) - targets) / outputs
        else:
            log_p = log_softmax(z, axis=1)
            losses = -(targets * log_p).sum(axis=1)
            slope = np.exp(log_p) - targets
        slope = slope * weights[:, None]
        gradient = np.concatenate([(slope.T @ x + penalty * w).ravel(), slope.sum(axis=0)])
        return float(weights @ losses + penalty / 2 * (w**2).sum()), gradient

    start = np.concatenate([(head.weight * finite).ravel(), head.bias + head.weight @ centre])
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "ftol": 1e-12, "gtol": 1e-7}
    ).x
    w, b = found[: outputs * columns].reshape(outputs, columns) / scale, found[outputs * columns :]
    return LinearHead(w, b - w @ centre)
