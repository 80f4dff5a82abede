"""SparseGPT 2:4 against its definition, brute force and magnitude."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from paperworks.papers.slicegpt.sparsegpt import sparsify_2_4


def moments(inputs: int, seed: int) -> torch.Tensor:
    x = torch.randn(400, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mix = torch.randn(inputs, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    return (x @ mix).T @ (x @ mix)


def loss(w: torch.Tensor, sparse: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return ((w - sparse) @ h * (w - sparse)).sum(1)


def test_two_of_four_are_zero() -> None:
    w = torch.randn(16, 264, generator=torch.Generator().manual_seed(0))
    sparse = sparsify_2_4(w, moments(264, 1))
    assert ((sparse.reshape(16, -1, 4) == 0).sum(2) == 2).all()


def test_with_uncorrelated_inputs_it_is_magnitude() -> None:
    w = torch.randn(8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    sparse = sparsify_2_4(w, torch.eye(12) * 7.0)
    largest = w.abs().reshape(8, 3, 4).argsort(2)[:, :, 2:]
    expected = torch.zeros_like(w).reshape(8, 3, 4).scatter_(2, largest, 1.0).reshape(8, 12) * w
    torch.testing.assert_close(sparse, expected)


def test_never_below_the_optimum() -> None:
    w = torch.randn(32, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    h = moments(4, 10)
    best = torch.full((32,), torch.inf, dtype=torch.float64)
    for kept in combinations(range(4), 2):
        keep = list(kept)
        optimal = torch.zeros_like(w)
        # least squares with the other two weights at zero
        optimal[:, keep] = torch.linalg.solve(h[keep][:, keep], (h[keep] @ w.T)).T
        best = torch.minimum(best, loss(w, optimal, h))
    ours = loss(w, sparsify_2_4(w, h, damping=1e-12), h)
    assert (ours >= best - 1e-9).all()
    assert (ours < best + 1e-9).any()


@pytest.mark.parametrize("seed", range(3))
def test_better_than_magnitude_on_correlated_inputs(seed: int) -> None:
    w = torch.randn(32, 160, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    h = moments(160, 10 * seed)
    largest = w.abs().reshape(32, -1, 4).argsort(2)[:, :, 2:]
    magnitude = w * torch.zeros_like(w).reshape(32, -1, 4).scatter_(2, largest, 1.0).reshape(32, 160)
    assert loss(w, sparsify_2_4(w, h), h).sum() < 0.8 * loss(w, magnitude, h).sum()


def test_silent_inputs_are_zeroed() -> None:
    h = moments(8, 3)
    h[2], h[:, 2] = 0.0, 0.0
    assert (sparsify_2_4(torch.ones(3, 8), h)[:, 2] == 0).all()
