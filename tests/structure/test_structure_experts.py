"""Mixtures of experts: whole experts and their channels are units; the cut model is the masked one, and loads again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_plans import assert_cut_is_masked_and_loads_again, random_plan
from tiny_transformers import VOCAB, outputs, token_ids

from paperworks.errors import InputError
from paperworks.pruning.baselines import fill, pruned_kinds
from paperworks.structure import (
    FAMILIES,
    KeepPlan,
    TaylorScores,
    activation_scores,
    count,
    kinds_of,
    magnitude_scores,
    masked,
    prune,
    save_model,
    stock_config,
    uniform_export,
    uniform_within,
    units_of,
)
from paperworks.structure.units import records_of

BASE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_experts_per_tok": 2,
}
QWEN = {"num_experts": 6, "moe_intermediate_size": 16, "head_dim": 8, "norm_topk_prob": False}
MORE: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 6},
    "qwen2_moe": QWEN | {"shared_expert_intermediate_size": 14, "mlp_only_layers": [1]},
    "qwen3_moe": QWEN | {"decoder_sparse_step": 2, "num_hidden_layers": 4},
    "granitemoe": {"num_local_experts": 6, "attention_multiplier": 0.3, "residual_multiplier": 0.7},
    "olmoe": {"num_experts": 6},
    "gpt_oss": {"num_local_experts": 6, "head_dim": 8, "sliding_window": 4},
    "deepseek_v2": {
        "n_routed_experts": 6,
        "n_shared_experts": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
        "head_dim": 4,
        "num_key_value_heads": 4,
    },
}
EXPERT_FAMILIES = sorted(name for name, family in FAMILIES.items() if family.experts is not None)


def tiny_experts(kind: str, **changes: Any) -> Any:
    family = FAMILIES[kind]
    config = getattr(transformers, family.config_class)(**{**BASE, **MORE[kind], **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, family.model_class)(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("kind", EXPERT_FAMILIES)
def test_cut_is_masked_and_loads_again(kind: str, tmp_path: Path) -> None:
    model, ids = tiny_experts(kind), token_ids(2, 12)
    kinds = [name for name in kinds_of(model) if name not in ("q_head", "layer")]
    assert {"expert", "expert_channel"} <= set(kinds)
    plan = random_plan(model, kinds)
    assert_cut_is_masked_and_loads_again(model, ids, plan, tmp_path / "cut")


@pytest.mark.parametrize("kind", EXPERT_FAMILIES)
def test_every_layer_has_experts_of_its_own(kind: str, tmp_path: Path) -> None:
    """Different numbers by layer, a dropped layer, and generation from the cache."""
    model, ids = tiny_experts(kind), token_ids(1, 8)
    units = units_of(model, ["expert", "layer"])
    sparse = [key for key in units if key[1] == "expert"]
    kept: dict[Any, list[int]] = {key: [0, *range(2 + number, 6)] for number, key in enumerate(sparse)}
    kept[None, "layer"] = list(range(1, units[None, "layer"].n_units))
    plan = KeepPlan.of(units, kept)
    with masked(model, plan.masks()):
        wanted = outputs(model, ids)
    cut = prune(model, plan)
    torch.testing.assert_close(outputs(cut, ids), wanted, rtol=1e-4, atol=1e-5)
    save_model(cut, tmp_path / "cut")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    torch.testing.assert_close(outputs(loaded, ids), wanted, rtol=1e-4, atol=1e-5)
    found = loaded.generate(ids, max_new_tokens=4, do_sample=False, use_cache=True)
    assert found.tolist() == loaded.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False).tolist()


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_equal_layers_are_a_stock_checkpoint(kind: str, tmp_path: Path) -> None:
    model, ids = tiny_experts(kind), token_ids(2, 12)
    units = units_of(model, ["expert"])
    cut = prune(model, KeepPlan.of(units, {key: [0, 2, 3, 5] for key in units}))
    channels = units_of(cut, ["expert_channel"])
    some = {key: [u for u in range(s.n_units) if u % (s.n_units // 4) < 6] for key, s in channels.items()}
    cut = prune(cut, KeepPlan.of(channels, some))
    assert stock_config(cut) is None  # six channels are no multiple of 8, which products in groups want
    stock = uniform_export(cut)
    assert stock.config.num_local_experts == 4
    assert records_of(stock)[1]["expert_channels"] == 8
    stock.save_pretrained(tmp_path / "cut")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    assert type(loaded).__module__.startswith("transformers.")
    torch.testing.assert_close(outputs(loaded, ids), outputs(cut, ids), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_filled_up_is_said(tmp_path: Path) -> None:
    model = tiny_experts("mixtral")
    cut = prune(model, KeepPlan.of(units_of(model, ["expert"]), {(1, "expert"): [0, 1, 2]}))
    with pytest.raises(InputError, match="experts"):
        uniform_export(cut)


def test_scores_of_experts_against_loops() -> None:
    model, ids = tiny_experts("mixtral"), token_ids(2, 12)
    units = units_of(model, ["expert", "expert_channel"], [1])
    experts, gate = model.model.layers[1].mlp.experts, model.model.layers[1].mlp.gate
    magnitude = magnitude_scores(model, units)
    for e in range(6):
        parts = (gate.weight[e], experts.gate_up_proj[e], experts.down_proj[e])
        wanted = sum(float(part.detach().double().square().sum()) for part in parts)
        assert float(magnitude[1, "expert"][e]) == pytest.approx(wanted, rel=1e-5)
        one = (experts.gate_up_proj[e, 3], experts.gate_up_proj[e, 12 + 3], experts.down_proj[e, :, 3])
        wanted = sum(float(part.detach().double().square().sum()) for part in one)
        assert float(magnitude[1, "expert_channel"][e * 12 + 3]) == pytest.approx(wanted, rel=1e-5)
    with TaylorScores(model, units) as taylor:
        taylor.add({"input_ids": ids})
        found = taylor.scores()
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    for e in range(6):
        parts = (gate.weight, experts.gate_up_proj, experts.down_proj)
        wanted = sum(float((p[e] * p.grad[e]).detach().abs().sum()) for p in parts)
        assert float(found[1, "expert"][e]) == pytest.approx(wanted, rel=1e-4)
    seen: list[Any] = []
    hook = gate.register_forward_hook(lambda m, args, out: seen.append((args[0].detach(), *out)))
    activation = activation_scores(model, units, [{"input_ids": ids}])
    hook.remove()
    x, _, weights, index = seen[0]
    for e in range(6):
        share = torch.where(index == e, weights, 0).sum(-1).detach()
        assert float(activation[1, "expert"][e]) == pytest.approx(float(share.square().mean()), rel=1e-4)
        g, u = (x.reshape(-1, 32) @ experts.gate_up_proj[e].detach().T).chunk(2, -1)
        mean = ((torch.nn.functional.silu(g) * u) * share[:, None]).square().mean(0)
        torch.testing.assert_close(
            activation[1, "expert_channel"][e * 12 : e * 12 + 12], mean.double(), rtol=1e-4, atol=0
        )


def test_multiplications_are_those_of_the_experts_that_a_token_goes_to() -> None:
    model = tiny_experts("mixtral")
    attention = 2 * 32 * 32 + 2 * 32 * 16
    per_layer = attention + 6 * 32 + 2 * 3 * 32 * 12
    assert count(model).macs == 3 * per_layer + 32 * VOCAB
    units = units_of(model, ["expert"])
    fewer = count(model, KeepPlan.of(units, {key: [0, 1, 2] for key in units}))
    assert fewer.macs == 3 * (per_layer - 3 * 32) + 32 * VOCAB
    assert count(model).parameters - fewer.parameters == 3 * 3 * (32 + 3 * 32 * 12)


def test_as_many_experts_stay_as_a_token_goes_to() -> None:
    model = tiny_experts("mixtral")
    units = units_of(model, ["expert", "expert_channel"])
    with pytest.raises(InputError, match="at least 2"):
        prune(model, KeepPlan.of(units, {(0, "expert"): [3]}))
    with pytest.raises(InputError, match="channels kept by expert"):
        prune(model, KeepPlan.of(units, {(0, "expert_channel"): [0, 1, 2]}))


def test_soft_channels_fold_and_soft_experts_do_not() -> None:
    model, ids = tiny_experts("gpt_oss"), token_ids(2, 8)
    masks = {(1, "expert_channel"): torch.rand(72, generator=torch.Generator().manual_seed(0))}
    with masked(model, masks):
        wanted = outputs(model, ids)
    with pytest.raises(InputError, match="soft values"):
        prune(model, KeepPlan(), fold={(0, "expert"): torch.full((6,), 0.5)})
    torch.testing.assert_close(outputs(prune(model, KeepPlan(), fold=masks), ids), wanted, rtol=1e-4, atol=1e-5)


def test_the_configuration_says_what_is_left(tmp_path: Path) -> None:
    model = tiny_experts("qwen2_moe")
    units = units_of(model, ["expert", "ffn"])
    assert {key[0] for key in units if key[1] == "expert"} == {0, 2}
    assert [units[layer, "ffn"].n_units for layer in range(3)] == [14, 12, 14]
    cut = prune(model, KeepPlan.of(units, {(0, "expert"): [1, 2, 4], (1, "ffn"): [0, 1], (2, "ffn"): [5]}))
    save_model(cut, tmp_path / "cut")
    widths = json.loads((tmp_path / "cut" / "config.json").read_text())["layer_widths"]
    assert [(w["ffn"], w["experts"]) for w in widths] == [(14, 3), (2, 0), (1, 6)]
    assert records_of(cut)[0]["expert_channels"] == 16


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_plain_methods_meet_a_budget_with_experts(kind: str) -> None:
    model, ids = tiny_experts(kind), token_ids(2, 12)
    units = units_of(model, pruned_kinds(model))
    target = int(0.75 * count(model).parameters)
    plan = fill(model, units, magnitude_scores(model, units), target)
    cut = prune(model, plan)
    assert 0.93 * target < sum(p.numel() for p in cut.parameters()) <= target
    assert all(r["experts"] in (0, *range(2, 6)) for r in records_of(cut))
    assert bool(torch.isfinite(outputs(cut, ids)).all())


@pytest.mark.parametrize("share", [0.8, 0.55])
def test_a_uniform_mixture_inside_a_budget(share: float) -> None:
    model, ids = tiny_experts("qwen3_moe", moe_intermediate_size=24), token_ids(2, 8)
    target = int(share * count(model).parameters)
    uniform = uniform_within(model, target)
    size = sum(p.numel() for p in uniform.parameters())
    assert size <= target
    assert type(uniform).__name__ == "Qwen3MoeForCausalLM"
    assert uniform.config.moe_intermediate_size % 8 == 0
    assert bool(torch.isfinite(outputs(uniform, ids)).all())


def test_a_uniform_mixture_out_of_reach_says_the_least() -> None:
    with pytest.raises(InputError, match="the narrowest uniform model"):
        uniform_within(tiny_experts("mixtral"), 100)
