"""What cannot be sliced is refused by name, before anything has changed."""

from __future__ import annotations

import copy
from dataclasses import replace

import peft
import pytest
import torch
import transformers
from tiny_plans import random_plan
from tiny_transformers import outputs, tiny, tiny_config, token_ids
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from paperworks.errors import InputError
from paperworks.structure import (
    FAMILIES,
    cost_of,
    fold_norms,
    masked,
    prune,
    register_spec,
    save_model,
    skeleton_of,
    spec_for,
)
from paperworks.structure.configuration_sliced import SlicedConfig
from paperworks.structure.layers_sliced import LAYER_CLASSES, SequentialSums
from paperworks.structure.modeling_sliced import MODEL_CLASSES, SlicedModel


@pytest.mark.parametrize("name", ["Gemma2Config", "Gemma3TextConfig", "Olmo2Config"])
def test_norms_on_outputs_are_not_rotated_and_the_reason_is_said(name):
    with pytest.raises(InputError, match="a norm on the output of a block"):
        cost_of(getattr(transformers, name)())


@pytest.mark.parametrize("name", ["DeepseekV3Config", "Gemma3Config"])
def test_what_cannot_be_read_says_what_would_be_needed(name):
    with pytest.raises(InputError, match=r"^model_type: found .*; expected a"):
        spec_for(getattr(transformers, name)())


def test_an_unknown_family_is_told_what_is_known_and_how_to_add_one():
    with pytest.raises(InputError, match=r"mpt.*llama, mistral.*register_spec"):
        spec_for(transformers.MptConfig())


def test_a_sliced_model_is_not_sliced_again():
    with pytest.raises(InputError, match="not sliced yet"):
        spec_for(fold_norms(tiny("llama")))


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("llama", {"pretraining_tp": 2}, "config.pretraining_tp"),
        ("llama", {"quantization_config": {"quant_method": "bitsandbytes"}}, "config.quantization_config"),
        ("opt", {"do_layer_norm_before": False}, "config.do_layer_norm_before"),
        ("opt", {"word_embed_proj_dim": 16}, "config.word_embed_proj_dim"),
        ("gpt2", {"add_cross_attention": True}, "config.add_cross_attention"),
        ("bert", {"is_decoder": True}, "config.is_decoder"),
    ],
)
def test_settings_that_cannot_be_rotated_are_refused(kind, changes, field):
    with pytest.raises(InputError) as caught:
        skeleton_of(tiny_config(kind, **changes))
    assert caught.value.field == field


def _refused(model, field):
    before = {name: p.clone() for name, p in model.state_dict().items() if not p.is_meta}
    with pytest.raises(InputError) as caught:
        fold_norms(model)
    assert caught.value.field == field
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items() if not p.is_meta)


def test_quantised_weights_are_refused():
    model = tiny("llama")
    layer = model.model.layers[1].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    _refused(model, "model.layers.1.mlp.up_proj.weight")


def test_weights_without_memory_are_refused():
    model = tiny("llama")
    model.model.layers[2].to("meta")
    _refused(model, "model.layers.2.self_attn.q_proj.weight")


def test_a_model_without_its_head_is_refused():
    _refused(tiny("llama").model, "model")


def test_an_unmerged_adapter_is_refused():
    model = tiny("llama")
    peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))
    _refused(model, "model")


def test_a_family_can_be_added(monkeypatch):
    class OtherConfig(transformers.LlamaConfig):
        model_type = "other_llama"

    class OtherForCausalLM(transformers.LlamaForCausalLM):
        config_class = OtherConfig

    class SlicedOtherConfig(SlicedConfig, OtherConfig):
        model_type = "sliced_other_llama"

    class SlicedOtherForCausalLM(SlicedModel, OtherForCausalLM):
        config_class = SlicedOtherConfig
        _no_split_modules = ()

    class SlicedOtherLayer(SequentialSums, LlamaDecoderLayer):
        pass

    for registry in (FAMILIES, LAYER_CLASSES, MODEL_CLASSES):  # forgotten again when the test ends
        monkeypatch.setitem(registry, "other_llama", None)
        del registry["other_llama"]
    llama = tiny("llama")
    other = OtherForCausalLM(OtherConfig(**{k: v for k, v in llama.config.to_dict().items() if k != "model_type"}))
    other.load_state_dict(llama.state_dict())
    with pytest.raises(InputError, match="register_spec"):
        fold_norms(copy.deepcopy(other))
    family = replace(FAMILIES["llama"], model_type="other_llama", model_class="OtherForCausalLM")
    with pytest.raises(InputError, match="residual sums"):
        register_spec(family, SlicedOtherConfig, SlicedOtherForCausalLM, LlamaDecoderLayer)
    with pytest.raises(InputError, match="which transformers has not"):
        register_spec(family, SlicedOtherConfig, SlicedOtherForCausalLM, SlicedOtherLayer)
    stock = (OtherConfig, OtherForCausalLM)
    register_spec(family, SlicedOtherConfig, SlicedOtherForCausalLM, SlicedOtherLayer, stock=stock)
    with pytest.raises(InputError, match="known already"):
        register_spec(family, SlicedOtherConfig, SlicedOtherForCausalLM, SlicedOtherLayer)
    ids = token_ids(2)
    plan = random_plan(other, ["ffn", "kv_group"])
    with masked(other, plan.masks()):
        wanted = outputs(other, ids)
    pruned = prune(copy.deepcopy(other), plan)
    assert type(pruned).__name__ == "PrunedOtherForCausalLM"
    torch.testing.assert_close(outputs(pruned, ids), wanted, rtol=1e-4, atol=1e-5)
    folded = fold_norms(other)
    assert type(folded) is SlicedOtherForCausalLM
    torch.testing.assert_close(outputs(folded, ids), outputs(fold_norms(llama), ids))


def test_a_record_alone_gives_pruning(monkeypatch, tmp_path):
    for registry in (FAMILIES,):
        monkeypatch.setitem(registry, "arcee", None)
        del registry["arcee"]
    family = replace(
        FAMILIES["nemotron"],
        model_type="arcee",
        config_class="ArceeConfig",
        model_class="ArceeForCausalLM",
        layer_class="ArceeDecoderLayer",
        norm="rms",
        kinds=None,
    )
    register_spec(family)
    config = transformers.ArceeConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model, ids = transformers.ArceeForCausalLM(copy.deepcopy(config)).eval(), token_ids(2)
    plan = random_plan(model, ["ffn", "kv_group", "layer"])
    with masked(model, plan.masks()):
        wanted = outputs(model, ids)
    cut = prune(model, plan)
    torch.testing.assert_close(outputs(cut, ids), wanted, rtol=1e-4, atol=1e-5)
    save_model(cut, tmp_path / "cut", level="code")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    torch.testing.assert_close(outputs(loaded, ids), outputs(cut, ids))
    with pytest.raises(InputError, match="stream can be rotated"):
        fold_norms(transformers.ArceeForCausalLM(config))
