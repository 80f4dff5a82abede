"""Adapt-Accel: stages, budgets, schedules, moments and resumption, on tiny models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_transformers import same_weights, tiny, token_ids

from paperworks.errors import InputError
from paperworks.papers.adapt_pruner import AdaptAccel, AdaptPruner, Distillation, Lora, StageRecord
from paperworks.papers.adapt_pruner.stages import Part
from paperworks.structure import count
from paperworks.training import TrainSettings

TOKENS = token_ids(30, 12)
SETTINGS = TrainSettings(
    batch_size=3,
    learning_rate=1e-3,
    schedule="wsd",
    decay_fraction=0.2,
    final_factor=0.1,
    checkpoint_every=1,
    device="cpu",
    seed=5,
)


def accel(model: Any, share: float = 0.7, stages: int = 3, **options: Any) -> AdaptAccel:
    pruner = AdaptPruner(int(share * count(model).parameters), steps=12, amplitude=0.05, examples=4, length=12, seed=0)
    return AdaptAccel(pruner, stages, **{"train_steps": 9, "settings": SETTINGS, **options})


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_stages_share_the_target_the_steps_and_the_schedule(family: str) -> None:
    model = tiny(family)
    dense = count(model).parameters
    seen: list[StageRecord] = []
    job = accel(model, callbacks=[lambda record, now: seen.append(record)])
    report = job.fit(model, TOKENS).report_
    goal = job.pruner.target
    assert goal is not None
    assert [s.target for s in report.stages] == [dense - (dense - goal) * s // 3 for s in (1, 2, 3)]
    assert all(s.parameters <= s.target for s in report.stages)
    assert [s.steps for s in report.stages] == [2, 3, 4]
    assert report.steps == sum(len(s.losses) for s in report.stages) == 9
    rates = [rate for s in report.stages for rate in s.rates]
    whole = TrainSettings(**{**vars(SETTINGS), "steps": 9})
    assert rates == pytest.approx([whole.rate(step, 9) for step in range(9)])
    assert seen == report.stages
    assert report.parameters_after == sum(p.numel() for p in model.parameters())


def test_one_pass_over_the_data_when_no_budget_is_given() -> None:
    model = tiny("llama")
    report = accel(model, train_steps=None, data_split="constant").fit(model, TOKENS).report_
    assert [s.steps for s in report.stages] == [4, 4, 4]  # 10 examples in batches of 3


def test_parts_are_passes_over_the_data() -> None:
    data = [{"input_ids": torch.tensor([i])} for i in range(7)]
    first, second = Part(data, 0, 5, 1), Part(data, 5, 9, 1)
    seen = [int(part[i]["input_ids"]) for part in (first, second) for i in range(len(part))]
    assert sorted(seen[:7]) == sorted(seen[7:]) == list(range(7))
    assert seen[:7] != seen[7:]


@pytest.mark.parametrize(
    "options",
    [
        {"distill": Distillation(alpha=0.5)},
        {"lora": Lora(r=2, alpha=4, dropout=0.0)},
        {"reset_optimizer": False},
        {"data_split": "cosine"},
        {"carry_sparsity": True},
        {"settings": TrainSettings(**{**vars(SETTINGS), "schedule": "cosine"})},
    ],
)
def test_options_train_to_the_target(options: dict[str, Any]) -> None:
    model = tiny("qwen2")
    job = accel(model, **options)
    report = job.fit(model, {"input_ids": TOKENS, "labels": TOKENS.masked_fill(TOKENS < 20, -100)}).report_
    assert report.parameters_after <= job.pruner.target  # type: ignore[operator]
    assert all(torch.isfinite(torch.tensor(s.losses)).all() for s in report.stages)
    assert all(p.requires_grad for p in model.parameters())


def test_moments_that_are_carried_make_a_difference() -> None:
    results = []
    for reset in (True, False):
        model = tiny("llama")
        accel(model, reset_optimizer=reset).fit(model, TOKENS)
        results.append(model)
    assert not same_weights(*results)


def test_labels_decide_what_is_learned() -> None:
    labels = TOKENS.clone()
    labels[:, :8] = -100
    models = []
    for data in ({"input_ids": TOKENS}, {"input_ids": TOKENS, "labels": labels}):
        models.append(tiny("llama"))
        accel(models[-1], stages=1, train_steps=2).fit(models[-1], data)
    assert not same_weights(*models)


class Stopped(Exception):
    """The kill of a test."""


def killed_after(n: int, what: str) -> Any:
    """A progress that dies at item ``n`` of all items of ``what`` (over all stages)."""
    done = 0

    def progress(iterable: Any, description: str, total: int | None = None) -> Any:
        nonlocal done
        for item in iterable:
            if description == what:
                done += 1
                if done == n:
                    raise Stopped
            yield item

    return progress


@pytest.mark.parametrize("options", [{}, {"reset_optimizer": False}, {"lora": Lora(r=2, dropout=0.1)}])
def test_a_run_that_is_killed_again_and_again_goes_on_to_the_same_model(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """In the first stage's training, at the second's, in the third's pruning and at its last step."""
    model = tiny("llama")
    whole = copy.deepcopy(model)
    expected = accel(model, **options).fit(whole, TOKENS).report_
    for what, n in (("training", 2), ("training", 2), ("pruning", 2), ("training", 4)):
        with pytest.raises(Stopped):
            job = accel(model, **options)
            job.fit(copy.deepcopy(model), TOKENS, checkpoint_dir=tmp_path, progress=killed_after(n, what))
    resumed = copy.deepcopy(model)
    found = accel(model, **options).fit(resumed, TOKENS, checkpoint_dir=tmp_path).report_
    assert same_weights(resumed, whole)
    assert [s.losses for s in found.stages] == [s.losses for s in expected.stages]
    assert [s.parameters for s in found.stages] == [s.parameters for s in expected.stages]


