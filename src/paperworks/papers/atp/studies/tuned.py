"""The bundled model, pruned while it is tuned, beside the rivals and without the method's parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval, ratio_interval
from paperworks.papers.atp.report import ATPReport
from paperworks.papers.atp.studies.bench import TITLE, bench
from paperworks.runs import Finding, largest


@runs.study(
    claims=["one-stage-beats-two-stage", "retained-performance", "reversible-decisions"],
    title=f"One stage against two, {TITLE}",
    minutes=60,
)
def stages(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """40% removed: ATP, the same search before the tuning, one-shot masks, and the dense model."""
    b = bench(run, fast)
    ours = b.perplexities()
    for masks, name in (
        ("before", "the same search before the tuning"),
        ("magnitude", "magnitude masks with LoRA"),
        ("random", "random masks with LoRA"),
    ):
        theirs = b.perplexities(masks)
        yield Finding(
            "one-stage-beats-two-stage",
            f"Domain perplexity over that of {name}; all tune for the same number of steps",
            "empirical",
            ratio_interval(np.array(ours) / np.array(theirs), unit="seeds"),
            "<=",
            1.0,
            baseline=float(np.mean(theirs)),
            baseline_name="mean perplexity of " + name,
            detail=f"by seed {_listed(ours)} against {_listed(theirs)}",
        )
    dense = b.perplexities("all")
    yield Finding(
        "retained-performance",
        "Perplexity of the tuned dense model over that of ATP",
        "empirical",
        ratio_interval(np.array(dense) / np.array(ours), unit="seeds"),
        ">=",
        0.88,
        baseline=float(np.mean(dense)),
        baseline_name="dense + LoRA, mean perplexity",
        detail="the paper's share is of task scores, this one of perplexity on the domain",
    )
    back, rigid = (
        np.array([b.pruned(seed, masks=masks)[0].returned_decided for seed in b.seeds])
        for masks in ("search", "before")
    )
    for statement, figures, other in (
        ("Units that the decision without noise left out, took in again later, and keeps in the end", back, None),
        ("The same, less those of the search before the tuning, in which no adapter learns", back - rigid, rigid),
    ):
        yield Finding(
            "reversible-decisions",
            statement,
            "empirical",
            mean_interval(figures),
            ">",
            0,
            baseline=None if other is None else float(other.mean()),
            baseline_name="adapters at rest",
            unit="units",
            detail=f"by seed {back.tolist()}; in the search before the tuning {rigid.tolist()}",
        )


@runs.study(claims=["ratio-control", "quality-against-sparsity"], title=f"Sizes, {TITLE}", minutes=45)
def sizes(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """30 to 60% removed."""
    b = bench(run, fast)
    ratios = (0.3, 0.4, 0.5, 0.6)
    fits = {ratio: [b.pruned(seed, ratio) for seed in b.seeds] for ratio in ratios}
    yield Finding(
        "ratio-control",
        "Largest gap between removed and requested share",
        "exact",
        largest(abs(report.remaining_share - (1 - ratio)) for ratio, found in fits.items() for report, _ in found),
        "<",
        0.01,
        unit="of the prunable parameters",
        detail="after the decision inside the exact budget",
    )
    yield Finding(
        "ratio-control",
        "R of the sampled masks, mean of the last 5 steps of the search",
        "empirical",
        mean_interval([float(np.mean(report.trajectory.ratio[-5:])) for report, _ in fits[0.4]]),
        "<",
        0.005,
        detail="before the exact decision; the paper searches far longer",
    )
    logs = np.log([[value for _, value in found] for found in fits.values()])
    first, last = logs[1] - logs[0], logs[3] - logs[2]
    yield Finding(
        "quality-against-sparsity",
        "Rise of log-perplexity from 50 to 60% removed, less that from 30 to 40%",
        "empirical",
        mean_interval(last - first),
        ">",
        0.0,
        baseline=float(first.mean()),
        baseline_name="rise from 30 to 40%",
        detail="mean perplexity by removed share: "
        + ", ".join(f"{ratio:.0%}: {math.exp(value):.2f}" for ratio, value in zip(ratios, logs.mean(1), strict=True)),
    )


@runs.study(claims=["direct-removal", "weight-stability"], title=f"Ablations, {TITLE}", minutes=45)
def ablations(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """40% removed: without the group penalty, and with the paper's other weights."""
    b = bench(run, fast)
    ours, base = [b.pruned(seed)[0] for seed in b.seeds], np.array(b.perplexities())
    without = [b.pruned(seed, beta=0.0, sparsity="none") for seed in b.seeds]
    changes, free = (np.array([_change(report) for report in reports]) for reports in (ours, [r for r, _ in without]))
    yield Finding(
        "direct-removal",
        "Change of the loss when adapters of pruned structures are emptied",
        "empirical",
        mean_interval(changes),
        "<",
        0.01,
        unit="nats",
        detail=f"perplexity {_listed(base)} with the penalty, {_listed([value for _, value in without])} without",
    )
    yield Finding(
        "direct-removal",
        "The same change, less that without the penalty",
        "empirical",
        mean_interval(changes - free),
        "<",
        0.0,
        baseline=float(free.mean()),
        baseline_name="without the penalty",
        unit="nats",
    )
    yield Finding(
        "direct-removal",
        "Largest change of a logit by the cut, bundled model",
        "exact",
        largest(report.masked_against_cut for report in ours),
        "<",
        1e-3,
        detail="float32 logits of the merged, smaller model",
    )
    others: tuple[tuple[str, dict[str, Any]], ...] = (("(10, 0.3)", {"alpha": 10.0}), ("(5, 0.1)", {"beta": 0.1}))
    for name, more in others:
        yield Finding(
            "weight-stability",
            f"Perplexity with (alpha, beta) = {name} over that with (5, 0.3): within 5% of 1",
            "empirical",
            ratio_interval(np.array(b.perplexities(**more)) / base, unit="seeds"),
            "==",
            1.0,
            tolerance=0.05,
            baseline=float(base.mean()),
            baseline_name="mean perplexity with (5, 0.3)",
        )


def _change(report: ATPReport) -> float:
    return abs(report.loss_after_zeroing - report.loss_before_zeroing)


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
