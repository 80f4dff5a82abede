"""Small vision towers with random weights, of every architecture that is supported."""

from __future__ import annotations

import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from paperworks.nn import TinyViT

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}


def tower(kind: str, seed: int = 0) -> torch.nn.Module:
    """A tower of 4 x 4 patches of 4 x 4 pixels, two layers of width 16."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "clip":
            return CLIPVisionModel(CLIPVisionConfig(**SIZES, intermediate_size=32)).eval()
        if kind == "siglip":
            return SiglipVisionModel(SiglipVisionConfig(**SIZES, intermediate_size=32)).eval()
        if kind == "dinov2":
            return Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2)).eval()
        if kind == "vit":
            return ViTModel(ViTConfig(**SIZES, intermediate_size=32), add_pooling_layer=False).eval()
        return TinyViT(image_size=16, patch_size=4, channels=1, width=16, layers=2, heads=2).eval()


KINDS = ("clip", "siglip", "dinov2", "vit", "tiny")
