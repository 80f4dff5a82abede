"""Uniform models inside a budget: the stock class, the largest common width, the best units at it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from tiny_plans import random_plan
from tiny_transformers import outputs, tiny, token_ids

from paperworks.errors import InputError
from paperworks.structure import count, magnitude_scores, prune, uniform_within, units_of


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
