"""Which query predicts which target: the assignment of least cost, by the Hungarian algorithm."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional

from paperworks.papers.gkc.points import pixel_centres, sample


class HungarianMaskMatcher(nn.Module):
    """Matching of queries with targets, image by image.

    cost = class_cost * (-p_class) + mask_cost * (mean binary cross-entropy) + dice_cost * (Dice loss), the latter two
    at the same random points of the prediction and of the target.

    Parameters
    ----------
    class_cost, mask_cost, dice_cost : weights.
    points : random points, anew for every call; None compares at the centres of all pixels of the targets.
    """

    def __init__(
        self, class_cost: float = 2.0, mask_cost: float = 5.0, dice_cost: float = 5.0, points: int | None = 12544
    ) -> None:
        super().__init__()
        self.class_cost, self.mask_cost, self.dice_cost, self.points = class_cost, mask_cost, dice_cost, points

    @torch.no_grad()
    def costs(
        self, class_logits: torch.Tensor, mask_logits: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor
    ) -> torch.Tensor:
        """Costs float32 ``[B, Q, M]``.

        Parameters
        ----------
        class_logits : ``[B, Q, S + 1]``.
        mask_logits : ``[B, Q, h, w]``.
        labels : slot of each target, int64 ``[B, M]``; -1 is padding.
        masks : of the targets, ``[B, M, H, W]``.
        """
        batch, queries = mask_logits.shape[:2]
        targets = masks.shape[1]
        if self.points is None:
            places = pixel_centres(*masks.shape[2:]).to(mask_logits.device).expand(batch, -1, -1)
        else:
            places = torch.rand(batch, self.points, 2, device=mask_logits.device)
        predicted = _at(mask_logits.float(), places)
        truth = _at(masks.float(), places)
        probability = class_logits.float().softmax(-1)
        named = probability.gather(2, labels.clamp(min=0)[:, None].expand(batch, queries, targets))
        positive = functional.softplus(-predicted) @ truth.transpose(1, 2)
        negative = functional.softplus(predicted) @ (1 - truth).transpose(1, 2)
        entropy = (positive + negative) / places.shape[1]
        share = predicted.sigmoid()
        both = share @ truth.transpose(1, 2)
        dice = 1 - (2 * both + 1) / (share.sum(-1)[:, :, None] + truth.sum(-1)[:, None] + 1)
        return -self.class_cost * named + self.mask_cost * entropy + self.dice_cost * dice

    def forward(
        self, class_logits: torch.Tensor, mask_logits: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor
    ) -> torch.Tensor:
        """Query of each target, int64 ``[B, M]``; -1 for padding, and for targets beyond the number of queries.

        Arguments as in ``costs``.
        """
        cost = self.costs(class_logits, mask_logits, labels, masks).cpu().numpy()
        found = np.full(labels.shape, -1, np.int64)
        for number, row in enumerate(labels.cpu().numpy()):
            real = np.flatnonzero(row >= 0)
            queries, targets = linear_sum_assignment(cost[number][:, real])
            found[number, real[targets]] = queries
        return torch.as_tensor(found, device=labels.device)


def _at(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Values of maps ``[B, N, h, w]`` at places ``[B, P, 2]`` of their image: ``[B, N, P]``."""
    batch, number = maps.shape[:2]
    flat = places[:, None].expand(batch, number, *places.shape[1:]).flatten(0, 1)
    return sample(maps.flatten(0, 1), flat).unflatten(0, (batch, number))
