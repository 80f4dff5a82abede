"""The full network, the search, and the found network with knowledge transfer, on the user's own images."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from paperworks import runs
from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.inputs.transforms import Compose, RandomCrop, RandomHorizontalFlip, Transform
from paperworks.papers.tas.baselines import random_genotype, uniform_genotype
from paperworks.papers.tas.bilevel import SearchSettings
from paperworks.papers.tas.config import IMAGENET_RESNETS, RESNETS, Config
from paperworks.papers.tas.estimator import TransformableSearch
from paperworks.papers.tas.network import ShapedNetwork, export_program
from paperworks.papers.tas.reporting import Row, report
from paperworks.papers.tas.shapes import NetworkShape, cifar_resnet, imagenet_resnet, plain_network
from paperworks.papers.tas.transfer import TransferSettings, train_network
from paperworks.pruning.classifiers import accuracy
from paperworks.pruning.images import ImageTask, image_task, model_maker
from paperworks.pruning.smaller import save_smaller
from paperworks.runs.files import write_text
from paperworks.structure.trace import export_onnx

__all__ = ["Config", "run"]

SMALL = 256
"""Pixels of an image below which ``auto`` is the plain network."""


def run(config: Config, run: runs.Run) -> runs.Report:
    """Find a network of the wanted cost for labelled images, and train it with the full one as its teacher."""
    if config.onnx:
        require_extra("onnx", "an ONNX file")
    run.step(f"reading {config.data}")
    task = image_task(config, run)
    work = _Work(config, run, task)
    run.step("training the full network")
    teacher = work.teacher()
    run.step(f"searching for a network of {config.target:.0%} of its cost")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        work.finder.fit(*work.train, augment=work.augment, checkpoint_dir=run.state / "search", progress=run.progress)
    words = (str(w.message) for w in said if issubclass(w.category, UserWarning))
    notes = list(dict.fromkeys(w.replace("architecture_learning_rate", "--architecture-lr") for w in words))
    run.step("training the found network")
    found = work.trained("found", work.finder.build(seed=config.seed), teacher)
    space, genotype = work.finder.space_, work.finder.found_.genotype
    rows = [
        Row("full network", 1.0, _parameters(teacher), work.tested(teacher), "labels" if work.is_new else "as given"),
        Row("found", work.finder.found_.share, _parameters(found), work.tested(found), "distilled from the full one"),
    ]
    if config.compare:
        run.step("training other networks of the same cost")
        rows += _others(work, teacher)
    files = _save(config, run, work, found)
    return report(config, task, work.finder, rows, files, notes, genotype, space)


@dataclass
class _Work:
    """What the steps of a run share."""

    config: Config
    run: runs.Run
    task: ImageTask

    def __post_init__(self) -> None:
        config = self.config
        self.train = self.task.train.tensors
        self.augment = _augmentation(self.task) if config.augment else None
        self.full, self.is_new = _full_network(config, self.task, self.run)
        self.finder = TransformableSearch(
            self.full,
            self.task.example,
            target=config.target,
            cost=config.cost,
            search=("width", "depth") if config.search == "both" else (config.search,),
            n_sampled=config.sampled,
            ratios=config.ratios,
            blend=config.blend,
            settings=SearchSettings(
                tolerance=config.tolerance,
                cost_weight=config.cost_weight,
                epochs=config.epochs,
                batch_size=config.batch_size,
                learning_rate=config.lr,
                architecture_learning_rate=config.architecture_lr,
                temperature=(config.tau[0], config.tau[1]),
                outside=config.outside,
                device=config.device,
            ),
            training=TransferSettings(
                epochs=config.training_epochs,
                batch_size=min(config.batch_size, len(self.task.train)),
                learning_rate=config.lr,
                alpha=config.alpha,
                temperature=config.temperature,
                device=config.device,
            ),
            random_state=config.seed,
        )

    def teacher(self) -> nn.Module:
        """The full network, trained."""
        if isinstance(self.full, nn.Module) and not self.is_new:
            return self.full.eval()
        return self.trained("full", self.finder.full_network(seed=self.config.seed), None)

    def trained(self, name: str, network: nn.Module, teacher: nn.Module | None) -> nn.Module:
        """A network trained in place, from its checkpoint where there is one."""
        train_network(
            network,
            *self.train,
            teacher=teacher if self.config.alpha > 0 else None,
            settings=self.finder.training,
            augment=self.augment,
            checkpoint_dir=self.run.state / name,
            progress=self.run.progress,
        )
        return network.eval()

    def tested(self, network: nn.Module) -> float:
        """Share of the test images that a network gets right."""
        return accuracy(network, self.task.test, self.config.device)


def _augmentation(task: ImageTask) -> Transform:
    return Compose([RandomCrop(padding=max(1, min(task.shape[1:]) // 8)), RandomHorizontalFlip()])


def _full_network(config: Config, task: ImageTask, run: runs.Run) -> tuple[NetworkShape | nn.Module, bool]:
    """The shape or the module that is searched in, and whether it has to be trained."""
    channels, height, width = task.shape
    classes = len(task.class_names)
    name = config.model
    if name == "auto":
        name = "plain" if height * width < SMALL else "resnet-20"
    if name == "plain":
        return plain_network(16, ((32, 32, 32, 32),), (2,), outputs=classes, channels=channels), True
    if name in RESNETS:
        return cifar_resnet(int(name.rpartition("-")[2]), outputs=classes, channels=channels), True
    if name in IMAGENET_RESNETS:
        if min(height, width) < 32:
            raise InputError("model", f"{name} for images of {height} x {width}", "images of 32 x 32 or more, or plain")
        return imagenet_resnet(int(name.rpartition("-")[2]), outputs=classes, channels=channels), True
    make, trained = model_maker(name, task, progress=run.progress)
    return make(config.seed), not trained


def _others(work: _Work, teacher: nn.Module) -> list[Row]:
    """Rivals at the same cost, with the same training."""
    config, finder, space = work.config, work.finder, work.finder.space_
    share = finder.found_.share
    rows = []
    if config.alpha > 0:
        alone = work.trained("alone", finder.build(seed=config.seed), None)
        rows.append(Row("found, without the teacher", share, _parameters(alone), work.tested(alone), "labels"))
    rivals: dict[str, Any] = {}
    uniform = uniform_genotype(space, share)
    rivals["one share for all widths"] = uniform
    try:
        rivals["widths and depth at random"] = random_genotype(space, share, config.seed, tolerance=config.tolerance)
    except InputError as error:
        work.run.log.warning("no random network of this cost: %s", error)
    for name, genotype in rivals.items():
        network = work.trained(name, space.build(genotype, seed=config.seed), teacher)
        cost = space.cost_of(genotype) / space.full_cost
        rows.append(Row(name, cost, _parameters(network), work.tested(network), "distilled from the full one"))
    pruned = space.inherit(teacher, uniform)
    work.trained("pruned", pruned, teacher)
    rows.append(
        Row(
            "one share, channels of the full one by magnitude",
            space.cost_of(uniform) / space.full_cost,
            _parameters(pruned),
            work.tested(pruned),
            "inherited, then distilled",
        )
    )
    return rows


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _save(config: Config, run: runs.Run, work: _Work, found: nn.Module) -> list[runs.ReportFile]:
    finder = work.finder
    files = []
    if isinstance(found, ShapedNetwork):
        found.save_pretrained(run.output("network"))
        files.append(runs.ReportFile("network", "the found network: its widths in config.json, and safetensors"))
    else:
        how = save_smaller(found, run.output("network"), config.model)
        words = f"the found network as a cut of yours, safetensors and the plan; load it with {how}"
        files.append(runs.ReportFile("network", words))
    device = next(found.parameters()).device
    try:
        export_program(found, work.task.example.to(device), run.output("network.pt2"))
        files.append(runs.ReportFile("network.pt2", "the same for torch.export.load, without Paperworks"))
    except (RuntimeError, ValueError, torch.export.UnsupportedOperatorException) as error:  # type: ignore[attr-defined]
        run.log.warning("network.pt2 is not written: %s", str(error).splitlines()[0])
    if config.onnx:
        gap = export_onnx(found.cpu(), work.task.example, run.output("network.onnx"), any_batch=True)
        words = f"the same for onnxruntime, any number of images; outputs differ from PyTorch's by {gap:.1g} at most"
        files.append(runs.ReportFile("network.onnx", words))
    finder.save_genotype(run.output("genotype.json"))
    pd.DataFrame(finder.history_).to_csv(run.files / "history.csv", index=False)
    chances = {
        name: {str(c): round(p, 6) for c, p in zip(known, finder.probabilities_[name], strict=True)}
        for name, known in finder.candidates_.items()
    }
    write_text(run.files / "probabilities.json", json.dumps(chances, indent=2) + "\n")
    files += [
        runs.ReportFile("genotype.json", "widths, depths and cost, which from_genotype takes"),
        runs.ReportFile("history.csv", "the search by epoch"),
        runs.ReportFile("probabilities.json", "the candidates of every choice with their probabilities"),
    ]
    return files
