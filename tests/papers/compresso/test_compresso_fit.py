"""The whole method on tiny models: cut equals mask, budgets, families, resumption."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from compresso_models import FAMILIES, ROWS, D, byte_tokenizer, tiny, token_ids
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from paperworks.errors import InputError
from paperworks.papers.compresso import (
    Compresso,
    CompressoReport,
    PromptedModel,
    PromptTemplate,
    Size,
    TrainerArgs,
    fitting,
)
from paperworks.papers.compresso.estimator import MASKS_FILE
from paperworks.runs import Cancelled
from paperworks.structure import masked
from paperworks.structure.checkpoints import REPORT_FILE

TOKENIZER = byte_tokenizer()
QUICK = {"batch_size": 4, "max_length": 24, "mask_learning_rate": 1.0, "learning_rate": 1e-2}


def method(sparsity: float | None = 0.4, **options: Any) -> Compresso:
    steps = {"tuning_steps": 2, "pruning_steps": 12, "final_steps": 0, **options.pop("args", {})}
    options = {"prompt": "none", "device": "cpu", "warmup": 0.5, **options}
    return Compresso(sparsity, trainer_args=TrainerArgs(**{**QUICK, **steps}), **options)


def fitted(model: Any, data: Any = None, tokenizer: Any = None, made: Compresso | None = None, **options: Any) -> Any:
    made = made or method(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made.fit(model, tokenizer, token_ids() if data is None else data)
    return made


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("kind", FAMILIES)
def test_cut_merged_saved_and_reloaded_is_the_masked_model(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = tiny(kind), token_ids(4, 20, seed=9)
    kept: dict[str, Any] = {}
    whole_cut = fitting.prune

    def keep_a_copy(adapted: Any, *args: Any, **options: Any) -> Any:
        kept["adapted"] = copy.deepcopy(adapted)
        return whole_cut(adapted, *args, **options)

    monkeypatch.setattr(fitting, "prune", keep_a_copy)
    before = Size.of(model)
    found = fitted(model)
    report = found.report_
    assert report.hidden < D  # hidden dimensions are among what was cut, behind LayerNorms too
    soft = torch.cat([mask[mask != 0] for mask in found.masks_.values()])
    assert float(soft.max()) < 1  # kept values are soft, and folded
    with masked(kept["adapted"].eval(), found.masks_, ffn_gate="gate_up"):
        wanted = logits(kept["adapted"], ids)
    assert sum(float(p.abs().sum()) for n, p in kept["adapted"].named_parameters() if "lora_B" in n) > 0
    scale = float(wanted.abs().max())
    assert float((logits(found.model_, ids) - wanted).abs().max()) < 1e-5 * scale
    assert report.masked_against_cut < 1e-5
    folder = found.save(tmp_path / "model", TOKENIZER)
    again = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert torch.equal(logits(again, ids), logits(found.model_, ids))
    start = ids[:2, :8]
    written = [
        again.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=8, do_sample=False, use_cache=cache)
        for cache in (True, False)
    ]
    assert torch.equal(*written)
    assert report.parameters_after == sum(p.numel() for p in again.parameters())
    assert before({key: len(units) for key, units in found.plan_.kept.items()}) <= report.target  # the budget is met
    assert report.sparsity_realised == pytest.approx(0.4, abs=0.02)


def test_budgets_in_parameters_are_met_within_one_unit() -> None:
    model = tiny("qwen2")
    size = Size.of(model, "parameters")
    target = int(0.8 * size.whole)
    found = fitted(model, made=method(None, target=target))
    kept = {key: len(units) for key, units in found.plan_.kept.items()}
    assert found.report_.parameters_after == size(kept) <= target
    assert target - size(kept) < size.cost((0, "ffn"), kept)
    assert found.report_.measure == "parameters"


def test_without_exact_fill_masks_that_settled_near_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_MISSED", 1.0)
    found = fitted(tiny("llama"), exact_fill=False)
    assert found.report_.sparsity_realised == found.report_.sparsity_masks


def test_masks_that_miss_the_sparsity_are_chosen_by_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_MISSED", 0.0)
    found = fitted(tiny("llama"), exact_fill=False).report_
    assert abs(found.sparsity_masks - 0.4) > 0
    assert 0 <= found.sparsity_realised - 0.4 < 0.01


def test_only_adapters_and_masks_are_trained() -> None:
    model = tiny("llama", num_key_value_heads=4)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters()}
    kept: dict[str, Any] = {}
    found = method(units=("heads", "ffn", "hidden"))
    learn = fitting.learn_masks

    def watch(adapted: Any, *args: Any, **options: Any) -> Any:
        course = learn(adapted, *args, **options)
        kept["weights"] = {
            n.removeprefix("base_model.model.").replace(".base_layer", ""): p.detach().clone()
            for n, p in adapted.named_parameters()
            if "lora" not in n
        }
        return course

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "learn_masks", watch)
        fitted(model, made=found)
    assert all(torch.equal(frozen[name], weight) for name, weight in kept["weights"].items())
    assert found.report_.trainable_adapters == 3 * 2 * (8 * D + 8 * D)
    assert found.report_.trainable_masks == 3 * (4 + 48) + D


def test_units_and_layers_that_are_not_asked_for_stay_whole() -> None:
    report = fitted(tiny("llama"), units=("ffn",), sparsity=0.2, layers=(1, 3)).report_
    assert report.hidden == D
    assert report.heads == report.heads_before
    assert report.channels[0] == 48
    assert min(report.channels[1:]) < 48


def test_layer_gates_fit() -> None:
    report = fitted(tiny("llama"), layer_gates="blocks", units=("heads", "ffn"), sparsity=0.3).report_
    assert report.sparsity_realised == pytest.approx(0.3, abs=0.02)
    assert report.masked_against_cut < 1e-5


def test_instructions_with_a_prompt(tmp_path: Path) -> None:
    made = method(0.3, prompt="You are being pruned, so help.", args={"max_length": 240, "final_steps": 2})
    found = fitted(tiny("llama", positions=256), ROWS, TOKENIZER, made=made)
    folder = found.save(tmp_path / "model", TOKENIZER)
    assert PromptTemplate.load(folder) == made.template_
    assert (folder / MASKS_FILE).is_file()
    report = CompressoReport.from_dict(json.loads((folder / REPORT_FILE).read_text()))
    assert report == found.report_
    assert len(report.final_losses) == 2
    assert report.prompt_tokens == len(made.template_.prefix() + made.template_.instruction_header)
    prompted = PromptedModel(found.model_, TOKENIZER, PromptTemplate.load(folder))
    assert isinstance(prompted.generate("Say number 3.", max_new_tokens=4), str)


def test_the_same_seed_gives_the_same_model_and_no_global_randomness() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one = fitted(tiny("llama")).model_
    assert torch.equal(torch.get_rng_state(), state)
    two = fitted(tiny("llama")).model_
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    three = fitted(tiny("llama"), seed=1)
    assert three.plan_ is not None
    shapes = [tuple(p.shape) for p in three.model_.parameters()]
    assert shapes != [tuple(p.shape) for p in one.parameters()] or not all(
        torch.equal(a, b) for a, b in zip(one.parameters(), three.model_.parameters(), strict=True)
    )


def test_a_fit_that_is_stopped_again_and_again_ends_with_the_same_model(tmp_path: Path) -> None:
    """Stopped after 1 step (while tuning), after 9 (while pruning) and after 16 (in the last phase)."""
    args = {"final_steps": 4}
    whole = fitted(tiny("llama"), args=args)
    left: list[int] = []

    def progress(items: Any, description: str, total: int | None = None) -> Any:
        for item in items:
            if not left[-1]:
                raise Cancelled
            yield item
            left[-1] -= 1

    options = {"checkpoint_dir": tmp_path / "state"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for steps in (1, 8, 7):
            left.append(steps)
            with pytest.raises(Cancelled):
                method(args=args).fit(tiny("llama"), None, token_ids(), progress=progress, **options)
        again = method(args=args)
        again.fit(tiny("llama"), None, token_ids(), **options)
        for a, b in zip(whole.model_.parameters(), again.model_.parameters(), strict=True):
            assert torch.equal(a, b)
        assert again.report_.course == whole.report_.course
        assert again.report_.final_losses == whole.report_.final_losses
        with pytest.raises(InputError, match="checkpoint_dir"):
            method(0.5, args=args).fit(tiny("llama"), None, token_ids(), **options)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"sparsity": 0.0}, "target_sparsity"),
        ({"sparsity": 1.0}, "target_sparsity"),
        ({"sparsity": None}, "target"),
        ({"sparsity": 0.6, "units": ("heads",)}, "target_sparsity"),
        ({"sparsity": None, "target": 10}, "target"),
        ({"sparsity": None, "target": 10**9}, "target"),
        ({"units": ("depth",)}, "units"),
        ({"layers": (2, 9)}, "layers"),
        ({"layer_gates": "some"}, "layer_gates"),
        ({"schedule": "square"}, "schedule"),
        ({"warmup": -1.0}, "warmup"),
        ({"args": {"pruning_steps": 0}}, "pruning_steps"),
        ({"lora": LoraConfig(r=4, use_dora=True)}, "lora"),
        ({"lora": LoraConfig(r=4, target_modules=["nowhere"])}, "targets"),
        ({"prompt": "collaborative"}, "prompt"),
    ],
)
def test_bad_options(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        method(**options).fit(tiny("llama"), None, token_ids())
    assert caught.value.field == field


def test_unreachable_targets_say_the_least() -> None:
    with pytest.raises(InputError, match="at least"):
        method(0.6, units=("heads",)).fit(tiny("llama"), None, token_ids())


def test_bad_models() -> None:
    with pytest.raises(InputError, match="model"):
        adapted = fitted_adapter()
        method().fit(adapted, None, token_ids())
    model = tiny("llama")
    hashed = state_hash(model)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError):
        method().fit(model, None, token_ids())
    with pytest.raises(InputError, match="vocabulary"):
        method().fit(tiny("llama"), None, token_ids() + 300)
    with pytest.raises(InputError, match="max_length"):
        method().fit(tiny("llama"), None, token_ids(4, 200))
    fresh = tiny("llama")
    with pytest.raises(InputError):
        method(0.6, units=("heads",)).fit(fresh, None, token_ids())
    assert state_hash(fresh) == hashed  # a refused fit leaves the model as it was
    with pytest.raises(InputError, match="model"):
        method().save("nowhere")


def fitted_adapter() -> Any:
    from paperworks.training import add_lora

    return add_lora(tiny("llama"), ["q_proj"])


def state_hash(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_a_long_warm_up_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="no time to settle"):
        method(warmup=1.0).fit(tiny("llama"), None, token_ids())


def test_adapters_with_other_targets_are_cut_and_merged() -> None:
    lora = LoraConfig(
        r=4, lora_alpha=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    found = fitted(tiny("llama"), lora=lora, args={"final_steps": 2})
    assert found.report_.masked_against_cut < 1e-5
    assert not any("lora" in name for name, _ in found.model_.named_parameters())
