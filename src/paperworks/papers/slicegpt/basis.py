"""The basis of one point of the stream, from the second moment of its signal."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

BasisKind = Literal["pca", "axis", "random"]
DAMPING = 0.01
"""Added to the diagonal as a fraction of its mean; moves all eigenvalues alike and no eigenvector."""


def stream_basis(moment: torch.Tensor, kind: BasisKind, seed: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """An orthogonal basis [D, D] with its most important directions first, and the energy [D] along each of them.

    ``moment``: C = X^T X, [D, D], in the type that the eigenvectors are found in; it is overwritten. Both results are
    float64. ``pca``: eigenvectors of C, by decreasing eigenvalue
    (the energies are the eigenvalues). ``axis``: the coordinates themselves, by decreasing energy. ``random``: a Haar
    matrix drawn from ``seed``.
    """
    width = moment.shape[0]
    if kind == "pca":
        damping = DAMPING * moment.diagonal().mean()
        moment.diagonal().add_(damping)
        energies, vectors = torch.linalg.eigh(moment)
        return vectors.flip(1).double(), (energies.flip(0) - damping).clamp(min=0).double()
    if kind == "axis":
        energies, order = moment.diagonal().double().sort(descending=True, stable=True)
        return torch.eye(width, dtype=torch.float64, device=moment.device)[:, order], energies
    basis = haar(width, seed).to(moment.device)
    return basis, ((moment.double() @ basis) * basis).sum(0)


def haar(width: int, seed: tuple[int, int]) -> torch.Tensor:
    """A uniformly distributed orthogonal matrix, float64 [width, width]: QR of a Gaussian with its signs fixed."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state) & (2**63 - 1))
    q, r = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=generator))
    return q * r.diagonal().sign()
