"""E2 to E6 and E8: the pairs of contrasts on handwritten digits, three seeds (five for masks of other classes)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.pruning_survey.bench import Row
from paperworks.papers.pruning_survey.contrasts import accuracies
from paperworks.papers.pruning_survey.studies.benches import (
    digits_bench,
    finding,
    rows_of,
    said,
    seeds_of,
)
from paperworks.runs import Finding, Run

RATIOS = (0.8, 0.95)


@runs.study(
    claims=["unstructured-beats-structured", "local-against-global"],
    title="Digits: single weights and channels, ranked by layer and over the network",
    minutes=4,
)
def units(run: Run, fast: bool) -> Iterator[Finding]:
    """Equal parameters left, 15 epochs, 15 of recovery, two ratios."""
    bench = digits_bench(run, fast)
    seeds = seeds_of(fast)
    ratios = (0.8,) if fast else RATIOS
    rows: list[Row] = []
    for ratio in ratios:
        rows += rows_of(bench, "local-vs-global", ratio, seeds)
    for ratio in ratios:
        if ratio >= 0.8:
            yield finding(
                "unstructured-beats-structured", rows, "weights, global", "units, global, equal parameters", ratio
            )
    for ratio in [r for r in ratios if r >= 0.8][-2:]:
        yield finding(
            "local-against-global",
            rows,
            "units, global, equal parameters",
            "units, local, equal parameters",
            ratio,
            detail=said(rows, ["weights, global", "weights, local"], ratio),
        )
        yield finding("local-against-global", rows, "units, local, equal MACs", "units, global, equal MACs", ratio)
    half = rows_of(bench, "unstructured-vs-structured", 0.5, seeds, ("weights", "N:8", "units"))
    yield finding("unstructured-beats-structured", half, "N:8", "units", 0.5, detail=said(half, ["weights"], 0.5))


@runs.study(
    claims=["iterative-beats-one-shot", "layer-collapse", "data-free-against-data-driven"],
    title="Digits: at once or in steps, with and without examples",
    minutes=4,
)
def schedules(run: Run, fast: bool) -> Iterator[Finding]:
    """98 % and 95 % of the weights removed; 15 epochs, and 15 after; untrained networks are trained for 15."""
    bench = digits_bench(run, fast)
    seeds = seeds_of(fast)
    rows = rows_of(bench, "one-shot-vs-iterative", 0.98, seeds)
    yield finding(
        "iterative-beats-one-shot", rows, "gradual", "one-shot", 0.98, 0.2, detail=said(rows, ["random"], 0.98)
    )
    yield finding("layer-collapse", rows, "SynFlow in 100 steps, untrained", "SynFlow in 1 step, untrained", 0.98, 0.3)
    names = ("random", "SynFlow", "SNIP, 128 examples")
    free = rows_of(bench, "data-free-vs-data-driven", 0.95, seeds, names)
    yield finding("data-free-against-data-driven", free, "SynFlow", "SNIP, 128 examples", 0.95)
    yield finding("data-free-against-data-driven", free, "SynFlow", "random", 0.95)


@runs.study(
    claims=["after-training-beats-before", "finetune-beats-scratch", "lottery-ticket", "distillation-recovers-more"],
    title="Digits: before or after training, and what inherited weights are worth",
    minutes=4,
)
def inheritance(run: Run, fast: bool) -> Iterator[Finding]:
    """95 % of the weights removed; 80 % of the parameters in channels; 15 epochs, and 15 after."""
    bench = digits_bench(run, fast)
    seeds = seeds_of(fast)
    claim = "after-training-beats-before"
    rows = rows_of(bench, "initialised-vs-pretrained", 0.95, seeds)
    yield finding(claim, rows, "after training", "before training", 0.95)
    yield finding(claim, rows, "after training", "random mask", 0.95, 0.3)
    yield finding(claim, rows, "before training", "random mask", 0.95, 0.3)
    names = ("inherited weights", "same mask, new weights")
    scratch = rows_of(bench, "scratch-vs-finetune", 0.95, seeds, names)
    yield finding("finetune-beats-scratch", scratch, *names, 0.95)
    cuts = rows_of(
        bench, "scratch-vs-finetune", 0.8, seeds, ("units, inherited", "units, distilled", "units, new weights")
    )
    yield finding("finetune-beats-scratch", cuts, "units, inherited", "units, new weights", 0.8)
    yield finding("distillation-recovers-more", cuts, "units, distilled", "units, inherited", 0.8)
    tickets = rows_of(bench, "lottery-ticket", 0.95, seeds)
    yield finding("lottery-ticket", tickets, "rewound", "new initial weights", 0.95, 0.3)
    dense = dict(zip(seeds, bench.dense_accuracy(seeds), strict=True))
    rewound = accuracies(tickets, "rewound", 0.95)
    yield Finding(
        "lottery-ticket",
        "95% removed: the rewound network, less the dense one: at least -0.05",
        "empirical",
        mean_interval([rewound[s] - dense[s] for s in seeds]),
        ">=",
        -0.05,
        baseline=float(np.mean(list(dense.values()))),
        baseline_name="dense",
        unit="accuracy",
    )


@runs.study(claims=["mask-transfer"], title="Digits: masks of 0 to 4 for 5 to 9", minutes=2)
def transfer(run: Run, fast: bool) -> Iterator[Finding]:
    """95 % of the weights removed in 5 rounds; five seeds; 15 epochs from the same initial weights."""
    bench = digits_bench(run, fast)
    rows = rows_of(bench, "original-vs-transfer", 0.95, seeds_of(fast, 5))
    yield finding("mask-transfer", rows, "native mask", "transferred mask", 0.95)
    yield finding("mask-transfer", rows, "transferred mask", "random mask", 0.95)


@runs.study(claims=["static-against-dynamic"], title="Digits: channels cut once, or chosen for each input", minutes=1.5)
def runtime(run: Run, fast: bool) -> Iterator[Finding]:
    """Half of the multiply-accumulates on average; 15 epochs after."""
    bench = digits_bench(run, fast)
    rows = rows_of(bench, "static-vs-dynamic", 0.5, seeds_of(fast))
    dynamic = [r for r in rows if r.variant == "dynamic channels"]
    used = f"dynamic MACs {np.mean([r.macs for r in dynamic]):.3f} of dense"
    low = finding("static-against-dynamic", rows, "dynamic channels", "static channels", 0.5, -0.02, detail=used)
    yield low
    yield finding("static-against-dynamic", rows, "static channels", "dynamic channels", 0.5, -0.02)
    spans = [_span(r.note) for r in dynamic]
    yield Finding(
        "static-against-dynamic",
        "the most that an input uses, less the least, as a share of the dense multiply-accumulates: more than 0",
        "empirical",
        mean_interval(spans),
        ">",
        0.0,
        detail=dynamic[0].note,
        deterministic="",
    )


def _span(note: str) -> float:
    low, _, high = note.removeprefix("MACs by input: ").partition(" to ")
    return float(high) - float(low)
