"""Families of transformers: a cut is the masked model to 1e-5; the groups are those of Torch-Pruning or explained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_families import FAMILIES, family

from paperworks.structure import magnitude_scores
from paperworks.structure.trace import analyze, cut, masked_outputs, ranked_plan
from paperworks.structure.trace.capture import call
from paperworks.structure.trace.positions import largest_difference

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

THEIRS_ALONE = {
    "segformer": 1,  # joins queries and keys with values and output where there is one head; the code cuts neither
    "clip": 2,  # the streams, which reach the outputs last_hidden_state: protected here
}
UNKNOWN_THERE = {"gpt2", "llama"}
"""transformers' Conv1D is no layer that Torch-Pruning knows; on grouped queries its search for groups does not end."""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cut_of_every_family(name: str) -> None:
    trace_torch_pruning = pytest.importorskip("trace_torch_pruning")
    pytest.importorskip("torch_pruning")
    model, inputs = family(name)
    groups = analyze(model, inputs)
    plan = ranked_plan(groups, magnitude_scores(model, groups.units), keep=0.5)
    smaller = cut(groups, plan)
    assert largest_difference(masked_outputs(groups, plan), call(smaller, inputs)) < 1e-5
    assert groups.cost(plan).parameters == sum(p.numel() for p in smaller.parameters())
    assert groups.cost(plan).parameters < 0.9 * groups.cost().parameters
    if name in UNKNOWN_THERE:
        return
    ours = {trace_torch_pruning.own_members(model, group) for group in groups.values()}
    theirs = trace_torch_pruning.groups_of_torch_pruning(model, inputs)
    assert len([group for group in theirs if group not in ours]) == THEIRS_ALONE.get(name, 0)
    assert len(theirs) > THEIRS_ALONE.get(name, 0)
