"""Perturbation budgets: projections onto norm balls, rounding that keeps them, and how visible a change is."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch

from paperworks.errors import InputError

Norm = Literal["inf", "2", "1"]
NORMS: tuple[Norm, ...] = ("inf", "2", "1")


def project(delta: torch.Tensor, eps: float | torch.Tensor, norm: Norm = "inf") -> torch.Tensor:
    """The nearest change within the budget.

    Parameters
    ----------
    delta : changes ``[n, ...]``, one per sample.
    eps : radius, 0 or more; for "inf" also one radius per feature, broadcast to ``delta[0]``.
    norm : "inf" (every value), "2" or "1" (over all values of a sample).
    """
    if norm == "inf":
        limit = torch.as_tensor(eps, dtype=delta.dtype, device=delta.device)
        return torch.maximum(torch.minimum(delta, limit), -limit)
    flat = delta.flatten(1)
    if norm == "2":
        size = flat.norm(dim=1, keepdim=True)
        return (flat * (eps / size.clamp_min(1e-30)).clamp_max(1)).view_as(delta)
    if norm == "1":
        return _onto_l1_ball(flat, float(eps)).view_as(delta)
    raise InputError("norm", repr(norm), f"one of {', '.join(NORMS)}")


def _onto_l1_ball(flat: torch.Tensor, radius: float) -> torch.Tensor:
    """Soft thresholding by the level at which the absolute values sum to the radius (Duchi et al. 2008)."""
    size = flat.abs()
    outside = size.sum(1) > radius
    if not bool(outside.any()) or flat.shape[1] == 0:
        return flat
    ordered = size.sort(dim=1, descending=True).values
    sums = ordered.cumsum(1) - radius
    counts = torch.arange(1, flat.shape[1] + 1, dtype=flat.dtype, device=flat.device)
    kept = (ordered * counts > sums).sum(1, keepdim=True).clamp_min(1)
    level = sums.gather(1, kept - 1) / kept
    shrunk = flat.sign() * (size - level.clamp_min(0)).clamp_min(0)
    return torch.where(outside[:, None], shrunk, flat)


def quantise(original: np.ndarray, perturbed: np.ndarray) -> np.ndarray:
    """Perturbed images in whole steps of 1/255, each value rounded towards the original, so that no budget is passed.

    Parameters
    ----------
    original : uint8 ``[n, ...]``.
    perturbed : float ``[n, ...]`` in [0, 1], a change of ``original / 255``.

    Returns
    -------
    uint8 of the same shape.
    """
    if original.dtype != np.uint8 or original.shape != perturbed.shape:
        raise InputError("original", f"{original.dtype} of shape {original.shape}", f"uint8 of shape {perturbed.shape}")
    start = original.astype(np.float64)
    # 1e-4 of a step: float32 values stand for 1/255 steps up to that
    change = np.asarray(perturbed, dtype=np.float64) * 255 - start
    whole = np.trunc(change + np.sign(change) * 1e-4)
    return np.clip(start + whole, 0, 255).astype(np.uint8)


def visibility(original: np.ndarray, perturbed: np.ndarray) -> dict[str, float]:
    """How far images are from their originals.

    Parameters
    ----------
    original, perturbed : float ``[n, c, h, w]`` in [0, 1].

    Returns
    -------
    dict of ``linf`` (largest change of a value), ``l2`` (mean over images of the norm of the change), ``psnr`` (dB, of
    the mean squared change of the set; infinite for none) and ``ssim`` (mean structural similarity, Wang et al. 2004,
    uniform windows of 7 pixels or the image's side; 1 for none).
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (original, perturbed))
    if a.shape != b.shape or a.ndim != 4:
        raise InputError("perturbed", f"shape {b.shape}", f"images [n, c, h, w] like the originals {a.shape}")
    change = b - a
    error = float((change**2).mean())
    return {
        "linf": float(np.abs(change).max(initial=0)),
        "l2": float(np.sqrt((change.reshape(len(a), -1) ** 2).sum(1)).mean()),
        "psnr": float("inf") if error == 0 else float(-10 * np.log10(error)),
        "ssim": structural_similarity(a, b),
    }


def structural_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Mean SSIM of images ``[n, c, h, w]`` in [0, 1]; over the places where the window lies within the image."""
    from scipy.ndimage import uniform_filter

    side = min(7, a.shape[2], a.shape[3])
    side -= 1 - side % 2
    window, edge = (1, 1, side, side), side // 2
    count = side * side
    unbiased = count / max(count - 1, 1)

    def mean(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x, window)[:, :, edge : x.shape[2] - edge, edge : x.shape[3] - edge]

    mean_a, mean_b = mean(a), mean(b)
    var_a = unbiased * (mean(a * a) - mean_a**2)
    var_b = unbiased * (mean(b * b) - mean_b**2)
    both = unbiased * (mean(a * b) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(value.mean())


def checked_norm(norm: Any) -> Norm:
    """The norm by its name; 1, 2 and infinity as numbers are taken too. Raises InputError for another."""
    if isinstance(norm, (int, float)) and not isinstance(norm, bool):
        named = {1.0: "1", 2.0: "2", float("inf"): "inf"}.get(float(norm))
        norm = named if named is not None else norm
    if norm not in NORMS:
        raise InputError("norm", repr(norm), f"one of {', '.join(NORMS)}")
    return cast(Norm, norm)


def checked_eps(eps: Any, norm: Norm, shape: tuple[int, ...]) -> float | np.ndarray:
    """The budget as a number, or as float32 broadcast to ``shape`` (norm "inf" only).

    Raises InputError for negative, infinite or NaN budgets, and for one of another shape.
    """
    try:
        values = np.asarray(eps, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("eps", repr(eps), "a number, or one for each feature") from None
    if not np.isfinite(values).all() or (values < 0).any() or not (values > 0).any():
        raise InputError("eps", eps, "0 or more for every feature, and more than 0 for some")
    if values.ndim == 0:
        return float(values)
    if norm != "inf":
        raise InputError("eps", f"shape {values.shape} with norm {norm}", "one number")
    try:
        return np.broadcast_to(values, shape).astype(np.float32)
    except ValueError:
        raise InputError("eps", f"shape {values.shape}", f"one number, or a shape that fits {shape}") from None
