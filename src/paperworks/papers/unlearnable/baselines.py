"""Other ways to perturb a training set within the same budget: random noise, shortcuts, and adversarial examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from paperworks.classification import predict
from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.papers.unlearnable.estimator import checked_labels
from paperworks.papers.unlearnable.surrogates import MakeModel, SurrogateTraining
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import model_logits


def random_noise(X: Any, eps: float, random_state: int = 0) -> np.ndarray:
    """Samples in [0, 1] with noise of random sign and size ``eps`` on every value, clipped to [0, 1]; float32."""
    check_seed("random_state", random_state)
    images = _images(X, eps)
    signs = np.random.default_rng(random_state).choice(np.array([-1.0, 1.0], dtype=np.float32), size=images.shape)
    return np.clip(images + eps * signs, 0, 1)


def error_minimizing_noise(
    X: Any,
    y: Any,
    surrogate: MakeModel,
    *,
    eps: float,
    training: SurrogateTraining | None = None,
    rounds: int = 20,
    round_epochs: int = 1,
    ascent_steps: int = 20,
    target_error: float = 0.01,
    device: str = "auto",
    random_state: int = 0,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Shortcut noise: changes that make the training loss small, alternated with training (Huang et al. 2021).

    Each round trains one surrogate on, for ``round_epochs``, and then moves every sample by ``ascent_steps`` signed
    gradient steps of ``eps / 10`` down its loss. It ends when the surrogate errs on at most ``target_error`` of the
    changed samples.

    Parameters
    ----------
    X, y : samples in [0, 1], float ``[n, ...]``, and class codes ``[n]``.
    surrogate : function from a seed to a fresh classifier.
    eps : largest change of a value.

    Returns
    -------
    float32 ``[n, ...]`` in [0, 1].
    """
    check_seed("random_state", random_state)
    images, labels = _images(X, eps), checked_labels(y, len(X))
    how, place = training or SurrogateTraining(), resolve_device(device)
    model = surrogate(random_state)
    codes, clean = torch.from_numpy(labels).to(place), torch.from_numpy(images).to(place)
    changed = clean.clone()
    for turn in progress(range(rounds), "making error-minimising noise", rounds):
        how.train(model, changed.cpu(), labels, random_state + turn, device, round_epochs, progress)
        model.to(place)
        changed = _descend(model, clean, changed, codes, eps, eps / 10, ascent_steps)
        error = float((predict(model, {"inputs": changed.cpu()}, device=device) != labels).mean())
        if error <= target_error:
            break
    return changed.cpu().numpy()


def adversarial_poison(
    X: Any,
    y: Any,
    surrogate: MakeModel,
    *,
    eps: float,
    training: SurrogateTraining | None = None,
    steps: int = 50,
    device: str = "auto",
    random_state: int = 0,
) -> np.ndarray:
    """Targeted adversarial examples as training data: each sample is moved to the next class of a clean surrogate
    (Fowl et al. 2021), by signed gradient steps of ``eps / 10``. Arguments and result as in
    ``error_minimizing_noise``."""
    check_seed("random_state", random_state)
    images, labels = _images(X, eps), checked_labels(y, len(X))
    how, place = training or SurrogateTraining(), resolve_device(device)
    model = how.train(surrogate(random_state), images, labels, random_state, device).to(place)
    clean = torch.from_numpy(images).to(place)
    wanted = torch.from_numpy((labels + 1) % (labels.max() + 1)).to(place)
    return _descend(model, clean, clean.clone(), wanted, eps, eps / 10, steps).cpu().numpy()


def _descend(
    model: torch.nn.Module,
    clean: torch.Tensor,
    start: torch.Tensor,
    labels: torch.Tensor,
    eps: float,
    rate: float,
    steps: int,
    batch_size: int = 512,
) -> torch.Tensor:
    """Samples moved down their loss on the labels by signed gradient steps, within the budget and [0, 1]."""
    found = torch.empty_like(clean)
    with evaluation_mode(model):
        for first in range(0, len(clean), batch_size):
            part = slice(first, first + batch_size)
            low, high = (clean[part] - eps).clamp_min(0), (clean[part] + eps).clamp_max(1)
            moved = start[part].clone()
            for _ in range(steps):
                moved.requires_grad_(True)
                loss = torch.nn.functional.cross_entropy(
                    model_logits(model, {"inputs": moved}), labels[part], reduction="sum"
                )
                (slope,) = torch.autograd.grad(loss, moved)
                moved = torch.minimum(torch.maximum(moved.detach() - rate * slope.sign(), low), high)
            found[part] = moved
    return found


def _images(X: Any, eps: float) -> np.ndarray:
    images = np.asarray(X, dtype=np.float32)
    if not (0 < eps <= 1):
        raise InputError("eps", eps, "a number above 0, up to 1")
    if images.ndim < 2 or not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        raise InputError("X", f"shape {images.shape}", "finite samples [n, ...] in [0, 1]")
    return images
