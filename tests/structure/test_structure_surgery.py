"""The core's contract: a cut model is the masked model, for every family and kind of unit."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_plans import ENDS, FAMILIES, MIXED, distance, kept_outputs, numel, random_masks, random_plan
from tiny_transformers import outputs, same_weights, tiny, token_ids

from paperworks.errors import InputError
from paperworks.structure import KeepPlan, check_prunable, kinds_of, masked, prune, units_of
from paperworks.training import add_lora, merge_lora

CASES = [("ffn",), ("kv_group",), ("q_head",), ("qk_pair",), ("v_channel",), ("hidden",), ("layer",), ENDS, MIXED]


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_is_masked_with_soft_values_folded_and_masks_leave_no_trace(family):
    model, ids = tiny(family), token_ids(2, 12)
    padded = torch.ones(2, 12, dtype=torch.int64)
    padded[0, :5] = 0
    plain = outputs(model, ids)
    for kinds in CASES:
        masks = random_masks(model, kinds)
        if not masks:
            continue
        with masked(model, masks):
            expected = kept_outputs(model, ids, masks)
            behind_padding = kept_outputs(model, ids, masks, attention_mask=padded)
        assert torch.equal(outputs(model, ids), plain)
        cut = prune(model, KeepPlan.from_masks(masks), inplace=False)
        assert distance(outputs(cut, ids), expected) < 1e-5, kinds
        assert distance(outputs(cut, ids, attention_mask=padded)[0, 5:], behind_padding[0, 5:]) < 1e-5
        assert numel(cut) < numel(model) or kinds == ("q_head",)
        soft = {
            key: mask if key[1] == "layer" else mask * (0.5 + 0.5 * torch.rand_like(mask))
            for key, mask in masks.items()
        }
        for gate in ("intermediate", "gate_up"):
            with masked(model, soft, ffn_gate=gate):
                expected = kept_outputs(model, ids, masks)
            cut = prune(model, KeepPlan.from_masks(soft), inplace=False, fold=soft, ffn_gate=gate)
            if family in ("qwen3",) and "qk_pair" in kinds:
                continue  # a norm follows: rounding of its sum of squares is larger
            assert distance(outputs(cut, ids), expected) < 1e-5, (kinds, gate)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_keep_and_masks_of_one_change_no_bit(family):
    model, ids = tiny(family), token_ids(2, 12)
    plain = outputs(model, ids)
    ones = {key: torch.ones_like(mask) for key, mask in random_masks(model, kinds_of(model)).items()}
    with masked(model, ones):
        assert torch.equal(outputs(model, ids), plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    kept = prune(model, KeepPlan.from_masks({k: v for k, v in ones.items() if k[1] != "hidden"}), inplace=False)
    assert same_weights(kept, model)
    assert torch.equal(outputs(kept, ids), plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_sub_blocks_without_units_are_skipped(family):
    model, ids = tiny(family), token_ids(2, 12)
    masks = random_masks(model, ["ffn", "kv_group"])
    masks[0, "kv_group"][:] = 0
    masks[1, "ffn"][:] = 0
    with masked(model, masks):
        expected = outputs(model, ids)
    cut = prune(model, KeepPlan.from_masks(masks), inplace=False)
    assert distance(outputs(cut, ids), expected) < 1e-5
    if family != "bert":
        made = [cut.generate(ids[:, :4], max_new_tokens=5, do_sample=False, use_cache=use) for use in (True, False)]
        assert torch.equal(*made)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_is_that_of_the_masked_model_with_and_without_cache(family):
    if family == "bert":
        pytest.skip("an encoder")
    model, ids = tiny(family), token_ids(2, 6)
    masks = random_masks(model, ("ffn", "q_head", "qk_pair", "v_channel", "layer"))
    how = {"max_new_tokens": 6, "do_sample": False}
    with masked(model, masks):
        expected = model.generate(ids, use_cache=False, **how)
    cut = prune(model, KeepPlan.from_masks(masks), inplace=False)
    for use in ({"use_cache": False}, {"use_cache": True}, {"cache_implementation": "static", "disable_compile": True}):
        assert torch.equal(cut.generate(ids, **how, **use), expected), use
    left = torch.cat([torch.zeros(2, 3, dtype=torch.int64), ids], 1)
    padded = cut.generate(left, attention_mask=(left != 0).long(), **how)
    assert torch.equal(padded[:, 3:], expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_dimensions_that_are_zero_in_the_stream_are_cut_without_loss(family):
    model, ids = tiny(family), token_ids(2, 12)
    masks = random_masks(model, ["hidden"])
    units = units_of(model, ["hidden"])[None, "hidden"]
    gone = (masks[None, "hidden"] == 0).nonzero().flatten()
    with torch.no_grad():
        for gate in units.gates:
            module = model.get_submodule(gate.module)
            if module.weight.ndim == 1 or isinstance(module, torch.nn.Embedding):
                module.weight[..., gone] = 0
            elif hasattr(module, "nf"):
                module.weight[:, gone] = 0
            else:
                module.weight[gone] = 0
            if getattr(module, "bias", None) is not None:
                module.bias[gone] = 0
    plain = outputs(model, ids)
    cut = prune(model, KeepPlan.from_masks(masks), inplace=False)
    expected = plain[..., masks[None, "hidden"].bool()] if family == "bert" else plain
    assert distance(outputs(cut, ids), expected) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_training_goes_on_after_surgery_and_moments_follow(family):
    model, ids = tiny(family), token_ids(2, 12)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(m):
        out = m(input_ids=ids)[0]
        loss = out.float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    held = step(model)  # a graph that is still referred to must not disturb the next
    moments = {
        name: optimizer.state[p]["exp_avg"].clone() for name, p in model.named_parameters() if optimizer.state[p]
    }
    units = units_of(model, ["ffn", "layer"])
    plan = KeepPlan.of(units, {(0, "ffn"): [1, 5, 7, 40], (None, "layer"): [0, 2]})
    prune(model, plan, optimizer=optimizer)
    for piece in units[0, "ffn"].slices:
        found = optimizer.state[model.get_parameter(piece.param)]["exp_avg"]
        places = [1, 5, 7, 40] if piece.index.table.shape[1] == 1 else [1, 5, 7, 40, 49, 53, 55, 88]
        assert torch.equal(found, moments[piece.param].index_select(piece.axis, torch.tensor(places)))
    held_by = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held_by == {id(p) for p in model.parameters()}
    assert {id(p) for p in optimizer.state} <= held_by
    model.gradient_checkpointing_enable()
    before = model.get_parameter(units[0, "ffn"].slices[0].param).clone()
    step(model)
    assert not torch.equal(before, model.get_parameter(units[0, "ffn"].slices[0].param))
    assert held is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_are_cut_with_the_model_attach_to_it_train_and_merge(family):
    model, ids = tiny(family), token_ids(2, 12)
    leaves = sorted(
        {s.module.rsplit(".", 1)[1] for u in units_of(model, ["ffn", "kv_group"]).values() for s in u.slices}
    )
    lora = add_lora(copy.deepcopy(model), leaves, r=3, alpha=3, dropout=0)
    with torch.no_grad():
        for name, parameter in lora.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)) * 0.1)
    masks = random_masks(model, ["ffn", "kv_group", "v_channel"])
    with masked(lora, masks):
        expected = outputs(lora, ids)
    prune(lora, KeepPlan.from_masks(masks))
    assert distance(outputs(lora, ids), expected) < 1e-5
    lora.train()
    lora(input_ids=ids)[0].square().mean().backward()
    assert all(p.grad is not None for n, p in lora.named_parameters() if p.requires_grad and "pooler" not in n)
    merged = merge_lora(lora)
    assert distance(outputs(merged.eval(), ids), expected) < 1e-5
    again = add_lora(merged, leaves, r=2)
    assert torch.equal(outputs(again.eval(), ids), outputs(merged, ids))


def test_masks_on_the_frozen_part_alone():
    model, ids = tiny("llama"), token_ids(2, 12)
    masks = random_masks(model, ["ffn", "v_channel", "qk_pair"])
    with masked(model, masks):
        expected = outputs(model, ids)
    lora = add_lora(
        model, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], r=2, dropout=0
    )
    with masked(lora, masks, base_only=True):
        assert distance(outputs(lora, ids), expected) < 1e-6  # B is zero
    layer = lora.get_base_model().model.layers[0].mlp.up_proj
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))
    with masked(lora, masks, base_only=True):
        found = layer(x)
    m = masks[0, "ffn"]
    low = layer.lora_B["default"](layer.lora_A["default"](x)) * layer.scaling["default"]
    torch.testing.assert_close(found, layer.base_layer(x) * m + low)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_masks(checkpointing):
    model, ids = tiny("llama"), token_ids(2, 12)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    kinds = ["ffn", "kv_group", "hidden", "layer"]
    masks = {key: torch.full_like(mask, 0.9).requires_grad_() for key, mask in random_masks(model, kinds).items()}
    with masked(model, masks):
        model(input_ids=ids, use_cache=False)[0].square().mean().backward()
        gradients = {key: mask.grad.clone() for key, mask in masks.items()}
        key, unit = (1, "ffn"), 3
        values = []
        for shift in (-1e-2, 1e-2):
            with torch.no_grad():
                masks[key][unit] += shift
                values.append(float(model(input_ids=ids, use_cache=False)[0].square().mean()))
                masks[key][unit] -= shift
    assert all(bool((g != 0).any()) for g in gradients.values())
    assert float(gradients[key][unit]) == pytest.approx((values[1] - values[0]) / 2e-2, rel=0.05, abs=1e-5)


def test_what_cannot_be_cut_is_refused():
    from peft import LoraConfig, get_peft_model

    model = tiny("llama")
    before = {name: p.clone() for name, p in model.state_dict().items()}
    plan = random_plan(model, ["ffn"])
    with pytest.raises(InputError, match="found shape"), masked(model, {(0, "ffn"): torch.ones(3)}):
        pass
    with pytest.raises(InputError, match=r"fold\[0/ffn\]"):
        prune(model, plan, fold={(0, "ffn"): torch.ones(3)})
    with pytest.raises(InputError, match="NaN"):
        prune(model, plan, fold={(0, "ffn"): torch.full((48,), float("nan"))})
    with pytest.raises(InputError, match="soft values"):
        prune(model, plan, fold={(None, "layer"): torch.full((3,), 0.5)})
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    with pytest.raises(InputError, match="DoRA"):
        prune(get_peft_model(tiny("llama"), LoraConfig(target_modules=["q_proj"], use_dora=True)), plan)
    model.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(InputError, match="quantization_config"):
        check_prunable(model)
    with torch.device("meta"):
        empty = type(tiny("llama"))(tiny("llama").config)
    with pytest.raises(InputError, match="meta device"):
        prune(empty, plan)
