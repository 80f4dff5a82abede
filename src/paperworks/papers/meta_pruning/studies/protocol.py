"""The protocol of the empirical studies: networks of one family, a metanetwork, and one test network with its controls.

All networks of a seed share the split: 360 test images, 300 to choose the epoch, the rest to train on. Settings of
meta-training were chosen on seeds 11 and 12, which are not measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.papers.meta_pruning.controls import random_edit, sparse_fine_tune
from paperworks.papers.meta_pruning.criterion import CriterionName
from paperworks.papers.meta_pruning.meta_training import MetaSettings
from paperworks.papers.meta_pruning.pruner import MetaPruner
from paperworks.papers.meta_pruning.targets import (
    SPEEDS,
    Examples,
    accuracy,
    accuracy_curve,
    copy_of,
    fine_tune,
    train_targets,
)
from paperworks.runs import Run
from paperworks.runs.files import replace_file, write_text

Measures = dict[str, Any]
MakeModel = Callable[[int], nn.Module]
STRONGER = 0.02
"""Strength of the sparse training that gave the best curves on seeds 11 and 12, of 0.005, 0.01, 0.02, 0.05 and 0.1."""
TEST, SELECTION, MODELS, TUNE = 360, 300, 5, 20
"""Images of the two parts; networks to learn from, the last of which chooses the epoch; epochs of fine-tuning."""
OTHERS: tuple[CriterionName, ...] = ("group-l2-mean", "group-l2-none")


def digits_split(seed: int) -> tuple[Examples, Examples, Examples]:
    """Handwritten digits in three parts: to train on, to choose the epoch, to test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy((bunch.images / 16).astype(np.float32))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    rest, test = train_test_split(np.arange(len(labels)), test_size=TEST, stratify=labels, random_state=seed)
    train, chosen = train_test_split(rest, test_size=SELECTION, stratify=labels[rest], random_state=seed)
    return (images[train], labels[train]), (images[chosen], labels[chosen]), (images[test], labels[test])


def measured(
    run: Run,
    name: str,
    seed: int,
    make: MakeModel,
    options: dict[str, Any],
    settings: MetaSettings,
    *,
    transfer: MakeModel | None = None,
    fast: bool = False,
) -> Measures:
    """Curves of the test network of one seed, by stage and control; kept in the run's state."""
    kept = run.state / f"{name}-{seed}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    train, chosen, test = digits_split(seed)
    epochs, tune, number = (2, 1, 2) if fast else (40, TUNE, MODELS)
    models = family(run, name, seed, make, train, number + 1, epochs)
    pruner = MetaPruner(settings=settings, finetune_epochs=tune, device="cpu", random_state=seed, **options)
    pruner.fit(
        models[: number - 1],
        train,
        models[number - 1],
        chosen,
        checkpoint=run.state / f"{name}-{seed}.pt",
        progress=run.progress,
    )
    found = _stages(pruner, models[number], train, test, tune, seed, settings)
    found["epoch"] = pruner.history_.best_epoch
    found["history"] = pruner.history_.rows
    if transfer is not None:
        (other,) = train_targets(transfer, train, [100 * seed + 99], epochs=epochs, device="cpu")
        target = pruner.target(other, train[0][:2])
        for stage, network in (("tuned", copy_of(other)), ("ours", pruner.edited(target))):
            tuned = fine_tune(network, train, epochs=tune, seed=seed, device="cpu")
            found[f"transfer {stage}"] = pruner.curve_of(tuned, target, test).tolist()
    write_text(kept, json.dumps(found))
    return found


