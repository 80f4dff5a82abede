"""Where the network looked: class-activation maps of the last stage, and whether they point at the lesion (LROC)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.runs import Progress, no_progress

Method = Literal["grad-cam", "grad-cam++", "layer-cam", "eigen-cam", "score-cam"]
METHODS = ("grad-cam", "grad-cam++", "layer-cam", "eigen-cam", "score-cam")
RADIUS, OF_PIXELS = 20.0, 224
COVERED = 0.5
_SCORE_MAPS = 64


def class_activation_maps(
    network: nn.Module,
    inputs: Tensor,
    method: Method = "grad-cam",
    *,
    layer: nn.Module | None = None,
    batch_size: int = 64,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Maps of what raises the logit of a lesion, float32 ``[n, H, W]`` in [0, 1], of the size of the input.

    Parameters
    ----------
    network : ``inputs [n, C, H, W]`` to logits ``[n]``.
    method : ``grad-cam`` (Selvaraju et al. 2017), ``grad-cam++`` (Chattopadhay et al. 2018), ``layer-cam`` (Jiang et
        al. 2021), ``eigen-cam`` (Muhammad and Yeasin 2020; no gradient), ``score-cam`` (Wang et al. 2020; one forward
        pass for each channel, of which the 64 with the largest activation are taken).
    layer : the module whose output is read; default the last block of the last stage.

    Each map is scaled by its own maximum; one without a positive value is 0 everywhere.
    """
    if method not in METHODS:
        raise InputError("cam", repr(method), f"one of {', '.join(METHODS)}")
    where: Any = network.last_stage if layer is None else layer
    device = next(network.parameters()).device
    starts = range(0, len(inputs), batch_size)
    maps = []
    with evaluation_mode(network):
        for start in progress(starts, "class-activation maps", len(starts)):
            part = inputs[start : start + batch_size].to(device)
            maps.append(_maps(network, part, method, where).cpu())
    if not maps:
        return np.zeros((0, *inputs.shape[2:]), dtype=np.float32)
    return torch.cat(maps).numpy().astype(np.float32)


def _maps(network: nn.Module, inputs: Tensor, method: str, layer: nn.Module) -> Tensor:
    held: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, given, output: held.append(output))
    needs_gradient = method in ("grad-cam", "grad-cam++", "layer-cam")
    try:
        with torch.set_grad_enabled(needs_gradient):
            # the maps' gradient needs a graph even where no weight is trained
            logits = network(inputs.detach().requires_grad_(needs_gradient))
            activation = held[0]
            gradient = torch.autograd.grad(logits.sum(), activation)[0] if needs_gradient else None
    finally:
        hook.remove()
    activation = activation.detach()
    if gradient is not None:
        found = _weighted(activation, gradient, method)
    elif method == "eigen-cam":
        found = _eigen(activation)
    else:
        with torch.no_grad():
            found = _scored(network, inputs, activation)
    return _scaled(nn.functional.interpolate(found[:, None], inputs.shape[2:], mode="bilinear")[:, 0].relu())


def _weighted(activation: Tensor, gradient: Tensor, method: str) -> Tensor:
    if method == "layer-cam":
        return (gradient.relu() * activation).sum(1)
    if method == "grad-cam":
        weights = gradient.mean((2, 3), keepdim=True)
    else:
        # for the exponential of the logit as score; its powers of the gradient cancel to these
        square, cube = gradient**2, gradient**3
        below = 2 * square + activation.sum((2, 3), keepdim=True) * cube
        alpha = square / torch.where(below != 0, below, torch.ones_like(below))
        weights = (alpha * gradient.relu()).sum((2, 3), keepdim=True)
    return (weights * activation).sum(1)


def _eigen(activation: Tensor) -> Tensor:
    """The first principal component of the activations of each slice, with the sign that makes most of it positive."""
    n, _, height, width = activation.shape
    points = activation.flatten(2).transpose(1, 2)
    points = points - points.mean(1, keepdim=True)
    _, _, right = torch.linalg.svd(points, full_matrices=False)
    found = (points @ right[:, :1].transpose(1, 2))[..., 0]
    mean = activation.mean(1).flatten(1)
    sign = torch.sign((found * (mean - mean.mean(1, keepdim=True))).sum(1, keepdim=True))
    return (found * torch.where(sign == 0, torch.ones_like(sign), sign)).reshape(n, height, width)


