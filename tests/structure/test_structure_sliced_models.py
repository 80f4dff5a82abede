"""A sliced model does what a model of transformers does: generate, train, checkpoint gradients, take adapters."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from tiny_transformers import DECODERS, KINDS, D, outputs, random_basis, same_weights, tiny, token_ids
from transformers import AutoModelForCausalLM

from paperworks.structure import cuts_of, fold_norms, rotate
from paperworks.structure.layers_sliced import StreamMap


def sliced(kind: str, **changes):
    """Sliced at random, with another width at every point."""
    folded = fold_norms(tiny(kind, **changes))
    generator = torch.Generator().manual_seed(7)
    n = cuts_of(folded)
    bases = [random_basis(D, generator)[:, : (24 if cut % 2 else 20)] for cut in range(n)]
    bases[-1] = random_basis(D, generator)
    return rotate(folded, bases)


@pytest.mark.parametrize("kind", DECODERS)
def test_generation_with_cache_is_generation_without(kind):
    model = sliced(kind)
    ids = token_ids(3, 9)
    made = [model.generate(ids, max_new_tokens=8, do_sample=False, use_cache=use) for use in (True, False)]
    assert torch.equal(*made)
    assert made[0].shape[1] > 9


@pytest.mark.parametrize("kind", DECODERS)
def test_left_padding_changes_nothing(kind):
    model = sliced(kind)
    ids = token_ids(2, 9)
    padded = torch.nn.functional.pad(ids, (4, 0), value=0)
    mask = torch.nn.functional.pad(torch.ones_like(ids), (4, 0))
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    shifted = model.generate(padded, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert torch.equal(plain, shifted[:, 4:])


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_gives_the_same_gradients(kind):
    gradients = []
    for checkpointing in (False, True):
        model = sliced(kind, **({"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0} if kind == "gpt2" else {}))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for name in ("dropout", "attention_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False) is True]
            assert len(layers) >= 3
        model(input_ids=token_ids(2, 8))[0].square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        if "pooler" not in name:
            assert gradient is not None, name
            torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_eager_and_fused_attention_agree(kind):
    model, ids = sliced(kind), token_ids(2)
    fused = outputs(model, ids)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(outputs(model, ids), fused, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        found = model(input_ids=ids, output_attentions=True, output_hidden_states=True)
    assert len(found.attentions) == 3
    assert len(found.hidden_states) == 4
    assert found.hidden_states[-1].shape[-1] == D


@pytest.mark.parametrize("kind", ["llama", "phi", "gpt2", "opt"])
def test_an_adapter_attaches_trains_merges_and_saves(kind, tmp_path):
    model, ids = sliced(kind), token_ids(4, 12)
    target = {"gpt2": ["c_attn", "c_fc"], "opt": ["q_proj", "fc1"], "phi": ["q_proj", "fc1"]}
    config = peft.LoraConfig(
        r=4, target_modules=target.get(kind, "all-linear"), fan_in_fan_out=kind == "gpt2", task_type="CAUSAL_LM"
    )
    adapted = peft.get_peft_model(model, config)
    wrapped = [name for name, m in adapted.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    assert wrapped
    assert not any("residual" in name or "lm_head" in name for name in wrapped)
    optimiser = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(6):
        loss = adapted(input_ids=ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    before = outputs(adapted.eval(), ids)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(outputs(merged, ids), before, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    from paperworks.structure.modeling_sliced import MODEL_CLASSES

    assert same_weights(MODEL_CLASSES[kind].from_pretrained(tmp_path / "merged"), merged)


def test_it_can_be_copied_cast_and_built_from_its_configuration():
    model, ids = sliced("llama"), token_ids(2)
    assert torch.equal(outputs(copy.deepcopy(model), ids), outputs(model, ids))
    half = copy.deepcopy(model).to(torch.bfloat16)
    assert outputs(half, ids).dtype == torch.bfloat16
    assert (outputs(half, ids).float() - outputs(model, ids)).abs().max() < 0.2
    fresh = type(model)(model.config)
    assert {n: p.shape for n, p in fresh.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert bool(torch.isfinite(outputs(fresh, ids)).all())


def test_the_residual_map_is_no_linear_layer():
    assert not isinstance(StreamMap(3, 4), torch.nn.Linear)
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(StreamMap(3, 4, bias=True)(x), torch.nn.functional.pad(x, (0, 1)))


def test_training_mode_survives():
    model = tiny("gpt2").train()
    assert fold_norms(model).transformer.drop.training
    assert AutoModelForCausalLM is not None
