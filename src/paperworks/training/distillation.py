"""Distillation: a teacher's distribution over classes or tokens as a target (Hinton et al. 2015)."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.training.losses import (
    IGNORED,
    Batch,
    Loss,
    class_codes,
    labels_of,
    model_logits,
    next_token_logits,
    required_labels,
    summed_cross_entropy,
)


def distillation_loss(
    teacher: torch.nn.Module | None = None,
    *,
    temperature: float = 2.0,
    alpha: float = 1.0,
    targets: Literal["classes", "next_token"] = "classes",
) -> Loss:
    """``alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy``, summed over the targets, for ``train``.

    Both distributions are softened by the temperature T; KL is of float32 log-probabilities over all classes or the
    whole vocabulary. The teacher runs in evaluation mode without gradients, on the device of the batch.

    Parameters
    ----------
    teacher : a model with the student's classes or vocabulary. None: the batch has ``teacher_logits``, of the shape of
        the student's logits, stored beforehand.
    temperature : T, above 0.
    alpha : share of the teacher, in [0, 1].
    targets : ``classes``: logits ``[n, C]`` and ``labels`` int64 ``[n]``, which may be left out with ``alpha`` 1;
        optional ``weights`` ``[n]``, as in ``cross_entropy_loss``. ``next_token``: a causal language model, at the
        positions that have a label.

    Raises
    ------
    InputError : a value out of bounds; in training, a teacher with another number of classes or tokens.
    """
    if temperature <= 0:
        raise InputError("temperature", temperature, "a number above 0")
    if not 0 <= alpha <= 1:
        raise InputError("alpha", alpha, "a share from 0 to 1")
    if targets not in ("classes", "next_token"):
        raise InputError("targets", targets, "classes or next_token")

    def of_teacher(batch: Batch) -> torch.Tensor:
        if teacher is None:
            if "teacher_logits" not in batch:
                raise InputError("teacher", "neither a model nor teacher_logits in the batch", "one of the two")
            return batch["teacher_logits"]
        teacher.to(next(iter(batch.values())).device)
        with evaluation_mode(teacher), torch.no_grad():
            return model_logits(teacher, batch) if targets == "classes" else next_token_logits(teacher, batch)

    def divergence(student: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """T^2 KL of every row, float32 [n]."""
        if expected.shape != student.shape:
            found, wanted = tuple(expected.shape), tuple(student.shape)
            raise InputError("teacher", f"logits of shape {found}", f"those of the student, {wanted}")
        soft = functional.log_softmax(student / temperature, -1)
        target = functional.log_softmax(expected.float() / temperature, -1)
        return temperature**2 * functional.kl_div(soft, target, reduction="none", log_target=True).sum(-1)

    def of_tokens(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        labels = labels_of(batch)[:, 1:]
        wanted = labels != IGNORED
        student = next_token_logits(model, batch)[:, :-1][wanted].float()
        total = student.new_zeros(())
        if alpha < 1:
            codes = class_codes(labels[wanted], student.shape[-1])
            total = total + (1 - alpha) * functional.cross_entropy(student, codes, reduction="sum")
        if alpha > 0:
            total = total + alpha * divergence(student, of_teacher(batch)[:, :-1][wanted]).sum()
        return total, wanted.sum()

    def of_classes(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        student = model_logits(model, batch).float()
        if student.ndim != 2:
            raise InputError("model", f"logits of shape {tuple(student.shape)}", "[n, C]; targets='next_token'?")
        weights = batch.get("weights")
        each = student.new_ones(len(student)) if weights is None else weights.to(student)
        total, count = student.new_zeros(()), each.sum()
        if alpha < 1:
            entropy, count = summed_cross_entropy(student, required_labels(batch), weights=weights)
            total = total + (1 - alpha) * entropy
        if alpha > 0:
            rows = divergence(student, of_teacher(batch))
            if alpha < 1 and not batch["labels"].is_floating_point():  # an example without a label is no target
                rows = rows * (batch["labels"] != IGNORED)
            total = total + alpha * (rows * each).sum()
        return total, count

    return of_classes if targets == "classes" else of_tokens
