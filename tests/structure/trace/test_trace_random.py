"""Whatever a random network does, a cut is the masked model or is refused."""

from __future__ import annotations

import pytest
import torch
from random_networks import RandomNetwork

from paperworks.structure import random_scores
from paperworks.structure.trace import analyze, cut, masked_outputs, ranked_plan
from paperworks.structure.trace.capture import call
from paperworks.structure.trace.positions import largest_difference


@pytest.mark.parametrize("seed", range(12))
def test_cut_equals_masked(seed: int) -> None:
    torch.manual_seed(seed)
    model = RandomNetwork(seed).double().eval()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "running_var" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1:
                tensor.normal_(0.3)
    inputs = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    groups = analyze(model, inputs)
    if not len(groups.units):
        assert groups.blocked
        return
    plan = ranked_plan(groups, random_scores(groups.units, torch.Generator().manual_seed(seed)), keep=0.5)
    smaller = cut(groups, plan)
    assert largest_difference(masked_outputs(groups, plan), call(smaller, inputs)) < 1e-11
    assert groups.cost(plan).parameters == sum(p.numel() for p in smaller.parameters())
