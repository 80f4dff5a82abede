"""The pruner on tiny models of several families."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_transformers import outputs, same_weights, tiny, token_ids
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from paperworks.errors import InputError
from paperworks.papers.adapt_pruner import AdaptPruner
from paperworks.papers.adapt_pruner.allocation import Filler
from paperworks.structure import count, masked, units_of

FAMILIES = ("llama", "qwen2", "qwen3", "phi3", "phi", "gpt2", "opt")
TOKENS = token_ids(12)


def fitted(model: Any, target: float | None = 0.8, **options: Any) -> AdaptPruner:
    """Pruned to a share of the model's parameters, on a copy."""
    if target is not None:
        options["target"] = int(target * count(model).parameters)
    pruner = AdaptPruner(**{"examples": 6, "steps": 12, "amplitude": 0.05, "seed": 0, **options})
    pruner.fit(copy.deepcopy(model), TOKENS)
    return pruner


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_equals_masked_and_meets_the_target(family: str) -> None:
    model = tiny(family)
    pruner = fitted(model)
    with masked(model, pruner.plan_.masks()):
        wanted = outputs(model, TOKENS)
    assert torch.allclose(outputs(pruner.model_, TOKENS), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    report = pruner.report_
    assert report is not None
    assert report.parameters_after == sum(p.numel() for p in pruner.model_.parameters())
    one_unit = max(Filler(model, units_of(model)).cost.values())
    assert report.target - one_unit < report.parameters_after <= report.target  # type: ignore[operator]
    assert min(report.steps[-1].ffn) >= 1
    assert min(report.steps[-1].kv_groups) >= 1


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_saved_models_reload_with_the_widths_of_their_weights(family: str, tmp_path: Path) -> None:
    pruner = fitted(tiny(family), 0.7)
    pruner.save(tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert torch.equal(outputs(again, TOKENS), outputs(pruner.model_, TOKENS))
    last = pruner.report_.steps[-1]  # type: ignore[union-attr]
    assert [r["ffn"] for r in again.config.layer_widths] == last.ffn
    assert [r["kv_heads"] for r in again.config.layer_widths] == last.kv_groups
    if family == "llama":
        assert [layer.mlp.down_proj.weight.shape[1] for layer in again.model.layers] == last.ffn
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    cached, plain = (again.generate(TOKENS[:2], use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, plain)
    saved = json.loads((tmp_path / "model" / "pruning_report.json").read_text())
    assert len(saved["steps"]) == len(pruner.report_.steps)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="folder"):
        pruner.save(tmp_path / "model")


def test_uniform_model_computes_the_same_in_the_stock_class() -> None:
    pruner = fitted(tiny("llama"), 0.7)
    stock = pruner.uniform(8)
    assert type(stock).__name__ == "LlamaForCausalLM"
    assert stock.config.intermediate_size % 8 == 0
    assert torch.allclose(outputs(stock, TOKENS), outputs(pruner.model_, TOKENS), atol=1e-5)


def test_amplitude_0_is_uniform() -> None:
    pruner = fitted(tiny("qwen2"), None, ratio=0.5, amplitude=0.0, steps=5)
    last = pruner.report_.steps[-1]  # type: ignore[union-attr]
    assert last.sparsity == pytest.approx([0.5] * 3)
    assert last.ffn == [24] * 3
    assert last.kv_groups == [1] * 3
    assert len(pruner.report_.steps) == 5  # type: ignore[union-attr]


def test_amplitude_0_keeps_the_units_that_a_constant_importance_keeps() -> None:
    model = tiny("llama")
    uniform = fitted(model, amplitude=0.0)
    constant = fitted(model, layer_importance=lambda m, b: torch.full((3,), 0.3))
    assert uniform.plan_.kept == constant.plan_.kept


def test_increments_of_a_call() -> None:
    report = fitted(tiny("llama"), None, ratio=0.5, steps=10, amplitude=0.02).report_
    before = torch.zeros(3, dtype=torch.float64)
    for step in report.steps:  # type: ignore[union-attr]
        rise = torch.tensor(step.sparsity, dtype=torch.float64) - before
        assert float(rise.mean()) == pytest.approx(0.05)
        assert float((rise - 0.05).abs().max()) <= 0.02 + 1e-12
        before = before + rise


def test_zero_channels_go_first_and_cost_nothing() -> None:
    model = tiny("llama")
    dead = {0: [3, 7, 11, 40], 1: [0, 1, 2, 47], 2: [5, 6, 20, 30]}
    with torch.no_grad():
        for layer, channels in dead.items():
            mlp = model.model.layers[layer].mlp
            mlp.gate_proj.weight[channels] = 0
            mlp.up_proj.weight[channels] = 0
            mlp.down_proj.weight[:, channels] = 0
    pruner = fitted(model, None, ratio=4 / 48, steps=2, amplitude=0.0, prune=("mlp",))
    for layer, channels in dead.items():
        assert sorted(set(range(48)) - set(pruner.plan_.kept[layer, "ffn"])) == channels
    assert torch.allclose(outputs(pruner.model_, TOKENS), outputs(model, TOKENS), atol=1e-5)


def test_a_layer_that_adds_nothing_gets_the_highest_sparsity() -> None:
    model = tiny("qwen2")
    layer = model.model.layers[1]
    with torch.no_grad():
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    report = fitted(model, None, ratio=0.3, steps=3, amplitude=0.1).report_
    for step in report.steps:  # type: ignore[union-attr]
        assert step.importance[1] == pytest.approx(-1, abs=1e-6)
        assert step.sparsity[1] > max(step.sparsity[0], step.sparsity[2])


def test_grouped_queries_go_with_their_own_key_head() -> None:
    """A useless group (zero columns of o, zero keys, queries and values) must be the one that goes."""
    model = tiny("llama", num_attention_heads=8, num_key_value_heads=4, head_dim=4)
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.q_proj.weight[16:24] = 0
            attention.k_proj.weight[8:12] = 0
            attention.v_proj.weight[8:12] = 0
            attention.o_proj.weight[:, 16:24] = 0
    pruner = fitted(model, None, ratio=0.25, steps=1, amplitude=0.0, prune=("attention",))
    assert all(pruner.plan_.kept[layer, "kv_group"] == (0, 1, 3) for layer in range(3))
    assert torch.allclose(outputs(pruner.model_, TOKENS), outputs(model, TOKENS), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"taylor": "param_second"},
        {"taylor": "param_mix", "reduction": "mean"},
        {"taylor": "vectorize"},
        {"reduction": "max"},
        {"reduction": "prod"},
        {"reduction": "first"},
        {"unit_importance": "l1"},
        {"unit_importance": "l2"},
        {"unit_importance": "random"},
        {"layer_importance": "euclidean"},
        {"layer_importance": "manhattan", "normalise": "zscore"},
        {"normalise": "rank"},
        {"layers": [0, 2]},
        {"prune": ("attention",), "target": 0.95},
        {"prune": ("mlp",)},
        {"resample": False},
    ],
)
def test_every_option_reaches_the_target_and_repeats(options: dict[str, Any]) -> None:
    model, options = tiny("llama"), dict(options)
    target = options.pop("target", 0.85)
    one, two = (fitted(model, target, **{"steps": 6, "amplitude": 0.1} | options) for _ in range(2))
    assert one.plan_.kept == two.plan_.kept
    assert one.report_.parameters_after <= one.report_.target  # type: ignore[union-attr, operator]
    touched = {layer for layer, _ in one.plan_.kept}
    assert touched <= set(options.get("layers", range(3)))


