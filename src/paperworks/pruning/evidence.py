"""What a criterion may look at: labelled or unlabelled examples in batches, a loss, and a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import TensorDataset

from paperworks.errors import InputError
from paperworks.parameters import check_seed, check_whole
from paperworks.training import model_logits

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``loss(logits [n, C], labels [n]) -> [n]``, one number for each example."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each example, in nats."""
    return nn.functional.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class Evidence:
    """Examples that scores are computed from.

    Attributes
    ----------
    labelled : inputs and labels, or None.
    unlabelled : inputs, or None: those of ``labelled`` serve.
    examples : use at most so many, drawn with the seed.
    batch_size : examples that are computed together.
    loss : of each example.
    seed : of the draw, and of random scores.
    """

    labelled: TensorDataset | None = None
    unlabelled: torch.Tensor | None = None
    examples: int = 512
    batch_size: int = 64
    loss: LossFunction = cross_entropy
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        check_whole("examples", self.examples, 1)
        check_whole("batch_size", self.batch_size, 1)

    @property
    def generator(self) -> torch.Generator:
        """A new generator of the seed."""
        return torch.Generator().manual_seed(self.seed)

    def _rows(self, count: int) -> torch.Tensor:
        return torch.randperm(count, generator=self.generator)[: self.examples]

    def inputs(self, criterion: str) -> torch.Tensor:
        """The inputs that are looked at. Raises InputError, naming the criterion, where there are none."""
        found = self.unlabelled
        if found is None and self.labelled is not None:
            found = self.labelled.tensors[0]
        if found is None or not len(found):
            raise InputError("data", "no examples", f"inputs, which {criterion} needs")
        return found[self._rows(len(found))]

    def examples_of(self, criterion: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels that are looked at. Raises InputError, naming the criterion, where there are no labels."""
        if self.labelled is None or not len(self.labelled):
            raise InputError("data", "no labels", f"labelled examples, which {criterion} needs")
        inputs, labels = self.labelled.tensors
        rows = self._rows(len(inputs))
        return inputs[rows], labels[rows]

    def check_classes(self, labels: torch.Tensor, logits: torch.Tensor) -> None:
        """Raise InputError for a label that is no class of the logits, where cross-entropy is the loss.

        It reads values, which no function under ``torch.func`` may: so it is not part of the loss.
        """
        if self.loss is not cross_entropy or labels.is_floating_point() or not len(labels):
            return
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= logits.shape[-1]:
            raise InputError("labels", low if low < 0 else high, f"0 to {logits.shape[-1] - 1}, the model's classes")

    def losses(
        self, model: nn.Module, criterion: str, batch_size: int | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(losses [b] with their graph, logits [b, C]) of every batch."""
        inputs, labels = self.examples_of(criterion)
        place = next(model.parameters()).device
        size = batch_size or self.batch_size
        for x, y in zip(inputs.split(size), labels.split(size), strict=True):
            logits = model_logits(model, {"inputs": x.to(place)})
            self.check_classes(y, logits)
            losses = self.loss(logits, y.to(place))
            if not bool(torch.isfinite(losses).all()):
                raise InputError("data", f"a loss of {float(losses.detach().mean())}", f"finite losses for {criterion}")
            yield losses, logits