def _scored(network: nn.Module, inputs: Tensor, activation: Tensor) -> Tensor:
    """Channels weighted by the logit of the slice seen through them, less that of an empty slice."""
    n, channels = activation.shape[:2]
    kept = min(channels, _SCORE_MAPS)
    chosen = activation.mean((2, 3)).topk(kept, dim=1).indices
    picked = torch.gather(activation, 1, chosen[:, :, None, None].expand(-1, -1, *activation.shape[2:]))
    masks = nn.functional.interpolate(picked, inputs.shape[2:], mode="bilinear")
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    masks = (masks - low) / (high - low).clamp_min(1e-8)
    empty = network(torch.zeros_like(inputs))
    scores = torch.stack([network(inputs * masks[:, k : k + 1]) - empty for k in range(kept)], 1)
    return (scores.softmax(1)[:, :, None, None] * picked).sum(1).reshape(n, *activation.shape[2:])


def _scaled(maps: Tensor) -> Tensor:
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-12)


def centre_of_mass(maps: np.ndarray) -> np.ndarray:
    """The centre of each map in pixels, float64 ``[n, 2]`` (row, column); NaN for a map that is 0."""
    rows, columns = np.arange(maps.shape[1]), np.arange(maps.shape[2])
    total = maps.sum((1, 2)).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([(maps.sum(2) * rows).sum(1) / total, (maps.sum(1) * columns).sum(1) / total], 1)


def correctly_localised(
    maps: np.ndarray, masks: np.ndarray, *, radius: float | None = None, covered: float = COVERED
) -> np.ndarray:
    """Whether a disc around each map's centre of mass covers enough of the lesion pixels, bool ``[n]``.

    Parameters
    ----------
    maps, masks : ``[n, H, W]``. radius : pixels; default 20 for images of 224, and in proportion for others.
    covered : share of the lesion pixels. Slices without lesion pixels are never localised.
    """
    r = RADIUS * maps.shape[2] / OF_PIXELS if radius is None else radius
    centre = centre_of_mass(maps)
    rows, columns = np.arange(maps.shape[1])[None, :, None], np.arange(maps.shape[2])[None, None, :]
    with np.errstate(invalid="ignore"):
        inside = (rows - centre[:, :1, None]) ** 2 + (columns - centre[:, 1:, None]) ** 2 <= r**2
    lesion = masks.astype(bool)
    total = lesion.sum((1, 2))
    share = (inside & lesion).sum((1, 2)) / np.maximum(total, 1)
    return (total > 0) & (share >= covered)


def lroc_curve(
    labels: np.ndarray, probabilities: np.ndarray, localised: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """False positive rate, rate of positive slices that are marked and localised, and the area under this curve.

    The area is at most the share of positive slices that are localised at all, and the AUROC if all are.

    Raises InputError for slices of one class.
    """
    y = np.asarray(labels).astype(bool)
    if y.all() or not y.any():
        raise InputError("labels", "slices of one class", "positive and negative slices")
    order = np.argsort(-np.asarray(probabilities), kind="stable")
    ordered = np.asarray(probabilities)[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    false = np.concatenate([[0.0], np.cumsum(~y[order])[last] / (~y).sum()])
    right = np.concatenate([[0.0], np.cumsum((y & np.asarray(localised))[order])[last] / y.sum()])
    area = float((np.diff(false) * (right[1:] + right[:-1]) / 2).sum())
    return false, right, area


def montage_rows(probabilities: np.ndarray, labels: np.ndarray, n: int = 4) -> list[tuple[str, int]]:
    """Slices to look at: the surest hits, the worst misses, the worst false alarms, as (kind, row)."""
    order = np.argsort(-np.asarray(probabilities), kind="stable")
    positive = order[np.asarray(labels)[order] == 1]
    negative = order[np.asarray(labels)[order] != 1]
    picks: list[tuple[str, Callable[[], np.ndarray]]] = [
        ("lesion, surest", lambda: positive[:n]),
        ("lesion, least sure", lambda: positive[::-1][:n]),
        ("no lesion, surest of one", lambda: negative[:n]),
    ]
    return [(kind, int(row)) for kind, rows in picks for row in rows()]
