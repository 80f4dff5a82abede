"""Text-guided knowledge distillation, and the forms that it is compared with.

V student regions, R teacher regions, T texts of the regions: unit rows of one image, N of them
distance   (1/N) sum_i sum_j | |V_i - R_j| - |T_i - T_j| |           the paper's
inner      mean of (a T_i.T_j - V_i.R_j)^2 over all pairs and |V_i - R_i|^2 over i     the released code's
point      (1/N) sum_i |V_i - R_i|^2                                 without the text
vision     (1/N) sum_i sum_j | |V_i - R_j| - |V_i - V_j| |           the student's own geometry for the text's
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError

Form = Literal["distance", "inner", "point", "vision"]
FORMS: tuple[str, ...] = get_args(Form)
_LEAST = 1e-12
"""Least squared distance under the root: the gradient of a root at 0 is infinite, and i = j gets there."""


def distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Euclidean distances ``[n, m]`` of rows; from differences, so that equal rows have the same distance exactly."""
    return (x[:, None] - y[None]).square().sum(-1).clamp(min=_LEAST).sqrt()


class TextGuidedDistillation(nn.Module):
    """The distances of the student's regions to the teacher's follow those of their texts.

    Parameters
    ----------
    form : "distance" (the paper's), "inner" (the released code's), "point" and "vision" (its ablations).
    reduction : "sum" divides the sum over pairs by N, as the paper does, so that the loss grows with the number of
        regions of an image; "mean" divides by the number of pairs. "inner" is a mean in either case.

    Attributes
    ----------
    similarity_scale : the factor a of form "inner", learned, 1 at the start.

    Examples
    --------
    >>> rows = torch.eye(4)[:3]
    >>> float(TextGuidedDistillation()(rows, rows, rows))
    0.0
    """

    def __init__(self, form: Form = "distance", reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        if form not in FORMS:
            raise InputError("form", repr(form), f"one of {', '.join(FORMS)}")
        if reduction not in ("sum", "mean"):
            raise InputError("reduction", repr(reduction), "sum or mean")
        self.form, self.reduction = form, reduction
        self.similarity_scale = nn.Parameter(torch.ones(())) if form == "inner" else None

    def forward(
        self, student: torch.Tensor, teacher: torch.Tensor, text: torch.Tensor, image: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The mean over images of their loss; 0, with a gradient of 0, without any region.

        Parameters
        ----------
        student, teacher : ``[N, D]``, of any norm; they are normalised.
        text : ``[N, E]``; E may differ from D, since only distances are compared.
        image : image of each region, int ``[N]``; None means one image.
        """
        if student.shape != teacher.shape or len(text) != len(student):
            found = f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}, text {tuple(text.shape)}"
            raise InputError("regions", found, "[N, D], [N, D] and [N, E]")
        with torch.autocast(student.device.type, enabled=False):
            dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
            v, r, t = (functional.normalize(x.to(dtype), dim=-1) for x in (student, teacher, text))
            if len(v) == 0:
                return student.sum() * 0
            image = torch.zeros(len(v), dtype=torch.int64, device=v.device) if image is None else image
            losses = []
            for one in image.unique():
                rows = image == one
                losses.append(self._of_image(v[rows], r[rows], t[rows]))
            return torch.stack(losses).mean()

    def _of_image(self, v: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        number = len(v)
        if self.form == "point":
            return (v - r).square().sum() / number
        if self.form == "inner":
            assert self.similarity_scale is not None
            pairs = (self.similarity_scale * (t @ t.T) - v @ r.T).square()
            points = (v - r).square().sum(1)
            return (pairs.sum() + points.sum()) / (number * number + number)
        wanted = distances(t, t) if self.form == "distance" else distances(v, v)
        total = (distances(v, r) - wanted).abs().sum()
        return total / (number if self.reduction == "sum" else number * number)


def region_limit(count: int, most: int, device: torch.device | None = None) -> torch.Tensor:
    """Rows of a random subset of at most ``most`` regions, in order, int64."""
    if count <= most:
        return torch.arange(count, device=device)
    return torch.randperm(count, device=device)[:most].sort().values
