"""What an image costs at the paper's size: RN50 at 512 x 512 with 100 queries, alone and with CLIP on every mask."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from paperworks.metrics import ratio_interval
from paperworks.papers.gkc.clip_resnet import CLIPResNetConfig
from paperworks.papers.gkc.segmenter import GKCConfig, GKCForOpenVocabularySegmentation, TrunkConfig
from paperworks.papers.gkc.two_stage import flops_of, measure_cost
from paperworks.runs import Finding, Run, study

SIDE, CROP, CROPS, CLASSES, WIDTH = 512, 224, 100, 150, 1024
ROUNDS = 3
GIGA = 1e9


@study(claims=["speed"], title="Operations and time at the paper's size", minutes=3)
def speed(run: Run, fast: bool) -> Iterator[Finding]:
    """Random weights: neither count nor time depends on them. 150 classes, 100 crops of 224 x 224, ViT-B/32 and 16."""
    run.step("counting operations")
    with torch.device("meta"):
        student, pixels = paper_student(), torch.zeros(1, 3, SIDE, SIDE)
        crop = torch.zeros(1, 3, CROP, CROP)
        alone = flops_of(lambda: student(pixels))
        towers = {patch: clip_image_tower(patch) for patch in (32, 16)}
        encoders = {patch: flops_of(partial(net, crop)) for patch, net in towers.items()}
    weights = sum(p.numel() for p in student.parameters())
    for patch, one in encoders.items():
        whole = alone + CROPS * one
        yield Finding(
            "speed",
            f"operations of the two-stage way with ViT-B/{patch} on {CROPS} crops, in those of the student alone",
            "exact",
            whole / alone,
            ">=",
            3,
            baseline=whole / GIGA,
            baseline_name="10^9 operations of the two-stage way",
            unit="times",
            detail=f"the student has {alone / GIGA:.0f} x 10^9 operations ({alone / 2 / GIGA:.0f} multiply-adds, "
            f"the paper 151) and {weights / 1e6:.1f} million weights (the paper: 40.5); a crop "
            f"has {one / GIGA:.1f} x 10^9. The paper: 7.7 times",
        )
    run.step("taking time")
    torch.manual_seed(0)
    side, crops = (128, 8) if fast else (SIDE, CROPS)
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
        detail=f"student {cost.student_seconds:.2f} s; both in turn in every round, one thread",
    )
    assert np.isfinite(cost.flops_ratio)


def paper_student() -> GKCForOpenVocabularySegmentation:
    """The paper's segmenter with random weights: CLIP's RN50, 6 + 9 layers, 100 queries, text vectors of 1024."""
    names = [(f"class {n}", [f"class {n}"]) for n in range(CLASSES)]
    trunk = TrunkConfig(backbone_config=CLIPResNetConfig(), num_queries=100)
    config = GKCConfig(trunk, WIDTH, vocabulary=names, image_size=(SIDE, SIDE))
    return GKCForOpenVocabularySegmentation(config)


def clip_image_tower(patch: int) -> nn.Module:
    """CLIP's ViT-B with random weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=CROP,
        patch_size=patch,
        projection_dim=512,
    )
    tower: nn.Module = CLIPVisionModelWithProjection(config)
    return tower
