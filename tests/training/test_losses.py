"""Losses of classifiers against torch.nn.functional and closed forms, in every form of batch and output."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.training import (
    TrainSettings,
    binary_cross_entropy_loss,
    cross_entropy_loss,
    distillation_loss,
    model_logits,
    next_token_loss,
    train,
)

G = torch.Generator().manual_seed(0)
INPUTS, LABELS = torch.randn(7, 4, generator=G), torch.tensor([0, 2, 1, 1, 0, 2, 2])
WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0, 3.0, 1.5])


class Linear(nn.Module):
    """A classifier whose output and forward keyword are chosen."""

    def __init__(self, out: str = "tensor", classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 4, generator=torch.Generator().manual_seed(seed)))
        self.out = out

    def forward(self, pixel_values: torch.Tensor) -> Any:
        logits = pixel_values @ self.weight.T
        return {
            "tensor": logits,
            "attribute": SimpleNamespace(logits=logits),
            "mapping": {"logits": logits},
            "none": "text",
        }[self.out]


def mean(loss: Any, model: nn.Module, batch: dict[str, torch.Tensor]) -> float:
    total, count = loss(model, batch)
    return (total / count).item()


@pytest.mark.parametrize("out", ["tensor", "attribute", "mapping"])
@pytest.mark.parametrize("name", ["inputs", "pixel_values"])
def test_logits_of_any_output_from_any_batch(out: str, name: str) -> None:
    batch = {name: INPUTS, "labels": LABELS, "weights": WEIGHTS, "index": torch.arange(7), "teacher_logits": INPUTS}
    model = Linear(out)
    assert torch.equal(model_logits(model, batch), INPUTS @ model.weight.T)


def test_bad_batches_and_outputs() -> None:
    for model, batch, field in (
        (Linear(), {"labels": LABELS}, "data"),
        (Linear("none"), {"inputs": INPUTS, "labels": LABELS}, "model"),
        (Linear(), {"inputs": INPUTS}, "data"),
        (Linear(), {"inputs": INPUTS, "labels": LABELS + 1}, "labels"),
        (Linear(), {"inputs": INPUTS, "labels": LABELS[:, None]}, "labels"),
        (Linear(), {"inputs": INPUTS, "labels": LABELS, "weights": WEIGHTS[:3]}, "weights"),
    ):
        with pytest.raises(InputError) as caught:
            cross_entropy_loss()(model, batch)
        assert caught.value.field == field
    for options in ({"label_smoothing": 1.0}, {"class_weights": [1.0, -1.0, 1.0]}):
        with pytest.raises(InputError, match=next(iter(options))):
            cross_entropy_loss(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="class_weights: found 2 weights; expected 3"):
        cross_entropy_loss(class_weights=[1.0, 2.0])(Linear(), {"inputs": INPUTS, "labels": LABELS})


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 1.0]])
def test_cross_entropy_is_pytorch_s(label_smoothing: float, class_weights: list[float] | None) -> None:
    labels = LABELS.index_fill(0, torch.tensor([3]), -100)
    model = Linear()
    weight = None if class_weights is None else torch.tensor(class_weights)
    expected = functional.cross_entropy(INPUTS @ model.weight.T, labels, weight=weight, label_smoothing=label_smoothing)
    loss = cross_entropy_loss(label_smoothing=label_smoothing, class_weights=class_weights)
    assert mean(loss, model, {"inputs": INPUTS, "labels": labels}) == pytest.approx(expected.item(), rel=1e-6)


def test_weights_count_an_example_so_many_times() -> None:
    copies = torch.tensor([1, 2, 0, 3, 1, 1, 2])
    rows = torch.repeat_interleave(torch.arange(7), copies)
    for loss in (cross_entropy_loss(label_smoothing=0.1), cross_entropy_loss(class_weights=[1.0, 3.0, 0.5])):
        weighted = mean(loss, Linear(), {"inputs": INPUTS, "labels": LABELS, "weights": copies.float()})
        repeated = mean(loss, Linear(), {"inputs": INPUTS[rows], "labels": LABELS[rows]})
        assert weighted == pytest.approx(repeated, rel=1e-6)


def test_classes_last_classes_second_and_probabilities() -> None:
    logits = torch.randn(2, 5, 3, generator=G)
    labels = torch.randint(3, (2, 5), generator=G)
    expected = functional.cross_entropy(logits.movedim(-1, 1), labels).item()
    batch = {"inputs": logits, "labels": labels}
    assert mean(cross_entropy_loss(), nn.Identity(), batch) == pytest.approx(expected, rel=1e-6)
    batch = {"inputs": logits.movedim(-1, 1).contiguous(), "labels": labels}
    assert mean(cross_entropy_loss(), nn.Identity(), batch) == pytest.approx(expected, rel=1e-6)
    soft = torch.softmax(torch.randn(2, 5, 3, generator=G), -1)
    batch = {"inputs": logits, "labels": soft}
    expected = -(soft * logits.log_softmax(-1)).sum(-1).mean().item()
    assert mean(cross_entropy_loss(), nn.Identity(), batch) == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_is_pytorch_s() -> None:
    logits, labels = torch.randn(4, 3, generator=G), torch.randint(2, (4, 3), generator=G)
    positive = torch.tensor([1.0, 4.0, 0.5])
    expected = functional.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=positive).item()
    loss = binary_cross_entropy_loss(positive_weight=positive)
    assert mean(loss, nn.Identity(), {"inputs": logits, "labels": labels}) == pytest.approx(expected, rel=1e-6)
    column = {"inputs": logits[:, :1], "labels": labels[:, 0]}
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0].float()).item()
    assert mean(binary_cross_entropy_loss(), nn.Identity(), column) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match="labels"):
        binary_cross_entropy_loss()(nn.Identity(), {"inputs": logits, "labels": labels[:, :2]})
    with pytest.raises(InputError, match="positive_weight"):
        binary_cross_entropy_loss(positive_weight=0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_distillation_of_classes_is_its_formula(alpha: float) -> None:
    student, teacher = Linear(), Linear(seed=1)
    a, b = INPUTS @ student.weight.T, INPUTS @ teacher.weight.T
    p, q = functional.softmax(b / 3, -1), functional.log_softmax(a / 3, -1)
    rows = alpha * 9 * (p * (p.log() - q)).sum(-1) + (1 - alpha) * functional.cross_entropy(a, LABELS, reduction="none")
    loss = distillation_loss(teacher, temperature=3, alpha=alpha)
    batch = {"inputs": INPUTS, "labels": LABELS}
    assert mean(loss, student, batch) == pytest.approx(rows.mean().item(), rel=1e-5)
    weighted = (rows * WEIGHTS).sum() / WEIGHTS.sum()
    assert mean(loss, student, {**batch, "weights": WEIGHTS}) == pytest.approx(weighted.item(), rel=1e-5)
    stored = distillation_loss(temperature=3, alpha=alpha)
    assert mean(stored, student, {**batch, "teacher_logits": b.detach()}) == pytest.approx(rows.mean().item(), rel=1e-5)


def test_distillation_needs_labels_only_beside_them_and_a_teacher_of_the_same_classes() -> None:
    assert mean(distillation_loss(Linear()), Linear(), {"inputs": INPUTS}) == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="labels"):
        distillation_loss(Linear(), alpha=0.5)(Linear(), {"inputs": INPUTS})
    with pytest.raises(InputError, match="teacher"):
        distillation_loss(Linear(classes=5))(Linear(), {"inputs": INPUTS})
    with pytest.raises(InputError, match="teacher_logits"):
        distillation_loss()(Linear(), {"inputs": INPUTS})
    with pytest.raises(InputError, match="targets"):
        distillation_loss(targets="pixels")  # type: ignore[arg-type]


class Counted(nn.Module):
    """A language model of 5 tokens whose logits are a table's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 5)
        self.config = SimpleNamespace(vocab_size=5)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.table(input_ids))


