"""The kept inputs of a layer are rescaled so that they stand in for those that are dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from paperworks.errors import InputError
from paperworks.papers.modhifi.layers import ReadLayer
from paperworks.papers.modhifi.scores import similarity_matrix

Compensation = Literal["scalar", "kernel", "none"]
RidgeMode = Literal["relative", "absolute"]
ROWS_PER_COLUMN = 5
"""With fewer rows of calibration than this times the kept columns, least squares fits the sample, not the layer."""


@dataclass
class Target:
    """Second moments that a compensation is fitted on, float64.

    Attributes
    ----------
    gram : E[p p'] of what the layer reads now [groups, d, d].
    cross : E[p_dense p'] [groups, d, d]: what it read in the dense model with what it reads now; ``gram`` where nothing
        in front of the layer has changed.
    dense : E[p_dense p_dense'].
    """

    gram: torch.Tensor
    cross: torch.Tensor
    dense: torch.Tensor

    @classmethod
    def of(cls, gram: torch.Tensor) -> Target:
        """For a layer that reads what it read in the dense model."""
        return cls(gram, gram, gram)

    def error(self, before: torch.Tensor, after: torch.Tensor) -> float:
        """E||W p_dense - W' p||^2 over all outputs, for matrices [c_out, d]."""
        groups, d, _ = self.gram.shape
        w, v = before.view(groups, -1, d), after.view(groups, -1, d)
        return float(((w @ self.dense) * w - 2 * (w @ self.cross) * v + (v @ self.gram) * v).sum().clamp(min=0))

    def energy(self, before: torch.Tensor) -> float:
        """E||W p_dense||^2 over all outputs."""
        return self.error(before, torch.zeros_like(before))


def ridge_of(diagonal: torch.Tensor, ridge: float, mode: RidgeMode) -> float:
    """What is added to a diagonal: ``ridge`` times its mean, or ``ridge`` itself."""
    return ridge * float(diagonal.mean()) if mode == "relative" else ridge


def without_dropped(matrix: torch.Tensor, blocks: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
    """The matrix with zeros in the columns of dropped components; ``dropped`` bool [n]."""
    cut = matrix.clone()
    cut[:, blocks[dropped].flatten()] = 0
    return cut


def compensated(
    matrix: torch.Tensor,
    target: Target,
    blocks: torch.Tensor,
    dropped: torch.Tensor,
    *,
    mode: Compensation = "scalar",
    ridge: float = 1e-4,
    ridge_mode: RidgeMode = "relative",
) -> torch.Tensor:
    """The matrix [c_out, d] without the dropped components, the others rescaled for the best reconstruction.

    - ``scalar``: one scale for each (output, component), delta* = 1 + Q_CC^{-1} (b_C - Q_CC 1) with
      b_i = E<Y_c, A_ci>, for every output on its own. Where components have one column (linear layers), this is the
      least-squares solution for free columns, one solve for all outputs: W'_C = W X_C (G_CC)^{-1}, X the cross moments.
    - ``kernel``: that solution for kernels, too: every position of a kept kernel is free.
    - ``none``: zeros only.

    Parameters
    ----------
    blocks : columns of every component [n, m]; together they cover all columns.
    dropped : bool [n].
    ridge, ridge_mode : added to the diagonal of what is solved: a share of its mean, or a number. It pulls towards the
        weights as they are.
    """
    cut = without_dropped(matrix, blocks, dropped)
    kept = ~dropped
    if mode == "none" or not bool(kept.any()):
        return cut
    if mode not in ("scalar", "kernel"):
        raise InputError("compensation", mode, "scalar, kernel or none")
    if ridge < 0:
        raise InputError("ridge", ridge, "0 or more")
    groups, d, _ = target.gram.shape
    columns = blocks[kept].flatten()
    grouped, zeroed = matrix.view(groups, -1, d), cut.view(groups, -1, d)
    if mode == "kernel" or blocks.shape[1] == 1:
        for g in range(groups):
            inside = target.gram[g][columns][:, columns]
            wanted = grouped[g] @ target.cross[g][:, columns] - zeroed[g][:, columns] @ inside
            zeroed[g][:, columns] += _solved(inside, wanted.T, ridge, ridge_mode).T
        return zeroed.view_as(matrix)
    index = kept.nonzero().flatten()
    for g in range(groups):
        b = (grouped[g] @ target.cross[g] * grouped[g])[:, blocks.flatten()].view(-1, *blocks.shape).sum(2)
        for c in range(grouped.shape[1]):
            inside = similarity_matrix(zeroed[g, c], target.gram[g], blocks[index])
            change = _solved(inside, (b[c, index] - inside.sum(1))[:, None], ridge, ridge_mode)[:, 0]
            zeroed[g, c, columns] *= (1 + change).repeat_interleave(blocks.shape[1])
    return zeroed.view_as(matrix)


def _solved(inside: torch.Tensor, right: torch.Tensor, ridge: float, mode: RidgeMode) -> torch.Tensor:
    added = ridge_of(inside.diagonal(), ridge, mode)
    if added > 0:
        lower, failed = torch.linalg.cholesky_ex(inside + added * torch.eye(len(inside), dtype=inside.dtype))
        if int(failed) == 0:
            return torch.cholesky_solve(right, lower)
    return torch.linalg.pinv(inside, hermitian=True, rtol=1e-12) @ right


def too_few_rows(rows: int, layer: ReadLayer, kept: int, mode: Compensation) -> str:
    """A warning where calibration has too few rows for the unknowns of one output; empty otherwise."""
    unknowns = kept * layer.kernel if mode == "kernel" else kept
    if mode == "none" or rows >= ROWS_PER_COLUMN * unknowns:
        return ""
    return f"{layer.path}: {rows:,} rows of calibration for {unknowns:,} kept inputs; more samples would be safer"
