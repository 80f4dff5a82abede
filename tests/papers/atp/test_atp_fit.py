"""Whole fits on tiny models: cut equals mask, exact budget, resume, both generations, bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_transformers import VOCAB, tiny
from transformers import AutoModelForCausalLM

import paperworks.structure.auto  # noqa: F401
from paperworks.errors import InputError
from paperworks.papers.atp import ATP, Search, TrainerArgs
from paperworks.runs import Cancelled
from paperworks.structure import KeepPlan, count, units_of

TOKENS = torch.randint(3, VOCAB, (24, 10), generator=torch.Generator().manual_seed(0))
ARGS = TrainerArgs(steps=6, batch_size=4, learning_rate=1e-2, checkpoint_every=2)
FAST = Search(learning_rate=1e-2, offset=0.0)


def fitted(kind: str, space: str = "layer_uniform", ratio: float = 0.4, **more: object) -> ATP:
    fit = {name: more.pop(name) for name in ("checkpoint_dir", "on_step", "keep_adapter", "plan") if name in more}
    settings = {"generator": FAST, "trainer_args": ARGS, "device": "cpu", **more}
    return ATP(ratio, space=space, **settings).fit(tiny(kind), TOKENS, **fit)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def on_llama() -> ATP:
    """A fit with the options above, for tests that leave it as it is."""
    return fitted("llama")


@pytest.mark.parametrize(
    ("kind", "space"),
    [
        ("llama", "layer_uniform"),
        ("qwen2", "heads"),
        ("qwen3", "layer_uniform"),
        ("gpt2", "disp"),
        ("qwen2", "disp"),
        ("opt", "layer_uniform"),
    ],
)
def test_cut_equals_mask_and_meets_the_budget(kind: str, space: str, tmp_path: Path) -> None:
    method = fitted(kind, space)
    report = method.report_
    assert report.masked_against_cut < 1e-4
    assert report.loss_after_cut == pytest.approx(report.loss_after_zeroing, abs=1e-4)
    assert report.parameters_after <= report.target
    assert report.parameters_after == sum(p.numel() for p in method.model_.parameters())
    assert abs(report.remaining_share - 0.6) < (0.08 if space == "heads" else 0.02)
    folder = method.save(tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=TOKENS).logits, method.model_(input_ids=TOKENS).logits)
    settings = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(
        again.generate(TOKENS[:2], use_cache=True, **settings), again.generate(TOKENS[:2], use_cache=False, **settings)
    )


def test_a_resumed_fit_has_the_same_losses(on_llama: ATP, tmp_path: Path) -> None:
    whole = on_llama

    def stop(step: int, figures: dict) -> None:
        if step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        fitted("llama", checkpoint_dir=tmp_path, on_step=stop)
    again = fitted("llama", checkpoint_dir=tmp_path)
    assert again.report_.trajectory == whole.report_.trajectory
    for a, b in zip(whole.model_.parameters(), again.model_.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="target"):
        fitted("llama", ratio=0.3, checkpoint_dir=tmp_path)


def test_global_randomness_is_left_alone() -> None:
    state = torch.get_rng_state()
    fitted("llama")
    assert torch.equal(torch.get_rng_state(), state)


def test_sampled_masks_keep_one_unit_at_least_and_are_kept_by_the_faithful_mode() -> None:
    method = fitted("llama", generator=Search(learning_rate=1e-2, offset=-6.0, final="sampled"))
    assert min(int(mask.sum()) for mask in method.masks_.values()) == 1
    assert method.report_.notes


@pytest.mark.parametrize("sparsities", [[("penalty", 3.0), ("none", 0.0)], [("proximal", 0.0)]])
def test_the_penalty_shrinks_adapters_of_pruned_units(sparsities: list[tuple[str, float]]) -> None:
    model = tiny("llama")
    units = units_of(model, ["ffn"])
    plan = KeepPlan.of(units, {key: range(20) for key in units})
    args = TrainerArgs(steps=30, batch_size=4, learning_rate=1e-2)
    norms = {}
    for sparsity, beta in sparsities:
        method = fitted(
            "llama", space="heads", plan=plan, trainer_args=args, sparsity=sparsity, beta=beta, svd_init=True
        )
        norms[sparsity] = method.report_.trajectory.dropped_norm[-1]
    if "proximal" in norms:
        assert norms["proximal"] < 1e-6
    else:
        assert norms["penalty"] < 0.9 * norms["none"]


def test_adapter_and_base_apart_give_the_merged_model(tmp_path: Path) -> None:
    from peft import PeftModel

    method = fitted("qwen2", keep_adapter=True)
    method.save(tmp_path / "merged", adapter=tmp_path / "apart")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "apart" / "base", dtype="float32")
    both = PeftModel.from_pretrained(base, tmp_path / "apart" / "adapter").eval()
    with torch.no_grad():
        expected = method.model_(input_ids=TOKENS).logits
        assert torch.allclose(both(input_ids=TOKENS).logits, expected, atol=1e-4)
    assert count(base).parameters == method.report_.parameters_after


def test_teacher_and_own_loss(on_llama: ATP) -> None:
    teacher = tiny("llama")
    assert fitted("llama", teacher=teacher).report_.loss_after_cut > 0

    def loss(model: torch.nn.Module, batch: object) -> object:
        return model(**batch)  # type: ignore[arg-type]

    theirs = fitted("llama", task_loss=loss)
    assert theirs.report_.loss_after_cut == pytest.approx(on_llama.report_.loss_after_cut, rel=1e-3)


def test_two_stage_searches_before_it_tunes() -> None:
    args = TrainerArgs(steps=6, control_steps=4, batch_size=4, tune_while_searching=False)
    course = fitted("llama", trainer_args=args).report_.trajectory
    assert (len(course.search_loss), len(course.tuning_loss)) == (4, 2)


def test_a_two_stage_fit_resumes_in_either_stage(tmp_path: Path) -> None:
    args = TrainerArgs(steps=8, control_steps=4, batch_size=4, tune_while_searching=False, checkpoint_every=3)
    whole = fitted("llama", trainer_args=args).report_.trajectory
    left: list[int] = []

    def stop(steps: object, description: str, total: object = None) -> object:
        for step in steps:  # type: ignore[attr-defined]
            if not left[-1]:
                raise Cancelled
            left[-1] -= 1
            yield step

    for done in (2, 3):  # stopped after 2 of the 4 steps of the search, and then after the first step of the tuning
        left.append(done)
        method = ATP(0.4, generator=FAST, trainer_args=args, device="cpu")
        with pytest.raises(Cancelled):
            method.fit(tiny("llama"), TOKENS, checkpoint_dir=tmp_path, progress=stop)
    assert fitted("llama", trainer_args=args, checkpoint_dir=tmp_path).report_.trajectory == whole


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("target_ratio", {"ratio": 1.2}),
        ("target_ratio", {"ratio": 0.999}),
        ("space", {"space": "inner"}),
        ("target", {"target": 10}),
        ("sparsity", {"sparsity": "l1"}),
        ("rank", {"svd_init": True, "lora": 64}),
        ("control_steps", {"trainer_args": TrainerArgs(steps=4, control_steps=4, tune_while_searching=False)}),
    ],
)
def test_bad_options(field: str, options: dict) -> None:
    from peft import LoraConfig

    if "lora" in options:
        options = {**options, "lora": LoraConfig(r=64)}
    with pytest.raises(InputError) as found:
        fitted("llama", **options)
    assert found.value.field == field


def test_a_search_before_the_tuning_starts_with_it() -> None:
    with pytest.raises(InputError, match="control_start"):
        TrainerArgs(control_start=1, tune_while_searching=False)


def test_weights_that_are_not_finite_are_named() -> None:
    model = tiny("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError) as found:
        ATP(0.4, generator=FAST, trainer_args=ARGS, device="cpu").fit(model, TOKENS)
    assert found.value.field == "model"
