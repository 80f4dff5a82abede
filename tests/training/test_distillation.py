"""Distillation against its formula, moments and schedules over stages, rates of parameter groups."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.structure import KeepPlan, prune, units_of
from paperworks.training import (
    TrainSettings,
    distillation_loss,
    make_optimizer,
    next_token_loss,
    train,
)

from .test_loop import tiny, tokens


def test_distillation_is_its_formula() -> None:
    student, teacher = tiny(), tiny(seed=4)
    batch = {"input_ids": tokens(3), "labels": tokens(3).index_fill(1, torch.tensor([0, 1, 2]), -100)}
    total, count = distillation_loss(teacher, temperature=2, alpha=0.7, targets="next_token")(student, batch)
    wanted = batch["labels"][:, 1:] != -100
    p = functional.softmax(teacher(input_ids=batch["input_ids"]).logits[:, :-1][wanted] / 2, -1)
    q = functional.softmax(student(input_ids=batch["input_ids"]).logits[:, :-1][wanted] / 2, -1)
    entropy, _ = next_token_loss(student, batch)
    expected = 0.7 * 4 * (p * (p.log() - q.log())).sum() + 0.3 * entropy
    assert int(count) == int(wanted.sum())
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    hard = distillation_loss(teacher, alpha=0, targets="next_token")
    assert hard(student, batch)[0].item() == pytest.approx(entropy.item(), rel=1e-6)
    own = distillation_loss(student, targets="next_token")
    assert own(student, batch)[0].item() == pytest.approx(0, abs=1e-4)


def test_distillation_trains_the_student_only() -> None:
    student, teacher = tiny(), tiny(seed=4)
    before = [p.clone() for p in teacher.parameters()]
    settings = TrainSettings(steps=30, batch_size=8, learning_rate=1e-2)
    found = train(student, tokens(), settings, loss=distillation_loss(teacher, targets="next_token"))
    assert found.losses[-1] < 0.7 * found.losses[0]
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), before, strict=True))
    with pytest.raises(InputError, match="temperature"):
        distillation_loss(teacher, temperature=0)
    with pytest.raises(InputError, match="alpha"):
        distillation_loss(teacher, alpha=2)


def test_stages_of_one_schedule_have_the_rates_of_one_training() -> None:
    whole = TrainSettings(steps=10, schedule="wsd", warmup_steps=2, decay_fraction=0.3)
    parts = [
        TrainSettings(steps=n, schedule="wsd", warmup_steps=2, decay_fraction=0.3, schedule_start=s, schedule_steps=10)
        for s, n in ((0, 4), (4, 6))
    ]
    rates = [part.rate(i, part.steps or 0) for part in parts for i in range(part.steps or 0)]
    assert rates == [whole.rate(i, 10) for i in range(10)]
    with pytest.raises(InputError, match="schedule_steps"):
        TrainSettings(schedule_start=5, schedule_steps=5)


def test_an_optimizer_carries_its_moments_through_surgery_to_the_next_training() -> None:
    model = tiny()
    settings = TrainSettings(steps=4, batch_size=4, learning_rate=1e-2)
    optimizer = make_optimizer(model, settings)
    train(model, tokens(), settings, optimizer=optimizer)
    up = model.model.layers[0].mlp.up_proj
    before = optimizer.state[up.weight]["exp_avg"].clone()
    prune(model, KeepPlan.of(units_of(model, ["ffn"]), {(0, "ffn"): range(10, 20)}), optimizer=optimizer)
    assert torch.equal(optimizer.state[up.weight]["exp_avg"], before[10:20])
    train(model, tokens(), settings, optimizer=optimizer)
    assert int(optimizer.state[up.weight]["step"]) == 8
    # a second training of a model of one piece does the same as one of eight steps at a constant rate
    flat = TrainSettings(steps=8, batch_size=15, schedule="constant")
    one, two = tiny(), tiny()
    train(one, tokens(), flat)
    half = TrainSettings(steps=4, batch_size=15, schedule="constant")
    second = make_optimizer(two, half)
    for _ in range(2):
        train(two, tokens(), half, optimizer=second)
    # both halves see whole epochs: full batches in some order of the same halves of the data
    assert int(second.state[two.lm_head.weight]["step"]) == 8


def test_groups_may_have_rates_of_their_own() -> None:
    model = tiny()
    seen = []
    fast, slow = model.lm_head.weight, model.model.norm.weight
    optimizer = torch.optim.SGD([{"params": [fast]}, {"params": [slow], "lr_factor": 0.1}], lr=1.0)
    settings = TrainSettings(steps=2, batch_size=4, learning_rate=0.5, schedule="constant")
    train(
        model,
        tokens(),
        settings,
        optimizer=optimizer,
        on_step=lambda *_: seen.append([group["lr"] for group in optimizer.param_groups]),
    )
    assert seen == [[0.5, 0.05]] * 2
