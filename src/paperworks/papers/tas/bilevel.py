"""The bilevel search: weights learn on one half of the examples, widths and depths on the other."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from paperworks.classification import AugmentedRows, as_examples, predict, take_rows
from paperworks.errors import InputError
from paperworks.inputs.transforms import Transform
from paperworks.papers.tas.expectation import cost_penalty
from paperworks.papers.tas.repair import repaired
from paperworks.papers.tas.space import Genotype, SearchSpace
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.training import (
    Batch,
    Loss,
    TrainingCallback,
    TrainSettings,
    Turn,
    cross_entropy_loss,
    train,
)

Outside = Literal["raise", "repair"]
TemperatureRule = Literal["linear", "cosine"]


@dataclass(frozen=True)
class SearchSettings:
    """Options of a search; the defaults are the paper's for CIFAR, but for the budget.

    Attributes
    ----------
    target : wanted cost, as a share of the full network's.
    tolerance : half of the band around the target in which nothing pushes, as a share of the target.
    cost_weight : weight of the cost in the loss of the architecture.
    epochs : passes over the first half of the examples.
    batch_size : examples of a step.
    learning_rate, momentum, weight_decay : of SGD with Nesterov's momentum for the weights; the rate falls along a
        cosine to 0.
    architecture_learning_rate : of Adam for the logits, constant. None: 6 / number of steps, at least the paper's
        0.001 and at most 0.05: with few steps the paper's would leave all probabilities alike.
    architecture_weight_decay : of the logits.
    temperature : first and last of the Gumbel-softmax.
    temperature_rule : ``linear`` (the paper's text) or ``cosine`` (the released code, which goes from 5 to 0.1).
    penalty : the band of the paper, or of the released code; see ``cost_penalty``.
    outside : what to do when no epoch ends with a network within the band: ``raise``, or ``repair``: move the choices
        whose probabilities lose least, step by step, until the cost is in it.
    device, seed : as elsewhere.
    """

    target: float = 0.5
    tolerance: float = 0.05
    cost_weight: float = 2.0
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    architecture_learning_rate: float | None = None
    architecture_weight_decay: float = 1e-3
    temperature: tuple[float, float] = (10.0, 0.1)
    temperature_rule: TemperatureRule = "linear"
    penalty: Literal["paper", "code"] = "paper"
    outside: Outside = "raise"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        if not 0 < self.target <= 1:
            raise InputError("target", self.target, "a share of the full network's cost, above 0 and at most 1")
        check_number("tolerance", self.tolerance, 0.0, 0.5)
        for name in ("epochs", "batch_size"):
            check_whole(name, getattr(self, name), 1)
        for name in ("cost_weight", "weight_decay", "architecture_weight_decay"):
            check_number(name, getattr(self, name))
        rates = {"learning_rate": self.learning_rate, "temperature": min(self.temperature)}
        if self.architecture_learning_rate is not None:
            rates["architecture_learning_rate"] = self.architecture_learning_rate
        for name, value in rates.items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(name, value, "a number above 0")
        for name, known in (("temperature_rule", ("linear", "cosine")), ("penalty", ("paper", "code"))):
            if getattr(self, name) not in known:
                raise InputError(name, repr(getattr(self, name)), " or ".join(known))
        if self.outside not in ("raise", "repair"):
            raise InputError("outside", repr(self.outside), "raise or repair")

    def temperature_at(self, done: float) -> float:
        """The temperature when a share ``done`` of the search is over."""
        first, last = self.temperature
        left = 1 - done if self.temperature_rule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return last + (first - last) * left

    def architecture_rate(self, steps: int) -> float:
        """The learning rate of the logits in a search of so many steps."""
        if self.architecture_learning_rate is not None:
            return self.architecture_learning_rate
        return min(0.05, max(1e-3, 6 / steps))


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes
    ----------
    genotype : the network.
    share : its cost, as a share of the full network's.
    epoch : the epoch it is of, from 1; 0 after a repair.
    history : one row an epoch: temperature, accuracy on the second half (with drawn widths), share of the most probable
        network, share of the expected cost, and ``discrepancy``: the mean lead of the most probable candidate.
    """

    genotype: Genotype
    share: float
    epoch: int
    history: list[dict[str, float]]


def search(
    space: SearchSpace,
    data: Any,
    labels: Any = None,
    *,
    settings: SearchSettings,
    validation: tuple[Any, Any] | None = None,
    loss: Loss | None = None,
    augment: Transform | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> Found:
    """Search for the network of a wanted cost. ``space`` is trained in place.

    Parameters
    ----------
    data, labels : examples, as ``paperworks.classification.fit`` takes them. They are halved by class, so that weights
        and architecture learn from different examples.
    validation : (data, labels) for the architecture, in place of the second half.
    loss : of the task, where it is not the cross-entropy of classes.
    augment : of images, in both halves.
    checkpoint_dir : where the search is kept, and gone on from.

    Raises
    ------
    InputError : a target that the space does not reach, classes with fewer than two examples, or (``outside`` "raise")
        no epoch that ended within the band; the nearest cost is named.
    """
    check_target(space, settings.target)
    own, other = _halves(data, labels, validation, settings)
    chosen = cross_entropy_loss() if loss is None else loss
    per_epoch = max(1, math.ceil(_count(own) / settings.batch_size))
    steps = settings.epochs * per_epoch
    target = settings.target * space.full_cost

    def architecture_loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with space.architecture_only():
            total, count = chosen(model, batch)
        actual = space.cost_of(space.genotype())
        penalty = cost_penalty(
            space.expected_cost(), actual, target, settings.tolerance, rule=settings.penalty, full=space.full_cost
        )
        return total + settings.cost_weight * penalty.to(total) * count, count

    weights = torch.optim.SGD(
        space.weight_parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )
    architecture = torch.optim.Adam(
        [{"params": space.architecture_parameters(), "scheduled": False}],
        lr=settings.architecture_rate(steps),
        betas=(0.5, 0.999),
        weight_decay=settings.architecture_weight_decay,
    )
    record = _Record(space, settings, other, per_epoch, steps)
    training = TrainSettings(
        steps=2 * steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule="cosine",
        clip_norm=0.0,
        device=settings.device,
        checkpoint_every=2 * per_epoch if checkpoint_dir is not None else 0,
        seed=settings.seed,
    )
    rows, held = AugmentedRows(own, None, augment), AugmentedRows(other, None, augment)
    train(
        space,
        rows,
        training,
        loss=chosen,
        turns=[Turn(weights), Turn(architecture, loss=architecture_loss, data=held)],
        callbacks=[record],
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return _selected(space, settings, record)


def check_target(space: SearchSpace, target: float) -> None:
    """Raise InputError, naming what can be reached, for a target below the smallest network of a space."""
    least = space.cost_of(space.least()) / space.full_cost
    if not least <= target <= 1:
        raise InputError(
            "target", target, f"a share from {math.ceil(1000 * least) / 1000:.3f} to 1 of the full network"
        )


def _halves(data: Any, labels: Any, validation: tuple[Any, Any] | None, settings: SearchSettings) -> tuple[Any, Any]:
    examples = as_examples(data, labels)
    if validation is not None:
        return examples, as_examples(*validation)
    if isinstance(examples, Mapping) and "labels" not in examples:
        raise InputError("labels", "none", "one per example, or validation=")
    codes = np.asarray(labels if labels is not None else _labels_of(examples))
    from sklearn.model_selection import train_test_split

    classes = _are_classes(codes)
    counts = np.unique(codes, return_counts=True)[1] if classes else np.array([len(codes)])
    if counts.min() < 2:
        raise InputError("labels", "a class with one example", "two or more of each: they are halved by class")
    if len(codes) < 2 * len(counts):
        raise InputError("labels", f"{len(codes)} examples of {len(counts)} classes", "two or more of each class")
    first, second = train_test_split(
        np.arange(len(codes)),
        test_size=0.5,
        stratify=codes if classes else None,
        random_state=settings.seed % 2**32,
    )
    return take_rows(examples, np.sort(first)), take_rows(examples, np.sort(second))


def _labels_of(examples: Any) -> Any:
    if isinstance(examples, Mapping):
        return examples["labels"]
    return np.stack([np.asarray(examples[row]["labels"]) for row in range(len(examples))])


def _are_classes(labels: np.ndarray) -> bool:
    """Whether labels are codes of classes, and not the numbers or rows of another task."""
    return labels.ndim == 1 and bool((labels == np.round(labels)).all())


def _count(examples: Any) -> int:
    return len(next(iter(examples.values()))) if isinstance(examples, Mapping) else len(examples)


class _Record(TrainingCallback):
    """Sets the temperature of every step, and notes the architecture at the end of every epoch."""

    def __init__(self, space: SearchSpace, settings: SearchSettings, held: Any, per_epoch: int, steps: int) -> None:
        self.space, self.settings, self.per_epoch, self.steps = space, settings, per_epoch, steps
        self.held, self.codes = held, np.asarray(_labels_of(held)) if _has_labels(held) else None
        self.history: list[dict[str, float]] = []
        self.positions: list[list[int]] = []

    def before_step(self, step: int) -> None:
        # two steps, one of each kind, make one step of the search
        self.space.temperature = self.settings.temperature_at((step // 2) / max(1, self.steps - 1))

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        done = step + 1
        if done % (2 * self.per_epoch):
            return
        space, epoch = self.space, done // (2 * self.per_epoch)
        lead = [float(p.detach().topk(2).values.diff().abs()) for p in space.probabilities() if len(p) > 1]
        self.positions.append(space.best())
        self.history.append(
            {
                "epoch": float(epoch),
                "temperature": space.temperature,
                "accuracy": self._accuracy(epoch),
                "share": space.cost_of(space.genotype()) / space.full_cost,
                "expected share": float(space.expected_cost().detach()) / space.full_cost,
                "discrepancy": float(np.mean(lead)) if lead else 1.0,
            }
        )

    def _accuracy(self, epoch: int) -> float:
        """Of drawn networks, with noise that depends on seed and epoch only."""
        if self.codes is None or not _are_classes(self.codes):
            return math.nan
        space = self.space
        space.generator = torch.Generator().manual_seed((self.settings.seed * 1_000_003 + epoch) % 2**63)
        try:
            found = predict(space, _inputs(self.held), device=next(space.parameters()).device)
        finally:
            space.generator = None
        return float((found == self.codes).mean())

    def state_dict(self) -> Mapping[str, Any]:
        return {"history": copy.deepcopy(self.history), "positions": copy.deepcopy(self.positions)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history, self.positions = list(state["history"]), [list(row) for row in state["positions"]]


def _has_labels(examples: Any) -> bool:
    return "labels" in (examples if isinstance(examples, Mapping) else examples[0])


def _inputs(examples: Any) -> Any:
    if isinstance(examples, Mapping):
        return {name: value for name, value in examples.items() if name not in ("labels", "index")}
    return examples


def _selected(space: SearchSpace, settings: SearchSettings, record: _Record) -> Found:
    history = record.history
    undecided = [
        name
        for (_, name), p in zip(space.choices, space.probabilities(), strict=True)
        if len(p) > 1 and float(p.detach().max()) < 1.5 / len(p)
    ]
    if undecided:
        warnings.warn(
            f"{len(undecided)} of {len(space.choices)} choices are hardly decided (first: {undecided[0]}): "
            "more epochs, or a higher architecture_learning_rate",
            UserWarning,
            stacklevel=3,
        )
    inside = [n for n, row in enumerate(history) if abs(row["share"] / settings.target - 1) <= settings.tolerance]
    if inside:
        best = max(inside, key=lambda n: (-1.0 if math.isnan(history[n]["accuracy"]) else history[n]["accuracy"], n))
        return Found(space.genotype_at(record.positions[best]), history[best]["share"], best + 1, history)
    nearest = min(history, key=lambda row: abs(row["share"] - settings.target))
    if settings.outside == "raise":
        raise InputError(
            "target",
            f"{settings.target:g}, and epoch {nearest['epoch']:.0f} came nearest with {nearest['share']:.3f}",
            f"a network within {settings.tolerance:.0%}: more epochs, a higher cost_weight or "
            "architecture_learning_rate, or outside='repair'",
        )
    positions = repaired(space, settings.target * space.full_cost, settings.tolerance)
    genotype = space.genotype_at(positions)
    return Found(genotype, space.cost_of(genotype) / space.full_cost, 0, history)
