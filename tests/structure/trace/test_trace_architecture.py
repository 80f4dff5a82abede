"""One trace for all modules of an architecture: which those are, and groups that are taken over."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.structure import magnitude_scores
from paperworks.structure.trace import analyze, cut, masked_outputs, ranked_plan
from paperworks.structure.trace.architecture import architecture
from paperworks.structure.trace.capture import call

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Gated(nn.Module):
    """An attribute says whether the second layer is used; its weight may be that of the first."""

    def __init__(self, gated: bool = True, tied: bool = False) -> None:
        super().__init__()
        self.gated = gated
        self.first, self.second, self.last = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(8, 3)
        if tied:
            self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        hidden = self.first(x) * self.second(x).sigmoid() if self.gated else self.first(x)
        return self.last(hidden)


def test_only_the_values_of_tensors_may_differ() -> None:
    model = Gated()
    trained = copy.deepcopy(model).train()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(3)
    known = architecture(model, IMAGES)
    assert known is not None
    assert architecture(trained, IMAGES + 1) == known
    assert trained.training
    others = [Gated(gated=False), Gated(tied=True), Gated().double(), nn.Sequential(Gated())]
    found = [architecture(other, IMAGES) for other in others] + [architecture(model, IMAGES[:1])]
    assert None not in found
    assert known not in found


def test_code_that_was_replaced_is_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Gated()
    known = architecture(model, IMAGES)
    monkeypatch.setattr(Gated, "forward", lambda self, x: self.last(self.first(x.flatten(1))))
    assert architecture(model, IMAGES) not in (known, None)


def test_nothing_is_known_of_a_module_that_cannot_be_pickled() -> None:
    model = Gated()
    model.last.register_forward_hook(lambda module, args, out: out)
    assert architecture(model, IMAGES) is None


def test_groups_of_another_module_cut_that_module() -> None:
    model, other = Gated(), Gated()
    groups = analyze(model, IMAGES)
    taken = groups.of(other)
    plan = ranked_plan(taken, magnitude_scores(other, taken.units), macs=0.5)
    own = analyze(other, IMAGES)
    assert plan == ranked_plan(own, magnitude_scores(other, own.units), macs=0.5)
    small = cut(taken, plan)
    for a, b in zip(call(small, IMAGES), masked_outputs(own, plan), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert taken.cost(plan) == analyze(small, IMAGES).cost()
    assert groups.model is model
    with pytest.raises(InputError, match=r"first\.weight of shape \(\d, 16\)"):
        groups.of(small)
