"""What slicing costs in perplexity, on the bundled language model, beside the baselines of the paper."""

from __future__ import annotations

import copy
from typing import Any

import torch

from paperworks import runs
from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.papers.slicegpt.sparsegpt import sparsify_model
from paperworks.papers.slicegpt.studies.bench import SLICINGS, Bench
from paperworks.papers.slicegpt.widths import predicted_parameters
from paperworks.runs import Finding


@runs.study(
    claims=["small-loss", "rotation-needed", "against-2-4-sparsity", "variance-schedule", "float64-pca"],
    title="Perplexity by slicing, basis and schedule",
    minutes=6,
)
def perplexities(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The bundled model on its held-out text; 128 calibration sequences of 256 tokens."""
    bench = Bench(run, fast)
    dense = bench.dense_perplexity
    slicings = (0.25,) if fast else SLICINGS
    table: dict[str, list[float]] = {}
    for basis in ("pca", "axis", "random"):
        table[basis] = [bench.perplexity(bench.sliced(s, basis=basis).model_) for s in slicings]
    quarter = slicings.index(0.25)
    pca, axis, random = (table[b][quarter] for b in ("pca", "axis", "random"))
    levels = ", ".join(f"{s:.4g}: {p:.2f}" for s, p in zip(slicings, table["pca"], strict=True))
    steps = [b - a for a, b in zip([dense, *table["pca"]], table["pca"], strict=False)]
    findings = [
        Finding(
            "small-loss",
            "Perplexity with a quarter of the hidden size cut, over the dense model's",
            "empirical",
            pca / dense,
            "<",
            1.1,
            baseline=dense,
            baseline_name="dense perplexity",
            detail=f"perplexity by slicing: {levels}",
        ),
        Finding(
            "small-loss",
            "Smallest rise of the perplexity from one slicing level to the next",
            "empirical",
            min(steps),
            ">",
            0,
            detail="0 would mean that a deeper cut does not cost",
        ),
        Finding(
            "rotation-needed",
            "Perplexity of PCA over that of deleting the coordinates of least energy, at its worst level",
            "empirical",
            max(p / a for p, a in zip(table["pca"], table["axis"], strict=True)),
            "<",
            1.0,
            baseline=axis,
            baseline_name="axis-aligned, 25 %",
            detail="axis-aligned by slicing: "
            + ", ".join(f"{s:.4g}: {p:.1f}" for s, p in zip(slicings, table["axis"], strict=True)),
        ),
        Finding(
            "rotation-needed",
            "Perplexity of axis-aligned deletion over that of a random rotation, at its worst level",
            "empirical",
            max(a / r for a, r in zip(table["axis"], table["random"], strict=True)),
            "<",
            1.0,
            baseline=random,
            baseline_name="random rotation, 25 %",
            detail="random by slicing: "
            + ", ".join(f"{s:.4g}: {p:.1f}" for s, p in zip(slicings, table["random"], strict=True)),
        ),
    ]
    sparse = copy.deepcopy(bench.dense)
    batches = list(bench.calibration(8 if fast else 128).batches(16))
    layers: Any = sparse.get_submodule("model.layers")
    sparsify_model(sparse, layers, batches, run.progress)
    two_of_four = bench.perplexity(sparse)
    findings.append(
        Finding(
            "against-2-4-sparsity",
            "Perplexity with a quarter of the hidden size cut, against 2:4 sparsity by SparseGPT",
            "empirical",
            pca,
            "<",
            two_of_four,
            baseline=two_of_four,
            baseline_name="SparseGPT 2:4",
            detail="same calibration; 2:4 halves the weights of the layers, and needs special kernels to gain from it",
        )
    )
    findings += _variance(bench, pca)
    return [*findings, _float32(bench, pca)]


def _variance(bench: Bench, constant: float) -> list[runs.Finding]:
    """Widths by discarded variance, at the largest share that needs no more parameters than the constant quarter."""
    target = predicted_parameters(bench.dense, 0.25)
    low, high = 0.0, 0.5
    best: SliceGPT | None = None
    for _ in range(3 if bench.fast else 7):
        share = (low + high) / 2
        method = bench.sliced(schedule="variance", variance_discarded=share, n=64)
        if method.report_.parameters_after <= target:
            best, high = method, share
        else:
            low = share
    if best is None:
        best, high = bench.sliced(schedule="variance", variance_discarded=high), high
    else:
        best = bench.sliced(schedule="variance", variance_discarded=high)
    return [
        Finding(
            "variance-schedule",
            "Perplexity with widths by variance, against one width, for a Llama architecture",
            "empirical",
            bench.perplexity(best.model_),
            ">",
            constant,
            baseline=constant,
            baseline_name="one width",
            detail=f"{best.report_.parameters_after:,} parameters against {target:,}; {high:.3%} of the variance "
            "is discarded at each cut; the gain for OPT is not tested: no trained OPT can be had here",
        )
    ]


def _float32(bench: Bench, float64: float) -> runs.Finding:
    method = bench.sliced(0.25, pca_dtype=torch.float32)
    found = bench.perplexity(method.model_)
    return Finding(
        "float64-pca",
        "Perplexity with the covariance and its eigenvectors in float32, over float64",
        "empirical",
        found / float64,
        ">",
        1.0,
        baseline=float64,
        baseline_name="float64",
        detail=f"float32: {found:.4f}; a hidden size of 256 sums far fewer products than the paper's 4,096 to 8,192",
    )
