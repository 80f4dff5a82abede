"""What both actions of the recipe need: the images in parts, networks trained or read, and the metanetwork."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

from paperworks.errors import InputError
from paperworks.nn import MLP, SmallCNN
from paperworks.papers.meta_pruning.config import Config
from paperworks.papers.meta_pruning.graph import Layout
from paperworks.papers.meta_pruning.meta_training import MetaSettings
from paperworks.papers.meta_pruning.metanetwork import GraphMetaNetwork
from paperworks.papers.meta_pruning.pruner import MetaPruner
from paperworks.papers.meta_pruning.targets import Examples, train_targets
from paperworks.pruning import ImageTask, image_task, model_maker, new_weights
from paperworks.runs import Run
from paperworks.runs.files import replace_file

BUNDLE = Path(__file__).parent / "bundle"
CONVOLUTIONS_FROM = 256
"""Pixels from which on images get a convolutional network by default, not a perceptron."""
SELECTION_SHARE = 0.2
"""Share of the training images that are not trained on: curves of the selection network are measured on them."""


@dataclass(frozen=True)
class Bench:
    """Images in three parts that do not meet, and the network of the family.

    Attributes
    ----------
    train, selection, test : images and class codes.
    make : from a seed to a network: new weights, or a copy of the user's trained one.
    trained : whether ``make`` gives a trained one.
    renew : from a seed to the same network with new weights.
    """

    task: ImageTask
    train: Examples
    selection: Examples
    test: Examples
    make: Callable[[int], nn.Module]
    trained: bool
    renew: Callable[[int], nn.Module]
    notes: list[str] = field(default_factory=list)

    @property
    def example(self) -> torch.Tensor:
        """Two images, to trace with."""
        return self.train[0][:2]


def read_bench(config: Config, run: Run) -> Bench:
    """The images and the network that the options name.

    Raises InputError for what ``pruning.image_task`` and ``pruning.model_maker`` refuse.
    """
    task = image_task(config, run)
    images, labels = _pair(task.train)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    generator = run.torch_rng("selection")
    for code in labels.unique():
        rows = torch.nonzero(labels == code).flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        chosen[rows[: min(len(rows) - 1, max(1, round(SELECTION_SHARE * len(rows))))]] = True
    make: Callable[[int], nn.Module]
    if config.model == "auto":
        make, trained = _default(task), False
    else:
        make, trained = model_maker(config.model, task, progress=run.progress)
    renew = make
    if trained:
        whole = make(0)

        def renew(seed: int) -> nn.Module:
            return new_weights(whole, seed)

    return Bench(
        task,
        (images[~chosen], labels[~chosen]),
        (images[chosen], labels[chosen]),
        _pair(task.test),
        make,
        trained,
        renew,
        task.notes,
    )


def _pair(data: TensorDataset) -> Examples:
    images, labels = data.tensors
    return images, labels


def _default(task: ImageTask) -> Callable[[int], nn.Module]:
    channels, height, width = task.shape
    classes = len(task.class_names)

    def make(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            if height * width >= CONVOLUTIONS_FROM:
                return SmallCNN(channels=channels, widths=(16, 32, 64), outputs=classes)
            return MLP(inputs=channels * height * width, hidden=(96, 64), outputs=classes, batch_norm=True)

    return make


def trained_networks(config: Config, bench: Bench, run: Run, seeds: list[int], name: str) -> list[nn.Module]:
    """Networks of the family trained here, one for each seed; those of an earlier attempt are read from the state."""
    found = []
    for seed in run.progress(seeds, f"training {name}", len(seeds)):
        kept = run.state / f"network-{seed}.pt"
        make = bench.renew
        if kept.is_file():
            model = make(seed)
            model.load_state_dict(torch.load(kept, weights_only=True))
            found.append(model.eval())
            continue
        found += train_targets(
            make,
            bench.train,
            [seed],
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            device=config.device,
            progress=run.progress,
        )
        with replace_file(kept) as aside:
            torch.save(found[-1].state_dict(), aside)
    return found


def data_models(config: Config, bench: Bench, run: Run) -> list[nn.Module]:
    """The networks that meta-training sees; the last one chooses the epoch."""
    if config.models:
        found = []
        for folder in config.models:
            make, trained = model_maker(folder, bench.task, progress=run.progress)
            if not trained:
                raise InputError("models", folder, "the folder of a trained network")
            found.append(make(0).eval())
        return found
    first = config.seed % 2**31 * 1000 + 1
    seeds = [first + number for number in range(config.n_models)]
    return trained_networks(config, bench, run, seeds, "networks to learn from")


def settings_of(config: Config) -> MetaSettings:
    """The options of meta-training."""
    return MetaSettings(
        epochs=config.meta_epochs,
        batches=config.meta_batches,
        learning_rate=config.meta_learning_rate,
        reg=config.reg,
        alpha=config.alpha,
        norms=config.norms,
        select_every=config.select_every,
    )


def pruner_of(config: Config) -> MetaPruner:
    """A pruner with the options of the run, and no metanetwork yet."""
    return MetaPruner(
        criterion=config.criterion,
        layout=config.layout,
        hidden=config.hidden,
        layers=config.layers,
        rho=config.rho,
        settings=settings_of(config),
        finetune_epochs=config.finetune_epochs,
        finetune_rate=config.finetune_rate,
        steps=config.steps,
        device=config.device,
        random_state=config.seed % 2**31,
    )


def bundled_metanetworks() -> dict[str, Path]:
    """The metanetworks that come with the paper, by name."""
    return {path.parent.name: path.parent for path in sorted(BUNDLE.glob("*/config.json"))}


def bundled_for(layout: Layout) -> tuple[str, GraphMetaNetwork] | None:
    """The bundled metanetwork whose types of nodes and edges are those of a layout."""
    for name, folder in bundled_metanetworks().items():
        metanetwork = GraphMetaNetwork.from_pretrained(folder)
        known = metanetwork.config
        if (known["node_types"], known["edge_types"]) == (layout.node_types, layout.edge_types):
            return name, metanetwork
    return None


def fit_pruner(pruner: MetaPruner, config: Config, bench: Bench, run: Run) -> MetaPruner:
    """Train a metanetwork on the networks of the family."""
    models = data_models(config, bench, run)
    run.step(f"meta-training on {len(models) - 1} networks, with one to choose the epoch")
    return pruner.fit(
        models[:-1],
        bench.train,
        models[-1],
        bench.selection,
        checkpoint=run.state / "meta.pt",
        progress=run.progress,
    )


def ready_pruner(config: Config, bench: Bench, run: Run) -> tuple[MetaPruner, str]:
    """A pruner with the metanetwork that the options name, and words for where it is from.

    Raises InputError for a metanetwork of another family.
    """
    pruner = pruner_of(config)
    layout = pruner.target(bench.renew(0).eval(), bench.example).layout
    if config.metanetwork not in ("auto", "bundled"):
        pruner.metanetwork_ = GraphMetaNetwork.from_pretrained(config.metanetwork)
        pruner.metanetwork_.check(layout)
        return pruner, f"the metanetwork in {Path(config.metanetwork).name}"
    found = bundled_for(layout)
    if found is not None:
        pruner.metanetwork_ = found[1]
        return pruner, f"the bundled metanetwork for {found[0]}"
    if config.metanetwork == "bundled":
        known = ", ".join(bundled_metanetworks()) or "none"
        raise InputError("metanetwork", f"bundled ones for {known}", "auto, which trains one for this network")
    return fit_pruner(pruner, config, bench, run), "a metanetwork trained in this run"
