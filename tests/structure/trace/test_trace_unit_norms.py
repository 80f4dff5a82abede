"""Norms and cosines over units: zeros add nothing to them, so that a cut is exact; where they do, it is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from paperworks.structure.trace import analyze, cut, masked_outputs
from paperworks.structure.trace.capture import call
from paperworks.structure.trace.positions import largest_difference

Between = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Normed(nn.Module):
    """Two linear layers of nine units, what is made of both, and a linear layer that reads it."""

    def __init__(self, between: Between) -> None:
        super().__init__()
        self.a, self.b, self.out, self.between = nn.Linear(5, 9), nn.Linear(5, 9), nn.Linear(9, 3), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.between(functional.silu(self.a(x)), self.b(x)))


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a * functional.cosine_similarity(a, b, dim=1)[:, None]


EXACT: dict[str, Between] = {
    "normalize": lambda a, b: functional.normalize(a, dim=-1) * b,
    "normalize by sums": lambda a, b: functional.normalize(a, p=1.0, dim=-1) + b,
    "normalize by the largest": lambda a, b: functional.normalize(a, p=float("inf"), dim=-1) + b,
    "cosine": cosine,
    "norm of all": lambda a, b: a / torch.linalg.norm(b),
    "number that are not zero": lambda a, b: a / b.norm(p=0, dim=-1, keepdim=True),
    "expanded like another": lambda a, b: a * b.sum(-1, keepdim=True).expand_as(a),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_cut_under_a_norm_is_exact(name: str) -> None:
    torch.manual_seed(0)
    groups = analyze(Normed(EXACT[name]).double().eval(), torch.randn(4, 5, dtype=torch.float64))
    names = [group.name for group in groups.values() if group.by_default]
    assert {s.param for n in names for s in groups[n].slices} >= {"a.weight", "b.weight", "out.weight"}
    plan = groups.keep({key: [0, 3, 4, 8] for key in names})
    smaller = cut(groups, plan)
    assert (smaller.a.out_features, smaller.b.out_features) == (4, 4)
    assert largest_difference(masked_outputs(groups, plan), call(smaller, groups.inputs)) < 1e-12
    assert largest_difference(call(groups.model, groups.inputs), call(smaller, groups.inputs)) > 1e-6


REFUSED: dict[str, tuple[Between, str]] = {
    "sigmoid": (lambda a, b: functional.normalize(torch.sigmoid(a), dim=-1) * b, "masked positions are not zero"),
    "cosine to a sigmoid": (lambda a, b: cosine(a, torch.sigmoid(b)), "masked positions are not zero"),
    "negative order": (lambda a, b: b / a.norm(p=-1, dim=-1, keepdim=True), "a norm that zeros change"),
    "matrix": (lambda a, b: b / torch.linalg.norm(a, ord=2, dim=(0, 1)), "a norm that zeros change"),
    "distance": (lambda a, b: a * functional.pairwise_distance(a, b)[:, None], "pairwise_distance"),  # adds 1e-6 to all
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_norm_that_zeros_change_is_refused(name: str) -> None:
    between, reason = REFUSED[name]
    groups = analyze(Normed(between).eval(), torch.randn(4, 5))
    refused = next(line for line in str(groups).splitlines() if line.lstrip().startswith("a.weight (9 positions)"))
    assert reason in refused
    assert not any(s.param == "a.weight" for group in groups.values() for s in group.slices if s.axis == 0)
