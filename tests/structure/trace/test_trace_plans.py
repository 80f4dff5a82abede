"""Plans out of scores, surgery and its way back, optimizers, and training after a cut."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_networks import network

from paperworks.errors import InputError
from paperworks.structure import KeepPlan, TaylorScores, magnitude_scores
from paperworks.structure.trace import TracedGroups, analyze, cut, mask_model, masked_outputs, ranked_plan
from paperworks.structure.trace.capture import call
from paperworks.structure.trace.positions import largest_difference


@pytest.fixture(scope="module")
def residual() -> TracedGroups:
    return analyze(*network("residual"))


def test_magnitude_is_that_of_all_members(residual: TracedGroups) -> None:
    scores = magnitude_scores(residual.model, residual.units, norm=2)
    model = residual.model
    expected = (
        model.a.weight.float().square().sum((1, 2, 3))
        + model.a.bias.float().square()
        + model.b.weight.float().square().sum((0, 2, 3))
    )
    torch.testing.assert_close(scores[None, "a/channel"].float(), expected.detach())


def test_taylor_scores_work_on_traced_units(residual: TracedGroups) -> None:
    def loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        return model(batch["x"]).square().sum(), 2

    with TaylorScores(residual.model, residual.units) as taylor:
        taylor.add({"x": residual.inputs[0]}, loss)
        scores = taylor.scores("param_first")
    assert {key: len(score) for key, score in scores.items()} == {k: s.n_units for k, s in residual.units.items()}


@pytest.mark.parametrize("measure", ["macs", "parameters"])
def test_targets_are_met_and_nearly_used(residual: TracedGroups, measure: str) -> None:
    scores = magnitude_scores(residual.model, residual.units)
    plan = ranked_plan(residual, scores, **{measure: 0.5})
    share = getattr(residual.cost(plan), measure) / getattr(residual.cost(), measure)
    assert 0.35 < share <= 0.5


def test_global_ranking_takes_the_best_of_all() -> None:
    groups = analyze(*network("mlp"))
    scores = {
        (None, "0/ffn"): torch.arange(12.0),
        (None, "3/ffn"): torch.tensor([0.0, 20, 21, 22, 23, 24, 25, 26]),
    }
    plan = ranked_plan(groups, scores, keep=0.5, normaliser="none", min_share=0)
    assert plan.kept == {(None, "0/ffn"): (9, 10, 11), (None, "3/ffn"): (1, 2, 3, 4, 5, 6, 7)}
    plan = ranked_plan(groups, scores, keep=0.5, scope="group", multiple_of=4)
    assert [len(ids) for ids in plan.kept.values()] == [8, 4]
    tied = ranked_plan(groups, {(None, "0/ffn"): torch.ones(12)}, keep=0.25)
    assert tied.kept == {(None, "0/ffn"): (0, 1, 2)}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "target"),
        ({"keep": 0.5, "macs": 0.5}, "target"),
        ({"keep": 0.0}, "keep"),
        ({"macs": 1.5}, "macs"),
        ({"macs": 0.001}, "macs"),
        ({"keep": 0.5, "scope": "layer"}, "scope"),
        ({"keep": 0.5, "normaliser": "median"}, "normaliser"),
        ({"keep": 0.5, "scores": {}}, "scores"),
        ({"keep": 0.5, "scores": {(None, "a/channel"): torch.ones(3)}}, "scores[a/channel]"),
        ({"keep": 0.5, "scores": {(None, "a/channel"): torch.full((12,), torch.nan)}}, "scores[a/channel]"),
        ({"keep": 0.5, "scores": {(None, "x"): torch.ones(3)}}, "group"),
    ],
)
def test_bad_targets(residual: TracedGroups, options: dict, field: str) -> None:
    given = {"scores": magnitude_scores(residual.model, residual.units), **options}
    with pytest.raises(InputError) as caught:
        ranked_plan(residual, **given)
    assert caught.value.field == field


def test_groups_out_of_the_default_are_named() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, 2))
    groups = analyze(model, torch.randn(3, 4))
    with pytest.raises(InputError, match=r"0/hidden \(a norm is taken over the units\)"):
        ranked_plan(groups, magnitude_scores(model, groups.units), keep=0.5)
    with pytest.raises(InputError, match="reaches the output of the model"):
        ranked_plan(analyze(torch.nn.Linear(3, 2), torch.randn(2, 3)), {}, keep=0.5)


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (KeepPlan({(None, "a/channel"): ()}, {(None, "a/channel"): 12}), "plan[a/channel]"),
        (KeepPlan({(None, "a/channel"): (0,)}, {(None, "a/channel"): 11}), "plan[a/channel]"),
        (KeepPlan({(None, "x"): (0,)}, {(None, "x"): 2}), "plan"),
        (KeepPlan({(0, "ffn"): (0,)}, {(0, "ffn"): 2}), "plan"),
    ],
)
def test_bad_plans(residual: TracedGroups, plan: KeepPlan, field: str) -> None:
    with pytest.raises(InputError) as caught:
        cut(residual, plan)
    assert caught.value.field == field


def test_a_plan_goes_through_json(residual: TracedGroups) -> None:
    plan = residual.keep({"a/channel": [0, 5], "stem/channel": torch.tensor([True] * 3 + [False] * 5)})
    assert KeepPlan.from_json(plan.to_json()) == plan
    assert plan.kept[None, "stem/channel"] == (0, 1, 2)


def test_a_cut_in_place_takes_the_optimizer_along() -> None:
    model, inputs = network("residual", torch.float32)
    optimizer = torch.optim.Adam(model.parameters())
    model(*inputs).square().sum().backward()
    optimizer.step()
    groups = analyze(model, inputs)
    old, moments = model.a.weight, optimizer.state[model.a.weight]["exp_avg"].clone()
    assert cut(groups, groups.keep({"a/channel": [1, 4, 7]}), inplace=True, optimizer=optimizer) is model
    assert model.a.weight is not old
    torch.testing.assert_close(optimizer.state[model.a.weight]["exp_avg"], moments[[1, 4, 7]])
    torch.testing.assert_close(model.a.weight.grad, old.grad[[1, 4, 7]])
    model(*inputs).square().sum().backward()
    optimizer.step()
    with pytest.raises(InputError, match="analyse the model anew"):
        cut(groups, groups.keep({"a/channel": [1, 4, 7]}))
    again = analyze(model, inputs)
    assert again["a/channel"].n_units == 3


def test_tied_weights_stay_tied() -> None:
    groups = analyze(*network("grouped"))
    smaller = cut(groups, groups.keep({"table/hidden": range(1, 24)}))
    assert smaller.head.weight is smaller.table.weight
    assert smaller.table.embedding_dim == smaller.head.in_features == 23
    assert smaller.norm.normalized_shape == (23,)


def test_masks_leave_the_model_alone_and_can_be_renewed(residual: TracedGroups) -> None:
    plan = residual.keep({"stem/channel": [0, 1], "b/channel": [3, 4, 5]})
    before = copy.deepcopy(residual.model.state_dict())
    masked = mask_model(residual, plan)
    assert all(torch.equal(v, residual.model.state_dict()[k]) for k, v in before.items())
    assert largest_difference(call(masked, residual.inputs), masked_outputs(residual, plan)) == 0
    assert not masked.stem.weight[2:].any()


def test_costs_are_polynomials_that_can_be_differentiated(residual: TracedGroups) -> None:
    """d MACs / d share of a's 12 channels: all of a's, and what b does with them."""
    share = torch.ones((), requires_grad=True)
    macs = residual.cost_model.macs({(None, "a/channel"): share})
    assert float(macs.detach()) == residual.cost().macs
    macs.backward()
    assert float(share.grad) == 2 * 64 * 9 * 12 * (8 + 16)
