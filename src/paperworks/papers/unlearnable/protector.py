"""Raise the Bayes error of a training set by bounded changes of its samples: projected gradient ascent, all jointly.

X' <- X
repeat `steps` times:
    a fresh surrogate is trained on (X', y)
    z = its penultimate features of X'           estimator: b(z, y) and db/dz
    db/dX' by back-propagation, batch by batch   AdamW ascends one step
    X' <- X' projected into the budget around X, and into the range of values
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from paperworks.classification import predict
from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.unlearnable.budgets import Norm, checked_eps, checked_norm, project, quantise
from paperworks.papers.unlearnable.estimator import BayesErrorEstimator, checked_labels
from paperworks.papers.unlearnable.surrogates import (
    MakeModel,
    SurrogateTraining,
    default_surrogate,
    embed,
    pixel_gradient,
)
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training.checkpoints import load_training_state, read_checkpoint, training_state, write_checkpoint


@dataclass
class BEOProtector(BaseEstimator):  # type: ignore[misc]
    """Unlearnable examples by Bayes error optimisation (arXiv 2511.08191).

    Parameters
    ----------
    surrogate : function from a seed to a fresh classifier; None chooses one by the samples' shape. With ``retrain`` off
        it is called once, and what it returns is used as it is (a feature extractor that is trained already).
    eps : largest change, in units of the values (float input) or of 1 (uint8 input); for norm "inf" also one per
        feature, 0 for those that must stay as they are (categorical columns).
    norm : "inf", "2" or "1"; numbers are taken too.
    steps : steps of ascent. A value moves by about ``lr`` a step: fewer than ``1.5 eps / lr`` do not use the budget.
    lr : learning rate of AdamW on the values; None is ``eps / 15``. The released code has 1e-3 at eps = 8/255.
    weight_decay : of AdamW on the values. The released code leaves PyTorch's 0.01, which draws every image to black.
    training : how surrogates are trained.
    retrain : train a surrogate in every step. Off: see ``surrogate``.
    fresh_every : a fresh surrogate every so many steps (1 is the paper's). In between, the last one is trained on for
        ``warm_epochs``: much cheaper, and a departure from the paper.
    warm_epochs : see ``fresh_every``.
    estimator : of the Bayes error.
    feature_range : least and greatest value; (0, 1) for images. For uint8 input the range is that of the type.
    device : of PyTorch, or "auto".
    random_state : seed of surrogates and of their training.

    Attributes
    ----------
    protected_ : the changed samples, of the input's type and shape.
    perturbation_ : the change, float32; for uint8 input in units of 1.
    history_ : for each step: Bayes error before the step, accuracy of the surrogate on the data that it was trained on,
        largest change so far.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((40, 6)).astype("float32")
    >>> y = np.arange(40) % 2
    >>> protector = BEOProtector(eps=0.2, steps=2, training=SurrogateTraining(epochs=1))
    >>> protector.fit_transform(X, y).shape
    (40, 6)
    """

    surrogate: MakeModel | None = None
    eps: Any = 8 / 255
    norm: Norm | float = "inf"
    steps: int = 100
    lr: float | None = None
    weight_decay: float = 0.0
    training: SurrogateTraining = field(default_factory=SurrogateTraining)
    retrain: bool = True
    fresh_every: int = 1
    warm_epochs: int = 3
    estimator: BayesErrorEstimator = field(default_factory=BayesErrorEstimator)
    feature_range: tuple[float, float] = (0.0, 1.0)
    device: str = "auto"
    random_state: int = 0

    protected_: np.ndarray = field(init=False, repr=False)
    perturbation_: np.ndarray = field(init=False, repr=False)
    history_: list[dict[str, float]] = field(init=False, repr=False)

    def fit(self, X: Any, y: Any, *, checkpoint: Path | None = None, progress: Progress = no_progress) -> BEOProtector:
        """Change the samples; the result is in ``protected_``.

        Parameters
        ----------
        X : samples ``[n, ...]``: float32 or float64 in ``feature_range``, or uint8.
        y : class codes ``[n]``, 0 to C-1, two samples or more of each.
        checkpoint : file in which every step is kept; fitting goes on from there.
        progress : as in ``paperworks.runs``.

        Raises
        ------
        InputError : values outside the range or not finite, other types, labels that do not fit, an option out of
            bounds, a checkpoint of other data or options.
        """
        check_seed("random_state", self.random_state)
        given = X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else np.asarray(X)
        values, labels = self._values(given), checked_labels(y, len(given))
        norm = checked_norm(self.norm)
        eps = self._budget(given, norm)
        lr = self._rate(eps, norm)
        device = resolve_device(self.device)
        make = self._maker(values.shape[1:], int(labels.max()) + 1)
        state = _State.start(values, device, lr, self.weight_decay)
        identity = self._identity(given, labels, lr, make)
        if checkpoint is not None and checkpoint.is_file():
            state.load(checkpoint, identity, self.steps)
        limits = self._limits(given)
        model = None if self.retrain else make(self.random_state).to(device)
        for step in progress(range(state.step, self.steps), "raising the Bayes error", self.steps - state.step):
            model = self._surrogate(model, make, state, labels, step, progress)
            self._ascend(model, state, labels, eps, norm, limits)
            if checkpoint is not None:
                state.save(checkpoint, identity, model if self.fresh_every > 1 else None)
        self._finish(given, state)
        return self

    def fit_transform(
        self, X: Any, y: Any, *, checkpoint: Path | None = None, progress: Progress = no_progress
    ) -> np.ndarray:
        """``fit``, and the protected samples: same type and shape as ``X``."""
        return self.fit(X, y, checkpoint=checkpoint, progress=progress).protected_

    def save(self, folder: str | Path) -> None:
        """Write ``perturbation.safetensors`` (protected samples and change) and ``protector.json`` to a new folder."""
        from safetensors.numpy import save_file

        self._require_fitted()
        with new_folder(Path(folder)) as aside:
            arrays = {"protected": self.protected_, "perturbation": self.perturbation_}
            contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
            save_file(contiguous, aside / "perturbation.safetensors")
            content = {"options": self._options(), "history": self.history_}
            (aside / "protector.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    def load(self, folder: str | Path) -> BEOProtector:
        """Read the result that ``save`` wrote; the options of this protector stay as they are. Returns self."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        try:
            content = json.loads((folder / "protector.json").read_text(encoding="utf-8"))
            arrays = load_file(folder / "perturbation.safetensors")
            self.protected_, self.perturbation_ = arrays["protected"], arrays["perturbation"]
            self.history_ = content["history"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError("folder", f"{folder} ({error})", "a folder that save wrote") from None
        return self

    def _values(self, X: np.ndarray) -> np.ndarray:
        if X.ndim < 2 or len(X) < 3:
            raise InputError("X", f"shape {X.shape}", "three samples [n, ...] or more")
        if X.dtype == np.uint8:
            return X.astype(np.float32) / 255
        if X.dtype not in (np.float32, np.float64):
            raise InputError("X", f"values of type {X.dtype}", "float32, float64 or uint8")
        if not np.isfinite(X).all():
            raise InputError("X", "NaN or infinite values", "finite values")
        low, high = self._range()
        if X.min() < low or X.max() > high:
            found = f"values from {X.min():g} to {X.max():g}"
            raise InputError("X", found, f"values from {low:g} to {high:g} (feature_range), or uint8")
        return X.astype(np.float32)

    def _range(self) -> tuple[float, float]:
        try:
            low, high = (float(end) for end in self.feature_range)
        except (TypeError, ValueError):
            raise InputError("feature_range", self.feature_range, "a least and a greater value") from None
        if not low < high:
            raise InputError("feature_range", self.feature_range, "a least and a greater value")
        return low, high

    def _budget(self, X: np.ndarray, norm: Norm) -> float | np.ndarray:
        """The budget, refused where it could change nothing, or everything."""
        eps = checked_eps(self.eps, norm, X.shape[1:])
        if norm != "inf":
            return eps
        low, high = self._limits(X)
        largest = float(np.max(eps))
        if largest > high - low:
            expected = f"at most {high - low:g}, the whole range of the values (8 of 255 steps are 0.0314)"
            raise InputError("eps", f"{largest:g}", expected)
        if X.dtype == np.uint8 and largest * 255 < 1 - 1e-6:
            raise InputError("eps", f"{largest:g}", "at least 1/255, one step of the depth of the images")
        return eps

    def _maker(self, shape: tuple[int, ...], classes: int) -> MakeModel:
        if self.surrogate is None and not self.retrain:
            raise InputError("surrogate", "none, without retraining", "a function that returns a trained classifier")
        return self.surrogate or default_surrogate(shape, classes)

    def _rate(self, eps: float | np.ndarray, norm: Norm) -> float:
        for name, least in (("steps", 1), ("fresh_every", 1), ("warm_epochs", 1), ("weight_decay", 0)):
            if getattr(self, name) < least:
                raise InputError(name, getattr(self, name), f"{least} or more")
        largest = float(np.max(eps))
        lr = largest / 15 if self.lr is None else self.lr
        if not (0 < lr < float("inf")):
            raise InputError("lr", lr, "a positive number")
        if norm == "inf" and self.steps * lr < largest:
            warnings.warn(
                f"{self.steps} steps of {lr:g} cannot use the budget of {largest:g}: take at least "
                f"{int(np.ceil(1.5 * largest / lr - 1e-9))} steps",
                stacklevel=3,
            )
        return lr

    def _limits(self, X: np.ndarray) -> tuple[float, float]:
        return (0.0, 1.0) if X.dtype == np.uint8 else self._range()

    def _surrogate(
        self,
        last: torch.nn.Module | None,
        make: MakeModel,
        state: _State,
        labels: np.ndarray,
        step: int,
        progress: Progress,
    ) -> torch.nn.Module:
        """The classifier of a step: the given one, a fresh one, or the last one trained on."""
        if not self.retrain:
            assert last is not None
            return last
        seed, device = self.random_state + 1_000 * step + 1, state.images.device
        images = state.images.detach()
        if step % self.fresh_every == 0:
            return self.training.train(make(seed), images, labels, seed, self.device, progress=progress).to(device)
        if last is None:  # after an interruption
            last = make(seed)
            load_training_state(last, state.surrogate, "the checkpoint")
        return self.training.train(last, images, labels, seed, self.device, self.warm_epochs, progress).to(device)

    def _ascend(
        self,
        model: torch.nn.Module,
        state: _State,
        labels: np.ndarray,
        eps: float | np.ndarray,
        norm: Norm,
        limits: tuple[float, float],
    ) -> None:
        features = embed(model, state.images)
        if not bool(torch.isfinite(features).all()):
            found = f"{self.training.learning_rate:g}, with which the features of a surrogate are no longer finite"
            raise InputError("training_lr", found, "a smaller learning rate of the surrogates' training")
        value, slope = self.estimator.score_and_gradient(features, labels)
        gradient = pixel_gradient(model, state.images, torch.from_numpy(slope).to(features))
        right = predict(model, {"inputs": state.images.cpu()}, device=self.device) == labels
        state.ascend(gradient)
        with torch.no_grad():
            limit = eps if isinstance(eps, float) else torch.from_numpy(eps).to(state.images)
            delta = project(state.images - state.original, limit, norm)
            state.images.copy_((state.original + delta).clamp_(*limits))
            change = float((state.images - state.original).abs().max())
        state.history.append({"bayes_error": value, "surrogate_accuracy": float(right.mean()), "linf": change})
        state.step += 1

    def _finish(self, X: np.ndarray, state: _State) -> None:
        found = state.images.detach().cpu().numpy()
        if X.dtype == np.uint8:
            self.protected_ = quantise(X, found)
            self.perturbation_ = (self.protected_.astype(np.float32) - X) / 255
        else:
            change = found - state.original.cpu().numpy()
            self.perturbation_ = change
            low, high = self._range()
            self.protected_ = np.clip(X + change.astype(X.dtype), low, high).astype(X.dtype)
        self.history_ = state.history

    def _options(self) -> dict[str, Any]:
        eps = np.asarray(self.eps).tolist()
        return {
            "eps": eps,
            "norm": self.norm,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "training": repr(self.training),
            "retrain": self.retrain,
            "fresh_every": self.fresh_every,
            "warm_epochs": self.warm_epochs,
            "estimator": repr(self.estimator),
            "feature_range": list(self.feature_range),
            "random_state": self.random_state,
        }

    def _identity(self, X: np.ndarray, labels: np.ndarray, lr: float, make: MakeModel) -> str:
        """What a checkpoint belongs to: the data, a surrogate's weights, and all options but the number of steps."""
        digest = hashlib.sha256(json.dumps([self._options(), lr, X.shape, str(X.dtype)]).encode())
        digest.update(np.ascontiguousarray(X).tobytes())
        digest.update(labels.tobytes())
        for name, tensor in make(self.random_state).state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()

    def _require_fitted(self) -> None:
        if not hasattr(self, "protected_"):
            raise InputError("protector", "one that is not fitted", "fit first")


@dataclass
class _State:
    """What a step changes."""

    original: torch.Tensor
    images: torch.Tensor
    optimizer: torch.optim.AdamW
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    surrogate: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, values: np.ndarray, device: torch.device, lr: float, weight_decay: float) -> _State:
        original = torch.from_numpy(values).to(device)
        images = original.clone().requires_grad_(True)
        return cls(original, images, torch.optim.AdamW([images], lr=lr, weight_decay=weight_decay, maximize=True))

    def ascend(self, gradient: torch.Tensor) -> None:
        self.images.grad = gradient
        self.optimizer.step()
        self.images.grad = None

    def save(self, path: Path, identity: str, surrogate: torch.nn.Module | None) -> None:
        content: Mapping[str, Any] = {
            "identity": identity,
            "step": self.step,
            "images": self.images.detach().cpu(),
            "optimizer": self.optimizer.state_dict()["state"],
            "history": self.history,
            "surrogate": {} if surrogate is None else training_state(surrogate),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, content)

    def load(self, path: Path, identity: str, steps: int) -> None:
        found = read_checkpoint(path)
        if found.get("identity") == identity and found["step"] > steps:
            raise InputError(
                "checkpoint", f"{path}, of {found['step']} steps", f"one of at most {steps}, or a new file"
            )
        if found.get("identity") != identity:
            raise InputError("checkpoint", f"{path}, of other data or options", "the same, or a new file")
        with torch.no_grad():
            self.images.copy_(found["images"].to(self.images.device))
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": found["optimizer"], "param_groups": groups})
        self.step, self.history, self.surrogate = found["step"], found["history"], found["surrogate"]
