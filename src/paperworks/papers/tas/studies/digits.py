"""The search on handwritten digits (8 x 8): the target, rivals at the same cost, knowledge transfer, depth.

CIFAR and its residual networks need days here. In their place: five convolutions of widths 16, 32, 32, 32, 32 on
digits, 70 % to train on, and the same on 200 training images, where the full network is not yet perfect. All
comparisons are paired: the same split, teacher and weights' seed for every network of a seed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperworks import runs
from paperworks.classification import predict
from paperworks.metrics import mean_interval, ratio_interval, wilson_interval
from paperworks.papers.tas.baselines import random_genotype, uniform_genotype
from paperworks.papers.tas.bilevel import Found, SearchSettings, search
from paperworks.papers.tas.network import ShapedNetwork
from paperworks.papers.tas.shapes import NetworkShape, cifar_resnet, plain_network
from paperworks.papers.tas.space import Genotype
from paperworks.papers.tas.supernet import Searched, SearchNetwork
from paperworks.papers.tas.transfer import TransferSettings, train_network
from paperworks.runs import Finding, Run
from paperworks.runs.files import write_text

SHAPE = plain_network(16, ((32, 32, 32, 32),), (2,), channels=1)
DEEP = plain_network(12, ((12,) * 6,), (1,), channels=1)
"""Six like blocks: half of the operations can be reached by depth alone."""
SIZE = (8, 8)
TARGETS = (0.3, 0.5, 0.7)
EPOCHS, TRAINING_EPOCHS, FEW = 60, 25, 200
FULL, FOUND, ALONE, UNIFORM, RANDOM, PRUNED = "full", "found", "found, no teacher", "uniform", "random", "pruned"


@dataclass(frozen=True)
class Split:
    """Digits to train on and to test on, float32 ``[n, 1, 8, 8]`` and int64 ``[n]``."""

    train: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]


def digits_split(seed: int, rows: int | None = None) -> Split:
    """70 % of the digits by class, or ``rows`` of them by class, and the other 30 %."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy((bunch.images / 16).astype(np.float32)[:, None])
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=bunch.target, random_state=seed)
    if rows is not None:
        train, _ = train_test_split(train, train_size=rows, stratify=bunch.target[train], random_state=seed)
    return Split((images[train], labels[train]), (images[test], labels[test]))


