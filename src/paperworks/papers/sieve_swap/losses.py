"""Matching and losses of ProcX: Hungarian assignment, IoU-aware and focal scores, GIoU, count, contrast."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from paperworks.papers.sieve_swap.network import Layer
from paperworks.papers.sieve_swap.settings import ProcXConfig

SHORTEST = 1e-4
ALPHA, GAMMA = 0.25, 2.0
NEGATIVE_WEIGHT = 0.75
COUNT_SPREAD = 2.0

Pairs = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each video: matched queries, and the segments that they are matched with, int64."""


def to_ends(boxes: torch.Tensor) -> torch.Tensor:
    """(centre, length) to (start, end), ``[..., 2]``; lengths are at least 1e-4."""
    centre, length = boxes[..., 0], boxes[..., 1].clamp(min=SHORTEST)
    return torch.stack([centre - length / 2, centre + length / 2], -1)


def overlap(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """IoU and generalised IoU of (start, end) pairs that broadcast: GIoU is IoU - (hull - union) / hull."""
    inter = (torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - inter
    hull = torch.maximum(a[..., 1], b[..., 1]) - torch.minimum(a[..., 0], b[..., 0])
    iou = inter / union.clamp(min=1e-8)
    return iou, iou - (hull - union) / hull.clamp(min=1e-8)


def matching_cost(
    logits: torch.Tensor, boxes: torch.Tensor, segments: torch.Tensor, config: ProcXConfig
) -> torch.Tensor:
    """Cost ``[N, M]`` of queries and segments of one video: class (focal form), -GIoU and L1."""
    p = logits.sigmoid()
    positive = ALPHA * (1 - p) ** GAMMA * -(p + 1e-8).log()
    negative = (1 - ALPHA) * p**GAMMA * -(1 - p + 1e-8).log()
    giou = overlap(to_ends(boxes)[:, None], to_ends(segments)[None])[1]
    distance = torch.cdist(boxes, segments, p=1) if config.cost_l1 else 0.0
    return config.cost_class * (positive - negative)[:, None] - config.cost_giou * giou + config.cost_l1 * distance


@torch.no_grad()
def match(layer: Layer, segments: torch.Tensor, counts: torch.Tensor, config: ProcXConfig) -> Pairs:
    """The assignment of least cost of every video (Hungarian algorithm).

    Parameters
    ----------
    segments : (centre, length) in [0, 1], ``[B, M, 2]``; those from ``counts[b]`` on are padding.
    """
    from scipy.optimize import linear_sum_assignment

    out: Pairs = []
    for number in range(len(segments)):
        own = segments[number, : int(counts[number])]
        cost = matching_cost(layer.logits[number].float(), layer.boxes[number].float(), own.float(), config)
        rows, columns = linear_sum_assignment(cost.cpu().numpy())
        device = segments.device
        out.append((torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)))
    return out


def varifocal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The IoU-aware loss of each score, given the overlap t of what it is matched with, and 0 for no match.

    ``-t (t log p + (1 - t) log(1 - p))`` for t > 0, else ``-0.75 p^2 log(1 - p)``. At t = 1 it is the binary
    cross-entropy. The gradient is that of p, too, as in the loss of a variable.
    """
    bce = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = torch.where(target > 0, target, NEGATIVE_WEIGHT * logits.sigmoid() ** 2)
    return weight * bce


def focal(logits: torch.Tensor, target: torch.Tensor, alpha: float = ALPHA, gamma: float = GAMMA) -> torch.Tensor:
    """The focal loss of each score; ``target`` is 0 or 1."""
    p = logits.sigmoid()
    bce = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = p * target + (1 - p) * (1 - target)
    return (alpha * target + (1 - alpha) * (1 - target)) * (1 - right) ** gamma * bce


def count_loss(logits: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy on the one-hot count ``[B]``; numbers near it weigh less: 1 - exp(-(i - c)^2 / (2 2^2)).

    Counts beyond the head's largest are that one.
    """
    largest = logits.shape[1] - 1
    at = counts.clamp(max=largest)
    numbers = torch.arange(largest + 1, device=logits.device)
    distance = (numbers[None] - at[:, None]).float()
    weight = 1 - torch.exp(-(distance**2) / (2 * COUNT_SPREAD**2))
    target = functional.one_hot(at, largest + 1).to(logits.dtype)
    weight = torch.where(target > 0, torch.ones_like(weight), weight)
    return (weight * functional.binary_cross_entropy_with_logits(logits, target, reduction="none")).mean(1)


def contrastive_loss(
    states: torch.Tensor, texts: torch.Tensor, vectors: torch.Tensor, temperature: float, same: float
) -> torch.Tensor:
    """Symmetric InfoNCE over all matched segments of a batch.

    Parameters
    ----------
    states, texts : unit rows ``[S, e]`` of matched queries and of their segments' texts.
    vectors : rows of the frozen text encoder ``[S, w]``: other segments with a cosine of at least ``same`` are no
        negatives.

    Returns
    -------
    the mean over segments and both directions; 0 for fewer than 2 segments.
    """
    if len(states) < 2:
        return states.sum() * 0
    logits = states @ texts.T / temperature
    unit = functional.normalize(vectors, dim=1)
    alike = unit @ unit.T >= same
    alike.fill_diagonal_(False)
    labels = torch.arange(len(states), device=states.device)
    forward = functional.cross_entropy(logits.masked_fill(alike, -math.inf), labels)
    back = functional.cross_entropy(logits.T.masked_fill(alike, -math.inf), labels)
    return (forward + back) / 2


def set_losses(
    layers: Sequence[Layer], segments: torch.Tensor, counts: torch.Tensor, config: ProcXConfig
) -> tuple[dict[str, torch.Tensor], list[Pairs]]:
    """Class, box and count losses, summed over decoder layers, and the matching of every layer.

    Class and box losses are divided by the number of segments of the batch.
    """
    total = counts.sum().clamp(min=1)
    out = {name: segments.new_zeros(()) for name in ("class", "giou", "l1", "count")}
    matchings = []
    for layer in layers:
        pairs = match(layer, segments, counts, config)
        matchings.append(pairs)
        target = torch.zeros_like(layer.logits)
        for number, (queries, columns) in enumerate(pairs):
            if not len(queries):
                continue
            boxes, own = layer.boxes[number, queries], segments[number, columns]
            iou, giou = overlap(to_ends(boxes), to_ends(own))
            target[number, queries] = iou.detach().clamp(0, 1) if config.score == "iou" else 1.0
            out["giou"] = out["giou"] + (1 - giou).sum() / total
            out["l1"] = out["l1"] + (boxes - own).abs().sum() / total
        loss = varifocal(layer.logits, target) if config.score == "iou" else focal(layer.logits, target)
        out["class"] = out["class"] + loss.sum() / total
        out["count"] = out["count"] + count_loss(layer.counts, counts).mean()
    return out, matchings
