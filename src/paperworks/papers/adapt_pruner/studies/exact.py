"""What must hold anywhere: surgery is masking, increments average to the budget, a useless layer goes first."""

from __future__ import annotations

import copy
import statistics
from typing import Any

import torch

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.adapt_pruner.pruner import AdaptPruner
from paperworks.papers.adapt_pruner.studies.bench import Bench, random_models, random_tokens
from paperworks.runs import Finding, largest, smallest
from paperworks.structure import masked
from paperworks.structure.units import family_of

AMPLITUDE = 0.03
"""Below R/T = 0.05, so that no increment is cut at 0."""


@runs.study(
    claims=["surgery-equals-masking", "mean-increment-is-the-budget", "useless-layer-is-found"],
    title="Exact properties on random models of five families, and a useless layer in the bundled one",
    minutes=1,
)
def exact_properties(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Five families, 4 layers of 64 dimensions; the bundled model with a layer put in that adds nothing."""
    tokens = random_tokens()
    surgery: dict[str, float] = {}
    mean, outside, counted = 0.0, 0.0, 0
    for name, model in random_models().items():
        pruner = AdaptPruner(ratio=0.4, steps=8, amplitude=AMPLITUDE, examples=8, seed=0)
        cut = copy.deepcopy(model)
        report = pruner.fit(cut, tokens).report_
        with torch.no_grad():
            with masked(model, pruner.plan_.masks()):
                wanted = model(tokens).logits
            found = cut(tokens).logits
        surgery[name] = float((found - wanted).abs().max() / wanted.abs().max())
        before = torch.zeros(len(report.ffn), dtype=torch.float64)
        for step in report.steps:
            now = torch.tensor(step.sparsity, dtype=torch.float64)
            rise = now - before
            if float(now.min()) > 0 and float(now.max()) < 0.99:  # nothing was clipped
                counted += 1
                mean = largest((mean, abs(float(rise.mean()) - 0.4 / 8)))
                outside = largest((outside, float((rise - 0.4 / 8).abs().max()) - AMPLITUDE))
            before = now
    if not counted:
        raise RuntimeError("every step was clipped: nothing was checked")
    worst = max(surgery, key=lambda name: surgery[name])
    findings = [
        Finding(
            "surgery-equals-masking",
            "Largest difference of the logits between cut and masked model, relative",
            "exact",
            surgery[worst],
            "<=",
            1e-5,
            detail=f"float32, 8 steps to 40 %; worst: {worst}; groups of 1 (GPT-2, OPT), 2 (Llama, Qwen3) and 4 heads",
        ),
        Finding(
            "mean-increment-is-the-budget",
            "Largest distance of a step's mean increment from R/T, nothing clipped",
            "exact",
            mean,
            "<=",
            1e-12,
            detail=f"R = 0.4, T = 8, A = {AMPLITUDE}, five families, {counted} steps",
        ),
        Finding(
            "mean-increment-is-the-budget",
            "Largest excess of an increment over R/T - A ... R/T + A",
            "exact",
            outside,
            "<=",
            1e-12,
            detail=f"amplitude {AMPLITUDE}",
        ),
    ]
    return findings + _useless_layer(Bench(run, fast))


def _useless_layer(bench: Bench) -> list[runs.Finding]:
    model, place = with_useless_layer(bench.dense), 3
    above, next_highest, cosines, normalised = [], [], [], []
    for seed in range(2 if bench.fast else 3):
        pruner = AdaptPruner(ratio=0.08, steps=4, examples=8 if bench.fast else 24, seed=seed)
        report = pruner.fit(copy.deepcopy(model), bench.pool).report_
        last = report.steps[-1]
        next_highest.append(max(s for i, s in enumerate(last.sparsity) if i != place))
        above.append(last.sparsity[place] - next_highest[-1])
        cosines.append(-report.steps[0].importance[place])
        normalised.append(last.normalised[place])
    only = copy.deepcopy(model)
    alone = AdaptPruner(ratio=0.9, steps=2, amplitude=0.0, layers=[place], examples=4, seed=0)
    alone.fit(only, bench.pool)
    before, after = bench.perplexity(model), bench.perplexity(only)
    groups, ffn = alone.report_.steps[-1].kv_groups[place], alone.report_.steps[-1].ffn[place]  # type: ignore[union-attr]
    return [
        Finding(
            "useless-layer-is-found",
            "Cosine of the useless layer's input and output, the least of the seeds",
            "exact",
            smallest(cosines),
            "==",
            1.0,
            tolerance=1e-6,
            detail="a copy of layer 2 behind it, with its o and down matrices at zero",
        ),
        Finding(
            "useless-layer-is-found",
            "Its sparsity after 4 steps, less the highest of the other layers",
            "empirical",
            mean_interval(above),
            ">",
            0.0,
            baseline=statistics.mean(next_highest),
            baseline_name="next highest sparsity",
            detail=f"its normalised importance is {', '.join(f'{n:.3f}' for n in normalised)} (layer 0 alone sets the "
            "scale: -1 needs an importance without that outlier)",
        ),
        Finding(
            "useless-layer-is-found",
            "Perplexity with only this layer pruned, over that before",
            "exact",
            after / before,
            "==",
            1.0,
            tolerance=1e-5,
            detail=f"{groups} of 4 key-value groups and {ffn} of 640 channels are left in it",
        ),
    ]


def with_useless_layer(dense: Any, place: int = 3) -> Any:
    """A copy with one more layer at ``place``, whose blocks add nothing to the stream."""
    model = copy.deepcopy(dense)
    family = family_of(model)
    layers = model.get_submodule(family.layers)
    layer = copy.deepcopy(layers[place - 1])
    with torch.no_grad():
        for path in (family.attention.outputs[0], family.feed_forward.outputs[0]):
            layer.get_submodule(path).weight.zero_()
    layers.insert(place, layer)
    for number, module in enumerate(layers):
        module.get_submodule(family.core).layer_idx = number
    model.config.num_hidden_layers = len(layers)
    return model
