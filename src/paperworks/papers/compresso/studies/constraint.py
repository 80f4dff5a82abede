"""Whether the target is reached, and what the layers make of it."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from paperworks import runs
from paperworks.papers.compresso.estimator import Compresso
from paperworks.papers.compresso.studies.bench import Bench
from paperworks.runs import Finding

PAPER_SIZES = (0.207, 0.268, 0.346)


@runs.study(
    claims=["constraint-is-met", "layer-ratios-are-learned"],
    title="The constraint, with the paper's rates: 600 steps of 8 x 64 tokens on feed-forward channels",
    minutes=4,
)
def constraint(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """40 % of the channels of the bundled model, mask rate 0.1, both multipliers at that rate, warm-up over half."""
    bench = Bench(run, fast)
    method = bench.fitted((40, 560, 0), target_sparsity=0.4, units=("ffn",), mask_rate=0.1, penalty_factor=1.0)
    report = method.report_
    target = report.target_sparsity
    of_ffn = f"{target:.3f} of the prunable parameters"
    swing = max((step.sparsity for step in report.course), default=0.0)
    shares = [n / m for n, m in zip(report.channels, report.channels_before, strict=True)]
    dead = _with_dead_layer(bench)
    inserted = dead.report_.channels[3] / dead.report_.channels_before[3]
    others = [
        n / m
        for i, (n, m) in enumerate(zip(dead.report_.channels, dead.report_.channels_before, strict=True))
        if i != 3
    ]
    return [
        Finding(
            "constraint-is-met",
            "Distance of the settled masks' sparsity from the target, before the exact fill",
            "empirical",
            abs(report.sparsity_masks - target),
            "<=",
            0.02,
            detail=f"target {of_ffn}; expected {report.sparsity_expected:.4f}, masks {report.sparsity_masks:.4f}, at "
            f"most {swing:.3f} on the way; with the exact fill {report.sparsity_realised:.4f}",
        ),
        Finding(
            "layer-ratios-are-learned",
            "Spread of the kept share of channels over the layers",
            "empirical",
            statistics.pstdev(shares),
            ">",
            0.05,
            detail="kept of 640: " + ", ".join(map(str, report.channels)) + "; a uniform ratio has 0",
        ),
        Finding(
            "layer-ratios-are-learned",
            "Kept share of channels in an inserted layer that does nothing",
            "empirical",
            inserted,
            "<",
            min(others),
            baseline=min(others),
            baseline_name="least of the others",
            detail="a fourth layer with zero output matrices; 200 steps; kept: "
            + ", ".join(map(str, dead.report_.channels)),
        ),
    ]


def _with_dead_layer(bench: Bench) -> Compresso:
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
    return bench.fitted((10, 190, 0), model=model, target_sparsity=0.3, units=("ffn",))


@runs.study(
    claims=["sizes", "retention", "reading-comprehension-above-dense"],
    title="The paper's three sizes: 220 steps of 8 x 64 tokens each",
    minutes=3,
)
def sizes(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Heads, channels and dimensions of the bundled model at the shares of M that 5.4B, 5.0B and 4.5B of 6.74B are."""
    bench = Bench(run, fast)
    dense = bench.dense()
    accuracy, before = bench.accuracy(dense), bench.perplexity(dense)
    distances, over, said, found = [], [], [], []
    for share in PAPER_SIZES[: 1 if fast else 3]:
        method = bench.fitted((10, 160, 50), target_sparsity=share)
        report = method.report_
        distances.append(abs(report.sparsity_masks - report.target_sparsity))
        over.append(report.prunable_after / report.target)
        found.append((bench.accuracy(method.model_), bench.perplexity(method.model_)))
        said.append(
            f"{share}: masks {report.sparsity_masks:.3f}, cut {report.sparsity_realised:.4f}, "
            f"perplexity {found[-1][1]:.2f}, accuracy {found[-1][0]:.3f}"
        )
    best = found[0][0]
    kind = "which of four stretches goes on from 64 tokens of held-out text"
    return [
        Finding(
            "sizes",
            "Largest distance of the settled masks' sparsity from the three targets",
            "empirical",
            max(distances),
            "<=",
            0.02,
            detail="; ".join(said),
        ),
        Finding(
            "sizes",
            "Prunable parameters of the cut models over those allowed, at most",
            "exact",
            max(over),
            "<=",
            1.0,
            detail="exact fill",
        ),
        Finding(
            "retention",
            "Accuracy at the lightest size, of the dense model's",
            "empirical",
            best / accuracy,
            ">=",
            0.96,
            baseline=accuracy,
            baseline_name="dense accuracy",
            detail=f"{kind}; accuracies by size: {', '.join(f'{a:.3f}' for a, _ in found)}",
        ),
        Finding(
            "reading-comprehension-above-dense",
            "Accuracy at the lightest size",
            "empirical",
            best,
            ">",
            accuracy,
            baseline=accuracy,
            baseline_name="dense",
            detail=f"{kind}, {len(bench.test)} questions; dense perplexity {before:.2f}. The bundled model was trained "
            "on this very kind of text, so that tuning has nothing new to teach it; LLaMA had never seen instructions",
        ),
    ]
