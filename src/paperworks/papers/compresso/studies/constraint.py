"""Whether the target is reached, and what the layers make of it."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch

from paperworks import runs
from paperworks.metrics import bootstrap_interval, mean_interval
from paperworks.papers.compresso.studies.bench import Bench
from paperworks.runs import Finding, largest

PAPER_SIZES = (0.207, 0.268, 0.346)


@runs.study(
    claims=["constraint-is-met", "layer-ratios-are-learned"],
    title="The constraint, with the paper's rates: 600 steps of 8 x 64 tokens on feed-forward channels, 3 seeds",
    minutes=9,
)
def constraint(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """40 % of the channels of the bundled model, mask rate 0.1, both multipliers at that rate, warm-up over half."""
    bench = Bench(run, fast)
    seeds = range(2 if fast else 3)
    reports = [
        bench.fitted(
            (40, 560, 0), target_sparsity=0.4, units=("ffn",), mask_rate=0.1, penalty_factor=1.0, seed=seed
        ).report_
        for seed in seeds
    ]
    report, target = reports[0], reports[0].target_sparsity
    swing = max((step.sparsity for step in report.course), default=0.0)
    shares = [[n / m for n, m in zip(r.channels, r.channels_before, strict=True)] for r in reports]
    dead = [_with_dead_layer(bench, seed) for seed in seeds]
    inserted = [kept[3] for kept in dead]
    others = [min(share for i, share in enumerate(kept) if i != 3) for kept in dead]
    return [
        Finding(
            "constraint-is-met",
            "Distance of the settled masks' sparsity from the target, before the exact fill",
            "empirical",
            mean_interval([abs(r.sparsity_masks - r.target_sparsity) for r in reports]),
            "<=",
            0.02,
            detail=f"target {target:.3f} of the prunable parameters; masks "
            f"{', '.join(f'{r.sparsity_masks:.4f}' for r in reports)}; of the first seed at most {swing:.3f} on the "
            f"way, with the exact fill {report.sparsity_realised:.4f}",
        ),
        Finding(
            "layer-ratios-are-learned",
            "Spread of the kept share of channels over the layers",
            "empirical",
            mean_interval([statistics.pstdev(kept) for kept in shares]),
            ">",
            0.05,
            detail="kept of 640, first seed: " + ", ".join(map(str, report.channels)) + "; a uniform ratio has 0",
        ),
        Finding(
            "layer-ratios-are-learned",
            "Kept share of channels in an inserted layer that does nothing, less the least of the others",
            "empirical",
            mean_interval([mine - other for mine, other in zip(inserted, others, strict=True)]),
            "<",
            0.0,
            baseline=statistics.mean(others),
            baseline_name="least of the others",
            detail="a fourth layer with zero output matrices; 200 steps; kept shares by seed: "
            + "; ".join(", ".join(f"{share:.2f}" for share in kept) for kept in dead),
        ),
    ]


def _with_dead_layer(bench: Bench, seed: int) -> list[float]:
    """The kept share of channels by layer of a model whose fourth layer adds nothing to the stream."""
    from transformers import LlamaForCausalLM

    dense: Any = bench.dense()
    config = type(dense.config)(**{**dense.config.to_dict(), "num_hidden_layers": 7})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config).eval()
    weights = {}
    for name, value in dense.state_dict().items():
        parts = name.split(".")
        if parts[1] == "layers" and int(parts[2]) >= 3:
            parts[2] = str(int(parts[2]) + 1)
        weights[".".join(parts)] = value
    for name, value in dense.state_dict().items():
        if name.startswith("model.layers.2."):
            stopped = name.endswith(("o_proj.weight", "down_proj.weight"))
            weights[name.replace("layers.2", "layers.3")] = torch.zeros_like(value) if stopped else value
    model.load_state_dict(weights)
    report = bench.fitted((10, 190, 0), model=model, target_sparsity=0.3, units=("ffn",), seed=seed).report_
    return [n / m for n, m in zip(report.channels, report.channels_before, strict=True)]


@runs.study(
    claims=["sizes", "retention", "reading-comprehension-above-dense"],
    title="The paper's three sizes: 220 steps of 8 x 64 tokens each, 3 seeds of the lightest",
    minutes=4,
)
def sizes(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Heads, channels and dimensions of the bundled model at the shares of M that 5.4B, 5.0B and 4.5B of 6.74B are."""
    bench = Bench(run, fast)
    dense = bench.dense()
    whole, before = bench.outcomes(dense), bench.perplexity(dense)
    lightest, *others = PAPER_SIZES[: 1 if fast else 3]
    distances: list[float] = []
    over, said, right = [], [], []
    for share, seed in [*((lightest, seed) for seed in range(2 if fast else 3)), *((share, 0) for share in others)]:
        method = bench.fitted((10, 160, 50), target_sparsity=share, seed=seed)
        report, found = method.report_, bench.outcomes(method.model_)
        distances.append(abs(report.sparsity_masks - report.target_sparsity))
        over.append(report.prunable_after / report.target)
        if share == lightest:
            right.append(found)
        said.append(
            f"{share}: masks {report.sparsity_masks:.3f}, cut {report.sparsity_realised:.4f}, "
            f"perplexity {bench.perplexity(method.model_):.2f}, accuracy {found.mean():.3f}"
        )
    best = np.mean(right, axis=0)
    kind = f"which of four stretches goes on from 64 tokens of held-out text; {len(right)} seeds"
    return [
        Finding(
            "sizes",
            f"Distance of the settled masks' sparsity from the target, {len(distances)} fits to three targets",
            "empirical",
            mean_interval(distances, unit="fits"),
            "<=",
            0.02,
            detail=f"at most {max(distances):.4f}; " + "; ".join(said),
        ),
        Finding(
            "sizes",
            "Prunable parameters of the cut models over those allowed, at most",
            "exact",
            largest(over),
            "<=",
            1.0,
            detail="exact fill",
        ),
        Finding(
            "retention",
            "Accuracy at the lightest size, of the dense model's, by question",
            "empirical",
            bootstrap_interval(lambda cut, dense: cut.mean() / dense.mean(), best, whole),
            ">=",
            0.96,
            baseline=float(whole.mean()),
            baseline_name="dense accuracy",
            detail=f"{kind}: {', '.join(f'{found.mean():.3f}' for found in right)}",
        ),
        Finding(
            "reading-comprehension-above-dense",
            "Accuracy at the lightest size, less the dense model's, paired by question",
            "empirical",
            mean_interval(best - whole, unit="questions"),
            ">",
            0.0,
            baseline=float(whole.mean()),
            baseline_name="dense",
            detail=f"{kind}, {len(whole)} questions; dense perplexity {before:.2f}. The bundled model was trained "
            "on this very kind of text, so that tuning has nothing new to teach it; LLaMA had never seen instructions",
        ),
    ]
