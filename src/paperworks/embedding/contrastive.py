"""Contrastive losses on the unit sphere, exact in bounded memory: NT-Xent, InfoNCE, CLIP's and the supervised one.

All of them are a positive similarity minus the log-sum-exp of similarities to keys. ``similarity_logsumexp`` computes
the latter chunk by chunk and recomputes similarities for the gradient, so that memory does not grow with the number of
keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError

Reduction = Literal["mean", "sum", "none"]


class _SimilarityLogSumExp(torch.autograd.Function):
    """log sum over allowed j of exp(scale a_i . k_j), with gradients to anchors, keys and scale."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: torch.Tensor,
        keys: torch.Tensor,
        scale: torch.Tensor,
        anchor_ids: torch.Tensor | None,
        key_ids: torch.Tensor | None,
        chunk: int,
    ) -> torch.Tensor:
        total = torch.full((len(anchors),), -math.inf, dtype=anchors.dtype, device=anchors.device)
        whole = None
        for start in range(0, len(keys), chunk):
            logits = _logits(anchors, keys[start : start + chunk], scale, anchor_ids, key_ids, start)
            total = torch.logaddexp(total, logits.logsumexp(1))
            whole = logits
        once = len(keys) <= chunk and whole is not None
        kept = (_shares(whole, total),) if once and whole is not None else ()
        ctx.save_for_backward(anchors, keys, scale, anchor_ids, key_ids, total, *kept)
        ctx.chunk = chunk
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        anchors, keys, scale, anchor_ids, key_ids, total, *kept = ctx.saved_tensors
        to_anchors, to_keys, _, *_ = ctx.needs_input_grad
        mean_key = torch.zeros_like(anchors)
        key_gradient = torch.empty_like(keys) if to_keys else None
        for start in range(0, len(keys), ctx.chunk):
            part = keys[start : start + ctx.chunk]
            shares = kept[0] if kept else _shares(_logits(anchors, part, scale, anchor_ids, key_ids, start), total)
            mean_key += shares @ part
            if key_gradient is not None:
                key_gradient[start : start + ctx.chunk] = shares.T @ (anchors * (gradient * scale)[:, None])
        anchor_gradient = mean_key * (gradient * scale)[:, None] if to_anchors else None
        scale_gradient = ((mean_key * anchors).sum(1) * gradient).sum().reshape(scale.shape)
        return anchor_gradient, key_gradient, scale_gradient, None, None, None


def _logits(
    anchors: torch.Tensor,
    keys: torch.Tensor,
    scale: torch.Tensor,
    anchor_ids: torch.Tensor | None,
    key_ids: torch.Tensor | None,
    start: int,
) -> torch.Tensor:
    logits = (anchors * scale) @ keys.T
    if anchor_ids is not None and key_ids is not None:
        logits.masked_fill_(anchor_ids[:, None] == key_ids[None, start : start + len(keys)], -math.inf)
    return logits


