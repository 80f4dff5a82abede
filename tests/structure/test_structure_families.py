"""Every family that can be pruned, by a tiny random model of it: the cut model is the masked one, and loads again."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_plans import assert_cut_is_masked_and_loads_again, random_plan
from tiny_transformers import VOCAB, outputs, tiny, token_ids

from paperworks.structure import FAMILIES, KeepPlan, kinds_of, masked, prune, save_model, units_of
from paperworks.structure.registry import families_table

TINY: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MORE: dict[str, dict[str, Any]] = {"helium": {"head_dim": 8}}
NEW = sorted(name for name, family in FAMILIES.items() if family.kinds is not None and family.experts is None)


def tiny_model(kind: str, **changes: Any) -> Any:
    family = FAMILIES[kind]
    config = getattr(transformers, family.config_class)(**{**TINY, **MORE.get(kind, {}), **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, family.model_class)(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("kind", NEW)
def test_cut_is_masked_and_loads_again(kind: str, tmp_path: Path) -> None:
    model, ids = tiny_model(kind), token_ids(2, 12)
    kinds = [name for name in kinds_of(model) if name in ("ffn", "kv_group")]
    plan = random_plan(model, kinds)
    assert_cut_is_masked_and_loads_again(model, ids, plan, tmp_path / "cut")


@pytest.mark.parametrize("kind", NEW)
def test_layers_and_query_heads(kind: str, tmp_path: Path) -> None:
    model, ids = tiny_model(kind), token_ids(2, 12)
    units = units_of(model, [name for name in ("q_head", "layer") if name in kinds_of(model)])
    kept: dict[Any, list[int]] = {(None, "layer"): [0, 2]}
    if (1, "q_head") in units and units[1, "q_head"].n_units == 4:
        kept[2, "q_head"] = [0, 3]
    plan = KeepPlan.of(units, kept)
    with masked(model, plan.masks()):
        wanted = outputs(model, ids)
    cut = prune(copy.deepcopy(model), plan)
    torch.testing.assert_close(outputs(cut, ids), wanted, rtol=1e-4, atol=1e-5)
    save_model(cut, tmp_path / "cut")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    torch.testing.assert_close(outputs(loaded, ids), outputs(cut, ids), rtol=0, atol=0)


@pytest.mark.parametrize("kind", NEW)
def test_cached_generation_is_that_of_whole_sequences(kind: str) -> None:
    model, ids = tiny_model(kind), token_ids(1, 6)
    cut = prune(model, random_plan(model, [name for name in kinds_of(model) if name in ("ffn", "kv_group")]))
    found = cut.generate(ids, max_new_tokens=4, do_sample=False, use_cache=True)
    same = cut.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False)
    assert found.tolist() == same.tolist()


def _without_the_first_layer(model: Any) -> KeepPlan:
    return KeepPlan.of(units_of(model, ["layer"]), {(None, "layer"): [1, 2]})


def test_scales_by_the_number_of_a_layer_stay(tmp_path: Path) -> None:
    model = tiny("gpt2", scale_attn_by_inverse_layer_idx=True)
    ids, plan = token_ids(2, 12), _without_the_first_layer(model)
    with masked(model, plan.masks()):
        wanted = outputs(model, ids)
    cut = prune(model, plan)
    torch.testing.assert_close(outputs(cut, ids), wanted, rtol=1e-4, atol=1e-5)
    save_model(cut, tmp_path / "cut")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    torch.testing.assert_close(outputs(loaded, ids), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("smollm3", {"no_rope_layers": [1, 1, 0]}),
        ("gemma2", {"sliding_window": 4}),
        ("exaone4", {"sliding_window": 4, "sliding_window_pattern": 2}),
        ("cohere2", {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}),
    ],
)
def test_settings_by_layer_stay_with_their_layers(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model, ids = tiny_model(kind, **changes), token_ids(2, 12)
    plan = _without_the_first_layer(model)
    with masked(model, plan.masks()):
        wanted = outputs(model, ids)
    cut = prune(model, plan)
    save_model(cut, tmp_path / "cut")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    torch.testing.assert_close(outputs(loaded, ids), wanted, rtol=1e-4, atol=1e-5)


def test_settings_that_an_architecture_does_not_read_do_not_count(tmp_path: Path) -> None:
    model = tiny("gpt2")
    model.config.num_key_value_heads, model.config.head_dim = 1, 3
    ids, plan = token_ids(2, 12), random_plan(model, ["ffn", "kv_group"])
    with masked(model, plan.masks()):
        wanted = outputs(model, ids)
    cut = prune(model, plan)
    save_model(cut, tmp_path / "cut")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    torch.testing.assert_close(outputs(loaded, ids), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text", "gpt_neox"])
def test_auto_model_loads_the_model_without_its_head(kind: str, tmp_path: Path) -> None:
    model = tiny(kind) if FAMILIES[kind].kinds is None else tiny_model(kind)
    cut = prune(model, random_plan(model, ["ffn"]))
    save_model(cut, tmp_path / "cut", level="code")
    names = json.loads((tmp_path / "cut" / "config.json").read_text())["auto_map"]
    assert set(names) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification"}
    base = transformers.AutoModel.from_pretrained(tmp_path / "cut").eval()
    ids = token_ids(2, 12)
    with torch.no_grad():
        found, wanted = base(input_ids=ids)[0], cut.base_model(input_ids=ids)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "cut", num_labels=3)
    assert classifier(input_ids=ids).logits.shape == (2, 3)


def test_the_table_of_families_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "families.md"
    assert families_table() in page.read_text(encoding="utf-8"), "write registry.families_table() into docs/families.md"
