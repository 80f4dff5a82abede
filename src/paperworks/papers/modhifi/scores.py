"""Scores of contributions from moments and weights: which inputs of a layer carry its output."""

from __future__ import annotations

from typing import Literal

import torch

from paperworks.errors import InputError

ScoreName = Literal["rowsum", "singleton", "alpha", "cholesky", "energy"]
SCORES: tuple[str, ...] = ("rowsum", "singleton", "alpha", "cholesky", "energy")
DEAD = 1e-8
"""Contributions with less than this share of the largest energy of their output count as zero in quotients."""


def similarity_matrix(weight: torch.Tensor, gram: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """Q of one output: Q_ij = w_i' G_(i)(j) w_j, float64 [n, n].

    Parameters
    ----------
    weight : one row of the layer's matrix [d].
    gram : E[p p'] [d, d] of the output's group.
    blocks : columns of every component [n, m]: its inputs times the positions of a kernel.
    """
    n, m = blocks.shape
    flat = blocks.flatten()
    w = weight[flat]
    if m == 1:
        return w[:, None] * gram[flat][:, flat] * w
    half = (gram[flat][:, flat].view(n * m, n, m) * w.view(n, m)).sum(2)
    return (half.view(n, m, n) * w.view(n, m, 1)).sum(1)


def sums(
    matrix: torch.Tensor, gram: torch.Tensor, blocks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rowsums r_ci = E<Y_c, A_ci> and energies q_ii = E||A_ci||^2 [c_out, n], and E||Y_c||^2 [c_out]: one product W G.

    ``matrix`` [c_out, d] and ``gram`` [groups, d, d]; outputs of a grouped layer stand group by group.
    """
    groups, d, _ = gram.shape
    grouped = matrix.view(groups, -1, d)
    products = (grouped * (grouped @ gram)).view(-1, d)
    n, m = blocks.shape
    rowsum = products[:, blocks.flatten()].view(-1, n, m).sum(2)
    kernels = grouped[:, :, blocks.flatten()].view(groups, -1, n, m)
    inner = gram[:, blocks[:, :, None], blocks[:, None, :]]
    energy = torch.einsum("gcnm,gnmk,gcnk->gcn", kernels, inner, kernels).reshape(-1, n)
    return rowsum, energy.clamp(min=0), products.sum(1)


def contribution_scores(
    matrix: torch.Tensor, gram: torch.Tensor, blocks: torch.Tensor, score: str, ridge: float = 0.0
) -> torch.Tensor:
    """Scores of every component for every output, float64 [c_out, n]; larger means higher fidelity.

    - ``rowsum``: E<Y_c, A_ci>, the form that the paper uses for convolutional networks;
    - ``singleton``: FS_c({i}) = r^2 / (q_ii E||Y_c||^2);
    - ``alpha``: r / q_ii, the best scale of a component on its own;
    - ``cholesky``: squared norms of the rows of the Cholesky factor of Q + ridge I, which are q_ii + ridge;
    - ``energy``: q_ii = E||A_ci||^2; summed over outputs of a linear layer, G_ii ||W_:i||^2.
    """
    if score not in SCORES:
        raise InputError("score", repr(score), f"one of {', '.join(SCORES)}")
    rowsum, energy, total = sums(matrix, gram, blocks)
    if score == "rowsum":
        return rowsum
    if score == "energy":
        return energy
    if score == "cholesky":
        return energy + ridge
    alive = energy > DEAD * energy.amax(1, keepdim=True)
    if score == "alpha":
        return torch.where(alive, rowsum / energy.clamp(min=1e-300), 0.0)
    alive &= total[:, None] > 0
    return torch.where(alive, rowsum.square() / (energy * total[:, None]).clamp(min=1e-300), 0.0).clamp(0, 1)
