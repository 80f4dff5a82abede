"""Distillation against its formula, the proximal step against its closed form, moments and schedules over stages."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.structure import KeepPlan, prune, units_of
from paperworks.training import (
    TrainSettings,
    adamw,
    add_lora,
    distillation_loss,
    group_penalty,
    lora_group_norms,
    next_token_loss,
    proximal_step,
    train,
    zero_adapters,
)

from .test_loop import tiny, tokens

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def test_distillation_is_its_formula() -> None:
    student, teacher = tiny(), tiny(seed=4)
    batch = {"input_ids": tokens(3), "labels": tokens(3).index_fill(1, torch.tensor([0, 1, 2]), -100)}
    total, count = distillation_loss(teacher, temperature=2, alpha=0.7)(student, batch)
    wanted = batch["labels"][:, 1:] != -100
    p = functional.softmax(teacher(input_ids=batch["input_ids"]).logits[:, :-1][wanted] / 2, -1)
    q = functional.softmax(student(input_ids=batch["input_ids"]).logits[:, :-1][wanted] / 2, -1)
    entropy, _ = next_token_loss(student, batch)
    expected = 0.7 * 4 * (p * (p.log() - q.log())).sum() + 0.3 * entropy
    assert int(count) == int(wanted.sum())
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert distillation_loss(teacher, alpha=0)(student, batch)[0].item() == pytest.approx(entropy.item(), rel=1e-6)
    assert distillation_loss(student, alpha=1)(student, batch)[0].item() == pytest.approx(0, abs=1e-4)


def test_distillation_trains_the_student_only() -> None:
    student, teacher = tiny(), tiny(seed=4)
    before = [p.clone() for p in teacher.parameters()]
    settings = TrainSettings(steps=30, batch_size=8, learning_rate=1e-2)
    found = train(student, tokens(), settings, loss=distillation_loss(teacher))
    assert found.losses[-1] < 0.7 * found.losses[0]
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), before, strict=True))
    with pytest.raises(InputError, match="temperature"):
        distillation_loss(teacher, temperature=0)
    with pytest.raises(InputError, match="alpha"):
        distillation_loss(teacher, alpha=2)


def _adapted() -> torch.nn.Module:
    model = add_lora(tiny(), TARGETS, r=2, alpha=2, dropout=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=generator)
    return model


def test_group_norms_and_the_proximal_step_are_their_closed_forms() -> None:
    model = _adapted()
    units = units_of(model, ["ffn", "v_channel"])
    mlp = model.get_base_model().model.layers[1].mlp
    parts = [mlp.gate_proj.lora_B["default"].weight, mlp.up_proj.lora_B["default"].weight]
    column = mlp.down_proj.lora_A["default"].weight
    norms = lora_group_norms(model, units[1, "ffn"]).detach()
    for unit in (0, 7, 31):
        expected = math.sqrt(sum(float((p[unit] ** 2).sum()) for p in parts) + float((column[:, unit] ** 2).sum()))
        assert float(norms[unit]) == pytest.approx(expected, rel=1e-5)
    dropped = {(1, "ffn"): [3, 5], (0, "v_channel"): [1]}
    penalty = group_penalty(model, units, dropped)
    by_hand = sum(float(p[u].norm()) for p in parts for u in (3, 5)) + sum(float(column[:, u].norm()) for u in (3, 5))
    attn = model.get_base_model().model.layers[0].self_attn
    value, out = attn.v_proj.lora_B["default"].weight, attn.o_proj.lora_A["default"].weight
    by_hand += float(value[[1, 5]].norm()) + float(out[:, [1, 5, 9, 13]].norm())
    assert penalty.item() == pytest.approx(by_hand / 2, rel=1e-5)
    before = {name: p.clone() for name, p in model.named_parameters()}
    proximal_step(model, units, dropped, 0.5)
    after = lora_group_norms(model, units[1, "ffn"]).detach()
    for unit in range(32):
        expected = max(0.0, float(norms[unit]) - 0.5) if unit in (3, 5) else float(norms[unit])
        assert float(after[unit]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    others = [i for i in range(32) if i not in (3, 5)]
    name = "base_model.model.model.layers.1.mlp.gate_proj.lora_B.default.weight"
    assert torch.equal(dict(model.named_parameters())[name][others], before[name][others])
    zero_adapters(model, units, dropped)
    assert bool((parts[0][[3, 5]] == 0).all() and (column[:, [3, 5]] == 0).all() and (value[[1, 5]] == 0).all())
    with pytest.raises(InputError, match="no adapter"):
        lora_group_norms(tiny(), units[1, "ffn"])
    with pytest.raises(InputError, match="threshold"):
        proximal_step(model, units, dropped, -1)


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
    optimizer = adamw(model, settings)
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
    second = adamw(two, half)
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
    train(model, tokens(), settings, optimizer=optimizer,
          on_step=lambda *_: seen.append([group["lr"] for group in optimizer.param_groups]))  # fmt: skip
    assert seen == [[0.5, 0.05]] * 2
