"""What slicing costs in perplexity, on the bundled language model, beside the baselines of the paper."""

from __future__ import annotations

import copy
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch

from paperworks import runs
from paperworks.metrics import Interval, mean_interval, ratio_interval
from paperworks.papers.slicegpt.sparsegpt import sparsify_model
from paperworks.papers.slicegpt.studies.bench import DRAWS, SLICINGS, Bench
from paperworks.papers.slicegpt.widths import predicted_parameters
from paperworks.runs import Finding, largest

SHARES = (1e-4, 0.1)
"""Of the variance: one cut discards less than a quarter of the hidden size at the first, and more at the second."""


@runs.study(
    claims=["small-loss", "rotation-needed", "against-2-4-sparsity", "variance-schedule", "float64-pca"],
    title="Perplexity by slicing, basis and schedule",
    minutes=8,
)
def perplexities(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The bundled model on held-out text; 128 calibration sequences of 256 tokens, drawn anew for each seed."""
    bench = Bench(run, fast)
    slicings = (0.25,) if fast else SLICINGS
    # By basis and seed, the perplexity at every slicing.
    table = {
        basis: [
            [bench.perplexity(bench.sliced(s, basis=basis, seed=seed).model_) for s in slicings] for seed in bench.seeds
        ]
        for basis in ("pca", "axis", "random")
    }
    quarter = slicings.index(0.25)
    pca = [row[quarter] for row in table["pca"]]
    findings = [*_loss(bench, table["pca"], pca, slicings)]
    names = {"pca": "PCA", "axis": "deleting the coordinates of least energy", "random": "a random rotation"}
    for better, worse in (("pca", "axis"), ("axis", "random")):
        pairs = zip(table[better], table[worse], strict=True)
        findings.append(
            Finding(
                "rotation-needed",
                f"Perplexity of {names[better]} over that of {names[worse]}, at its worst level, paired by draw",
                "empirical",
                ratio_interval([largest(a / b for a, b in zip(*pair, strict=True)) for pair in pairs], unit=DRAWS),
                "<",
                1.0,
                baseline=statistics.mean(row[quarter] for row in table[worse]),
                baseline_name=f"{names[worse]}, 25 %, mean perplexity",
                detail=f"{names[worse]} by slicing, mean: {_by_slicing(table[worse], slicings)}",
            )
        )
    two_of_four = [_sparse(bench, seed) for seed in bench.seeds]
    variance, about = _by_variance(bench)
    single = [bench.perplexity(bench.sliced(0.25, seed=s, pca_dtype=torch.float32).model_) for s in bench.seeds]
    return [
        *findings,
        Finding(
            "against-2-4-sparsity",
            "Perplexity with a quarter of the hidden size cut over that of 2:4 sparsity by SparseGPT, paired by draw",
            "empirical",
            _ratio(pca, two_of_four),
            "<",
            1.0,
            baseline=statistics.mean(two_of_four),
            baseline_name="SparseGPT 2:4, mean perplexity",
            detail="same calibration; 2:4 halves the weights of the layers, and needs special kernels to gain from it",
        ),
        Finding(
            "variance-schedule",
            "Perplexity with widths by variance over that with one width, for a Llama architecture, paired by draw",
            "empirical",
            _ratio(variance, pca),
            ">",
            1.0,
            baseline=statistics.mean(pca),
            baseline_name="one width, mean perplexity",
            detail=about,
        ),
        Finding(
            "float64-pca",
            "Perplexity with the covariance and its eigenvectors in float32 over that in float64, paired by draw",
            "empirical",
            _ratio(single, pca),
            ">",
            1.0,
            baseline=statistics.mean(pca),
            baseline_name="float64, mean perplexity",
            detail="a hidden size of 256 sums far fewer products than the paper's 4,096 to 8,192",
        ),
    ]


def _ratio(left: Sequence[float], right: Sequence[float]) -> Interval:
    return ratio_interval([a / b for a, b in zip(left, right, strict=True)], unit=DRAWS)


def _by_slicing(rows: Sequence[Sequence[float]], slicings: Sequence[float]) -> str:
    means = (statistics.mean(column) for column in zip(*rows, strict=True))
    return ", ".join(f"{s:.4g}: {mean:.2f}" for s, mean in zip(slicings, means, strict=True))


def _loss(
    bench: Bench, rows: Sequence[Sequence[float]], quarter: Sequence[float], slicings: Sequence[float]
) -> list[Finding]:
    dense = bench.dense_perplexity
    rises = [min(b - a for a, b in itertools.pairwise([dense, *row])) for row in rows]
    return [
        Finding(
            "small-loss",
            "Perplexity with a quarter of the hidden size cut, over the dense model's",
            "empirical",
            ratio_interval([p / dense for p in quarter], unit=DRAWS),
            "<",
            1.1,
            baseline=dense,
            baseline_name="dense perplexity",
            detail=f"mean perplexity by slicing: {_by_slicing(rows, slicings)}",
        ),
        Finding(
            "small-loss",
            "Smallest rise of the perplexity from one slicing level to the next, of each draw",
            "empirical",
            mean_interval(rises, unit=DRAWS),
            ">",
            0,
            detail="0 would mean that a deeper cut does not cost",
        ),
    ]


def _sparse(bench: Bench, seed: int) -> float:
    """The perplexity of the bundled model with 2:4 sparsity in its layers."""
    model = copy.deepcopy(bench.dense)
    layers: Any = model.get_submodule("model.layers")
    batches = list(bench.calibration(8 if bench.fast else 128, seed).batches(16))
    sparsify_model(model, layers, batches, bench.run.progress)
    return bench.perplexity(model)


def _by_variance(bench: Bench) -> tuple[list[float], str]:
    """Perplexities with widths by the variance that each cut discards; and the sizes that they have.

    The share of each seed is the smallest, by bisection of its logarithm, whose model is no larger than that with a
    quarter of the hidden size cut.
    """
    target = predicted_parameters(bench.dense, 0.25)
    found, sizes = [], []
    for seed in bench.seeds:
        low, high = SHARES
        method = bench.sliced(schedule="variance", variance_discarded=high, seed=seed)
        for _ in range(2 if bench.fast else 6):
            share = math.sqrt(low * high)
            tried = bench.sliced(schedule="variance", variance_discarded=share, seed=seed)
            if tried.report_.parameters_after <= target:
                method, high = tried, share
            else:
                low = share
        found.append(bench.perplexity(method.model_))
        sizes.append(f"{method.report_.parameters_after:,} ({high:.2%} of the variance)")
    return found, f"parameters (share discarded at each cut): {', '.join(sizes)}; {target:,} allowed"
