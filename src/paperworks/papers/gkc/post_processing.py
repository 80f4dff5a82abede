"""Semantic, panoptic and instance maps from class and mask logits, in the forms of transformers' Mask2Former.

Mask logits are brought to each image's own size first. transformers' processor passes through 384 x 384 in between.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch.nn import functional

from paperworks.errors import InputError

Sizes = Sequence[tuple[int, int]]
NOTHING = -1
"""Id of pixels without a segment, in panoptic and instance maps (transformers' own)."""


def semantic(class_logits: torch.Tensor, mask_logits: torch.Tensor, sizes: Sizes | None = None) -> list[torch.Tensor]:
    """The class of each pixel: argmax over c of sum_q p_q(c) sigmoid(mask_q); int64 ``[H, W]`` of each image.

    Parameters
    ----------
    class_logits : ``[B, Q, C + 1]``; no object, the last, takes its share of the softmax and is dropped.
    mask_logits : ``[B, Q, h, w]``.
    sizes : (height, width) of each image; None keeps h x w.
    """
    maps = []
    probabilities = class_logits.float().softmax(-1)[..., :-1]
    for number, masks in enumerate(_resized(mask_logits, sizes)):
        scores = torch.einsum("qc,qhw->chw", probabilities[number], masks.sigmoid())
        maps.append(scores.argmax(0))
    return maps


def panoptic(
    class_logits: torch.Tensor,
    mask_logits: torch.Tensor,
    sizes: Sizes | None = None,
    threshold: float = 0.8,
    overlap_threshold: float = 0.8,
    fuse: Collection[int] = (),
) -> list[dict[str, Any]]:
    """Segments that do not overlap: ``{"segmentation": int32 [H, W], "segments_info": [...]}`` of each image.

    Queries whose best class is no object, or has a probability of at most ``threshold``, are dropped. A pixel goes to
    the query with the largest p_q sigmoid(mask_q). A segment stays if the query got more pixels, inside of its mask and
    outside, than ``overlap_threshold`` times those of its mask (sigmoid >= 0.5), as in Mask2Former; those that it got
    inside are the segment. Segments of the classes in ``fuse`` (stuff) become one.
    """
    found = []
    for number, masks in enumerate(_resized(mask_logits, sizes)):
        scores, labels = class_logits[number].float().softmax(-1).max(-1)
        kept = (labels != class_logits.shape[-1] - 1) & (scores > threshold)
        found.append(_segments(masks[kept].sigmoid(), scores[kept], labels[kept], overlap_threshold, set(fuse)))
    return found


def _segments(
    masks: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, overlap: float, fuse: set[int]
) -> dict[str, Any]:
    segmentation = torch.full(masks.shape[1:], NOTHING, dtype=torch.int32, device=masks.device)
    info: list[dict[str, Any]] = []
    stuff: dict[int, int] = {}
    if len(masks) == 0:
        return {"segmentation": segmentation, "segments_info": info}
    winner = (scores[:, None, None] * masks).argmax(0)
    for query in range(len(masks)):
        whole = masks[query] >= 0.5
        got = winner == query
        own = got & whole
        if not own.any() or int(got.sum()) <= overlap * int(whole.sum()):
            continue
        label = int(labels[query])
        if label in fuse and label in stuff:
            segmentation[own] = stuff[label]
            continue
        identity = len(info) + 1
        segmentation[own] = identity
        if label in fuse:
            stuff[label] = identity
        score = round(float(scores[query]), 6)
        info.append({"id": identity, "label_id": label, "was_fused": label in fuse, "score": score})
    return {"segmentation": segmentation, "segments_info": info}


def instance(
    class_logits: torch.Tensor,
    mask_logits: torch.Tensor,
    sizes: Sizes | None = None,
    threshold: float = 0.5,
    top_k: int | None = None,
) -> list[dict[str, Any]]:
    """Scored masks: ``{"segmentation", "segments_info", "masks"}`` of each image; masks may overlap.

    The ``top_k`` best pairs of a query and a class (default: as many as queries) have the score p_q(c) times the mean
    probability of the mask inside it. Those above ``threshold`` are kept, the best first; ``masks`` is bool
    ``[n, H, W]``, and in ``segmentation`` a pixel belongs to the best of its masks.
    """
    queries, classes = class_logits.shape[1], class_logits.shape[2] - 1
    count = min(queries if top_k is None else top_k, queries * classes)
    if count < 1:
        raise InputError("top_k", top_k, "1 or more")
    found = []
    for number, logits in enumerate(_resized(mask_logits, sizes)):
        best, places = class_logits[number].float().softmax(-1)[:, :-1].flatten().topk(count)
        masks = logits[places // classes]
        inside = masks > 0
        area = inside.sum((1, 2))
        scores = best * (masks.sigmoid() * inside).sum((1, 2)) / area.clamp(min=1)
        order = scores.argsort(descending=True)
        order = order[(scores[order] > threshold) & (area[order] > 0)]
        segmentation = torch.full(masks.shape[1:], NOTHING, dtype=torch.int32, device=masks.device)
        for identity in range(len(order) - 1, -1, -1):
            segmentation[inside[order[identity]]] = identity
        info = [
            {"id": n, "label_id": int(places[k] % classes), "was_fused": False, "score": round(float(scores[k]), 6)}
            for n, k in enumerate(order.tolist())
        ]
        found.append({"segmentation": segmentation, "segments_info": info, "masks": inside[order]})
    return found


def _resized(mask_logits: torch.Tensor, sizes: Sizes | None) -> list[torch.Tensor]:
    if sizes is None:
        return list(mask_logits.float())
    if len(sizes) != len(mask_logits):
        raise InputError("sizes", f"{len(sizes)} sizes", f"{len(mask_logits)}, one for each image")
    return [
        functional.interpolate(logits[None].float(), size=tuple(size), mode="bilinear", align_corners=False)[0]
        for logits, size in zip(mask_logits, sizes, strict=True)
    ]
