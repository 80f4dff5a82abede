"""The paper's sizes: RN50 at 512 x 512 with 100 queries, and CLIP's image tower on 100 crops of 224 x 224."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from paperworks.papers.gkc.clip_resnet import CLIPResNetConfig
from paperworks.papers.gkc.segmenter import GKCConfig, GKCForOpenVocabularySegmentation, TrunkConfig
from paperworks.papers.gkc.two_stage import Cost, flops_of

SIDE, CROP, CROPS, CLASSES, WIDTH = 512, 224, 100, 150, 1024
RERUN_SIZE, RERUN, RERUN_WEIGHTS = (800, 1216), 268.2, 44.1
"""Height and width at which a later run of the method counts 268.2 x 10^9 multiply-adds and 44.1 million weights."""


@cache
def paper_cost(patch: int) -> tuple[Cost, int]:
    """Operations at the paper's size, counted without computing, with ViT-B of a patch; and the student's weights."""
    with torch.device("meta"):
        student, tower = paper_student().eval(), clip_image_tower(patch).eval()
        nn.Module.to(student, "meta")  # a parameter of Mask2Former is made on the processor in any case
        pixels, crop = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 3, CROP, CROP)
        alone, one = flops_of(lambda: student(pixels)), flops_of(lambda: tower(crop))
    return Cost(alone, one, CROPS), sum(p.numel() for p in student.parameters())


@cache
def multiply_adds(height: int, width: int) -> float:
    """Multiply-adds of the paper's segmenter on one image, counted without computing."""
    with torch.device("meta"):
        student = paper_student().eval()
        nn.Module.to(student, "meta")
        return flops_of(lambda: student(torch.zeros(1, 3, height, width))) / 2


def paper_weights() -> dict[str, nn.Parameter]:
    """The paper's segmenter's weights by name, without values."""
    with torch.device("meta"):
        return dict(paper_student().named_parameters())


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
