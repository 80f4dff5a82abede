"""Distillation: a teacher's distribution over the next token as a target (Hinton et al. 2015)."""

from __future__ import annotations

import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.training.losses import IGNORED, Batch, Loss, labels_of


def distillation_loss(teacher: torch.nn.Module, *, temperature: float = 2.0, alpha: float = 1.0) -> Loss:
    """``alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy``, summed over the targets, for ``train``.

    Both distributions are softened by the temperature T; KL is of float32 log-probabilities over the whole vocabulary,
    at the positions that have a label. The teacher runs in evaluation mode without gradients.

    Parameters
    ----------
    teacher : a causal language model with the student's vocabulary.
    temperature : T, above 0.
    alpha : share of the teacher, in [0, 1].

    Raises
    ------
    InputError : a value out of bounds; in training, vocabularies of two sizes.
    """
    if temperature <= 0:
        raise InputError("temperature", temperature, "a number above 0")
    if not 0 <= alpha <= 1:
        raise InputError("alpha", alpha, "a share from 0 to 1")

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch.get("attention_mask"), "use_cache": False}
        targets = labels_of(batch)[:, 1:]
        wanted = targets != IGNORED
        student = model(**inputs).logits[:, :-1][wanted].float()
        total = student.new_zeros(())
        if alpha < 1:
            total = total + (1 - alpha) * functional.cross_entropy(student, targets[wanted], reduction="sum")
        if alpha > 0:
            with evaluation_mode(teacher), torch.no_grad():
                expected = teacher(**inputs).logits[:, :-1][wanted].float()
            if expected.shape != student.shape:
                raise InputError("teacher", f"{expected.shape[-1]} tokens", f"the student's {student.shape[-1]}")
            soft = functional.log_softmax(student / temperature, -1)
            target = functional.log_softmax(expected / temperature, -1)
            divergence = functional.kl_div(soft, target, reduction="sum", log_target=True)
            total = total + alpha * temperature**2 * divergence
        return total, wanted.sum()

    return loss
