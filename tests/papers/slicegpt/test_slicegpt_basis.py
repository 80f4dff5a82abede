"""The basis of a cut is the best of its width, and is found on what the sliced prefix really computes."""

from __future__ import annotations

import copy
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_transformers import D, outputs, tiny, token_ids

from paperworks.papers.slicegpt import SliceGPT
from paperworks.papers.slicegpt.basis import haar, stream_basis
from paperworks.structure import FAMILIES, fold_norms, rotate


def _lost(x: torch.Tensor, basis: torch.Tensor) -> float:
    return float((x - x @ basis @ basis.T).square().sum())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 8))
def test_principal_components_lose_least(seed, d):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 9, dtype=torch.float64, generator=generator) @ torch.randn(
        9, 9, dtype=torch.float64, generator=generator
    )
    basis, energies = stream_basis(x.T @ x, "pca", (0, 0))
    lost = _lost(x, basis[:, :d])
    total = float(x.square().sum())
    assert abs(lost - float(energies[d:].sum())) < 1e-9 * total
    assert float((basis.T @ basis - torch.eye(9, dtype=torch.float64)).abs().max()) < 1e-12
    for number in range(20):
        assert lost <= _lost(x, haar(9, (seed, number))[:, :d]) + 1e-9 * total
    axes = torch.eye(9, dtype=torch.float64)
    for kept in combinations(range(9), d):
        assert lost <= _lost(x, axes[:, list(kept)]) + 1e-9 * total


def test_axes_go_by_energy_and_random_bases_are_orthogonal():
    x = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x * torch.tensor([1.0, 5, 2, 0.1, 3, 4], dtype=torch.float64)
    basis, energies = stream_basis(x.T @ x, "axis", (0, 0))
    assert basis.argmax(0).tolist() == [1, 5, 4, 2, 0, 3]
    torch.testing.assert_close(energies, (x @ basis).square().sum(0))
    basis, energies = stream_basis(x.T @ x, "random", (4, 2))
    torch.testing.assert_close(energies, (x @ basis).square().sum(0))
    assert torch.equal(basis, haar(6, (4, 2)))
    assert not torch.equal(basis, haar(6, (4, 3)))
    torch.testing.assert_close(basis @ basis.T, torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["llama", "opt", "phi", "bert"])
def test_each_cut_is_measured_on_the_network_that_is_sliced_up_to_it(kind):
    """Cut everything before point c and nothing after it: its spectrum must be that of the stream seen there."""
    family, ids = FAMILIES[kind], token_ids(16, 24)
    model = tiny(kind, torch.float64)
    method = SliceGPT(0.25, orientation="pca")
    report = method.fit(copy.deepcopy(model), ids).report_
    points = len(report.cuts)
    bases: list[torch.Tensor] = []
    for c in range(points):
        folded = fold_norms(copy.deepcopy(model))
        rest = points + bool(family.head) - len(bases)
        whole = rotate(folded, [*bases, *[torch.eye(D, dtype=torch.float64)] * rest])
        seen: list[torch.Tensor] = []
        layers = whole.get_submodule(family.layers)
        each = len(family.blocks)
        if c == 0:
            where, hook = layers[0], None
            if family.embedding_norm:
                hook = whole.get_submodule(family.embedding_norm).register_forward_pre_hook(
                    lambda module, args, seen=seen: seen.append(args[0])
                )
            else:
                hook = where.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
            outputs(whole, ids)
            hook.remove()
        else:
            layer, block = divmod(c - 1, each)
            name = layers[layer].sums[block]
            original = getattr(layers[layer], name)

            def spy(*args, original=original, seen=seen, **kwargs):
                seen.append(original(*args, **kwargs))
                return seen[-1]

            setattr(layers[layer], name, spy)
            outputs(whole, ids)
        x = seen[0].reshape(-1, D).double()
        basis, energies = stream_basis(x.T @ x, "pca", (0, 0))
        torch.testing.assert_close(
            torch.tensor(report.cuts[c].spectrum, dtype=torch.float64), energies / len(x), rtol=1e-7, atol=1e-9
        )
        width = report.cuts[c].width
        assert abs(report.cuts[c].kept - float(energies[:width].sum() / energies.sum())) < 1e-6
        bases.append(basis[:, :width])
