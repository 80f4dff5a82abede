"""What rectification is measured against: last-layer retraining with and without group labels, JTT, Group DRO.

ERM is plain training (``paperworks.classification.fit``).
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import torch

from paperworks.classification import fit, predict
from paperworks.classification.data import Data
from paperworks.errors import InputError
from paperworks.papers.ladder.checks import class_codes, matrix
from paperworks.papers.ladder.heads import LinearHead, as_head, train_head
from paperworks.papers.ladder.rectifier import balanced_rows
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import Batch, Loss, TrainSettings, model_logits, train
from paperworks.training.losses import required_labels


def random_subset_head(head: Any, features: Any, y: Any, rows: np.ndarray, *, random_state: int = 0) -> LinearHead:
    """The control: the last layer retrained on a random subset with as many rows of each class as ``rows`` has.

    Where validation is balanced over the attribute by itself, this repairs as much as any method.
    """
    check_seed("random_state", random_state)
    x, labels = matrix("features", features), class_codes("y", y)
    draw = np.random.default_rng(random_state)
    counts = np.bincount(labels[rows], minlength=int(labels.max()) + 1)
    chosen = [draw.permutation(np.flatnonzero(labels == c))[:n] for c, n in enumerate(counts)]
    some = np.sort(np.concatenate(chosen))
    return train_head(as_head(head), x[some], labels[some])


def deep_feature_reweighting(
    head: Any,
    features: Any,
    y: Any,
    groups: Any,
    *,
    penalty: Literal["l2", "l1"] = "l2",
    strength: float | None = None,
    repeats: int = 10,
    random_state: int = 0,
) -> LinearHead:
    """DFR (Kirichenko et al. 2023): the last layer retrained on rows balanced over known groups, mean of several draws.

    Parameters
    ----------
    groups : group of each row ``[n]``; an oracle's, since rectification has no attribute labels.
    penalty : "l2", as the heads of rectification have, or "l1" (the original).
    strength : of the penalty: l2 as weight decay (default 1/n), l1 as the inverse C of scikit-learn (default 0.1).
    repeats : balanced draws whose weights are averaged.
    """
    check_seed("random_state", random_state)
    x, labels = matrix("features", features), class_codes("y", y)
    of = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    if len(of) != len(labels):
        raise InputError("groups and y", f"{len(of)} and {len(labels)} rows", "one group per row")
    if penalty not in ("l1", "l2"):
        raise InputError("penalty", repr(penalty), "l1 or l2")
    start, found = as_head(head), []
    for repeat in range(repeats):
        rows = balanced_rows(np.zeros_like(of), of, None, np.random.default_rng([random_state, repeat]))
        if penalty == "l2":
            found.append(train_head(start, x[rows], labels[rows], weight_decay=strength))
        else:
            found.append(_l1_head(x[rows], labels[rows], strength or 0.1, len(start.bias)))
    return LinearHead(np.mean([h.weight for h in found], axis=0), np.mean([h.bias for h in found], axis=0))


def _l1_head(x: np.ndarray, y: np.ndarray, strength: float, outputs: int) -> LinearHead:
    from sklearn.linear_model import LogisticRegression

    centre, scale = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), np.inf)
    model = LogisticRegression(C=1 / strength / len(x), l1_ratio=1.0, solver="saga", max_iter=2000, random_state=0)
    model.fit((x - centre) / scale, y)
    weight = model.coef_ / scale
    bias = model.intercept_ - weight @ centre
    if len(weight) == 1 and outputs == 2:
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    return LinearHead(weight, bias)


def just_train_twice(
    model: torch.nn.Module,
    data: Data,
    y: Any,
    *,
    settings: TrainSettings,
    first_share: float = 0.5,
    upweight: float = 10.0,
    progress: Progress = no_progress,
) -> torch.nn.Module:
    """JTT (Liu et al. 2021): rows that a shortly trained copy gets wrong weigh ``upweight`` times in a second training.

    Parameters
    ----------
    model : untrained; it is trained in place (second training) and returned.
    settings : of the second training; the first has ``first_share`` of its steps.
    """
    labels = class_codes("y", y)
    first = copy.deepcopy(model)
    steps = settings.steps or max(int(settings.epochs * len(labels) / settings.batch_size), 1)
    from dataclasses import replace

    fit(first, data, labels, settings=replace(settings, steps=max(int(first_share * steps), 1)), progress=progress)
    wrong = predict(first, data, device=settings.device) != labels
    weights = np.where(wrong, upweight, 1.0)
    fit(model, data, labels, settings=replace(settings, steps=steps), sample_weight=weights, progress=progress)
    return model


def group_dro(
    model: torch.nn.Module,
    data: Any,
    y: Any,
    groups: Any,
    *,
    settings: TrainSettings,
    eta: float = 1e-2,
    progress: Progress = no_progress,
) -> torch.nn.Module:
    """Group DRO (Sagawa et al. 2020): ``q_g *= exp(eta loss_g)``, renormalised; the loss is ``sum_g q_g loss_g``.

    Parameters
    ----------
    model : trained in place and returned.
    data : an array ``[n, ...]``.
    groups : group of each training row ``[n]``: labels that rectification does without.
    eta : step of the group weights.
    """
    labels = class_codes("y", y)
    of = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    if len(of) != len(labels):
        raise InputError("groups and y", f"{len(of)} and {len(labels)} rows", "one group per row")
    # the loop knows the columns index, labels and weights as no inputs of the model: index carries the group
    rows = {
        "inputs": torch.from_numpy(np.asarray(data, np.float32)),
        "labels": torch.from_numpy(labels),
        "index": torch.from_numpy(of.astype(np.int64)),
    }
    train(model, rows, settings, loss=group_dro_loss(int(of.max()) + 1, eta), progress=progress)
    return model


def group_dro_loss(groups: int, eta: float) -> Loss:
    """The loss of Group DRO for ``paperworks.training.train``; it keeps the weights q from batch to batch.

    A group without a row in the batch has loss 0, so that its weight changes by renormalisation only. The column
    ``index`` of the batch is the group of each row.
    """
    q = torch.full((groups,), 1 / groups, dtype=torch.float64)

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        labels, of = required_labels(batch), batch["index"]
        each = torch.nn.functional.cross_entropy(model_logits(model, batch).float(), labels, reduction="none")
        counts = torch.bincount(of, minlength=groups).to(each)
        means = torch.zeros(groups, dtype=each.dtype, device=each.device).index_add(0, of, each) / counts.clamp(min=1)
        q.mul_(torch.exp(eta * means.detach().double().cpu()))
        q.div_(q.sum())
        return (q.to(means) * means).sum(), torch.ones((), dtype=each.dtype, device=each.device)

    return loss
