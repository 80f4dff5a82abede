"""Uniform models inside a budget: the stock class, the largest common width, the best units at it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from tiny_plans import ENDS, random_plan
from tiny_transformers import outputs, tiny, token_ids

from paperworks.errors import InputError
from paperworks.structure import (
    FAMILIES,
    KeepPlan,
    count,
    magnitude_scores,
    prune,
    uniform_export,
    uniform_within,
    units_of,
)
from paperworks.structure.export import as_stock
from paperworks.structure.uniform import round_widths


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "phi3"])
def test_the_common_width_is_the_largest_in_the_budget(kind: str, tmp_path: Path) -> None:
    model = tiny(kind)
    dense = count(model)
    target = int(0.85 * dense.parameters)
    uniform = uniform_within(copy.deepcopy(model), target)
    found = sum(p.numel() for p in uniform.parameters())
    one = count(model).parameters - count(model, random_plan(model, ["ffn"])).parameters
    assert target - one < found <= target
    uniform.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(outputs(loaded, token_ids(2)), outputs(uniform, token_ids(2)), rtol=0, atol=0)
    assert type(loaded).__module__.startswith("transformers.")


def test_a_dense_model_keeps_its_best_channels() -> None:
    model = tiny("llama")
    scores = magnitude_scores(model, units_of(model, ["ffn", "kv_group"]))
    best = scores[0, "ffn"].argsort(descending=True)[:8].sort().values
    rows = model.model.layers[0].mlp.up_proj.weight[best].clone()
    fixed = count(model).parameters - 3 * 48 * 3 * 32
    uniform = uniform_within(model, fixed + 3 * 8 * 3 * 32, scores, multiple_of=8)
    assert torch.equal(uniform.model.layers[0].mlp.up_proj.weight, rows)


def test_a_pruned_model_of_unequal_widths_is_evened_out() -> None:
    model = tiny("llama")
    prune(model, random_plan(model, ["ffn", "kv_group"], 0.5))
    target = count(model).parameters
    uniform = uniform_within(model, target, multiple_of=4)
    assert sum(p.numel() for p in uniform.parameters()) <= target
    assert uniform.config.intermediate_size % 4 == 0


def test_a_budget_out_of_reach_says_the_least() -> None:
    with pytest.raises(InputError, match="the narrowest uniform model"):
        uniform_within(tiny("llama"), 1000)


@pytest.mark.parametrize(
    ("kind", "kinds", "share"),
    [
        ("llama", ("ffn", "kv_group", "hidden"), 0.6),
        ("qwen3", ("ffn", "kv_group", "hidden"), 0.6),
        ("qwen3", ("ffn", "qk_pair", "v_channel"), 0.6),
        ("gpt2", ("ffn", "kv_group", "hidden"), 0.6),
        ("phi", ("ffn", "hidden"), 0.6),
        ("llama", ENDS, 0.6),
    ],
)
def test_what_a_stock_class_cannot_have_is_filled_up(kind: str, kinds: tuple[str, ...], share: float) -> None:
    """Streams, heads, rotary pairs and ends of blocks: the stock model computes what the pruned one does."""
    model, ids = tiny(kind), token_ids(2)
    cut = prune(model, random_plan(model, kinds, share))
    wanted = outputs(cut, ids)
    stock = uniform_export(cut)
    assert type(stock).__name__ == FAMILIES[kind].model_class
    torch.testing.assert_close(outputs(stock, ids), wanted, rtol=1e-4, atol=1e-5)


def test_three_heads_that_do_not_divide_the_hidden_size() -> None:
    """LlamaConfig takes 3 heads in no stream of 32 dimensions: the message says so, and the export fills them up."""
    model, ids = tiny("llama", num_key_value_heads=4), token_ids(2)
    units = units_of(model, ["kv_group"])
    cut = prune(model, KeepPlan.of(units, {key: [0, 1, 3] for key in units}))
    with pytest.raises(InputError, match="divides the hidden size 32"):
        as_stock(cut)
    stock = uniform_export(cut)
    assert stock.config.num_attention_heads == 4
    torch.testing.assert_close(outputs(stock, ids), outputs(cut, ids), rtol=1e-4, atol=1e-5)
    within = uniform_within(cut, count(cut).parameters)
    assert sum(p.numel() for p in within.parameters()) <= count(cut).parameters


@pytest.mark.parametrize("kinds", [("qk_pair", "v_channel", "ffn"), ("ffn", "kv_group", "hidden"), ENDS])
def test_filling_up_stays_inside_the_budget(kinds: tuple[str, ...]) -> None:
    model = tiny("llama")
    target = int(0.9 * count(model).parameters)
    prune(model, random_plan(model, kinds, 0.5))
    stock = uniform_within(model, target, multiple_of=4)
    assert sum(p.numel() for p in stock.parameters()) <= target


def test_rounding_gives_blocks_to_those_that_lost_most() -> None:
    key = [(layer, "ffn") for layer in range(3)]
    kept = {key[0]: 47, key[1]: 23, key[2]: 9, (0, "kv_group"): 3}
    whole = {key[0]: 48, key[1]: 48, key[2]: 48, (0, "kv_group"): 4}
    found = round_widths(kept, whole, lambda n: sum(n.values()), 82, 8)
    assert found == {key[0]: 48, key[1]: 16, key[2]: 8, (0, "kv_group"): 3}
    assert round_widths(kept, whole, lambda n: sum(n.values()), 82, 1) == kept
    with pytest.raises(InputError, match="round_to"):
        round_widths(kept, whole, lambda n: sum(n.values()), 20, 8)