def _shares(logits: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Softmax over all keys; zeros in a row without any."""
    return (logits - total.clamp(min=torch.finfo(total.dtype).min)[:, None]).exp_()


def similarity_logsumexp(
    anchors: torch.Tensor,
    keys: torch.Tensor,
    scale: torch.Tensor | float,
    *,
    anchor_ids: torch.Tensor | None = None,
    key_ids: torch.Tensor | None = None,
    chunk: int | None = None,
) -> torch.Tensor:
    """``log sum_j exp(scale * anchors_i . keys_j)`` over the keys whose id is not the anchor's.

    Parameters
    ----------
    anchors, keys : ``[B, D]`` and ``[M, D]``. Computed in float32 at least, whatever autocast says.
    scale : 1 / temperature; a tensor gets a gradient.
    anchor_ids, key_ids : int64 ``[B]`` and ``[M]``; keys with the anchor's id are left out. None leaves none out.
    chunk : keys at a time. Values and gradients do not depend on it; None takes all at once.

    Returns
    -------
    ``[B]``; minus infinity where no key is allowed. Differentiable once.
    """
    wide = torch.promote_types(torch.promote_types(anchors.dtype, keys.dtype), torch.float32)
    factor = torch.as_tensor(scale, dtype=wide, device=anchors.device)
    with torch.autocast(anchors.device.type, enabled=False):
        return _SimilarityLogSumExp.apply(
            anchors.to(wide), keys.to(wide), factor, anchor_ids, key_ids, chunk or max(1, len(keys))
        )


def info_nce(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor | None = None,
    *,
    temperature: torch.Tensor | float = 0.2,
    anchor_ids: torch.Tensor | None = None,
    negative_ids: torch.Tensor | None = None,
    normalize: bool = True,
    chunk: int | None = None,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """InfoNCE (van den Oord et al. 2018): ``-log exp(s_ii/t) / (exp(s_ii/t) + sum over negatives of exp(s_ij/t))``.

    Parameters
    ----------
    anchors, positives : ``[B, D]``, row i of one belongs to row i of the other.
    negatives : ``[M, D]``, a memory bank or a queue; None takes the other rows of ``positives``.
    temperature : t; a tensor gets a gradient.
    anchor_ids, negative_ids : int64 ``[B]`` and ``[M]``: an anchor's negatives with its own id are left out. With
        ``negatives`` None, ``anchor_ids`` are those of the positives too (duplicates of an anchor are no negatives).
    normalize : divide rows by their norm; False asks for rows of norm 1 and refuses others.
    chunk : negatives at a time; the result does not depend on it.
    reduction : "mean", "sum", or "none" for ``[B]``.

    Raises
    ------
    InputError : shapes that do not go together, a temperature that is not positive, NaN, or norms other than 1.
    """
    anchors, positives = _unit(anchors, "anchors", normalize), _unit(positives, "positives", normalize)
    if anchors.shape != positives.shape:
        raise InputError("positives", f"shape {tuple(positives.shape)}", f"{tuple(anchors.shape)}, as anchors")
    scale = _scale(temperature, anchors)
    if negatives is None:
        anchor_ids = torch.arange(len(anchors), device=anchors.device) if anchor_ids is None else anchor_ids
        negatives, negative_ids = positives, anchor_ids
    else:
        negatives = _unit(negatives, "negatives", normalize)
        if (anchor_ids is None) != (negative_ids is None):
            raise InputError("negative_ids", "ids of one side only", "anchor_ids and negative_ids, or neither")
    rest = similarity_logsumexp(anchors, negatives, scale, anchor_ids=anchor_ids, key_ids=negative_ids, chunk=chunk)
    positive = (anchors * positives).sum(1).to(rest.dtype) * scale
    # softplus(rest - positive) is the loss, and 0 where there is no negative
    return _reduced(functional.softplus(rest - positive), reduction)


def nt_xent(
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    temperature: torch.Tensor | float = 0.2,
    normalize: bool = True,
    chunk: int | None = None,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """NT-Xent (SimCLR, Chen et al. 2020) of two views ``[B, D]`` each: 2B anchors with 2B - 2 negatives each.

    Options are those of ``info_nce``; "none" gives ``[2B]``.
    """
    if first.shape != second.shape:
        raise InputError("second", f"shape {tuple(second.shape)}", f"{tuple(first.shape)}, as first")
    views = torch.cat([_unit(first, "first", normalize), _unit(second, "second", normalize)])
    scale = _scale(temperature, views)
    ids = torch.arange(len(views), device=views.device)
    rest = similarity_logsumexp(views, views, scale, anchor_ids=ids, key_ids=ids, chunk=chunk)
    positive = (views[: len(first)] * views[len(first) :]).sum(1).to(rest.dtype) * scale
    return _reduced(rest - positive.repeat(2), reduction)


def clip_loss(
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    temperature: torch.Tensor | float = 0.07,
    normalize: bool = True,
    chunk: int | None = None,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """The symmetric loss of CLIP (Radford et al. 2021): the mean of ``info_nce`` from either side; "none" gives
    ``[B]``.

    Options are those of ``info_nce``.
    """
    first, second = _unit(first, "first", normalize), _unit(second, "second", normalize)
    there = info_nce(first, second, temperature=temperature, normalize=True, chunk=chunk, reduction="none")
    back = info_nce(second, first, temperature=temperature, normalize=True, chunk=chunk, reduction="none")
    return _reduced((there + back) / 2, reduction)


def supervised_contrastive_loss(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: torch.Tensor | float = 0.1,
    normalize: bool = True,
    chunk: int | None = None,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """The supervised contrastive loss (Khosla et al. 2020, L_out): all rows of the anchor's class are positives.

    Parameters
    ----------
    features : ``[B, D]``.
    labels : int64 ``[B]``. Rows whose class has no other row have loss 0 and do not count in the mean.
    """
    features = _unit(features, "features", normalize)
    if labels.shape != (len(features),):
        raise InputError("labels", f"shape {tuple(labels.shape)}", f"({len(features)},), one for each row")
    scale = _scale(temperature, features)
    ids = torch.arange(len(features), device=features.device)
    rest = similarity_logsumexp(features, features, scale, anchor_ids=ids, key_ids=ids, chunk=chunk)
    classes, member = labels.unique(return_inverse=True)
    sums = features.new_zeros(len(classes), features.shape[1]).index_add(0, member, features)
    others = member.bincount()[member] - 1
    mean = (sums[member] - features) / others.clamp(min=1)[:, None]
    counted = others > 0
    loss = torch.where(counted, rest - (features * mean).sum(1).to(rest.dtype) * scale, 0.0)
    if reduction == "mean":
        return loss.sum() / counted.sum().clamp(min=1)
    return _reduced(loss, reduction)


class LearnableTemperature(nn.Module):
    """A temperature that is learned as the logarithm of its inverse, as in CLIP; ``forward()`` gives it.

    Parameters
    ----------
    temperature : its first value.
    smallest : it does not fall below this (CLIP: 0.01).
    """

    def __init__(self, temperature: float = 0.07, smallest: float = 0.01) -> None:
        super().__init__()
        if not smallest > 0:
            raise InputError("smallest", smallest, "more than 0")
        if not (math.isfinite(temperature) and temperature >= smallest):
            raise InputError("temperature", temperature, f"at least {smallest}")
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.smallest = smallest

    def forward(self) -> torch.Tensor:
        """The temperature, a scalar with a gradient."""
        return torch.exp(-self.log_scale.clamp(max=-math.log(self.smallest)))


def cached_backward(
    towers: Sequence[tuple[Callable[[Any], torch.Tensor], Sequence[Any]]], loss: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """The gradient of a loss of a whole batch, with the activations of one chunk in memory (Gao et al. 2021,
    GradCache).

    Each tower encodes its chunks without a graph; the loss of all features gives their gradients; each chunk is encoded
    again, with the same random numbers, and its features' gradients go into the parameters. Gradients are those of the
    whole batch, unless a module mixes the rows of what it gets (batch normalisation sees a chunk).

    Parameters
    ----------
    towers : (function from a chunk to features ``[b, D]``, its chunks), one or more. Gradients are added to ``.grad``
        of whatever the functions depend on.
    loss : from one tensor of features ``[B, D]`` for each tower to a scalar; gradients of its own parameters, such as
        a temperature, are added too.

    Returns
    -------
    The loss, detached.
    """
    states: list[list[tuple[torch.Tensor, list[torch.Tensor]]]] = []
    parts: list[list[torch.Tensor]] = []
    for encode, chunks in towers:
        states.append([])
        parts.append([])
        for chunk in chunks:
            states[-1].append(
                (torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])
            )
            with torch.no_grad():
                parts[-1].append(encode(chunk))
    features = [torch.cat(p).requires_grad_() for p in parts]
    value = loss(*features)
    value.backward()
    after = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    for (encode, chunks), tower_states, tower_parts, whole in zip(towers, states, parts, features, strict=True):
        assert whole.grad is not None
        gradients = whole.grad.split([len(p) for p in tower_parts])
        for chunk, state, gradient in zip(chunks, tower_states, gradients, strict=True):
            _set_random_state(state)
            encode(chunk).backward(gradient)
    _set_random_state(after)
    return value.detach()


def _set_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def gather_features(features: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks, with gradients to each; as they are in one process."""
    import torch.distributed as distributed

    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return features
    from torch.distributed.nn.functional import all_gather

    return torch.cat(list(all_gather(features)))


def _unit(features: torch.Tensor, name: str, normalize: bool) -> torch.Tensor:
    if features.ndim != 2 or not len(features) or not features.is_floating_point():
        raise InputError(name, f"{features.dtype} {tuple(features.shape)}", "real numbers [B, D], B at least 1")
    with torch.autocast(features.device.type, enabled=False):
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        norms = wide.detach().norm(dim=1)
        if not torch.isfinite(norms).all():
            raise InputError(
                name, f"NaN or infinity in row {int((~norms.isfinite()).int().argmax())}", "finite numbers"
            )
        if normalize:
            return functional.normalize(wide, dim=1)
        off = (norms - 1).abs()
        if (off > 1e-2).any():
            row = int(off.argmax())
            raise InputError(name, f"norm {float(norms[row]):.4g} in row {row}", "rows of norm 1, or normalize=True")
        return wide


def _scale(temperature: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    value = torch.as_tensor(temperature, dtype=like.dtype, device=like.device)
    if value.numel() != 1 or not float(value.detach()) > 0 or not math.isfinite(float(value.detach())):
        raise InputError("temperature", temperature, "a finite number above 0")
    return 1 / value.reshape(())


def _reduced(loss: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    if reduction not in ("mean", "sum", "none"):
        raise InputError("reduction", repr(reduction), "mean, sum or none")
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss
