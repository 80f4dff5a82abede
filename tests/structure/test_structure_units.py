"""Units and plans: index lists against loops, what printing shows, checks, composition, JSON."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_plans import FAMILIES, MIXED, numel, random_plan
from tiny_transformers import same_weights, tiny

from paperworks.errors import InputError
from paperworks.structure import IndexMap, KeepPlan, count, kinds_of, prune, units_of


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_inside_their_axis_and_units_do_not_overlap(family):
    model = tiny(family)
    for unit_set in units_of(model, kinds_of(model)).values():
        for piece in unit_set.slices:
            size = model.get_parameter(piece.param).shape[piece.axis]
            every = piece.index.positions()
            assert piece.index.n_units == unit_set.n_units
            assert every.dtype == torch.int64
            assert len(every.unique()) == len(every)
            assert 0 <= int(every[0]) <= int(every[-1]) < size
            owner = piece.index.owner(size)
            for unit in range(unit_set.n_units):
                assert (owner == unit).nonzero().flatten().tolist() == piece.index.positions([unit]).tolist()


def test_positions_of_llama_are_those_of_the_table():
    model = tiny("llama")  # 4 heads in 2 groups, 8 channels, 48 in the feed-forward
    units = units_of(model, kinds_of(model))
    found = {
        (p.param.split("layers.1.")[1], p.axis): p.index.positions([1]).tolist() for p in units[1, "kv_group"].slices
    }
    assert found == {
        ("self_attn.q_proj.weight", 0): list(range(16, 32)),
        ("self_attn.k_proj.weight", 0): list(range(8, 16)),
        ("self_attn.v_proj.weight", 0): list(range(8, 16)),
        ("self_attn.o_proj.weight", 1): list(range(16, 32)),
    }
    pair = {p.param.rsplit(".", 2)[1]: p.index.positions([1]).tolist() for p in units[0, "qk_pair"].slices}
    assert pair == {"q_proj": [1, 5, 9, 13, 17, 21, 25, 29], "k_proj": [1, 5, 9, 13]}
    value = {p.param.rsplit(".", 2)[1]: p.index.positions([1]).tolist() for p in units[0, "v_channel"].slices}
    assert value == {"v_proj": [1, 9], "o_proj": [1, 9, 17, 25]}
    text = str(units[1, "ffn"])
    assert text.splitlines()[0] == "ffn of layer 1: 48 units"
    assert "model.layers.1.mlp.down_proj.weight, axis 1: u" in text


def test_fused_matrices_are_indexed_where_their_parts_lie():
    units = units_of(tiny("phi3"), ["ffn", "kv_group"])
    gate_up, down = units[0, "ffn"].slices
    assert gate_up.index.positions([3]).tolist() == [3, 51]
    assert down.index.positions([3]).tolist() == [3]
    value = units[0, "kv_group"].slices[2]
    assert value.index.positions([1]).tolist() == list(range(32 + 16 + 8, 32 + 16 + 16))
    conv = units_of(tiny("gpt2"), ["ffn"])[0, "ffn"].slices
    assert [(p.param.split("h.0.")[1], p.axis) for p in conv] == [
        ("mlp.c_fc.weight", 1),
        ("mlp.c_fc.bias", 0),
        ("mlp.c_proj.weight", 0),
    ]


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 9), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_reduce_is_the_sum_of_a_loop(n, m, spare, random):
    places = list(range(n * m + spare))
    random.shuffle(places)
    index = IndexMap(torch.tensor(places[: n * m]).view(n, m))
    scores = torch.arange(len(places), dtype=torch.float64) ** 2
    expected = [sum(float(scores[p]) for p in row) for row in index.table.tolist()]
    assert index.reduce(scores).tolist() == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_the_counter_knows_the_parameters_of_a_pruned_model(family):
    model = tiny(family)
    for seed, kinds in enumerate((MIXED, ("ffn",), ("q_head", "ffn"), ("attention_in", "feed_forward_out"))):
        plan = random_plan(model, kinds, seed=seed)
        assert count(model, plan).parameters == numel(prune(model, plan, inplace=False))
    assert count(model).parameters == numel(model)


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2"])
def test_plans_compose(family):
    model = tiny(family)
    first = random_plan(model, ["ffn", "qk_pair", "layer", "v_channel"], seed=3)
    once = prune(model, first, inplace=False)
    second = random_plan(once, ["ffn", "qk_pair", "v_channel", "layer"], seed=4)
    twice = prune(once, second, inplace=False)
    together = prune(model, KeepPlan.from_json(first.then(second).to_json()), inplace=False)
    assert same_weights(twice, together)
    assert twice.config.layer_widths == together.config.layer_widths


def test_plans_on_different_layers_commute():
    model = tiny("qwen3")
    plan = random_plan(model, ["ffn", "kv_group"])
    parts = []
    for layer in range(3):
        kept = {key: ids for key, ids in plan.kept.items() if key[0] == layer}
        parts.append(KeepPlan(kept, {key: plan.sizes[key] for key in kept}))
    one, other = model, model
    for part in parts:
        one = prune(one, part, inplace=False)
    for part in reversed(parts):
        other = prune(other, part, inplace=False)
    assert same_weights(one, other)
    assert same_weights(one, prune(model, plan, inplace=False))


@pytest.mark.parametrize(
    ("kept", "sizes", "field"),
    [
        ({(0, "ffn"): (3, 1)}, {(0, "ffn"): 48}, "plan[0/ffn]"),
        ({(0, "ffn"): (0, 48)}, {(0, "ffn"): 48}, "plan[0/ffn]"),
        ({(0, "ffn"): (0,)}, {}, "plan"),
        ({(0, "ffn"): (0,)}, {(0, "ffn"): 40}, "plan[0/ffn]"),
        ({(7, "ffn"): (0,)}, {(7, "ffn"): 48}, "layers"),
        ({(0, "nose"): (0,)}, {(0, "nose"): 48}, "plan"),
        ({(0, "hidden"): (0,)}, {(0, "hidden"): 32}, "plan"),
        ({(None, "hidden"): ()}, {(None, "hidden"): 32}, "plan[model/hidden]"),
        ({(0, "q_head"): (0, 1, 2)}, {(0, "q_head"): 4}, "plan[0/q_head]"),
        ({(0, "q_head"): (0, 1)}, {(0, "q_head"): 4}, "plan[0/q_head]"),
        ({(i, "kv_group"): () for i in range(3)}, {(i, "kv_group"): 2 for i in range(3)}, "plan"),
        (
            {(None, "hidden"): (0,), (0, "attention_in"): (0,)},
            {(None, "hidden"): 32, (0, "attention_in"): 32},
            "plan[model/hidden]",
        ),
    ],
)
def test_bad_plans_change_nothing(kept, sizes, field):
    model = tiny("llama")
    before = {name: p.clone() for name, p in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        prune(model, KeepPlan(kept, sizes))
    assert caught.value.field == field
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert type(model).__name__ == "LlamaForCausalLM"


def test_multiples_and_least_numbers():
    model = tiny("llama")
    plan = KeepPlan.of(units_of(model, ["ffn"]), {(0, "ffn"): range(20)})
    plan.validate(model, multiple_of=4, min_units=20)
    with pytest.raises(InputError, match="multiple of 16"):
        plan.validate(model, multiple_of={"ffn": 16})
    with pytest.raises(InputError, match="at least 24"):
        prune(model, plan, min_units=24)
    with pytest.raises(InputError, match="JSON that is no plan"):
        KeepPlan.from_json('{"0/ffn": [1, 2]}')


def test_unknown_kinds_and_models_are_named():
    with pytest.raises(InputError, match="for opt one of"):
        units_of(tiny("opt"), ["attention_in"])
    model = tiny("llama")
    model.config.model_type = "lama"
    with pytest.raises(InputError, match="register_spec"):
        units_of(model)