def test_own_rankers() -> None:
    def last_first(model: Any, units: Any, batches: Any) -> Any:
        return {key: -torch.arange(s.n_units, dtype=torch.float64) for key, s in units.items()}

    pruner = fitted(tiny("llama"), None, ratio=0.25, steps=4, amplitude=0.0, unit_importance=last_first)
    assert pruner.plan_.kept[0, "ffn"] == tuple(range(36))
    with pytest.raises(InputError, match="unit_importance"):
        fitted(tiny("llama"), unit_importance=lambda m, u, b: {})
    with pytest.raises(InputError, match="layer_importance"):
        fitted(tiny("llama"), layer_importance=lambda m, b: torch.zeros(2))


def test_the_least_reachable_count_is_reached_and_one_less_is_refused() -> None:
    model = tiny("llama")
    with pytest.raises(InputError) as caught:
        fitted(model, 0.01)
    least = int(str(caught.value.expected).split()[2].rstrip(":").replace(",", ""))
    pruner = AdaptPruner(least, steps=10, amplitude=0.3, examples=4, seed=0)
    report = pruner.fit(copy.deepcopy(model), TOKENS).report_
    assert report.parameters_after == least
    assert report.steps[-1].ffn == [1, 1, 1]
    assert any("did not reach" in note for note in report.notes)


def test_overshooting_as_the_official_code_does() -> None:
    model = tiny("llama")
    exact, faithful = fitted(model), fitted(model, exact=False)
    assert faithful.report_.parameters_after < exact.report_.parameters_after  # type: ignore[union-attr]
    assert len(faithful.report_.steps) == len(exact.report_.steps)  # type: ignore[union-attr]


