"""The protocol of the empirical studies: networks of one family, a metanetwork, and one test network with its controls.

All networks of a seed share the split: 360 test images, 300 to choose the epoch, the rest to train on. Settings of
meta-training and of the rivals were chosen on seeds 11 and 12, which are not measured, by
``benchmarks/meta_pruning_settings.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.papers.meta_pruning.controls import (
    growing_fine_tune,
    l1_scores,
    random_edit,
    sparse_fine_tune,
    taylor_scores_on,
)
from paperworks.papers.meta_pruning.criterion import CriterionName
from paperworks.papers.meta_pruning.graph import tensors_of_model
from paperworks.papers.meta_pruning.meta_training import MetaSettings, Target, norm_spread
from paperworks.papers.meta_pruning.planning import Scores
from paperworks.papers.meta_pruning.pruner import MetaPruner
from paperworks.papers.meta_pruning.studies.reasons import agreement, noise_at_equal_norms, scaled_channels
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
CHOSEN = Path(__file__).parent / "chosen.json"
"""What ``benchmarks/meta_pruning_settings.py`` chose."""
_chosen: dict[str, Any] = json.loads(CHOSEN.read_text(encoding="utf-8"))
NORMS, RHO, REG = (_chosen["settings"][name] for name in ("norms", "rho", "reg"))
STRONGER: float = _chosen["sparse training"]
GROWING: dict[str, Any] = _chosen["growing regularisation"]
TEST, SELECTION, MODELS, TESTED, TUNE = 360, 300, 5, 2, 20
"""Images of the two parts; networks to learn from, the last of which chooses the epoch; networks to test with; epochs
of fine-tuning."""
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


def fitted(
    run: Run,
    name: str,
    seed: int,
    make: MakeModel,
    options: dict[str, Any],
    settings: MetaSettings,
    *,
    fast: bool = False,
) -> tuple[MetaPruner, list[nn.Module]]:
    """A pruner with the metanetwork of one seed, and the networks that it is tested with."""
    train, chosen, _ = digits_split(seed)
    epochs, tune, number, tested = (2, 1, 2, 1) if fast else (40, TUNE, MODELS, TESTED)
    models = family(run, name, seed, make, train, number + tested, epochs)
    pruner = MetaPruner(settings=settings, finetune_epochs=tune, device="cpu", random_state=seed, **options)
    pruner.fit(models[: number - 1], train, models[number - 1], chosen, progress=run.progress)
    return pruner, models[number:]


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
    """Curves of the test networks of one seed, their means, by stage and control; kept in the run's state."""
    kept = run.state / f"{name}-{seed}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    pruner, models = fitted(run, name, seed, make, options, settings, fast=fast)
    train, _, test = digits_split(seed)
    tune = pruner.finetune_epochs
    stages = [_stages(pruner, model, train, test, tune, seed, settings) for model in models]
    found: Measures = {key: np.mean([one[key] for one in stages], axis=0).tolist() for key in stages[0]}
    found["epoch"] = pruner.history_.best_epoch
    found["history"] = pruner.history_.rows
    if transfer is not None:
        (other,) = train_targets(transfer, train, [100 * seed + 99], epochs=2 if fast else 40, device="cpu")
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
    common: dict[str, Any] = {"epochs": tune, "seed": seed, "device": "cpu"}
    networks = {
        "tuned": fine_tune(copy_of(model), train, **common),
        "ours": fine_tune(copy_of(edited), train, **common),
        "random edit": fine_tune(random_edit(model, edited, target.layout, seed), train, **common),
        "scaled channels": fine_tune(scaled_channels(model, edited, target, seed), train, **common),
        "noise at equal norms": fine_tune(noise_at_equal_norms(model, edited, target, seed), train, **common),
        "growing": growing_fine_tune(copy_of(model), target.groups, train, **GROWING, **common),
    }
    seconds = {}
    for name, reg in (("plain loop", 0.0), ("regulariser", settings.reg), ("stronger regulariser", STRONGER)):
        started = time.process_time()
        networks[name] = sparse_fine_tune(copy_of(model), target.groups, train, reg=reg, alpha=settings.alpha, **common)
        seconds[name] = time.process_time() - started
    found: Measures = {name: pruner.curve_of(made, target, test).tolist() for name, made in networks.items()}
    found["original"] = pruner.curve_of(model, target, test).tolist()
    found["not tuned"] = pruner.curve_of(edited, target, test).tolist()
    found |= {f"accuracy {name}": accuracy(made, test, device="cpu") for name, made in networks.items()}
    found["accuracy original"] = accuracy(model, test, device="cpu")
    found["accuracy edited"] = accuracy(edited, test, device="cpu")
    for name in ("tuned", "ours", "random edit", "scaled channels", "noise at equal norms", "stronger regulariser"):
        found[f"agreement {name}"] = agreement(networks[name], target, train)
        found[f"spread {name}"] = norm_spread(tensors_of_model(networks[name]), target.groups)
    found["edit"] = _relative_size(model, edited, target)
    found["ratio of times"] = (edit_seconds + seconds["plain loop"]) / seconds["regulariser"]

    def curve(network: nn.Module, criterion: CriterionName | Scores) -> list[float]:
        options: dict[str, Any] = {"criterion": criterion, "seed": seed, "device": "cpu"}
        return accuracy_curve(network, target.groups, test, SPEEDS, **options).tolist()

    for criterion in OTHERS:
        for name in ("tuned", "ours"):
            found[f"{criterion} {name}"] = curve(networks[name], criterion)
    tuned = networks["tuned"]
    found["random channels"] = curve(tuned, "random")
    found["l1"] = curve(tuned, l1_scores(target.groups))
    found["taylor"] = curve(tuned, taylor_scores_on(tuned, target.groups, train, seed))
    return found


def _relative_size(model: nn.Module, edited: nn.Module, target: Target) -> float:
    """The norm of the edit over that of the weights that edits are written to."""
    before, after = tensors_of_model(model), tensors_of_model(edited)
    names = list(target.layout.write(*target.layout.read(before)))
    change = sum(float((after[name] - before[name]).square().sum()) for name in names)
    return float((change / sum(float(before[name].square().sum()) for name in names)) ** 0.5)


def sparse_masks(run: Run, name: str, seed: int, make: MakeModel, settings: MetaSettings, *, fast: bool) -> Measures:
    """Curves with single weights at zero, and with two of four, of a metanetwork trained with the sign gradient."""
    kept = run.state / f"{name}-masks-{seed}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    train, chosen, test = digits_split(seed)
    epochs, tune, number = (2, 1, 2) if fast else (40, TUNE, MODELS)
    models = family(run, name, seed, make, train, number + (1 if fast else TESTED), epochs)
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
