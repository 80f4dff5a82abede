"""Adapt-Accel: pruning and training by turns, beside pruning first, and beside training from scratch."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from paperworks import runs
from paperworks.metrics import Interval, ratio_interval
from paperworks.papers.adapt_pruner.accel import AdaptAccel
from paperworks.papers.adapt_pruner.method import training
from paperworks.papers.adapt_pruner.pruner import AdaptPruner
from paperworks.papers.adapt_pruner.settings import Part
from paperworks.papers.adapt_pruner.studies.bench import Bench
from paperworks.runs import Finding
from paperworks.training import train

STEPS = 400
LONGER = 5
"""A training from scratch of this many times the steps stands beside the tenth of them after pruning."""
STAGES = 8
SHARE = 0.5
BATCH = 8
RATE = 2e-4
SCRATCH_RATES = (1e-3, 3e-3)


@runs.study(
    claims=["interleaving-beats-one-shot"],
    title=f"The bundled model at half of its layers: {STAGES} stages, {STEPS} steps of 8 x 64 tokens, 3 seeds",
    minutes=40,
)
def interleaving(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The same stream of data, schedule and number of steps for all; 16 calibration sequences per pruning step."""
    bench = Bench(run, fast)
    steps, stages, share = _sizes(fast)
    choices: dict[str, tuple[Part, ...]] = {"both": ("attention", "mlp"), "narrow": ("mlp",)}
    found = {
        (name, n): [
            bench.perplexity(accelerated(bench, n, steps, seed, share, parts=parts)) for seed in range(_seeds(fast))
        ]
        for name, parts in choices.items()
        for n in (stages, 1)
    }
    moments = bench.perplexity(accelerated(bench, stages, steps, 0, share, reset_optimizer=False))
    dense = bench.perplexity(bench.dense)

    def listed(name: str) -> str:
        return f"interleaved {_row(found[name, stages])}; one-shot {_row(found[name, 1])}"

    return [
        Finding(
            "interleaving-beats-one-shot",
            f"Perplexity of {stages} stages of pruning and training over that of pruning first and training as long, "
            "paired by seed",
            "empirical",
            _ratio(found["both", stages], found["both", 1]),
            "<=",
            1.0,
            baseline=statistics.mean(found["both", 1]),
            baseline_name="prune once, then train, mean perplexity",
            detail=f"dense {dense:.2f}; {listed('both')}; with the optimiser's moments kept over the stages "
            f"{moments:.2f} (seed 0). The final shape is trained for the last stage's share of the {steps} steps only, "
            "after one-shot pruning for all of them; and S starts at 0 in every stage, so that few key-value groups go "
            "and the channels give the rest",
        ),
        Finding(
            "interleaving-beats-one-shot",
            "The same where only feed-forward channels go, so that both lose the same parts",
            "empirical",
            _ratio(found["narrow", stages], found["narrow", 1]),
            "<=",
            1.0,
            baseline=statistics.mean(found["narrow", 1]),
            baseline_name="prune once, then train, mean perplexity",
            detail=listed("narrow"),
        ),
    ]


@runs.study(
    claims=["fewer-tokens-than-pretraining"],
    title=f"The bundled model at half of its layers beside a new one of that shape, {STEPS} x 512 tokens, 3 seeds",
    minutes=35,
)
def pretraining(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """New models have the better of two rates for themselves, by the first seed and the shorter training."""
    bench = Bench(run, fast)
    steps, stages, share = _sizes(fast)
    few, many = max(1, steps // 10), LONGER * steps
    pruned: dict[int, list[float]] = {steps: [], few: []}
    scratch: dict[int, list[float]] = {steps: [], many: []}
    tried: dict[float, float] = {}
    for seed in range(_seeds(fast)):
        model = accelerated(bench, stages, steps, seed, share)
        pruned[steps].append(bench.perplexity(model))
        pruned[few].append(bench.perplexity(accelerated(bench, min(stages, 4), few, seed, share)))
        if not tried:
            tried = {rate: bench.perplexity(_scratch(bench, model, steps, rate, seed)) for rate in SCRATCH_RATES}
        best = min(tried, key=tried.__getitem__)
        scratch[steps].append(bench.perplexity(_scratch(bench, model, steps, best, seed)) if seed else tried[best])
        scratch[many].append(bench.perplexity(_scratch(bench, model, many, best, seed)))
    rates = ", ".join(f"{value:.1f} at {rate:g}" for rate, value in tried.items())
    return [
        Finding(
            "fewer-tokens-than-pretraining",
            f"Perplexity after interleaved pruning with {ours} training steps, over that of a new model of the same "
            f"shape trained for {theirs}, paired by seed",
            "empirical",
            _ratio(pruned[ours], scratch[theirs]),
            "<",
            1.0,
            baseline=statistics.mean(scratch[theirs]),
            baseline_name=f"from scratch, {theirs} steps, mean perplexity",
            detail=f"{_row(pruned[ours])}; from scratch {_row(scratch[theirs])}; rates tried with {steps} steps: "
            f"{rates}; steps of {BATCH * 64} tokens of the same text",
        )
        for ours, theirs in ((steps, steps), (few, steps), (few, many))
    ]


def _seeds(fast: bool) -> int:
    return 2 if fast else 3


def _ratio(left: Sequence[float], right: Sequence[float]) -> Interval:
    return ratio_interval([a / b for a, b in zip(left, right, strict=True)], unit="seeds")


def _row(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _sizes(fast: bool) -> tuple[int, int, float]:
    return (3, 2, 0.04) if fast else (STEPS, STAGES, SHARE)


def accelerated(
    bench: Bench,
    stages: int,
    steps: int,
    seed: int,
    share: float,
    *,
    parts: Sequence[Part] = ("attention", "mlp"),
    **options: Any,
) -> Any:
    """The bundled model after Adapt-Accel; one stage is pruning first and training then."""
    model = copy.deepcopy(bench.dense)
    pruner = AdaptPruner(bench.target(share), examples=2 if bench.fast else 16, seed=seed, prune=parts)
    settings = training(steps, BATCH, RATE, seed, "cpu")
    AdaptAccel(pruner, stages, train_steps=steps, settings=settings, **options).fit(
        model, bench.pool, progress=bench.run.progress
    )
    return model


def _scratch(bench: Bench, shape: Any, steps: int, rate: float, seed: int) -> Any:
    """A model of the widths of ``shape`` with new weights, trained on the same data."""
    model = copy.deepcopy(shape)
    deviation = float(model.config.initializer_range)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.fill_(1.0)  # gains: a Llama has no biases
    settings = replace(
        training(steps, BATCH, rate, seed, "cpu"), steps=steps, warmup_steps=round(0.05 * steps), checkpoint_every=0
    )
    train(model, bench.pool, settings, progress=bench.run.progress)
    return model