def found_network(
    data: tuple[torch.Tensor, torch.Tensor],
    seed: int,
    *,
    target: float = 0.5,
    epochs: int = EPOCHS,
    what: tuple[Searched, ...] = ("width", "depth"),
    shape: NetworkShape = SHAPE,
    size: tuple[int, int] = SIZE,
    **options: Any,
) -> tuple[SearchNetwork, Found]:
    """A search; one that ends outside the band is put into it."""
    space = SearchNetwork(shape, size, search=what, seed=seed, **options)
    settings = SearchSettings(target=target, epochs=epochs, outside="repair", device="cpu", seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return space, search(space, *data, settings=settings)


def trained(
    network: torch.nn.Module, split: Split, seed: int, teacher: torch.nn.Module | None = None, epochs: int | None = None
) -> float:
    """Train a network in place; its accuracy on the test part."""
    settings = TransferSettings(epochs=epochs or TRAINING_EPOCHS, device="cpu", seed=seed)
    train_network(network, *split.train, teacher=teacher, settings=settings)
    return float((predict(network, split.test[0], device="cpu") == split.test[1].numpy()).mean())


def by_seed(run: Run, name: str, seeds: int, measure: Callable[[int], dict[str, Any]], first: int = 0) -> pd.DataFrame:
    """One row of figures for each seed, kept in the run's state."""
    rows = []
    for seed in run.progress(range(first, first + seeds), f"{name}, one seed after the other"):
        kept = run.state / f"{name}-{seed}.json"
        if not kept.is_file():
            write_text(kept, pd.Series(measure(seed)).to_json())
        rows.append(pd.read_json(kept, typ="series"))
    return pd.DataFrame(rows)


@runs.study(claims=["target-is-met"], title="Three targets", minutes=3)
def targets(run: Run, fast: bool) -> Iterator[Finding]:
    """Searches on digits at 0.3, 0.5 and 0.7 of the operations."""
    seeds, epochs = (2, 20) if fast else (3, EPOCHS // 2)

    def measure(seed: int) -> dict[str, float]:
        split = digits_split(seed)
        row: dict[str, float] = {}
        for target in TARGETS:
            _, found = found_network(split.train, seed, target=target, epochs=epochs)
            row |= {f"share {target}": found.share, f"inside {target}": float(found.epoch > 0)}
            row[f"last {target}"] = found.history[-1]["share"]
        return row

    table = by_seed(run, "targets", seeds, measure)
    shares = table[[f"share {target}" for target in TARGETS]].to_numpy()
    yield Finding(
        "target-is-met",
        "the largest relative distance of an exported network from its target",
        "exact",
        float(np.abs(shares / np.array(TARGETS) - 1).max()),
        "<=",
        0.05,
        detail=f"the best epoch within the band, or a repaired one; {seeds} seeds, targets "
        f"{', '.join(map(str, TARGETS))}; shares: "
        + "; ".join(", ".join(f"{share:.3f}" for share in row) for row in shares),
    )
    last = table[[f"last {target}" for target in TARGETS]].to_numpy() / np.array(TARGETS) - 1
    inside = table[[f"inside {target}" for target in TARGETS]].to_numpy()
    yield Finding(
        "target-is-met",
        "more searches than not end an epoch within the band by themselves",
        "empirical",
        wilson_interval(int(inside.sum()), inside.size, unit="searches"),
        ">",
        0.5,
        detail=f"{int(inside.sum())} of {inside.size}; the others are repaired. The last epochs are off by "
        f"{', '.join(f'{abs(one):.0%}' for one in last.flatten())}",
    )
    yield Finding(
        "target-is-met",
        "the least rise of the cost from one target to the next",
        "empirical",
        mean_interval(np.diff(shares, axis=1).min(1)),
        ">",
        0.0,
        detail="of the share of the full network's operations",
    )


@runs.study(
    claims=["search-beats-uniform-and-random", "distillation-matters"],
    title="Rivals at half of the operations, on 1,257 and on 200 digits",
    minutes=8,
)
def rivals(run: Run, fast: bool) -> Iterator[Finding]:
    """The found network beside uniform and random ones, with the same teacher; and without it."""
    seeds = 2 if fast else 3
    table = by_seed(run, "all", seeds, lambda seed: _compared(seed, fast))
    lost = mean_interval(100 * (table[FOUND] - table[FULL]))
    yield Finding(
        "search-beats-uniform-and-random",
        "found network with the teacher, less the full network: points of accuracy, at half of the operations",
        "empirical",
        lost,
        ">=",
        -1.5,
        baseline=100 * float(table[FULL].mean()),
        baseline_name="full network",
        detail=f"1,257 training digits; found {table[FOUND].mean():.4f}, full {table[FULL].mean():.4f}",
    )
    uniform = mean_interval(100 * (table[FOUND] - table[UNIFORM]))
    yield Finding(
        "search-beats-uniform-and-random",
        "found, less uniform widths, both with the teacher: points of accuracy",
        "empirical",
        uniform,
        ">=",
        -1.0,
        baseline=100 * float(table[UNIFORM].mean()),
        baseline_name="uniform widths",
        detail=f"digits saturate: this shows no loss, not a gain; pruned by magnitude {table[PRUNED].mean():.4f}",
    )
    few_seeds = 2 if fast else 5
    few = by_seed(run, "few", few_seeds, lambda seed: _compared(seed, fast, FEW))
    gain = mean_interval(100 * (few[FOUND] - few[RANDOM]))
    yield Finding(
        "search-beats-uniform-and-random",
        "200 training digits: found, less the mean of two random networks, all with the teacher: points of accuracy",
        "empirical",
        gain,
        ">=",
        0.0,
        baseline=100 * float(few[RANDOM].mean()),
        baseline_name="random networks of the same cost",
        detail=f"{2 * few_seeds} random networks; found {few[FOUND].mean():.4f}, uniform {few[UNIFORM].mean():.4f}, "
        f"random {few[RANDOM].mean():.4f}",
    )
    transfer = mean_interval(100 * (few[FOUND] - few[ALONE]))
    yield Finding(
        "distillation-matters",
        "200 training digits, a teacher trained on all: the found shape with it, less without: points of accuracy",
        "empirical",
        transfer,
        ">=",
        0.0,
        baseline=100 * float(few[ALONE].mean()),
        baseline_name="the found shape without a teacher",
        detail=f"with {few[FOUND].mean():.4f}, without {few[ALONE].mean():.4f}, teacher {few[FULL].mean():.4f}",
    )


def _compared(seed: int, fast: bool, rows: int | None = None) -> dict[str, float]:
    """Accuracies of the full network, trained on all digits, and of networks at half of its operations."""
    split = digits_split(seed, rows)
    epochs = 5 if fast else TRAINING_EPOCHS
    if rows is not None:
        epochs *= 4  # as many steps as on all digits would be six times as many epochs
    teacher = ShapedNetwork.of(SHAPE, seed=seed)
    row = {FULL: trained(teacher, digits_split(seed), seed, epochs=5 if fast else TRAINING_EPOCHS)}
    teacher.eval()
    search_epochs = EPOCHS if rows is None else 4 * EPOCHS
    space, found = found_network(split.train, seed, epochs=10 if fast else search_epochs)
    row["share"] = found.share

    def of(genotype: Genotype, with_teacher: bool = True) -> float:
        network = space.build(genotype, seed=seed)
        return trained(network, split, seed, teacher if with_teacher else None, epochs)

    uniform = uniform_genotype(space, found.share)
    row[FOUND], row[UNIFORM] = of(found.genotype), of(uniform)
    if rows is None:
        row[PRUNED] = trained(space.inherit(teacher, uniform), split, seed, teacher, epochs)
    else:
        row[ALONE] = of(found.genotype, with_teacher=False)
        others = [random_genotype(space, found.share, 2 * seed + number) for number in range(2)]
        row[RANDOM] = float(np.mean([of(genotype) for genotype in others]))
    return row


@runs.study(claims=["width-and-depth"], title="Useless blocks, and width or depth alone", minutes=2)
def depth(run: Run, fast: bool) -> Iterator[Finding]:
    """A task that one block solves, with widths and depth; and digits with widths or depth alone."""
    seeds = 2 if fast else 5
    shape = plain_network(8, ((8,) * 6,), (1,), outputs=2, channels=1)
    full = shape.depths[0]

    def measure(seed: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(400) % 2
        images = 0.5 * torch.randn(400, 1, 8, 8, generator=generator) + labels[:, None, None, None]
        _, found = found_network((images, labels), seed, target=0.5, epochs=10 if fast else 20, shape=shape)
        return {"depth": float(found.genotype["depths"]["stages.0"]), "share": found.share}

    table = by_seed(run, "useless", seeds, measure)
    yield Finding(
        "width-and-depth",
        f"blocks that a search of widths and depth keeps of {full}, where the brightness tells the class",
        "empirical",
        mean_interval(table["depth"]),
        "<",
        float(full),
        detail=f"by seed {table['depth'].astype(int).tolist()}; narrower blocks alone could meet half of the "
        "operations, too, and a search of the depth alone could not keep more than half of the blocks",
    )

    def alone(seed: int) -> dict[str, float]:
        split = digits_split(seed)
        row: dict[str, float] = {}
        for name in ("width", "depth"):
            what: tuple[Searched, ...] = (name,)  # type: ignore[assignment]
            _, found = found_network(split.train, seed, epochs=10, what=what, shape=DEEP)
            row[f"share {name}"] = found.share
            widths, depths = list(found.genotype["widths"].values()), list(found.genotype["depths"].values())
            fixed = depths == list(DEEP.depths) if name == "width" else widths == list(DEEP.widths)
            row[f"fixed {name}"] = float(fixed)
        return row

    single = by_seed(run, "alone", 2 if fast else 3, alone)
    fixed = single[["fixed width", "fixed depth"]].to_numpy()
    yield Finding(
        "width-and-depth",
        "searches of one alone that leave the other as it is, of all",
        "exact",
        float(fixed.mean()),
        ">=",
        1.0,
        detail="widths alone reach "
        + ", ".join(f"{share:.3f}" for share in single["share width"])
        + " of the operations for a target of 0.5; depth alone "
        + ", ".join(f"{share:.3f}" for share in single["share depth"]),
    )


@runs.study(claims=["search-cost"], title="Time of the search beside that of training", minutes=1)
def search_time(run: Run, fast: bool) -> Iterator[Finding]:
    """Processor time of the search and of training the full network for as many epochs, on as many examples."""
    images, labels = digits_split(0).train
    large = images[:128].repeat_interleave(4, 2).repeat_interleave(4, 3)
    cases = (
        ("ResNet-20 on 32 x 32 images", cifar_resnet(20, channels=1), (large, labels[:128]), 1),
        ("five convolutions on 8 x 8 images", SHAPE, (images, labels), 4),
    )
    for name, shape, data, epochs in cases[1:] if fast else cases:
        ratios = []
        for seed in run.progress(range(4 if fast else 6), f"{name}, rounds"):
            start = time.process_time()
            found_network(data, seed, epochs=epochs, shape=shape, size=(data[0].shape[2], data[0].shape[3]))
            middle = time.process_time()
            train_network(
                ShapedNetwork.of(shape, seed=seed),
                *data,
                settings=TransferSettings(epochs=epochs, device="cpu", seed=seed),
            )
            ratios.append((middle - start) / (time.process_time() - middle))
        ratios = ratios[1:]  # the first round compiles kernels and reads libraries
        yield Finding(
            "search-cost",
            f"{name}: processor time of the search, over that of training the full network for the same epochs",
            "empirical",
            ratio_interval(ratios, unit="rounds"),
            "<=",
            2.0,
            detail=f"{len(data[1])} examples; two passes on halves of them, and the accuracy on one half every epoch. "
            "The search network convolves with the widest drawn width only, but has two norms and an interpolation in "
            "every layer, which weigh more the smaller the network is",
        )
