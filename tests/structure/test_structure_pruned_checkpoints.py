"""Pruned checkpoints: stock where they can be, ours elsewhere, the same bits in a new process, padded to uniform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from tiny_plans import FAMILIES, distance, numel, random_plan
from tiny_transformers import outputs, same_weights, tiny, token_ids

import forked
from paperworks.errors import InputError
from paperworks.structure import KeepPlan, per_layer_config, prune, save_model, stock_config, uniform_export, units_of

LOADER = """
import sys, pathlib, torch
import {first}
from transformers import AutoModel, AutoModelForCausalLM
for folder in sorted(pathlib.Path(sys.argv[1]).glob("{which}")):
    auto = AutoModel if folder.name.startswith("bert") else AutoModelForCausalLM
    model = auto.from_pretrained(folder, **{options})
    expected = torch.load(folder / "expected.pt")
    with torch.no_grad():
        out = model(input_ids=expected["ids"])[0]
    # weights that lie elsewhere in memory may be summed in another order
    torch.testing.assert_close(out, expected["out"], msg=lambda told: folder.name + ": " + told)
    if "made" in expected and model.dtype == torch.float32:  # bfloat16 has ties between tokens
        made = [model.generate(expected["ids"][:, :5], max_new_tokens=6, do_sample=False, use_cache=use)
                for use in (True, False)]
        assert torch.equal(made[0], expected["made"]) and torch.equal(made[1], expected["made"]), folder.name
{more}
print("paperworks" in sys.modules)
"""
TUNE = """
from peft import LoraConfig, get_peft_model
model = AutoModelForCausalLM.from_pretrained(pathlib.Path(sys.argv[1]) / "llama-uneven", trust_remote_code=True)
tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
ids = expected["ids"]
optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=0.01)
losses = []
for _ in range(4):
    loss = tuned(input_ids=ids, labels=ids).loss
    loss.backward(); optimizer.step(); optimizer.zero_grad(); losses.append(loss.item())