@pytest.mark.parametrize("loss", [next_token_loss, distillation_loss(Counted(), alpha=0.5, targets="next_token")])
def test_tokens_that_the_vocabulary_lacks_are_named(loss: Any) -> None:
    tokens = torch.tensor([[0, 1, 2, 4]])
    for field, batch, wrong in (
        ("input_ids", {"input_ids": tokens + 1}, 5),
        ("labels", {"input_ids": tokens, "labels": tokens + 1}, 5),
        ("labels", {"input_ids": tokens, "labels": tokens - 3}, -2),
    ):
        with pytest.raises(InputError, match=rf"{field}: found (token id )?{wrong}; expected .*0 to 4") as caught:
            loss(Counted(), batch)
        assert caught.value.field == field
    padded = torch.where(tokens == 2, -100, tokens)
    assert int(loss(Counted(), {"input_ids": tokens, "labels": padded})[1]) == 2


def test_labels_of_any_whole_number_type_are_classes_and_binary_ones_are_shares() -> None:
    expected = cross_entropy_loss()(Linear(), {"inputs": INPUTS, "labels": LABELS})
    for kind in (torch.int32, torch.uint8):
        assert cross_entropy_loss()(Linear(), {"inputs": INPUTS, "labels": LABELS.to(kind)}) == expected
    shares = torch.rand(7, 3, generator=G)
    for wrong in (2.0, -0.5, float("nan")):
        shares[1, 2] = wrong
        with pytest.raises(InputError, match=rf"labels: found {wrong}; expected 0, 1, or a probability"):
            binary_cross_entropy_loss()(Linear(), {"inputs": INPUTS, "labels": shares})


def test_a_student_learns_what_its_teacher_says() -> None:
    student, teacher = Linear(), Linear(seed=1)
    settings = TrainSettings(steps=200, batch_size=7, learning_rate=0.1, weight_decay=0.0)
    losses = train(student, {"inputs": INPUTS}, settings, loss=distillation_loss(teacher)).losses
    assert losses[-1] < 1e-3 * losses[0]
