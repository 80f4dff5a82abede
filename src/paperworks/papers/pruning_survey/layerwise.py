"""Layer-wise second order: Grams of what layers read, Wanda, optimal brain surgeon, SparseGPT.

A layer is a matrix ``W [out, d]`` (convolutions as matrices over patches, grouped ones group by group) and the Gram
``H = X'X [d, d]`` of what it reads. Removing weights changes its output on the calibration set by
``sum over rows (w - w') H (w - w')'``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.pruning_survey.masks import Masks, WeightScores, n_of_m, top
from paperworks.pruning.unit_activations import patches
from paperworks.training import model_logits

DAMPING = 0.01
"""Of the mean of the diagonal."""
BLOCK = 128
Grams = dict[str, torch.Tensor]
"""float64 [groups, d, d] by the weight's name."""


def input_grams(
    model: nn.Module, weights: Mapping[str, nn.Parameter], batches: Iterable[Mapping[str, torch.Tensor]]
) -> Grams:
    """``X'X`` of what every layer reads, from forward passes of the whole model; padded tokens are left out.

    ``batches`` : ``{"inputs": [n, ...]}``, or keywords of the model such as ``input_ids`` with ``attention_mask``.
    """
    grams: Grams = {}
    mask: list[torch.Tensor | None] = [None]
    handles: list[Any] = []
    for name in weights:
        module = model.get_submodule(name.rpartition(".")[0])

        def hook(module: nn.Module, args: Any, name: str = name) -> None:
            gram = _gram(module, args[0].detach(), mask[0])
            grams[name] = grams[name] + gram if name in grams else gram

        handles.append(module.register_forward_pre_hook(hook))
    place = next(model.parameters()).device
    try:
        with evaluation_mode(model), torch.no_grad():
            for batch in batches:
                for start in range(0, len(next(iter(batch.values()))), 64):
                    part = {key: value[start : start + 64].to(place) for key, value in batch.items()}
                    mask[0] = part.get("attention_mask")
                    _forward(model, part)
    finally:
        for handle in handles:
            handle.remove()
    unread = [name for name in weights if name not in grams]
    if unread:
        raise InputError("model", f"{unread[0]}, which the forward pass does not call", "layers that it calls")
    for name, gram in grams.items():
        if not bool(torch.isfinite(gram).all()):
            raise InputError(f"activations of {name}", "NaN or infinite values", "finite activations")
    return grams


def _forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    if "inputs" in batch:
        model_logits(model, batch)
    else:
        model(**batch)