assert losses[-1] < losses[0]
tuned.merge_and_unload().save_pretrained(pathlib.Path(sys.argv[1]).parent / "merged")
"""
CASES = {
    "uneven": ("ffn", "kv_group"),
    "deep": ("ffn", "q_head", "qk_pair", "v_channel"),
    "hidden": ("hidden", "layer"),
    "ends": ("attention_in", "attention_out", "feed_forward_in", "feed_forward_out"),
}


def _cut(family, case):
    model = tiny(family)
    if case == "hidden":
        units = units_of(model, ["hidden", "layer"])
        return prune(model, KeepPlan.of(units, {(None, "hidden"): range(3, 27), (None, "layer"): [0, 2]}))
    plan = random_plan(model, CASES[case], seed=6)
    if case == "uneven":  # one layer as it was, one without feed-forward, one without attention
        units = units_of(model)
        plan = KeepPlan.of(units, {**plan.kept, (1, "ffn"): (), (2, "kv_group"): ()})
        kept = {key: ids for key, ids in plan.kept.items() if key[0] != 0}
        plan = KeepPlan(kept, {key: plan.sizes[key] for key in kept})
    return prune(model, plan)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pruned") / "models"
    ids = token_ids(2, 12)
    for family in FAMILIES:
        for case in CASES:
            if case == "ends" and family in ("opt", "bert"):
                continue
            model = _cut(family, case)
            if case == "uneven":
                for parameter in model.parameters():
                    parameter.data = parameter.data.to(torch.bfloat16)
            folder = save_model(model, root / f"{family}-{case}", report={"method": "test"})
            expected = {"ids": ids, "out": outputs(model, ids)}
            if family != "bert":
                expected["made"] = model.generate(ids[:, :5], max_new_tokens=6, do_sample=False)
            torch.save(expected, folder / "expected.pt")
    return root


def test_a_process_with_transformers_alone_loads_and_tunes_them(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.chdir(tmp_path)
    code = LOADER.format(first="torch", options={"trust_remote_code": True}, more=TUNE, which="*-deep")
    done = forked.run(forked.code, code, str(saved), imported=forked.BARE)
    assert done.code == 0, done.errors[-3000:]
    assert done.output.strip().splitlines()[-1] == "False"
    merged = transformers.AutoModelForCausalLM.from_pretrained(saved.parent / "merged")
    original = transformers.AutoModelForCausalLM.from_pretrained(saved / "llama-uneven")
    assert merged.config.layer_widths == original.config.layer_widths
    assert not same_weights(merged, original)


def test_a_process_that_imported_paperworks_loads_them_without_remote_code(saved):
    code = LOADER.format(first="paperworks", options={}, more="", which="*")
    done = forked.run(forked.code, code, str(saved))
    assert done.code == 0, done.errors[-3000:]
    assert done.output.strip().endswith("True")


def test_a_checkpoint_says_what_is_in_it(saved):
    folder = saved / "llama-uneven"
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "pruned_llama"
    first = config["layer_widths"][0]
    assert (first["heads"], first["kv_heads"], first["ffn"]) == (4, 2, 48)
    assert config["layer_widths"][2]["heads"] == 0
    assert json.loads((folder / "pruning_report.json").read_text()) == {"method": "test"}
    parts = (
        "attention_pruned",
        "configuration_pruned",
        "families",
        "family",
        "layers_pruned",
        "layers_sliced",
        "modeling_pruned",
    )
    assert {f.name for f in folder.glob("*.py")} == {f"{part}.py" for part in parts}
    with pytest.raises(InputError, match="new or an empty folder"):
        save_model(_cut("llama", "deep"), folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_layers_become_a_stock_checkpoint(family, tmp_path):
    model, ids = tiny(family), token_ids(2, 12)
    units = units_of(model, ["ffn"])
    prune(model, KeepPlan.of(units, {key: range(0, 32) for key in units}))
    expected = outputs(model, ids)
    folder = save_model(model, tmp_path / "a", level="stock")
    assert not list(folder.glob("*.py"))
    auto = transformers.AutoModel if family == "bert" else transformers.AutoModelForCausalLM
    stock = auto.from_pretrained(folder)
    assert type(stock).__module__.startswith("transformers.")
    assert numel(stock) == numel(model)
    assert torch.equal(outputs(stock, ids), expected)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "phi3"])
def test_a_narrower_stream_behind_rms_norms_is_stock_too(family):
    model, ids = tiny(family), token_ids(2, 12)
    prune(model, KeepPlan.of(units_of(model, ["hidden"]), {(None, "hidden"): range(24)}))
    config = stock_config(model)
    assert config is not None
    assert (config.hidden_size, config.head_dim) == (24, 8)
    from paperworks.structure.export import as_stock

    assert torch.equal(outputs(as_stock(model), ids), outputs(model, ids))
    if family == "llama":
        tight = prune(model, KeepPlan.of(units_of(model, ["hidden"]), {(None, "hidden"): range(23)}))
        assert stock_config(tight) is None  # LlamaConfig wants a multiple of the heads


@pytest.mark.parametrize("family", FAMILIES)
def test_uniform_export_gives_the_same_logits_in_the_stock_class(family):
    ids = token_ids(2, 12)
    for case in ("uneven", "deep", "ends"):
        if case == "ends" and family in ("opt", "bert"):
            continue
        model = _cut(family, case)
        stock = uniform_export(model)
        assert type(stock).__module__.startswith("transformers.")
        assert distance(outputs(stock, ids), outputs(model, ids)) < 1e-5, case
    model = prune(tiny(family), random_plan(tiny(family), ["ffn"], share=0.6))
    rounded = uniform_export(model, "round", multiple_of=32)
    assert stock_config(prune(rounded, KeepPlan())).to_dict() is not None
    down = units_of(rounded, ["ffn"])[0, "ffn"]
    assert down.n_units % 32 == 0
    assert distance(outputs(rounded, ids), outputs(model, ids)) < 1e-5


def test_what_has_no_stock_form_is_refused(tmp_path):
    model = _cut("llama", "deep")
    with pytest.raises(InputError, match="level"):
        save_model(model, tmp_path / "a", level="stock")
    assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="multiple_of"):
        uniform_export(model, "max", multiple_of=64)
    with pytest.raises(InputError, match="qk"):
        per_layer_config(model)


def test_per_layer_config_names_what_differs():
    model = tiny("qwen2")
    units = units_of(model)
    prune(model, KeepPlan.of(units, {(1, "ffn"): range(16), (2, "kv_group"): [1]}))
    assert per_layer_config(model) == {
        1: {"intermediate_size": 16},
        2: {"num_attention_heads": 2, "num_key_value_heads": 1},
    }
