"""Meta-training: the metanetwork learns edits after which the task loss is low and channels are sparse.

for each epoch, for each data model, for each batch:
    w' = metanetwork(w)                         with its graph
    g = d CE(network with w') / d w'  +  reg * gamma_k * w'_k       at w' as leaves
    one vector-Jacobian product of g through the metanetwork, one step of AdamW
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.nn import preserved_modes, resolve_device
from paperworks.papers.meta_pruning.criterion import (
    STRUCTURED,
    CriterionName,
    group_importance,
    sign_gradient,
    sparsity_gradient,
)
from paperworks.papers.meta_pruning.graph import Layout, tensors_of_model
from paperworks.papers.meta_pruning.metanetwork import GraphMetaNetwork
from paperworks.papers.meta_pruning.targets import Examples, logits_with
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import replace_file
from paperworks.structure.trace import TracedGroups

Norms = Literal["stored", "batch"]
"""Statistics of batch norms in the meta-loss: running ones, as in the official code, or those of the batch."""


@dataclass(frozen=True)
class Target:
    """A network with its layout and its groups."""

    model: nn.Module
    layout: Layout
    groups: TracedGroups

    def of(self, model: nn.Module) -> Target:
        """The same for another network of this architecture, without another trace."""
        return Target(model, self.layout, self.groups.of(model))


@dataclass(frozen=True)
class MetaSettings:
    """Options of meta-training.

    Attributes
    ----------
    epochs : passes over the data models.
    batches : batches of images that each model is seen with in an epoch; a step of the optimiser after each.
    batch_size : images in a batch.
    learning_rate, weight_decay : of AdamW. The rate falls tenfold at ``milestones`` (epochs).
    reg : size of the sparsity gradient relative to the gradient of a mean cross-entropy. The official code's reg counts
        relative to a sum over the batches of the training set: with 100 batches its 10 is 0.1 here.
    alpha : how much harder the weakest channel of a group is pulled than the strongest.
    norms : see ``Norms``.
    select_every : epochs between two looks at the selection model.
    """

    epochs: int = 30
    batches: int = 3
    batch_size: int = 500
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = ()
    reg: float = 0.01
    alpha: float = 16.0
    norms: Norms = "batch"
    select_every: int = 3

    def __post_init__(self) -> None:
        for name in ("epochs", "batches", "batch_size", "select_every"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        if not 0 < self.learning_rate < 10:
            raise InputError("learning_rate", self.learning_rate, "a number above 0, below 10")
        if not 0 <= self.reg < float("inf"):
            raise InputError("reg", self.reg, "0 or a positive number")
        if not 1 <= self.alpha < float("inf"):
            raise InputError("alpha", self.alpha, "1 or more")
        if self.norms not in ("stored", "batch"):
            raise InputError("norms", repr(self.norms), "stored or batch")


@dataclass
class MetaHistory:
    """One row an epoch: mean cross-entropy of edited networks, mean spread of norms inside groups, selection score."""

    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = float("-inf")


def meta_train(
    metanetwork: GraphMetaNetwork,
    targets: Sequence[Target],
    data: Examples,
    settings: MetaSettings,
    *,
    criterion: CriterionName = "group-l2",
    score: Callable[[GraphMetaNetwork], float] | None = None,
    checkpoint: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = no_progress,
) -> MetaHistory:
    """Train a metanetwork in place; it ends with the weights of its best epoch.

    Parameters
    ----------
    targets : the data models. One step sees one of them and one batch.
    data : training images and labels.
    score : of the metanetwork on the selection model, higher is better. None: the last epoch is kept.
    checkpoint : a file; an earlier attempt that left it is gone on from.
    seed : order of the images.

    Raises
    ------
    InputError : a type of nodes or edges that the metanetwork has no encoder for, or a loss that is not finite.
    """
    check_seed("seed", seed)
    for target in targets:
        metanetwork.check(target.layout)
    place = resolve_device(device)
    job = _MetaTraining(metanetwork.to(place), targets, data, settings, criterion, seed, place)
    job.resume(checkpoint)
    first = len(job.history.rows)
    for epoch in progress(range(first, settings.epochs), "meta-training", settings.epochs - first):
        row = job.epoch(epoch)
        if score is not None and ((epoch + 1) % settings.select_every == 0 or epoch + 1 == settings.epochs):
            metanetwork.eval()
            row["score"] = score(metanetwork)
        job.note(epoch, row)
        job.save(checkpoint)
    job.finish()
    return job.history


class _MetaTraining:
    def __init__(
        self,
        metanetwork: GraphMetaNetwork,
        targets: Sequence[Target],
        data: Examples,
        settings: MetaSettings,
        criterion: CriterionName,
        seed: int,
        place: torch.device,
    ) -> None:
        self.metanetwork, self.data, self.settings, self.seed, self.place = metanetwork, data, settings, seed, place
        self.criterion = criterion
        self.targets = [(copy.deepcopy(t.model).to(place).eval(), t) for t in targets]
        self.tensors = [tensors_of_model(model) for model, _ in self.targets]
        self.optimizer = torch.optim.AdamW(
            metanetwork.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.history = MetaHistory()
        self.best: dict[str, torch.Tensor] = {}

    def epoch(self, number: int) -> dict[str, float]:
        """One pass over the data models."""
        rate = self.settings.learning_rate * 0.1 ** sum(number >= m for m in self.settings.milestones)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.metanetwork.train()
        losses, spreads = [], []
        for which in range(len(self.targets)):
            for images, labels in self._batches(number, which):
                loss, spread = self._step(which, images, labels)
                losses.append(loss)
                spreads.append(spread)
        return {
            "epoch": number + 1,
            "cross_entropy": sum(losses) / len(losses),
            "norm_spread": sum(spreads) / len(spreads),
            "learning_rate": rate,
        }

    def _batches(self, epoch: int, which: int) -> list[Examples]:
        state = np.random.SeedSequence([self.seed, epoch, which]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state) % 2**63)
        order = torch.randperm(len(self.data[1]), generator=generator)
        size = min(self.settings.batch_size, len(order))
        found = []
        for number in range(self.settings.batches):
            rows = order.roll(-number * size)[:size]
            found.append((self.data[0][rows].to(self.place), self.data[1][rows].to(self.place)))
        return found

    def _step(self, which: int, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        model, target = self.targets[which]
        own = self.tensors[which]
        edited = self.metanetwork.edited_tensors(target.layout, own)
        leaves = {name: value.detach().requires_grad_(True) for name, value in edited.items()}
        loss = self._loss(model, own, leaves, images, labels)
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        settings, seen = self.settings, {**own, **{n: v.detach() for n, v in leaves.items()}}
        if self.criterion in STRUCTURED:
            added = sparsity_gradient(seen, target.groups, settings.reg, settings.alpha)
        else:
            weights = [name for name, value in leaves.items() if value.ndim >= 2]
            added = sign_gradient(seen, weights, settings.reg)
        for name, more in added.items():
            if name in gradients:
                gradients[name] = gradients[name] + more
        names = [name for name in edited if edited[name].requires_grad]
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([edited[name] for name in names], [gradients[name] for name in names])
        self.optimizer.step()
        found = float(loss.detach())
        if not math.isfinite(found):
            raise InputError("learning_rate", f"{settings.learning_rate:g}, with a loss of {found}", "a smaller rate")
        return found, norm_spread(seen, target.groups)

    def _loss(
        self,
        model: nn.Module,
        own: dict[str, torch.Tensor],
        leaves: dict[str, torch.Tensor],
        images: torch.Tensor,
        labels: torch.Tensor,
    ) -> torch.Tensor:
        tensors: dict[str, torch.Tensor] = dict(leaves)
        with preserved_modes(model):
            if self.settings.norms == "batch":
                names = {name for name, _ in model.named_buffers()}
                tensors.update({name: own[name].clone() for name in names & own.keys()})  # updated in place, not kept
                for module in model.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.train()
            return functional.cross_entropy(logits_with(model, tensors, images), labels)

    def note(self, epoch: int, row: dict[str, float]) -> None:
        """Add a row, and keep the weights if they are the best."""
        self.history.rows.append(row)
        if "score" in row and row["score"] > self.history.best_score:
            self.history.best_score, self.history.best_epoch = row["score"], epoch + 1
            self.best = {name: value.detach().clone() for name, value in self.metanetwork.state_dict().items()}

    def finish(self) -> None:
        """Put the best weights in place."""
        if self.best:
            self.metanetwork.load_state_dict(self.best)
        else:
            self.history.best_epoch = len(self.history.rows)
        self.metanetwork.eval().to("cpu")

    def save(self, path: Path | None) -> None:
        if path is None:
            return
        content = {
            "model": self.metanetwork.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "rows": self.history.rows,
            "best_epoch": self.history.best_epoch,
            "best_score": self.history.best_score,
        }
        with replace_file(path) as aside:
            torch.save(content, aside)

    def resume(self, path: Path | None) -> None:
        if path is None or not path.is_file():
            return
        content: dict[str, Any] = torch.load(path, map_location=self.place, weights_only=True)
        self.metanetwork.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.best = content["best"]
        self.history = MetaHistory(content["rows"], content["best_epoch"], content["best_score"])


def norm_spread(tensors: dict[str, torch.Tensor], groups: TracedGroups) -> float:
    """Gini coefficient of the channels' norms, mean over the groups: 0 where all are alike, near 1 where few hold all.

    It does not change when a group is scaled, unlike the criterion's penalty.
    """
    found = []
    for units in groups.units.values():
        norms = group_importance(tensors, units).sqrt().sort().values
        n = len(norms)
        rank = torch.arange(1, n + 1, device=norms.device, dtype=norms.dtype)
        total = norms.sum().clamp_min(1e-30)
        found.append(float(2 * (rank * norms).sum() / (n * total) - (n + 1) / n))
    return sum(found) / len(found) if found else 0.0
