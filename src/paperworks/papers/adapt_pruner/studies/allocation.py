"""Layers' shares and units' ranks: adaptive beside uniform and reversed, Taylor beside norm and chance."""

from __future__ import annotations

import copy
from typing import Any

import torch

from paperworks import runs
from paperworks.metrics import Interval, mean_interval
from paperworks.papers.adapt_pruner.calibration import FreshBatches
from paperworks.papers.adapt_pruner.importance import measure
from paperworks.papers.adapt_pruner.settings import sets_to_prune
from paperworks.papers.adapt_pruner.studies.bench import Bench
from paperworks.runs import Finding
from paperworks.structure import LayerChange, prune, solve_ratio
from paperworks.structure.budgets import uniform_plan

SHARE = 0.2


@runs.study(
    claims=["adaptive-beats-uniform", "taylor-beats-magnitude", "beats-other-pruners"],
    title="Perplexity of the bundled model with 20 % of its layers' parameters gone, 3 seeds, 24 x 64 tokens per step",
    minutes=5,
)
def allocation(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """No training. All models have the same number of parameters, to one unit."""
    bench = Bench(run, fast)
    seeds = range(2 if fast else 3)
    share = 0.04 if fast else SHARE
    options: dict[str, dict[str, Any]] = {
        "adaptive": {},
        "uniform": {"amplitude": 0.0},
        "reversed": {"layer_importance": reversed_cosine},
    }
    found: dict[str, list[float]] = {}
    widths = ""
    for parts in ("mlp", "both"):
        chosen = ("mlp",) if parts == "mlp" else ("attention", "mlp")
        for name, more in options.items():
            row = found[f"{name}, {parts}"] = []
            for seed in seeds:
                pruner = bench.pruned(share, seed=seed, prune=chosen, **more)
                row.append(bench.perplexity(pruner.model_))
                if name == "adaptive" and parts == "both":
                    last = pruner.report_.steps[-1]
                    widths = f"FFN widths {last.ffn}, key-value groups {last.kv_groups} of the adaptive model"
    for ranker in ("l2", "random"):
        found[ranker] = []
        for seed in seeds:
            pruner = bench.pruned(share, seed=seed, amplitude=0.0, unit_importance=ranker)
            found[ranker].append(bench.perplexity(pruner.model_))
    found["one-shot"] = [_one_shot(bench, share, seed) for seed in seeds]
    mean = {name: sum(row) / len(row) for name, row in found.items()}
    dense = bench.perplexity(bench.dense)

    def ratio(left: str, right: str) -> Interval:
        """Of the perplexities with the same seed: the whole interval must be below 1."""
        return mean_interval([a / b for a, b in zip(found[left], found[right], strict=True)])

    def shown(*names: str) -> str:
        return f"dense {dense:.2f}; " + "; ".join(
            f"{n} {', '.join(f'{value:.2f}' for value in found[n])}" for n in names
        )

    findings = []
    for parts, words in (("mlp", "feed-forward channels only"), ("both", "channels and key-value groups")):
        three = tuple(f"{name}, {parts}" for name in options)
        for left, right in ((0, 1), (1, 2)):
            findings.append(
                Finding(
                    "adaptive-beats-uniform",
                    f"Perplexity of {three[left].split(',')[0]} over {three[right].split(',')[0]} sparsity, "
                    f"paired by seed, {words}",
                    "empirical",
                    ratio(three[left], three[right]),
                    "<",
                    1.0,
                    baseline=mean[three[right]],
                    baseline_name=f"{three[right].split(',')[0]}, mean perplexity",
                    detail=shown(*three) + (f". {widths}" if parts == "both" else ""),
                )
            )
    for ranker, name in (("l2", "L2 norm"), ("random", "chance")):
        findings.append(
            Finding(
                "taylor-beats-magnitude",
                f"Perplexity of Taylor ranking over ranking by {name}, uniform sparsity, paired by seed",
                "empirical",
                ratio("uniform, both", ranker),
                "<",
                1.0,
                baseline=mean[ranker],
                baseline_name=f"{name}, mean perplexity",
                detail=shown("uniform, both", ranker),
            )
        )
    findings.append(
        Finding(
            "beats-other-pruners",
            "Perplexity of Adapt-Pruner over uniform Taylor pruning in one shot (LLM-Pruner's), paired by seed",
            "empirical",
            ratio("adaptive, both", "one-shot"),
            "<",
            1.0,
            baseline=mean["one-shot"],
            baseline_name="uniform Taylor in one shot, mean perplexity",
            detail=shown("adaptive, both", "one-shot") + ". Perplexity in place of commonsense accuracy; FLAP and "
            "SliceGPT are beside it in compare-methods",
        )
    )
    return findings


def reversed_cosine(model: Any, batches: Any) -> torch.Tensor:
    """The mean cosine itself: layers that change the stream most are pruned most."""
    with LayerChange(model) as change, torch.no_grad():
        for batch in batches:
            change.set_mask(batch["attention_mask"])
            model(**batch, use_cache=False)
    return -change.importance()


def _one_shot(bench: Bench, share: float, seed: int) -> float:
    model = copy.deepcopy(bench.dense)
    units = sets_to_prune(model, ("attention", "mlp"), None)
    batches = FreshBatches(bench.pool, examples=4 if bench.fast else 24, seed=seed)
    scores = measure(model, units, batches(1), generator=torch.Generator().manual_seed(seed)).units
    _, plan = solve_ratio(model, lambda kept: uniform_plan(units, scores, kept), bench.target(share))
    return bench.perplexity(prune(model, plan))