def _stages(
    pruner: MetaPruner,
    model: nn.Module,
    train: Examples,
    test: Examples,
    tune: int,
    seed: int,
    settings: MetaSettings,
) -> Measures:
    target = pruner.target(model, train[0][:2])
    started = time.process_time()
    edited = pruner.edited(target)
    edit_seconds = time.process_time() - started
    networks = {
        "tuned": fine_tune(copy_of(model), train, epochs=tune, seed=seed, device="cpu"),
        "ours": fine_tune(copy_of(edited), train, epochs=tune, seed=seed, device="cpu"),
        "random edit": fine_tune(
            random_edit(model, edited, target.layout, seed), train, epochs=tune, seed=seed, device="cpu"
        ),
    }
    seconds = {}
    for name, reg in (("plain loop", 0.0), ("regulariser", settings.reg), ("stronger regulariser", STRONGER)):
        started = time.process_time()
        networks[name] = sparse_fine_tune(
            copy_of(model), target.groups, train, epochs=tune, reg=reg, alpha=settings.alpha, seed=seed, device="cpu"
        )
        seconds[name] = time.process_time() - started
    found: Measures = {name: pruner.curve_of(made, target, test).tolist() for name, made in networks.items()}
    found["original"] = pruner.curve_of(model, target, test).tolist()
    found["not tuned"] = pruner.curve_of(edited, target, test).tolist()
    found["accuracy"] = {name: accuracy(made, test, device="cpu") for name, made in networks.items()}
    found["accuracy"] |= {
        "original": accuracy(model, test, device="cpu"),
        "edited": accuracy(edited, test, device="cpu"),
    }
    found["ratio of times"] = (edit_seconds + seconds["plain loop"]) / seconds["regulariser"]
    for criterion in OTHERS:
        for name in ("tuned", "ours"):
            curve = accuracy_curve(
                networks[name], target.groups, test, SPEEDS, criterion=criterion, seed=seed, device="cpu"
            )
            found[f"{criterion} {name}"] = curve.tolist()
    random = accuracy_curve(networks["tuned"], target.groups, test, SPEEDS, criterion="random", seed=seed, device="cpu")
    found["random channels"] = random.tolist()
    return found


def sparse_masks(run: Run, name: str, seed: int, make: MakeModel, settings: MetaSettings, *, fast: bool) -> Measures:
    """Curves with single weights at zero, and with two of four, of a metanetwork trained with the sign gradient."""
    kept = run.state / f"{name}-masks-{seed}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    train, chosen, test = digits_split(seed)
    epochs, tune, number = (2, 1, 2) if fast else (40, TUNE, MODELS)
    models = family(run, name, seed, make, train, number + 1, epochs)
    options: dict[str, Any] = {
        "finetune_epochs": tune,
        "device": "cpu",
        "random_state": seed,
        "speeds": (4, 6, 8, 12, 16),
    }
    pruner = MetaPruner(criterion="unstructured", settings=settings, **options)
    pruner.fit(models[: number - 1], train, models[number - 1], chosen, progress=run.progress)
    target = pruner.target(models[number], train[0][:2])
    found: Measures = {}
    pattern = MetaPruner(pruner.metanetwork_, criterion="2:4", **options)
    for stage, network in (("tuned", copy_of(models[number])), ("ours", pruner.edited(target))):
        tuned = fine_tune(network, train, epochs=tune, seed=seed, device="cpu")
        found[f"unstructured {stage}"] = pruner.curve_of(tuned, target, test).tolist()
        found[f"2:4 {stage}"] = pattern.curve_of(tuned, target, test).tolist()[:1]
    write_text(kept, json.dumps(found))
    return found


def family(
    run: Run, name: str, seed: int, make: MakeModel, train: Examples, number: int, epochs: int
) -> list[nn.Module]:
    """Trained networks of one architecture; kept in the run's state."""
    kept = run.state / f"{name}-networks-{seed}.pt"
    seeds = [100 * seed + i for i in range(number)]
    if kept.is_file():
        models = [make(s) for s in seeds]
        for model, state in zip(models, torch.load(kept, weights_only=True), strict=True):
            model.load_state_dict(state)
            model.eval()
        return models
    models = train_targets(make, train, seeds, epochs=epochs, device="cpu")
    with replace_file(kept) as aside:
        torch.save([model.state_dict() for model in models], aside)
    return models


def means(rows: list[Measures], name: str) -> np.ndarray:
    """The mean of a curve, for each seed."""
    return np.array([np.mean(row[name]) for row in rows])
