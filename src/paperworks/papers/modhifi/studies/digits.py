"""Pruning and counterfactuals on digits, three seeds: other splits, weights and synthetic samples for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paperworks import runs
from paperworks.classification import features
from paperworks.metrics import mean_interval
from paperworks.papers.modhifi.analyzer import FidelityAnalyzer
from paperworks.papers.modhifi.layers import layer_at
from paperworks.papers.modhifi.pruner import ModHiFiPruner
from paperworks.papers.modhifi.studies.arms import Arms
from paperworks.papers.modhifi.studies.networks import INNER, SEEDS, accuracy, digits, synthetic, trained
from paperworks.papers.modhifi.synthetic import Kind, frechet_distance
from paperworks.papers.modhifi.unlearner import best_pairs, with_edits
from paperworks.pruning import train_classifier
from paperworks.runs import Finding, Run
from paperworks.runs.files import write_text

Rows = dict[str, np.ndarray]
PARTS: dict[str, dict[str, Any]] = {
    "none": {"compensation": "none", "statistics": False, "restore_mean": False},
    "rescaled": {"statistics": False},
    "renewed": {"compensation": "none"},
    "both": {},
}
SCORES = ("rowsum", "energy", "magnitude", "random")


def by_seed(run: Run, name: str, fast: bool, measure: Callable[[int], dict[str, float]], seeds: int = SEEDS) -> Rows:
    """Figures of every seed; what a resumed run has measured is not measured again."""
    found: list[dict[str, float]] = []
    for seed in run.progress(range(2 if fast else seeds), f"{name}: one seed after the other"):
        kept = run.state / f"{name}-{seed}.json"
        if not kept.is_file():
            write_text(kept, json.dumps(measure(seed)))
        found.append(json.loads(kept.read_text(encoding="utf-8")))
    return {key: np.array([row[key] for row in found if key in row]) for key in found[0]}


@runs.study(
    claims=["pruning-without-training", "compensation-and-statistics", "few-inputs-matter"],
    title="Digits: 50 and 70 % of the channels inside residual blocks, without training",
    minutes=5,
)
def pruning(run: Run, fast: bool) -> Iterator[Finding]:
    """Scores by the four combinations of rescaling and renewed statistics; calibration is synthetic."""

    def measure(seed: int) -> dict[str, float]:
        train, test = digits(seed, fast)
        model = trained(run, "residual", seed, train, fast)
        x, y = synthetic(train, seed)
        found = {"dense": accuracy(model, test)}
        arms = Arms(model, x, INNER)
        for gone in (50, 70):
            for score in SCORES:
                for part, options in PARTS.items():
                    made = arms.masked(gone / 100, score, seed=seed, **options)
                    found[f"{score} {gone} {part}"] = accuracy(made, test)
        half = ModHiFiPruner(0.35, "macs").fit(model, x)
        found["macs accuracy"] = accuracy(half.model_, test)
        found["macs ratio"] = half.report_.macs[0] / half.report_.macs[1]
        plain = ModHiFiPruner(0.35, "macs", score="magnitude", **PARTS["none"]).fit(model, x)
        found["magnitude accuracy"] = accuracy(plain.model_, test)
        tuned = TensorDataset(x, y)
        train_classifier(plain.model_, tuned, epochs=2 if fast else 10, learning_rate=0.01, seed=seed, device="cpu")
        found["tuned accuracy"] = accuracy(plain.model_.eval(), test)
        report = FidelityAnalyzer("singleton").fit(model, x).report_
        shares = [report.share_needed(path) for path in report.layers]
        found["layers with few"] = float(np.mean([share < 0.2 for share in shares]))
        found["mean share"] = float(np.mean(shares))
        return found

    rows = by_seed(run, "pruning", fast, measure)
    yield from _parts(rows)
    yield from _without_training(rows)
    yield Finding(
        "few-inputs-matter",
        "share of the layers in which less than 20 % of the inputs reach a fidelity of 0.8 (greedy, mean over outputs)",
        "empirical",
        mean_interval(rows["layers with few"]),
        ">=",
        0.5,
        detail=f"over all layers {rows['mean share'].mean():.3f} of the inputs are needed",
    )


def _parts(rows: Rows) -> Iterator[Finding]:
    claim = "compensation-and-statistics"
    for score in SCORES:
        one = {part: rows[f"{score} 50 {part}"] for part in PARTS}
        yield Finding(
            claim,
            f"{score}, 50 % gone, old statistics: rescaling raises accuracy by at least 0.1",
            "empirical",
            mean_interval(one["rescaled"] - one["none"]),
            ">=",
            0.1,
            baseline=float(one["none"].mean()),
            baseline_name="neither",
            detail=f"accuracy {one['rescaled'].mean():.3f}",
        )
        better = np.maximum(one["rescaled"], one["renewed"])
        yield Finding(
            claim,
            f"{score}, 50 % gone: both together are at most 0.01 below the better of the two",
            "empirical",
            mean_interval(one["both"] - better),
            ">=",
            -0.01,
            baseline=float(better.mean()),
            baseline_name="better of rescaling and statistics",
            detail=f"both {one['both'].mean():.3f}",
        )
    one = {part: rows[f"energy 70 {part}"] for part in PARTS}
    yield Finding(
        claim,
        "energy, 70 % gone: both together are better than either",
        "empirical",
        mean_interval(one["both"] - np.maximum(one["rescaled"], one["renewed"])),
        ">",
        0,
        baseline=float(np.maximum(one["rescaled"], one["renewed"]).mean()),
        baseline_name="better of the two",
        detail=", ".join(f"{part} {values.mean():.3f}" for part, values in one.items()),
    )


def _without_training(rows: Rows) -> Iterator[Finding]:
    claim = "pruning-without-training"
    for score in SCORES:
        values = rows[f"{score} 50 both"]
        yield Finding(
            claim,
            f"{score}, 50 % of the inner channels gone, rescaled and renewed: accuracy of at least 0.97",
            "empirical",
            mean_interval(values),
            ">=",
            0.97,
            baseline=float(rows["dense"].mean()),
            baseline_name="dense",
        )
    yield Finding(
        claim,
        "35 % of the multiply-accumulates left, all groups: accuracy above magnitude without repair",
        "empirical",
        mean_interval(rows["macs accuracy"] - rows["magnitude accuracy"]),
        ">",
        0,
        baseline=float(rows["magnitude accuracy"].mean()),
        baseline_name="magnitude, as it is",
        detail=f"accuracy {rows['macs accuracy'].mean():.3f} at {rows['macs ratio'].mean():.2f} times fewer "
        f"operations; dense {rows['dense'].mean():.3f}",
    )
    yield Finding(
        claim,
        "35 % of the multiply-accumulates left: accuracy is at least that of magnitude tuned on the synthetic samples",
        "empirical",
        mean_interval(rows["macs accuracy"] - rows["tuned accuracy"]),
        ">=",
        0,
        baseline=float(rows["tuned accuracy"].mean()),
        baseline_name="magnitude, 10 epochs on synthetic samples and labels",
        detail=f"accuracy {rows['macs accuracy'].mean():.3f} without training or labels",
    )
    selection = rows["rowsum 50 both"] - rows["magnitude 50 both"]
    yield Finding(
        claim,
        "50 % gone, both repaired alike: the choice by fidelity (rowsum) is better than the choice by magnitude",
        "empirical",
        mean_interval(selection),
        ">",
        0,
        baseline=float(rows["magnitude 50 both"].mean()),
        baseline_name="magnitude, repaired",
        detail=f"accuracy {rows['rowsum 50 both'].mean():.3f}",
    )


@runs.study(
    claims=["removal-counterfactual", "noise-counterfactual"],
    title="Digits: kernels of high, random and low fidelity removed or disturbed",
    minutes=2,
)
def counterfactuals(run: Run, fast: bool) -> Iterator[Finding]:
    """20 % of the kernels of every output of all convolutions but the stem are zeroed; or noise is added to some."""

    def measure(seed: int) -> dict[str, float]:
        train, test = digits(seed, fast)
        model = trained(run, "residual", seed, train, fast)
        x, _ = synthetic(train, seed)
        report = FidelityAnalyzer("rowsum").fit(model, x).report_
        scores = {path: one.scores for path, one in report.layers.items() if layer_at(model, path).convolution}
        generator = torch.Generator().manual_seed(seed)
        noise = {path: torch.rand(s.shape, generator=generator, dtype=torch.float64) for path, s in scores.items()}
        picked = {
            "high": {path: best_pairs(s, 0.2) for path, s in scores.items()},
            "random": {path: best_pairs(s, 0.2) for path, s in noise.items()},
            "low": {path: best_pairs(-s.abs(), 0.2) for path, s in scores.items()},
        }
        found = {"dense": accuracy(model, test)}
        for name, chosen in picked.items():
            found[name] = accuracy(with_edits(model, chosen, "zero"), test)
        for sigma in (0.01, 0.1, 0.3):
            for name, chosen in (("high", picked["high"]), ("rest", {p: ~c for p, c in picked["high"].items()})):
                made = _disturbed(model, chosen, sigma, seed)
                found[f"{name} {sigma}"] = float(np.mean([accuracy(m, test) for m in made]))
        return found

    rows = by_seed(run, "counterfactuals", fast, measure)
    high, random, low = (rows[name] for name in ("high", "random", "low"))
    means = (
        f"dense {rows['dense'].mean():.3f}, high {high.mean():.3f}, random {random.mean():.3f}, low {low.mean():.3f}"
    )
    claim = "removal-counterfactual"
    yield Finding(
        claim,
        "accuracy after random removal less accuracy after removal of high fidelity",
        "empirical",
        mean_interval(random - high),
        ">=",
        0.3,
        baseline=float(random.mean()),
        baseline_name="random",
        detail=means,
    )
    yield Finding(
        claim,
        "accuracy after removal of low fidelity less accuracy after random removal",
        "empirical",
        mean_interval(low - random),
        ">=",
        0.2,
        baseline=float(random.mean()),
        baseline_name="random",
        detail=means,
    )
    for sigma in (0.01, 0.1, 0.3):
        drops = {name: rows["dense"] - rows[f"{name} {sigma}"] for name in ("high", "rest")}
        yield Finding(
            "noise-counterfactual",
            f"sigma {sigma}: the drop by noise on the best 20 % is larger than that by noise on the other 80 %",
            "empirical",
            mean_interval(drops["high"] - drops["rest"]),
            ">",
            0,
            baseline=float(drops["rest"].mean()),
            baseline_name="drop by noise on the others",
            detail=f"drop {drops['high'].mean():.4f}",
        )


def _disturbed(
    model: nn.Module, chosen: dict[str, torch.Tensor], sigma: float, seed: int, n: int = 5
) -> list[nn.Module]:
    """Copies with Gaussian noise on the weights of chosen kernels."""
    made = []
    for number in range(n):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        one = with_edits(model, {}, "zero")
        for path, pairs in chosen.items():
            layer = layer_at(one, path)
            matrix = layer.matrix()
            noise = torch.randn(matrix.shape, generator=generator, dtype=torch.float64)
            layer.write(matrix + sigma * noise * pairs.repeat_interleave(layer.kernel, 1))
        made.append(one)
    return made


@runs.study(
    claims=["synthetic-data-quality"],
    title="Digits: calibration on noise, moments, mixtures and densities",
    minutes=2,
)
def data_quality(run: Run, fast: bool) -> Iterator[Finding]:
    """Three qualities of synthetic samples, by their Frechet distance to training images in the network's features."""
    kinds: tuple[Kind, ...] = ("noise", "moments", "density")

    def measure(seed: int) -> dict[str, float]:
        train, test = digits(seed, fast)
        model = trained(run, "residual", seed, train, fast)
        real = features(model, train.tensors[0], "6", of="input", device="cpu")
        found = {"dense": accuracy(model, test)}
        for kind in kinds:
            x, _ = synthetic(train, seed, kind)
            found[f"{kind} distance"] = frechet_distance(real, features(model, x, "6", of="input", device="cpu"))
            pruner = ModHiFiPruner(0.35, "macs").fit(model, x)
            found[kind] = accuracy(pruner.model_, test)
        return found

    rows = by_seed(run, "quality", fast, measure, 3)
    means = ", ".join(f"{k} {rows[k].mean():.3f} (distance {rows[f'{k} distance'].mean():.3g})" for k in kinds)
    for worse, better in (("noise", "moments"), ("moments", "density")):
        yield Finding(
            "synthetic-data-quality",
            f"35 % of the operations left: calibrated on {better}, accuracy is higher than calibrated on {worse}",
            "empirical",
            mean_interval(rows[better] - rows[worse]),
            ">",
            0,
            baseline=float(rows[worse].mean()),
            baseline_name=worse,
            detail=means,
        )
    yield Finding(
        "synthetic-data-quality",
        "the poorer samples (moments) keep at least 0.9 of the accuracy of the better ones (density)",
        "empirical",
        mean_interval(rows["moments"] / rows["density"]),
        ">=",
        0.9,
        baseline=float(rows["density"].mean()),
        baseline_name="density",
        detail=means,
    )