def test_a_stopped_pruning_goes_on_to_the_same_model(tmp_path: Path) -> None:
    model = tiny("qwen3")
    whole = fitted(model)
    pruner = AdaptPruner(int(0.8 * count(model).parameters), examples=6, steps=12, amplitude=0.05, seed=0)

    def stop(iterable: Any, description: str, total: int | None = None) -> Any:
        for number, item in enumerate(iterable):
            if number == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        pruner.fit(copy.deepcopy(model), TOKENS, checkpoint_dir=tmp_path, progress=stop)
    assert len(json.loads((tmp_path / "pruning.json").read_text())["report"]["steps"]) == 2
    resumed = copy.deepcopy(model)
    report = pruner.fit(resumed, TOKENS, checkpoint_dir=tmp_path).report_
    assert same_weights(resumed, whole.model_)
    assert [s.sparsity for s in report.steps] == [s.sparsity for s in whole.report_.steps]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="checkpoint_dir"):
        fitted_other = AdaptPruner(pruner.target, examples=6, steps=10, seed=0)
        fitted_other.fit(copy.deepcopy(model), TOKENS, checkpoint_dir=tmp_path)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_layer_wise(family: str) -> None:
    model = tiny(family)
    dropped = copy.deepcopy(model)
    AdaptPruner(mode="layer_wise", drop=[1]).fit(dropped)
    with masked(model, {(None, "layer"): torch.tensor([1.0, 0.0, 1.0])}):
        assert torch.allclose(outputs(dropped, TOKENS), outputs(model, TOKENS), atol=1e-5)
    assert dropped.config.num_hidden_layers == 2
    layers = dropped.model.layers if family == "llama" else dropped.transformer.h
    cores = [layer.self_attn if family == "llama" else layer.attn for layer in layers]
    assert [core.layer_idx for core in cores] == [0, 1]
    pruner = AdaptPruner(count(dropped).parameters, mode="layer_wise", examples=6)
    report = pruner.fit(copy.deepcopy(model), TOKENS).report_
    importance = report.steps[0].importance
    assert pruner.plan_.kept[None, "layer"] == tuple(i for i in range(3) if importance[i] != min(importance))
    for drop in ([], [0, 1, 2], [7]):
        with pytest.raises(InputError, match="drop"):
            AdaptPruner(mode="layer_wise", drop=drop).fit(copy.deepcopy(model))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "target"),
        ({"ratio": 1.0}, "ratio"),
        ({"ratio": 0.5, "amplitude": -0.1}, "amplitude"),
        ({"ratio": 0.5, "steps": 0}, "steps"),
        ({"target": 10**9}, "target"),
        ({"ratio": 0.5, "layer_importance": "angle"}, "layer_importance"),
        ({"ratio": 0.5, "taylor": "third"}, "taylor"),
        ({"ratio": 0.5, "unit_importance": "l3"}, "unit_importance"),
        ({"ratio": 0.5, "prune": ("head",)}, "prune"),
        ({"ratio": 0.5, "reduction": "median"}, "reduction"),
        ({"ratio": 0.5, "layers": [9]}, "layers"),
        ({"ratio": 0.5, "normalise": "min"}, "normalise"),
        ({"ratio": 0.5, "mode": "deep"}, "mode"),
        ({"mode": "layer_wise"}, "drop"),
        ({"ratio": 0.5, "drop": [1]}, "drop"),
    ],
)
def test_bad_options_name_the_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        AdaptPruner(**options).fit(tiny("llama"), TOKENS)
    assert caught.value.field == field


def test_bad_models_and_calibrations() -> None:
    pruner = AdaptPruner(ratio=0.5, steps=2, examples=4)
    for model in (tiny("bert"), tiny("llama", torch.float16)):
        with pytest.raises(InputError) as caught:
            pruner.fit(model, TOKENS)
        assert caught.value.field == "model"
    model = tiny("llama")
    before = copy.deepcopy(model)
    for calibration in (None, [], [""], TOKENS[:0], {"labels": TOKENS}):
        with pytest.raises(InputError) as caught:
            pruner.fit(model, calibration)
        assert caught.value.field == "calibration"
    with pytest.raises(InputError, match="tokenizer"):
        pruner.fit(model, ["some text"])
    assert same_weights(model, before)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError):
        pruner.fit(model, TOKENS)


def test_experts_of_a_mixture_are_pruned_with_the_heads() -> None:
    fields = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 16, "num_local_experts": 6}
    fields |= {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MixtralForCausalLM(MixtralConfig(**fields)).eval()
    pruner = fitted(model, 0.75)
    with masked(model, pruner.plan_.masks()):
        wanted = outputs(model, TOKENS)
    torch.testing.assert_close(outputs(pruner.model_, TOKENS), wanted, rtol=1e-4, atol=1e-5)
    experts = [record["experts"] for record in pruner.model_.config.layer_widths]
    assert min(experts) >= 2
    assert sum(experts) < 18
    assert pruner.report_.parameters_after <= 0.75 * count(model).parameters