def _gram(module: Any, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        rows = patches(module, x).transpose(1, 2).flatten(0, 1).unflatten(1, (module.groups, -1)).transpose(0, 1)
    elif isinstance(module, nn.modules.conv._ConvNd):
        raise InputError("model", type(module).__name__, "linear layers, Conv1d or Conv2d, for layer-wise Grams")
    else:
        rows = (x if mask is None or x.ndim < 3 else x[mask.bool()]).flatten(0, -2)[None]
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return (rows.transpose(1, 2) @ rows).double()


def _matrix(weight: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """[groups, out / groups, d] of a weight [out, d, ...]; ``masks.turned`` makes one of those stored [in, out]."""
    return weight.flatten(1).unflatten(0, (len(gram), -1))


def wanda_scores(weights: Mapping[str, torch.Tensor], grams: Grams) -> WeightScores:
    """``|W_ij| |X_j|_2`` of every layer."""
    found = {}
    for name, weight in weights.items():
        norms = grams[name].diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
        found[name] = (_matrix(weight.detach().abs().double(), grams[name]) * norms[:, None]).view(weight.shape)
    return found


def damped(gram: torch.Tensor, damping: float = DAMPING) -> torch.Tensor:
    """The Gram with ``damping`` times the mean of its diagonal added there; inputs that are always zero get 1."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(-1, keepdim=True)
    added = torch.where(diagonal == 0, torch.ones_like(diagonal), torch.zeros_like(diagonal)) + damping * mean
    return gram + torch.diag_embed(added)


def obs_scores(weights: Mapping[str, torch.Tensor], grams: Grams, damping: float = DAMPING) -> WeightScores:
    """``theta_q^2 / (2 [H^-1]_qq)``: the least error that removing one weight alone leaves."""
    found = {}
    for name, weight in weights.items():
        inverse = torch.linalg.inv(damped(grams[name], damping)).diagonal(dim1=1, dim2=2)
        squares = _matrix(weight.detach().double().square(), grams[name])
        found[name] = (squares / (2 * inverse[:, None])).view(weight.shape)
    return found


def obs_row(row: torch.Tensor, gram: torch.Tensor, remove: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Optimal brain surgeon on one row ``w [d]``: ``remove`` weights leave one after the other.

    The one with the least ``w_q^2 / (2 [H^-1]_qq)`` leaves, the others move by ``-w_q / [H^-1]_qq H^-1[:, q]``.
    Returns the new row and its mask. What remains is the least-squares solution on the kept inputs.
    """
    w, inverse = row.double().clone(), torch.linalg.inv(gram.double())
    kept = torch.ones(len(w), dtype=torch.bool)
    for _ in range(remove):
        errors = torch.where(kept, w.square() / (2 * inverse.diagonal()), torch.inf)
        q = int(errors.argmin())
        w = w - w[q] / inverse[q, q] * inverse[:, q]
        inverse = inverse - torch.outer(inverse[:, q], inverse[q]) / inverse[q, q]
        kept[q] = False
        w[~kept] = 0
        inverse[q, q] = 1.0  # never chosen again; keeps the division defined
    return w, kept


def sparsegpt(
    weight: torch.Tensor,
    gram: torch.Tensor,
    *,
    density: float | None = None,
    pattern: tuple[int, int] | None = None,
    mask: torch.Tensor | None = None,
    damping: float = DAMPING,
    block: int = BLOCK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SparseGPT on a matrix ``W [out, d]`` (Frantar and Alistarh 2023): new weights and their mask.

    With ``U`` the upper Cholesky factor of ``H^-1``: column after column, weights with the least
    ``W_ij^2 / U_jj^2`` of their block leave, and their error ``(w_j - q_j) / U_jj`` moves all columns to the right by
    ``- error U_j,j:``. Columns to the left stay as they are.

    Parameters
    ----------
    density : the share of each block of columns that stays; or
    pattern : (n, m): n of every m columns; or
    mask : bool [out, d], given.
    """
    if sum(option is not None for option in (density, pattern, mask)) != 1:
        raise InputError("density", density, "exactly one of density, pattern and mask")
    out, width = weight.shape
    if pattern is not None and (width % pattern[1] or block % pattern[1]):
        raise InputError("pattern", f"{pattern[0]}:{pattern[1]} on {width} inputs", "inputs that are a multiple of M")
    w = weight.double().clone()
    w[:, gram.diagonal() == 0] = 0
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(gram.double(), damping)))
    upper = torch.linalg.cholesky(inverse, upper=True)
    kept = torch.ones(out, width, dtype=torch.bool, device=weight.device) if mask is None else mask.clone()
    for start in range(0, width, block):
        stop = min(start + block, width)
        part, factor = w[:, start:stop].clone(), upper[start:stop, start:stop]
        if density is not None:
            scores = part.square() / factor.diagonal().square()
            kept[:, start:stop] = top(scores, round(density * scores.numel()))
        errors = torch.zeros_like(part)
        for j in range(stop - start):
            if pattern is not None and j % pattern[1] == 0:
                end = j + pattern[1]
                scores = part[:, j:end].square() / factor.diagonal()[j:end].square()
                kept[:, start + j : start + end] = n_of_m(scores, *pattern)
            column = part[:, j]
            left = torch.where(kept[:, start + j], column, torch.zeros_like(column))
            error = (column - left) / factor[j, j]
            part[:, j + 1 :] -= torch.outer(error, factor[j, j + 1 :])
            part[:, j] = left
            errors[:, j] = error
        w[:, start:stop] = part
        w[:, stop:] -= errors @ upper[start:stop, stop:]
    return w.to(weight.dtype), kept


@torch.no_grad()
def sparsegpt_layers(
    weights: Mapping[str, nn.Parameter],
    grams: Grams,
    *,
    density: float | None = None,
    pattern: tuple[int, int] | None = None,
) -> Masks:
    """SparseGPT on every layer, in place; returns the masks.

    Convolutions take ``density`` only: their columns are patches, among which N:M along the inputs is not contiguous.
    """
    masks: Masks = {}
    for name, weight in weights.items():
        gram = grams[name]
        if pattern is not None and weight.ndim > 2:
            raise InputError("pattern", f"{name}, a convolution", "linear layers for SparseGPT with N:M")
        made = [
            sparsegpt(part, gram[number], density=density, pattern=pattern)
            for number, part in enumerate(_matrix(weight.detach(), gram))
        ]
        weight.copy_(torch.stack([values for values, _ in made]).view(weight.shape))
        masks[name] = torch.stack([mask for _, mask in made]).view(weight.shape)
    return masks
