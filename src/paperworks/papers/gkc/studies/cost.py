"""What an image costs at the paper's size: RN50 at 512 x 512 with 100 queries, alone and with CLIP on every mask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from paperworks.metrics import ratio_interval
from paperworks.papers.gkc.paper_size import (
    CROP,
    CROPS,
    RERUN,
    RERUN_SIZE,
    RERUN_WEIGHTS,
    SIDE,
    clip_image_tower,
    multiply_adds,
    paper_cost,
    paper_student,
    paper_weights,
)
from paperworks.papers.gkc.two_stage import measure_cost
from paperworks.runs import Finding, Run, study

ROUNDS = 3
GIGA = 1e9


@study(claims=["speed"], title="Operations and time at the paper's size", minutes=0.5)
def speed(run: Run, fast: bool) -> Iterator[Finding]:
    """Random weights: neither count nor time depends on them. 150 classes, 100 crops of 224 x 224, ViT-B/32 and 16."""
    run.step("counting operations")
    for patch in (32, 16):
        cost, weights = paper_cost(patch)
        alone, one = cost.student_flops, cost.encoder_flops
        yield Finding(
            "speed",
            f"operations of the two-stage way with ViT-B/{patch} on {CROPS} crops, in those of the student alone",
            "exact",
            cost.flops_ratio,
            ">=",
            3,
            baseline=cost.two_stage_flops / GIGA,
            baseline_name="10^9 operations of the two-stage way",
            unit="times",
            detail=f"the student has {alone / GIGA:.0f} x 10^9 operations ({alone / 2 / GIGA:.0f} multiply-adds, "
            f"the paper 151) and {weights / 1e6:.1f} million weights (the paper: 40.5); a crop "
            f"has {one / GIGA:.1f} x 10^9. The paper: 7.7 times",
        )
    run.step("taking time")
    torch.manual_seed(0)
    side, crops = SIDE // 4, CROPS // 16  # a sixteenth of the pixels, and of the crops: the operations' ratio stays
    cost = measure_cost(
        paper_student().eval(),
        clip_image_tower(32).eval(),
        torch.zeros(1, 3, side, side),
        torch.zeros(crops, 3, CROP, CROP),
        rounds=2 if fast else ROUNDS,
    )
    yield Finding(
        "speed",
        f"time of the two-stage way with ViT-B/32 on {crops} crops, in that of the student alone on {side} x {side}",
        "empirical",
        ratio_interval(cost.ratios),
        ">=",
        2,
        baseline=cost.two_stage_seconds,
        baseline_name="seconds of the two-stage way",
        unit="times",
        detail=f"student {cost.student_seconds:.2f} s; both in turn in every round, one thread; a sixteenth of the "
        "paper's pixels and crops",
    )
    assert np.isfinite(cost.flops_ratio)


@study(claims=["independent-rerun"], title="Operations and weights beside a later run's", minutes=0.2)
def rerun_cost(run: Run, fast: bool) -> Iterator[Finding]:
    """The paper's segmenter at the size at which the later run counts it."""
    found = multiply_adds(*RERUN_SIZE) / GIGA
    yield Finding(
        "independent-rerun",
        "operations at 800 x 1216, in those that the later run reports, less 1",
        "exact",
        abs(found / RERUN - 1),
        "<=",
        0.02,
        baseline=RERUN,
        baseline_name="10^9 multiply-adds, as reported",
        detail=f"{found:.1f} x 10^9 multiply-adds here",
    )
    weights = {name: parameter.numel() for name, parameter in paper_weights().items()}
    trunk = sum(count for name, count in weights.items() if not name.startswith("projections."))
    yield Finding(
        "independent-rerun",
        "weights without the projections to the text space, in those that the later run reports, less 1",
        "exact",
        abs(trunk / 1e6 / RERUN_WEIGHTS - 1),
        "<=",
        0.02,
        baseline=RERUN_WEIGHTS,
        baseline_name="million weights, as reported",
        detail=f"{trunk / 1e6:.2f} million here; the ten projections have {(sum(weights.values()) - trunk) / 1e6:.2f}",
    )
