"""What an unlearned network still knows, and simpler ways to unlearn that it has to be compared with."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.classification import features, last_linear_layer, predict_logits
from paperworks.errors import InputError
from paperworks.papers.modhifi.layers import layer_at
from paperworks.papers.modhifi.unlearner import with_edits
from paperworks.parameters import check_seed, check_whole
from paperworks.pruning.classifiers import reestimate_norms, train_classifier
from paperworks.runs import Progress, no_progress


@dataclass(frozen=True)
class Forgetting:
    """A network on test images, by whether they are of the forgotten class.

    Attributes
    ----------
    forget, remain : accuracy on the class and on the others.
    by_class : accuracy of every class, NaN for one without test images.
    confidence : mean probability of the forgotten class on its own images.
    """

    forget: float
    remain: float
    by_class: tuple[float, ...]
    confidence: float


def forgetting(model: nn.Module, test: tuple[torch.Tensor, ...], forget: int) -> Forgetting:
    """Measure a classifier on images and labels. Raises InputError without images of the class, or of others."""
    logits = torch.from_numpy(predict_logits(model, test[0]))
    labels = test[1].cpu()
    of_class = labels == forget
    if not bool(of_class.any()) or bool(of_class.all()):
        raise InputError("labels", f"{int(of_class.sum())} of {len(labels)} of class {forget}", "some, but not all")
    right = (logits.argmax(1) == labels).double()
    classes = logits.shape[1]
    by_class = tuple(float(r.mean()) if len(r) else math.nan for r in (right[labels == c] for c in range(classes)))
    confidence = float(logits.double().softmax(1)[of_class, forget].mean())
    return Forgetting(float(right[of_class].mean()), float(right[~of_class].mean()), by_class, confidence)


def recalled(model: nn.Module, remaining: torch.Tensor, *, batch_size: int = 256) -> nn.Module:
    """An attack: a copy whose batch statistics are those of samples of the other classes. Labels are not needed."""
    made = copy.deepcopy(model)
    reestimate_norms(made, remaining, batch_size=batch_size)
    return made.eval()


def probe_accuracy(
    model: nn.Module,
    train: tuple[torch.Tensor, ...],
    test: tuple[torch.Tensor, ...],
    forget: int,
) -> float:
    """An attack: accuracy on the forgotten class of a linear classifier on the features in front of the last layer."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    layer = last_linear_layer(model)
    found = [features(model, part[0], layer, of="input") for part in (train, test)]
    scaler = StandardScaler().fit(found[0])
    probe = LogisticRegression(max_iter=300).fit(scaler.transform(found[0]), train[1].cpu().numpy())
    rows = test[1].cpu().numpy() == forget
    return float((probe.predict(scaler.transform(found[1][rows])) == forget).mean())


def membership_auc(model: nn.Module, members: torch.Tensor, others: torch.Tensor) -> float:
    """AUC with which the largest probability tells training images of the class from images of it never seen.

    0.5: the network's confidence says nothing about membership.
    """
    from sklearn.metrics import roc_auc_score

    scores = [predict_logits(model, x).astype(np.float64) for x in (members, others)]
    sure = [np.exp(s - np.logaddexp.reduce(s, 1, keepdims=True)).max(1) for s in scores]
    return float(roc_auc_score(np.r_[np.ones(len(members)), np.zeros(len(others))], np.concatenate(sure)))


def random_edits(model: nn.Module, edited: Mapping[str, torch.Tensor], edit: str, *, seed: int = 0) -> nn.Module:
    """As many edits for every output, at random places."""
    generator = torch.Generator().manual_seed(check_seed("seed", seed))
    chosen = {}
    for path, pairs in edited.items():
        order = torch.rand(pairs.shape, generator=generator).argsort(1)
        counts = pairs.sum(1, keepdim=True)
        places = torch.arange(pairs.shape[1]).expand_as(order) < counts
        chosen[path] = torch.zeros_like(pairs).scatter_(1, order, places)
    return with_edits(model, chosen, edit)


@torch.no_grad()
def without_logit(model: nn.Module, forget: int) -> nn.Module:
    """The trivial way: the last layer never names the class. Everything in front of it still knows it."""
    made = copy.deepcopy(model)
    layer = layer_at(made, last_linear_layer(made))
    if layer.bias is None:
        raise InputError("model", f"{layer.path} without a bias", "a last layer with a bias")
    if not 0 <= forget < layer.outputs:
        raise InputError("forget", forget, f"a class from 0 to {layer.outputs - 1}")
    matrix, bias = layer.matrix(), layer.bias.detach().double().cpu()
    matrix[forget], bias[forget] = 0, -1e4
    layer.write(matrix, bias)
    return made.eval()


def gradient_ascent(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    steps: int = 20,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> nn.Module:
    """A baseline: steps of SGD that raise the loss on labelled samples of the class; norms stay in evaluation mode."""
    check_seed("seed", seed)
    check_whole("steps", steps, 1)
    made = copy.deepcopy(model).eval()
    optimizer = torch.optim.SGD(made.parameters(), lr=learning_rate, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randperm(len(inputs), generator=generator)[:batch_size]
        optimizer.zero_grad()
        loss = -functional.cross_entropy(made(inputs[rows]), labels[rows])
        loss.backward()
        nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    return made


def tuned(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: float = 3,
    learning_rate: float = 0.01,
    seed: int = 0,
    progress: Progress = no_progress,
    **options: Any,
) -> nn.Module:
    """A copy after fine-tuning on labelled samples of the remaining classes, synthetic or real: the paper's extra."""
    check_seed("seed", seed)
    made = copy.deepcopy(model)
    data = torch.utils.data.TensorDataset(inputs, labels)
    train_classifier(made, data, epochs=epochs, learning_rate=learning_rate, seed=seed, progress=progress, **options)
    return made.eval()