def test_any_finished_stage_can_be_gone_on_from(tmp_path: Path) -> None:
    model = tiny("llama")
    whole = copy.deepcopy(model)
    accel(model).fit(whole, TOKENS, checkpoint_dir=tmp_path)
    for file in (tmp_path / "stage-003").iterdir():
        file.unlink()
    again = copy.deepcopy(model)
    accel(model).fit(again, TOKENS, checkpoint_dir=tmp_path)
    assert same_weights(again, whole)
    with pytest.raises(InputError, match="checkpoint_dir"):
        accel(model, train_steps=10).fit(copy.deepcopy(model), TOKENS, checkpoint_dir=tmp_path)
    with pytest.raises(InputError, match="checkpoint_dir"):
        accel(model).fit(copy.deepcopy(model), TOKENS[:20], checkpoint_dir=tmp_path)


def test_bad_options_name_the_field() -> None:
    model = tiny("llama")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"stages": 0}, "stages"),
        ({"data_split": "square"}, "data_split"),
        ({"train_steps": 0}, "train_steps"),
        ({"warmup": 1.0}, "warmup"),
        ({"lora": Lora(), "reset_optimizer": False}, "reset_optimizer"),
    ]
    for options, field in cases:
        with pytest.raises(InputError) as caught:
            accel(model, **options)
        assert caught.value.field == field
    with pytest.raises(InputError, match="pruner"):
        AdaptAccel(AdaptPruner(ratio=0.5), 2)
    for data, field in ((TOKENS[:0], "data"), ({"text": TOKENS}, "data"), (["text"], "tokenizer"), ([], "data")):
        with pytest.raises(InputError) as caught:
            accel(model).fit(copy.deepcopy(model), data)
        assert caught.value.field == field
    with pytest.raises(InputError, match="target"):
        accel(model, share=1.5).fit(copy.deepcopy(model), TOKENS)
