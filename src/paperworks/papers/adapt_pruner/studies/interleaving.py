"""Adapt-Accel: pruning and training by turns, beside pruning first, and beside training from scratch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from paperworks import runs
from paperworks.papers.adapt_pruner.accel import AdaptAccel
from paperworks.papers.adapt_pruner.method import training
from paperworks.papers.adapt_pruner.pruner import AdaptPruner
from paperworks.papers.adapt_pruner.settings import Part
from paperworks.papers.adapt_pruner.studies.bench import Bench
from paperworks.runs import Finding
from paperworks.training import train

STEPS = 160
STAGES = 8
SHARE = 0.5
BATCH = 8
RATE = 2e-4
SCRATCH_RATES = (1e-3, 3e-3)


@runs.study(
    claims=["interleaving-beats-one-shot"],
    title=f"The bundled model at half of its layers: {STAGES} stages, {STEPS} steps of 8 x 64 tokens, 3 seeds",
    minutes=15,
)
def interleaving(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The same stream of data, schedule and number of steps for all; 16 calibration sequences per pruning step."""
    bench = Bench(run, fast)
    steps, stages, share = _sizes(fast)
    interleaved, one_shot = [], []
    for seed in range(1 if fast else 3):
        interleaved.append(bench.perplexity(accelerated(bench, stages, steps, seed, share)))
        one_shot.append(bench.perplexity(accelerated(bench, 1, steps, seed, share)))
    narrow = [bench.perplexity(accelerated(bench, n, steps, 0, share, parts=("mlp",))) for n in (stages, 1)]
    moments = bench.perplexity(accelerated(bench, stages, steps, 0, share, reset_optimizer=False))
    mean = [sum(row) / len(row) for row in (interleaved, one_shot)]
    dense = bench.perplexity(bench.dense)
    both = "; ".join(
        f"{name} {', '.join(f'{p:.2f}' for p in row)}"
        for name, row in (("interleaved", interleaved), ("one-shot", one_shot))
    )
    return [
        Finding(
            "interleaving-beats-one-shot",
            f"Mean perplexity of {stages} stages of pruning and training, against pruning first and training as long",
            "empirical",
            mean[0],
            "<=",
            mean[1],
            baseline=mean[1],
            baseline_name="prune once, then train",
            detail=f"dense {dense:.2f}; {both}; with the optimiser's moments kept over the stages {moments:.2f} "
            f"(seed 0). The final shape is trained for the last stage's share of the {steps} steps only, after "
            "one-shot pruning for all of them; and S starts at 0 in every stage, so that few key-value groups go and "
            "the channels give the rest",
        ),
        Finding(
            "interleaving-beats-one-shot",
            "The same where only feed-forward channels go, so that both lose the same parts (seed 0)",
            "empirical",
            narrow[0],
            "<=",
            narrow[1],
            baseline=narrow[1],
            baseline_name="prune once, then train",
        ),
    ]


@runs.study(
    claims=["fewer-tokens-than-pretraining"],
    title=f"The bundled model at half of its layers beside a new model of the same shape, {STEPS} x 512 tokens",
    minutes=4,
)
def pretraining(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """One seed; the new model has the better of two rates for itself."""
    bench = Bench(run, fast)
    steps, stages, share = _sizes(fast)
    model = accelerated(bench, stages, steps, 0, share)
    pruned = bench.perplexity(model)
    found = {rate: bench.perplexity(_scratch(bench, model, steps, rate)) for rate in SCRATCH_RATES}
    scratch = min(found.values())
    tenth = bench.perplexity(accelerated(bench, min(stages, 4), max(1, steps // 10), 0, share))
    rates = ", ".join(f"{value:.1f} at {rate:g}" for rate, value in found.items())
    return [
        Finding(
            "fewer-tokens-than-pretraining",
            "Perplexity after interleaved pruning, against a new model of the same shape trained for as many steps",
            "empirical",
            pruned,
            "<",
            scratch,
            baseline=scratch,
            baseline_name="from scratch",
            detail=f"{steps} steps of {BATCH * 64} tokens; from scratch {rates}",
        ),
        Finding(
            "fewer-tokens-than-pretraining",
            "Perplexity with a tenth of the training steps, against a new model of the shape with all of them",
            "empirical",
            tenth,
            "<",
            scratch,
            baseline=scratch,
            baseline_name="from scratch",
            detail=f"{max(1, steps // 10)} steps against {steps}; a factor of 200 cannot be shown with so short a "
            "training from scratch",
        ),
    ]


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


def _scratch(bench: Bench, shape: Any, steps: int, rate: float) -> Any:
    """A model of the widths of ``shape`` with new weights, trained on the same data."""
    model = copy.deepcopy(shape)
    deviation = float(model.config.initializer_range)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.fill_(1.0)  # gains: a Llama has no biases
    settings = replace(
        training(steps, BATCH, rate, 0, "cpu"), steps=steps, warmup_steps=round(0.05 * steps), checkpoint_every=0
    )
    train(model, bench.pool, settings, progress=bench.run.progress)
    return model
