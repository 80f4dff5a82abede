"""Optimisers and schedules against torch.optim; options by group; optimisers that take turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from paperworks.errors import InputError
from paperworks.runs import Cancelled
from paperworks.training import TrainingCallback, TrainSettings, Turn, cross_entropy_loss, make_optimizer, train
from training.test_buffers import classifier, examples
from training.test_loop import StopAfter

STEPS = 12
Scheduler = Callable[[torch.optim.Optimizer], Any]


def whole_batches(settings: TrainSettings, model: nn.Module, **options: Any) -> list[float]:
    """Train on all examples in every step, so that their order does not matter."""
    return train(model, examples(), settings, loss=cross_entropy_loss(), **options).losses


@pytest.mark.parametrize(
    ("options", "make"),
    [
        (
            {"optimizer": "adamw", "betas": (0.9, 0.95), "eps": 1e-3},
            lambda groups: torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.95), eps=1e-3),
        ),
        ({"optimizer": "sgd", "momentum": 0.9}, lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9)),
        (
            {"optimizer": "sgd", "momentum": 0.8, "nesterov": True},
            lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.8, nesterov=True),
        ),
        ({"optimizer": "sgd", "momentum": 0.0}, lambda groups: torch.optim.SGD(groups, lr=0.05)),
    ],
)
@pytest.mark.parametrize(
    ("schedule", "scheduler"),
    [
        ({"schedule": "constant"}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
        ({"schedule": "constant", "warmup_steps": 5}, lambda o: lr_scheduler.LinearLR(o, 1 / 5, 1.0, 4)),
        ({"schedule": "cosine", "final_factor": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, 0.005)),
        ({"schedule": "linear", "final_factor": 0.2}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, STEPS)),
        (
            {"schedule": "multistep", "milestones": (3, 7), "gamma": 0.2},
            lambda o: lr_scheduler.MultiStepLR(o, [3, 7], 0.2),
        ),
        ({"schedule": "multistep", "milestones": (0.5, 0.75)}, lambda o: lr_scheduler.MultiStepLR(o, [6, 9], 0.1)),
    ],
)
def test_a_training_is_a_plain_loop_of_pytorch(
    options: dict[str, Any], make: Any, schedule: dict[str, Any], scheduler: Scheduler
) -> None:
    settings = TrainSettings(
        steps=STEPS, batch_size=60, learning_rate=0.05, weight_decay=0.02, clip_norm=0.5, **options, **schedule
    )
    ours, theirs = classifier(), classifier()
    decayed = [p for p in theirs.parameters() if p.ndim >= 2]
    others = [p for p in theirs.parameters() if p.ndim < 2]
    optimizer = make([{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}])
    rates = scheduler(optimizer)
    expected, data = [], examples()
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(theirs(data["inputs"]), data["labels"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        rates.step()
        expected.append(loss.item())
    assert whole_batches(settings, ours) == pytest.approx(expected, rel=2e-4)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-4)


def test_groups_have_options_of_their_own() -> None:
    model = classifier()
    settings = TrainSettings(
        steps=2, batch_size=60, learning_rate=0.5, schedule="linear", optimizer="sgd", weight_decay=0.1
    )

    def groups(model: Any) -> list[dict[str, Any]]:
        return [
            {"params": model[:3].parameters(), "lr_factor": 0.1, "weight_decay": 0.0},
            {"params": model[3:5].parameters(), "lr": 0.3, "scheduled": False},
            {"params": model[5:].parameters(), "momentum": 0.0},
        ]

    optimizer = make_optimizer(model, settings, groups)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.0, 0.1, 0.1]
    assert [g["momentum"] for g in optimizer.param_groups] == [0.9, 0.9, 0.0]
    seen: list[list[float]] = []
    whole_batches(
        settings, model, optimizer=optimizer, on_step=lambda *_: seen.append([g["lr"] for g in optimizer.param_groups])
    )
    assert seen == [pytest.approx([0.05, 0.3, 0.5]), pytest.approx([0.025, 0.3, 0.25])]


def test_groups_must_hold_every_trained_parameter_once() -> None:
    model = classifier()
    for groups, found in (
        (lambda m: [{"params": m[0].parameters()}], "no group with '1.weight'"),
        (lambda m: [{"params": m.parameters()}, {"params": m[0].parameters()}], "'0.weight' in 2 groups"),
    ):
        with pytest.raises(InputError, match=f"param_groups: found {found}"):
            make_optimizer(model, TrainSettings(), groups)
    model[1].requires_grad_(False)
    model[3:].requires_grad_(False)
    make_optimizer(model, TrainSettings(), lambda m: [{"params": m[0].parameters()}])


def two_turns(model: Any) -> list[Turn]:
    validation = {name: value[:20] for name, value in examples().items()}
    body, head = [*model[:5].parameters()], [*model[5:].parameters()]
    return [Turn(torch.optim.SGD(body, lr=1.0, momentum=0.9)), Turn(torch.optim.AdamW(head), data=validation, steps=2)]


class Watch(TrainingCallback):
    """Which of the two halves of a model changed in each step."""

    def __init__(self, model: Any) -> None:
        self.halves = [[*model[:5].parameters()], [*model[5:].parameters()]]
        self.changed: list[list[bool]] = []

    def before_step(self, step: int) -> None:
        self.before = [[p.detach().clone() for p in half] for half in self.halves]

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        pairs = zip(self.before, self.halves, strict=True)
        self.changed.append([any(not torch.equal(a, b) for a, b in zip(old, new, strict=True)) for old, new in pairs])


def test_optimizers_take_turns_each_with_its_parameters_and_data(tmp_path: Path) -> None:
    settings = TrainSettings(steps=9, batch_size=10, learning_rate=0.05)
    whole, parts, again = classifier(), classifier(), classifier(seed=3)
    watch = Watch(whole)
    expected = whole_batches(settings, whole, turns=two_turns(whole), callbacks=[watch])
    assert watch.changed == [[True, False], [False, True], [False, True]] * 3
    with pytest.raises(Cancelled):
        whole_batches(
            settings,
            parts,
            turns=two_turns(parts),
            checkpoint_dir=tmp_path,
            progress=StopAfter(5),
            callbacks=[Watch(parts)],
        )
    found = whole_batches(settings, again, turns=two_turns(again), checkpoint_dir=tmp_path, callbacks=[Watch(again)])
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_turn_may_have_its_own_loss() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    up = Turn(torch.optim.SGD([model[0].bias], lr=1.0), loss=lambda m, b: (m[0].bias.sum() * -60, torch.tensor(60)))
    down = Turn(torch.optim.SGD([model[0].weight], lr=1.0))
    bias = model[0].bias.detach().clone()
    settings = TrainSettings(steps=4, batch_size=60, learning_rate=0.5, schedule="constant", clip_norm=0.0)
    train(model, examples(), settings, loss=cross_entropy_loss(), turns=[up, down])
    torch.testing.assert_close(model[0].bias, bias + 2 * 0.5)


def test_bad_turns_and_settings() -> None:
    model = classifier()
    turns = two_turns(model)
    with pytest.raises(InputError, match="optimizer"):
        whole_batches(TrainSettings(steps=1), model, turns=turns, optimizer=turns[0].optimizer)
    with pytest.raises(InputError, match="steps"):
        Turn(turns[0].optimizer, steps=0)
    wrong: list[dict[str, Any]] = [
        {"optimizer": "lion"},
        {"momentum": 1.0},
        {"nesterov": True, "momentum": 0.0},
        {"gamma": 0.0},
        {"milestones": (7, 3)},
        {"milestones": (2.5,)},
        {"milestones": (0.0,)},
    ]
    for options in wrong:
        with pytest.raises(InputError) as caught:
            TrainSettings(**options)
        assert caught.value.field == next(iter(options))
