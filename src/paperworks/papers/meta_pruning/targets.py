"""The networks that are pruned: trained, fine-tuned, measured with channels removed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.classification import fit
from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.papers.meta_pruning.criterion import (
    STRUCTURED,
    CriterionName,
    magnitude_masks,
    n_of_m_masks,
    weight_names,
)
from paperworks.papers.meta_pruning.graph import tensors_of_model
from paperworks.papers.meta_pruning.planning import Scores, speed_plans
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.structure.trace import TracedGroups
from paperworks.structure.trace.positions import kept_positions, masked_tensors
from paperworks.training import TrainSettings, model_logits

MakeModel = Callable[[int], nn.Module]
"""From a seed to a fresh network."""
SPEEDS = (1.2, 1.4, 1.6, 1.8, 2.0, 2.33, 2.67, 3.0, 3.5, 4.0, 4.67, 5.33, 6.0)
"""The 13 speed-ups of an accuracy curve."""
Examples = tuple[torch.Tensor, torch.Tensor]
"""Images float ``[n, c, h, w]`` and class codes int64 ``[n]``."""


def as_pair(data: Any, name: str) -> Examples:
    """Images and labels as tensors. Raises InputError where they do not fit together."""
    try:
        images, labels = data
        x, y = torch.as_tensor(np.asarray(images)), torch.as_tensor(np.asarray(labels))
    except (TypeError, ValueError) as error:
        raise InputError(name, f"{type(data).__name__} ({error})", "a pair (images, labels)") from None
    if x.ndim < 2 or len(x) != len(y) or y.ndim != 1 or not len(y):
        raise InputError(name, f"shapes {tuple(x.shape)} and {tuple(y.shape)}", "images [n, ...] and one label each")
    if y.is_floating_point() or int(y.min()) < 0:
        raise InputError(name, f"labels of {y.dtype}, from {y.min().item()}", "class codes, whole numbers from 0")
    if not bool(torch.isfinite(x.float()).all()):
        raise InputError(name, "NaN or infinite values", "finite images")
    return x.float(), y.long()


def fine_tune(
    model: nn.Module,
    data: Examples,
    *,
    epochs: float,
    learning_rate: float = 0.01,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    milestones: tuple[float, ...] = (),
    seed: int = 0,
    device: str = "auto",
    progress: Progress = no_progress,
) -> nn.Module:
    """SGD with momentum 0.9 on the cross-entropy, in place; the rate falls tenfold at ``milestones`` (shares). 0 epochs
    change nothing."""
    check_seed("seed", seed)
    if epochs:
        # a last batch of one example has no variance for BatchNorm: batches of whole epochs run on into the next
        size = min(batch_size, len(data[1]))
        settings = TrainSettings(
            steps=max(1, round(epochs * len(data[1]) / size)),
            batch_size=size,
            optimizer="sgd",
            learning_rate=learning_rate,
            momentum=0.9,
            weight_decay=weight_decay,
            clip_norm=0.0,
            schedule="multistep" if milestones else "constant",
            milestones=milestones or (0.5,),
            device=device,
            seed=seed % 2**32,
        )
        fit(model, {"inputs": data[0]}, data[1], settings=settings, progress=progress)
    return model.eval()


def train_targets(
    make: MakeModel,
    data: Examples,
    seeds: Sequence[int],
    *,
    epochs: int = 40,
    learning_rate: float = 0.1,
    device: str = "auto",
    progress: Progress = no_progress,
) -> list[nn.Module]:
    """Networks of one architecture, one for each seed: SGD, the rate falls tenfold after 1/2, 3/4 and 9/10."""
    found = []
    for seed in progress(list(seeds), "training networks", len(seeds)):
        model = make(seed)
        fine_tune(
            model,
            data,
            epochs=epochs,
            learning_rate=learning_rate,
            milestones=(0.5, 0.75, 0.9),
            seed=seed,
            device=device,
            progress=progress,
        )
        found.append(model)
    return found


def accuracy(
    model: nn.Module,
    data: Examples,
    tensors: Mapping[str, torch.Tensor] | None = None,
    *,
    batch_size: int = 1000,
    device: str = "auto",
) -> float:
    """Share of the images that are classified right in evaluation mode; ``tensors`` take the place of the model's."""
    place = resolve_device(device)
    before = next((p.device for p in model.parameters()), place)
    model.to(place)
    given = {} if tensors is None else {name: value.to(place) for name, value in tensors.items()}
    right = 0
    try:
        with evaluation_mode(model), torch.no_grad():
            for x, y in zip(data[0].split(batch_size), data[1].split(batch_size), strict=True):
                logits = logits_with(model, given, x.to(place))
                right += int((logits.argmax(1).cpu() == y).sum())
    finally:
        model.to(before)
    return right / len(data[1])


def logits_with(model: nn.Module, tensors: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Logits ``[n, C]`` with some tensors in place of the model's own."""

    def call(bound: nn.Module) -> torch.Tensor:
        return model_logits(bound, {"inputs": images})

    if not tensors:
        return call(model)
    return call(_Bound(model, tensors))


class _Bound(nn.Module):
    """A model whose forward uses other tensors."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        object.__setattr__(self, "_bound", (model, dict(tensors)))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        model, tensors = self.__dict__["_bound"]
        return torch.func.functional_call(model, tensors, args, kwargs, tie_weights=True)


def accuracy_curve(
    model: nn.Module,
    groups: TracedGroups,
    data: Examples,
    speeds: Sequence[float] = SPEEDS,
    *,
    criterion: CriterionName | Scores = "group-l2",
    steps: int = 200,
    skip: tuple[str, ...] = (),
    seed: int = 0,
    device: str = "auto",
) -> np.ndarray:
    """Accuracy after pruning to each speed-up, without training in between, float64 ``[speeds]``.

    ``criterion`` may be a function that scores channels, see ``speed_plans``. ``unstructured`` keeps 1/speed of the
    single weights; ``2:4`` gives the same network for every speed. ``skip`` names weights that these two leave alone.
    """
    check_seed("seed", seed)
    tensors = tensors_of_model(model)
    found = []
    if callable(criterion) or criterion in STRUCTURED:
        plans = speed_plans(tensors, groups, speeds, criterion=criterion, steps=steps, seed=seed)
        for plan in plans:
            masked = masked_tensors(model, kept_positions(groups, plan))
            found.append(accuracy(model, data, masked, device=device))
        return np.array(found)
    names = weight_names(tensors, skip)
    for speed in speeds:
        masks = n_of_m_masks(tensors, names) if criterion == "2:4" else magnitude_masks(tensors, names, 1 - 1 / speed)
        found.append(accuracy(model, data, {n: tensors[n] * m for n, m in masks.items()}, device=device))
    return np.array(found)


def copy_of(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode."""
    return copy.deepcopy(model).eval()
