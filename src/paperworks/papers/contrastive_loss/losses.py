"""The paper's four losses, and the variants that differ in one line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from paperworks.embedding import LearnableTemperature, info_nce, nt_xent
from paperworks.errors import InputError

Form = Literal["softmax", "simple"]
Pairs = Literal["one-sided", "symmetric", "two-view"]


@dataclass(frozen=True)
class LossStats:
    """Figures of a batch, without gradients: of the loss as it is, with its form, margin and denominator.

    Attributes
    ----------
    positive, negative : mean similarity of positive and of kept negative pairs.
    effective_negatives : exp of the entropy of the penalties, mean over anchors.
    strength : of the pull to the positive, ``- dL/ds_ii``, mean over anchors: (1 - P_ii) / tau; decoupled 1 / tau; 1 of
        the simple loss.
    top1 : share of the push that goes to the nearest negative, mean over anchors.
    """

    positive: float
    negative: float
    effective_negatives: float
    strength: float
    top1: float


class ContrastiveLoss(nn.Module):
    """Contrastive, simple, hard contrastive and hard simple loss (equations 1, 2, 7 and 10).

    Parameters
    ----------
    temperature : tau.
    form : "softmax", ``-log softmax`` of the positive among itself and the negatives, or "simple",
        ``-s_ii + simple_weight * sum of s_ij``.
    hard_fraction, hard_k : keep only the nearest negatives of an anchor: a part alpha of those that it has, or K of
        them. The choice is not differentiated.
    simple_weight : lambda; by default 1 / (negatives kept), so that the loss is the mean negative less the positive.
    pairs : of a batch without ``negatives``: "one-sided" (B - 1 negatives from the positives), "symmetric" (the mean of
        both directions) or "two-view" (NT-Xent: 2B anchors with 2B - 2 negatives).
    margin : subtracted from the positive similarity (softmax).
    decoupled : leave the positive out of the denominator (DCL, softmax).
    learnable_temperature : learn log(1/tau), as CLIP does; ``temperature`` is the first value (softmax).
    normalize : divide rows by their norm; False refuses rows whose norm is not 1.
    chunk : negatives (softmax over all), or anchors (hard losses), at a time, for batches and banks that are large.
    """

    def __init__(
        self,
        temperature: float = 0.2,
        *,
        form: Form = "softmax",
        hard_fraction: float | None = None,
        hard_k: int | None = None,
        simple_weight: float | None = None,
        pairs: Pairs = "one-sided",
        margin: float = 0.0,
        decoupled: bool = False,
        learnable_temperature: bool = False,
        normalize: bool = True,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if not (isinstance(temperature, (int, float)) and 0 < temperature < float("inf")):
            raise InputError("temperature", temperature, "a finite number above 0")
        if form not in ("softmax", "simple"):
            raise InputError("form", repr(form), "softmax or simple")
        if pairs not in ("one-sided", "symmetric", "two-view"):
            raise InputError("pairs", repr(pairs), "one-sided, symmetric or two-view")
        if hard_fraction is not None and hard_k is not None:
            raise InputError("hard_k", hard_k, "hard_fraction or hard_k, not both")
        if hard_fraction is not None and not 0 < hard_fraction <= 1:
            raise InputError("hard_fraction", hard_fraction, "above 0, at most 1")
        if hard_k is not None and hard_k < 1:
            raise InputError("hard_k", hard_k, "1 or more")
        if chunk is not None and chunk < 1:
            raise InputError("chunk", chunk, "1 or more")
        if form == "simple":
            options = {"margin": margin, "decoupled": decoupled, "learnable_temperature": learnable_temperature}
            for name, given in options.items():
                if given:
                    raise InputError(name, f"{given} with the simple form, which has none", "the softmax form")
        elif simple_weight is not None:
            raise InputError("simple_weight", simple_weight, "None with the softmax form")
        self.form, self.pairs = form, pairs
        self.hard_fraction, self.hard_k, self.simple_weight = hard_fraction, hard_k, simple_weight
        self.margin, self.decoupled, self.normalize, self.chunk = margin, decoupled, normalize, chunk
        self.learned = LearnableTemperature(temperature) if learnable_temperature else None
        self._temperature = float(temperature)

    @property
    def temperature(self) -> torch.Tensor | float:
        """tau: a number, or a scalar with a gradient where it is learned."""
        return self._temperature if self.learned is None else self.learned()

    @property
    def hard(self) -> bool:
        """Whether only the nearest negatives count."""
        return self.hard_fraction is not None or self.hard_k is not None

    def forward(
        self,
        anchors: torch.Tensor,
        positives: torch.Tensor,
        negatives: torch.Tensor | None = None,
        *,
        anchor_ids: torch.Tensor | None = None,
        negative_ids: torch.Tensor | None = None,
        return_stats: bool = False,
    ) -> Any:
        """The mean loss over anchors, a scalar; with ``return_stats``, also a ``LossStats``.

        Parameters
        ----------
        anchors, positives : ``[B, D]``, any float type; similarities are computed in float32 at least.
        negatives : ``[M, D]``, a bank or a queue; None takes the batch, by ``pairs``.
        anchor_ids, negative_ids : int64 ``[B]`` and ``[M]``: negatives with the anchor's own id do not count. Without
            ``negatives``, ``anchor_ids`` name the rows of the batch (duplicates are no negatives of each other).

        An anchor without any negative has loss 0 (the simple loss: ``-s_ii``).
        """
        options: dict[str, Any] = {"temperature": self.temperature, "normalize": self.normalize, "chunk": self.chunk}
        plain = self.form == "softmax" and not self.hard and not self.margin and not self.decoupled
        if plain and not return_stats and negatives is None and self.pairs == "two-view" and anchor_ids is None:
            return nt_xent(anchors, positives, **options)
        sides = self._sides(anchors, positives, negatives, anchor_ids, negative_ids)
        if plain and not return_stats:
            losses = [info_nce(a, p, n, anchor_ids=i, negative_ids=j, **options) for a, p, n, i, j in sides]
            return torch.stack(losses).mean()
        parts = [self._side(*side) for side in sides]
        loss = torch.stack([part[0] for part in parts]).mean()
        return (loss, _mean_stats([part[1] for part in parts], [1] * len(parts))) if return_stats else loss

    def _sides(
        self,
        anchors: torch.Tensor,
        positives: torch.Tensor,
        negatives: torch.Tensor | None,
        anchor_ids: torch.Tensor | None,
        negative_ids: torch.Tensor | None,
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]]:
        """(anchors, positives, negatives, ids of both) of every direction."""
        if anchors.shape != positives.shape or anchors.ndim != 2:
            raise InputError(
                "positives", f"shape {tuple(positives.shape)}", f"{tuple(anchors.shape)}, as anchors, [B, D]"
            )
        if negatives is not None:
            if (anchor_ids is None) != (negative_ids is None):
                raise InputError("negative_ids", "ids of one side only", "anchor_ids and negative_ids, or neither")
            return [(anchors, positives, negatives, anchor_ids, negative_ids)]
        ids = torch.arange(len(anchors), device=anchors.device) if anchor_ids is None else anchor_ids
        if self.pairs == "one-sided":
            return [(anchors, positives, positives, ids, ids)]
        if self.pairs == "symmetric":
            return [(anchors, positives, positives, ids, ids), (positives, anchors, anchors, ids, ids)]
        both = torch.cat([anchors, positives])
        return [(both, torch.cat([positives, anchors]), both, ids.repeat(2), ids.repeat(2))]

    def _side(
        self,
        anchors: torch.Tensor,
        positives: torch.Tensor,
        negatives: torch.Tensor,
        anchor_ids: torch.Tensor | None,
        negative_ids: torch.Tensor | None,
    ) -> tuple[torch.Tensor, LossStats]:
        with torch.autocast(anchors.device.type, enabled=False):
            a, p, n = (
                _unit(x, name, self.normalize)
                for x, name in ((anchors, "anchors"), (positives, "positives"), (negatives, "negatives"))
            )
            size = self.chunk or len(a)
            losses, stats = [], []
            for start in range(0, len(a), size):
                rows = slice(start, start + size)
                ids = None if anchor_ids is None else anchor_ids[rows]
                several = size < len(a)
                found = (
                    checkpoint(self._rows, a[rows], p[rows], n, ids, negative_ids, use_reentrant=False)
                    if several
                    else self._rows(a[rows], p[rows], n, ids, negative_ids)
                )
                losses.append(found[0])
                stats.append(found[1])
            return torch.cat(losses).mean(), _mean_stats(stats, [len(rows) for rows in losses])

    def _rows(
        self,
        a: torch.Tensor,
        p: torch.Tensor,
        n: torch.Tensor,
        anchor_ids: torch.Tensor | None,
        negative_ids: torch.Tensor | None,
    ) -> tuple[torch.Tensor, LossStats]:
        tau = self.temperature
        positive = (a * p).sum(1)
        s = a @ n.T
        if anchor_ids is not None and negative_ids is not None:
            s = s.masked_fill(anchor_ids[:, None] == negative_ids[None], -torch.inf)
        if self.hard:
            s = self._hardest(s)
        kept = torch.isfinite(s)
        count = kept.sum(1)
        finite = s.masked_fill(~kept, 0.0)
        if self.form == "simple":
            weight = 1 / count.clamp(min=1).to(s.dtype) if self.simple_weight is None else self.simple_weight
            loss = -positive + weight * finite.sum(1)
        else:
            # Rows without a negative take no part in the logarithm, whose gradient would be NaN.
            rest = torch.where(kept, s / tau, torch.finfo(s.dtype).min).logsumexp(1)
            gap = rest - (positive - self.margin) / tau
            loss = torch.where(count > 0, gap if self.decoupled else functional.softplus(gap), 0.0)
        return loss, self._stats(positive.detach(), s.detach(), kept, float(torch.as_tensor(tau).detach()))

    def _stats(self, positive: torch.Tensor, s: torch.Tensor, kept: torch.Tensor, tau: float) -> LossStats:
        any_kept = kept.any(1)
        if self.form == "simple":
            shares = kept / kept.sum(1, keepdim=True).clamp(min=1).to(s.dtype)
            strength = torch.ones_like(positive)
        else:
            logits = torch.where(kept, s / tau, torch.finfo(s.dtype).min)
            shares = logits.softmax(1) * kept
            gap = logits.logsumexp(1) - (positive - self.margin) / tau
            strength = any_kept * (torch.ones_like(gap) if self.decoupled else torch.sigmoid(gap)) / tau
        entropy = -torch.where(shares > 0, shares * shares.clamp(min=1e-30).log(), 0.0).sum(1)
        return LossStats(
            float(positive.mean()),
            float(s[kept].mean()) if kept.any() else float("nan"),
            float((entropy.exp() * any_kept).mean()),
            float(strength.mean()),
            float(shares.amax(1).mean()),
        )

    def _hardest(self, s: torch.Tensor) -> torch.Tensor:
        """The K largest of each row, sorted; minus infinity beyond a row's own K."""
        available = torch.isfinite(s).sum(1)
        if self.hard_k is not None:
            wanted = available.clamp(max=self.hard_k)
        else:
            wanted = (
                (available.double() * float(self.hard_fraction or 1)).round().long().clamp(min=1).minimum(available)
            )
        largest = max(1, int(wanted.max()))
        top = s.topk(min(largest, s.shape[1]), dim=1).values
        return top.masked_fill(torch.arange(top.shape[1], device=s.device)[None] >= wanted[:, None], -torch.inf)


def _unit(features: torch.Tensor, name: str, normalize: bool) -> torch.Tensor:
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    norms = wide.detach().norm(dim=1)
    if not torch.isfinite(norms).all():
        raise InputError(name, "NaN or infinity", "finite numbers")
    if normalize:
        return functional.normalize(wide, dim=1)
    off = (norms - 1).abs()
    if len(off) and float(off.max()) > 1e-2:
        raise InputError(name, f"norm {float(norms[off.argmax()]):.4g}", "rows of norm 1, or normalize=True")
    return wide


def _mean_stats(stats: list[LossStats], anchors: list[int]) -> LossStats:
    def mean(name: str) -> float:
        return sum(getattr(s, name) * n for s, n in zip(stats, anchors, strict=True)) / sum(anchors)

    return LossStats(**{name: mean(name) for name in LossStats.__dataclass_fields__})
