"""Scores against loops and closed forms; budgets against the models that come out; gates against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_plans import FAMILIES, numel
from tiny_transformers import VOCAB, outputs, tiny, token_ids

from paperworks.errors import InputError
from paperworks.language import perplexity
from paperworks.structure import (
    HardConcrete,
    KeepPlan,
    LayerChange,
    StraightThroughGumbel,
    TaylorScores,
    activation_scores,
    count,
    exact_fill,
    magnitude_scores,
    prune,
    random_scores,
    solve_ratio,
    units_of,
)
from paperworks.structure.budgets import is_within, uniform_plan

MODES = ("param_first", "param_second", "param_mix", "vectorize")


def _gradients(model, batches):
    found = []
    for batch in batches:
        model.zero_grad()
        logits = model(input_ids=batch).logits[:, :-1].flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten()).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    model.zero_grad()
    return found


@pytest.mark.parametrize("mode", MODES)
def test_taylor_scores_of_grouped_heads_are_those_of_a_loop(mode):
    model = tiny("llama", num_attention_heads=8, num_key_value_heads=2)
    batches = [token_ids(2, 10, seed=s) for s in (1, 2)]
    model.requires_grad_(False)  # frozen weights are scored too, and stay frozen
    units = units_of(model, ["kv_group"])
    with TaylorScores(model, units, second_order=True) as taylor:
        for batch in batches:
            taylor.add({"input_ids": batch})
        found = taylor.scores(mode)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    model.requires_grad_(True)
    grads = _gradients(model, batches)
    hd, group = 4, 4
    for layer in range(3):
        attn = f"model.layers.{layer}.self_attn."
        for k in range(2):
            total = 0.0
            for name, axis, heads in (
                ("q_proj", 0, range(k * group, (k + 1) * group)),
                ("k_proj", 0, [k]),
                ("v_proj", 0, [k]),
                ("o_proj", 1, range(k * group, (k + 1) * group)),
            ):
                full = f"{attn}{name}.weight"
                w = model.get_parameter(full).detach()
                g = sum(gradient[full] for gradient in grads)
                h = sum(gradient[full] ** 2 for gradient in grads) / len(grads)
                member = 0.0
                for head in heads:
                    for c in range(head * hd, (head + 1) * hd):
                        wc, gc, hc = (t.select(axis, c) for t in (w, g, h))
                        if mode == "param_first":
                            member += float((wc * gc).abs().sum())
                        elif mode == "param_second":
                            member += float((wc * hc * wc).abs().sum())
                        elif mode == "param_mix":
                            member += float((wc * gc - 0.5 * wc * hc * wc).abs().sum())
                        else:
                            member += float((wc * gc).sum())
                total += abs(member)
            assert float(found[layer, "kv_group"][k]) == pytest.approx(total, rel=1e-4)


def test_permuting_groups_permutes_scores_and_leaves_the_logits():
    model, ids = tiny("qwen2", num_attention_heads=8, num_key_value_heads=4), token_ids(2, 10)
    units = units_of(model, ["kv_group"])
    before, plain = magnitude_scores(model, units), outputs(model, ids)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        for piece in units[1, "kv_group"].slices:
            parameter = model.get_parameter(piece.param)
            parameter.copy_(parameter.index_select(piece.axis, piece.index.table[order].flatten()))
    after = magnitude_scores(model, units)
    torch.testing.assert_close(outputs(model, ids), plain, rtol=1e-5, atol=1e-6)
    assert torch.equal(after[1, "kv_group"], before[1, "kv_group"][order])
    assert torch.equal(after[0, "kv_group"], before[0, "kv_group"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_channel_of_zeros_scores_zero_and_goes_first(family):
    if family == "bert":
        pytest.skip("no causal loss")
    model, ids = tiny(family), token_ids(2, 10)
    units = units_of(model, ["ffn"])
    with torch.no_grad():
        for piece in units[1, "ffn"].slices:
            model.get_parameter(piece.param).index_fill_(piece.axis, piece.index.positions([5]), 0)
    plain = outputs(model, ids)
    with TaylorScores(model, units) as taylor:
        taylor.add({"input_ids": ids})
        scores = taylor.scores()
    assert float(scores[1, "ffn"][5]) == 0
    assert int(scores[1, "ffn"].argmin()) == 5
    assert float(activation_scores(model, units, [{"input_ids": ids}])[1, "ffn"][5]) == 0
    cut = prune(model, KeepPlan.of(units, {(1, "ffn"): [i for i in range(units[1, "ffn"].n_units) if i != 5]}))
    torch.testing.assert_close(outputs(cut, ids), plain, rtol=1e-4, atol=1e-5)


def test_activation_scores_leave_padding_out():
    model, ids = tiny("llama"), token_ids(2, 10)
    mask = torch.ones(2, 10, dtype=torch.int64)
    mask[1, 6:] = 0
    units = units_of(model, ["ffn", "kv_group"])
    found = activation_scores(model, units, [{"input_ids": ids, "attention_mask": mask}])
    short = activation_scores(model, units, [{"input_ids": ids[:1]}, {"input_ids": ids[1:, :6]}])
    for key, scores in found.items():
        torch.testing.assert_close(scores, short[key], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "manhattan"])
def test_a_layer_that_adds_nothing_matters_least(metric):
    model, ids = tiny("llama"), token_ids(2, 10)
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.zero_()
        model.model.layers[1].mlp.down_proj.weight.zero_()
    with LayerChange(model, metric) as change:
        outputs(model, ids)
        importance = change.importance()
    assert int(importance.argmin()) == 1
    assert float(importance[1]) == pytest.approx(-1 if metric == "cosine" else 0, abs=1e-6)
    assert not any(m._forward_hooks for m in model.modules())
    with pytest.raises(InputError, match="no tokens"), LayerChange(model) as change:
        change.importance()


def test_bad_values_in_scores_are_named():
    model = tiny("llama")
    units = units_of(model)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        magnitude_scores(model, units)
    with pytest.raises(InputError, match="NaN"):
        activation_scores(model, units, [{"input_ids": token_ids(1, 8)}])
    with pytest.raises(InputError, match="calibration"), TaylorScores(model, units) as taylor:
        taylor.add({"input_ids": token_ids(1, 8)})


@pytest.mark.parametrize("measure", ["parameters", "macs", "bytes", "cache", "prunable"])
def test_a_solved_share_meets_its_target_and_no_larger_share_does(measure):
    model = tiny("llama")
    units = units_of(model)
    scores = magnitude_scores(model, units)
    now = getattr(count(model, context=16), measure)
    share, plan = solve_ratio(model, lambda s: uniform_plan(units, scores, s), 0.7 * now, measure=measure, context=16)
    assert getattr(count(model, plan, context=16), measure) <= 0.7 * now
    assert getattr(count(model, uniform_plan(units, scores, min(1.0, share + 0.03)), context=16), measure) > 0.7 * now
    with pytest.raises(InputError, match="at least"):
        solve_ratio(model, lambda s: uniform_plan(units, scores, s), 1, measure=measure)
    with pytest.raises(InputError, match="less than the model has"):
        solve_ratio(model, lambda s: uniform_plan(units, scores, s), 10 * now, measure=measure)


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2"])
def test_exact_fill_ends_within_one_unit_of_its_target(family):
    model = tiny(family)
    units = units_of(model)
    scores = random_scores(units, torch.Generator().manual_seed(0))
    target = int(0.8 * numel(model))
    assert not is_within(model, target)
    plan = exact_fill(model, units, scores, target)
    cut = prune(model, plan)
    channel = 0
    for piece in units[0, "ffn"].slices:
        parameter = cut.get_parameter(piece.param)
        channel += piece.index.table.shape[1] * parameter.numel() // parameter.shape[piece.axis]
    assert target - channel < numel(cut) <= target
    assert is_within(cut, target)
    with pytest.raises(InputError, match="at least"):
        exact_fill(cut, units_of(cut), random_scores(units_of(cut), torch.Generator()), 10)


def test_counts_of_a_llama_are_the_closed_forms():
    model = tiny("llama")  # D 32, 4 heads of 8, 2 groups, F 48, V 96, 3 layers
    cost = count(model, context=10)
    matrices = 3 * (32 * 32 * 2 + 2 * 16 * 32 + 3 * 32 * 48)
    assert cost.prunable == matrices
    assert cost.parameters == matrices + 2 * 96 * 32 + 7 * 32
    assert cost.macs == matrices + 96 * 32 + 3 * 10 * 4 * (8 + 8)
    assert cost.cache == 3 * 2 * 2 * 8 * 4
    assert cost.bytes == 4 * cost.parameters
    assert cost.shares(cost) == dict.fromkeys(["parameters", "prunable", "macs", "bytes", "cache"], 1.0)


@pytest.mark.parametrize("alpha", [-3.0, 0.0, 3.0])
def test_hard_concrete_opens_as_often_as_its_formula_says(alpha):
    gates = HardConcrete(1_000_000, mean=alpha)
    sample = gates.sample(torch.Generator().manual_seed(0))
    assert float((sample > 0).double().mean()) == pytest.approx(float(gates.p_nonzero()[0]), abs=0.002)
    assert float(gates.p_nonzero()[0]) == pytest.approx(1 / (1 + math.exp(-alpha - 2 / 3 * math.log(11))), abs=1e-6)


def test_hard_concrete_learns_rounds_and_clamps():
    gates = HardConcrete((2, 10), mean=HardConcrete.mean_for(0.01), generator=torch.Generator().manual_seed(1))
    gates.sample(torch.Generator().manual_seed(2)).sum().backward()
    assert gates.log_alpha.grad is not None
    with torch.no_grad():
        gates.log_alpha[0] = torch.linspace(-4, 4, 10)
        gates.log_alpha[1] = 9
    found = gates.deterministic()
    expected = round(10 - float(gates.p_nonzero()[0].sum()))
    assert int((found[0] == 0).sum()) == expected > 0
    assert bool((found[0, :expected] == 0).all())
    assert bool((found[1] > 0).all())
    gates.clamp_()
    assert float(gates.log_alpha.detach().max()) == pytest.approx(math.log(100))
    assert float(gates.deterministic().max()) == pytest.approx(1 / (1 + math.exp(-0.8 * math.log(100) * 1.5)))
    with pytest.raises(InputError, match="drop_rate"):
        HardConcrete.mean_for(1.0)


def test_gumbel_gates_are_hard_and_pass_the_soft_gradient():
    gates = StraightThroughGumbel(0.4, 3.0)
    logits = torch.full((200_000,), -3.0, requires_grad=True)
    hard = gates(logits, torch.Generator().manual_seed(0))
    assert set(hard.detach().unique().tolist()) == {0.0, 1.0}
    assert float(hard.detach().mean()) == pytest.approx(float(gates.p_keep(logits[:1].detach())), abs=0.005)
    hard.sum().backward()
    soft = gates.soft(torch.full((200_000,), -3.0, requires_grad=True), torch.Generator().manual_seed(0))
    torch.testing.assert_close(logits.grad, soft.detach() * (1 - soft.detach()) / 0.4)
    assert gates.deterministic(torch.tensor([-3.5, -3.6])).tolist() == [1.0, 0.0]


def test_ids_beyond_the_vocabulary_and_single_tokens_are_named() -> None:
    model = tiny("llama")
    units = units_of(model)
    for bad, message in ((VOCAB, f"token id {VOCAB}"), (-1, "token id -1")):
        ids = torch.tensor([[3, bad, 4]])
        with TaylorScores(model, units) as taylor, pytest.raises(InputError, match=message):
            taylor.add({"input_ids": ids})
        with pytest.raises(InputError, match=message):
            activation_scores(model, units, [{"input_ids": ids}])
        with pytest.raises(InputError, match=message):
            perplexity(model, ids)
    with TaylorScores(model, units) as taylor, pytest.raises(InputError, match="2 or more"):
        taylor.add({"input_ids": torch.tensor([[3]])})
