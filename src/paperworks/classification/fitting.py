"""Training a classifier: on labels, on a teacher, or on both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.classification.data import Data, add_columns, as_examples, as_labels, count_rows, read_rows
from paperworks.classification.dynamics import TrainingDynamics
from paperworks.classification.prediction import predict_logits
from paperworks.errors import InputError
from paperworks.inputs.transforms import RowRandom, Transform
from paperworks.runs import Progress, no_progress
from paperworks.training import (
    Batch,
    Loss,
    Rows,
    Sampler,
    TrainingCallback,
    TrainResult,
    TrainSettings,
    cross_entropy_loss,
    distillation_loss,
    train,
)

IMAGE_ARGUMENTS = ("inputs", "pixel_values")
"""Columns that augmentations change."""


def fit(
    model: torch.nn.Module,
    data: Data,
    labels: Any = None,
    *,
    settings: TrainSettings,
    teacher: torch.nn.Module | np.ndarray | torch.Tensor | None = None,
    alpha: float = 1.0,
    temperature: float = 4.0,
    label_smoothing: float = 0.0,
    sample_weight: Any = None,
    augment: Transform | None = None,
    validation: tuple[Data, Any] | None = None,
    dynamics: TrainingDynamics | None = None,
    callbacks: Sequence[TrainingCallback] = (),
    sampler: Sampler | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> TrainResult:
    """Train a classifier in place.

    Without a teacher the loss is the cross-entropy of the labels. With one it is ``(1 - alpha)`` of that plus ``alpha``
    times ``temperature^2 KL(teacher || student)`` of the softened distributions (Hinton et al. 2015). A module as
    teacher sees the very batch that the student sees, augmentation included, in evaluation mode.

    Parameters
    ----------
    model : returns logits ``[n, C]``, or an output of transformers that has them.
    data : examples, see ``paperworks.classification.data.Data``.
    labels : class codes ``[n]``; None where the examples have ``labels``.
    settings : optimiser, schedule, number of steps, batch size, seed.
    teacher : a module, or its logits on ``data`` ``[n, C]`` stored beforehand (not with ``augment``).
    alpha : share of the teacher, in [0, 1]; 0 is training without one.
    temperature : of the softened distributions, above 0.
    label_smoothing : share of the target that is spread over all classes; without a teacher only.
    sample_weight : weight of each example ``[n]``.
    augment : applied to every batch of images ``[n, c, h, w]``; what a row gets depends on seed, epoch and row only.
    validation : (data, labels); the weights with the least cross-entropy on them are kept, see ``settings.eval_every``.
    dynamics : notes what happens to each example in this training.
    sampler : order of the rows; default: shuffled anew in every epoch.
    optimizer : in place of the settings' own, for options by group of parameters; see ``make_optimizer``.
    checkpoint_dir, callbacks, progress : see ``paperworks.training.train``.

    Raises
    ------
    InputError : labels that are no class of the model, teacher logits of another shape, an option out of bounds.
    """
    examples = as_examples(data, labels)
    count = count_rows(examples)
    columns = {"index": torch.arange(count)}
    if sample_weight is not None:
        columns["weights"] = _weights(sample_weight, count)
    if teacher is not None and not isinstance(teacher, torch.nn.Module):
        columns["teacher_logits"] = _teacher_logits(teacher, count, augment)
    loss = _loss(teacher, alpha, temperature, label_smoothing)
    if dynamics is not None:
        dynamics.check_size(count)
        loss = dynamics.recording(loss)
        callbacks = [*callbacks, dynamics]
    rows = AugmentedRows(add_columns(examples, columns), sampler, augment)
    evaluate = None if validation is None else _validation_loss(*validation, settings)
    return train(
        model,
        rows,
        settings,
        loss=loss,
        evaluate=evaluate,
        callbacks=callbacks,
        optimizer=optimizer,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )


class AugmentedRows(Rows):
    """Rows in a shuffled order for ``train``; images are augmented, with random numbers of their own in each epoch.

    ``augment`` None leaves the images as they are.
    """

    def __init__(self, examples: Any, sampler: Sampler | None, augment: Transform | None) -> None:
        super().__init__(examples, sampler)
        self.augment = augment

    def batch(self, step: int, part: range, *, per_step: int, seed: int) -> Batch:
        places = self.order(per_step, seed).rows(step)[part.start : part.stop]
        epochs, rows = np.array(places, dtype=np.int64).T
        batch = read_rows(self.examples, rows)
        if self.augment is None:
            return batch
        names = [name for name in IMAGE_ARGUMENTS if name in batch]
        if not names:
            raise InputError("augment", f"a batch of {', '.join(batch)}", "images (inputs or pixel_values)")
        return {**batch, names[0]: self.augment(batch[names[0]], RowRandom(seed, epochs, rows))}

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "augment": repr(self.augment)}


def _loss(teacher: Any, alpha: float, temperature: float, label_smoothing: float) -> Loss:
    if teacher is None:
        return cross_entropy_loss(label_smoothing=label_smoothing)
    if label_smoothing:
        raise InputError("label_smoothing", label_smoothing, "0 with a teacher, whose targets are soft already")
    module = teacher if isinstance(teacher, torch.nn.Module) else None
    found = distillation_loss(module, temperature=temperature, alpha=alpha)
    # without a share of the teacher its forward pass is not made, and the numbers are those of plain training
    return found if alpha > 0 else cross_entropy_loss()


def _validation_loss(data: Data, labels: Any, settings: TrainSettings) -> Any:
    examples = as_examples(data)
    codes = as_labels(labels, count_rows(examples))

    def evaluate(model: torch.nn.Module) -> float:
        logits = torch.from_numpy(predict_logits(model, examples, device=settings.device))
        return float(torch.nn.functional.cross_entropy(logits, codes))

    return evaluate


def _weights(weights: Any, count: int) -> torch.Tensor:
    values = torch.as_tensor(np.asarray(weights), dtype=torch.float32)
    if values.shape != (count,) or not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        raise InputError("sample_weight", f"shape {tuple(values.shape)}", f"{count} finite numbers of 0 or more")
    return values


def _teacher_logits(teacher: Any, count: int, augment: Transform | None) -> torch.Tensor:
    if augment is not None:
        raise InputError("teacher", "logits, with augment", "a module: it must see the augmented images")
    logits = torch.as_tensor(np.asarray(teacher), dtype=torch.float32)
    if logits.ndim != 2 or len(logits) != count or not bool(torch.isfinite(logits).all()):
        raise InputError("teacher", f"shape {tuple(logits.shape)}", f"finite logits [{count}, C], one row per example")
    return logits
