"""Sliced recursive transformer: vision transformers that reuse their blocks (arXiv 2111.05297)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.sret.classifier import SReTClassifier
    from paperworks.papers.sret.costs import Profile, StageCost, attention_macs, profile
    from paperworks.papers.sret.export import to_onnx
    from paperworks.papers.sret.layers import Block, ConvStem, GroupAttention, NonlinearProjection
    from paperworks.papers.sret.modeling import (
        SReTConfig,
        SReTForImageClassification,
        SReTModel,
        sret_small,
        sret_tiny,
        sret_tiny_large,
    )
    from paperworks.papers.sret.networks import network_config
    from paperworks.papers.sret.official import load_official, official_state
    from paperworks.papers.sret.recursion import RecursiveStack, fixed_permutation
    from paperworks.papers.sret.resolution import resize_positions
    from paperworks.papers.sret.teachers import teacher_logits
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Block",
    "ConvStem",
    "GroupAttention",
    "NonlinearProjection",
    "Profile",
    "RecursiveStack",
    "SReTClassifier",
    "SReTConfig",
    "SReTForImageClassification",
    "SReTModel",
    "StageCost",
    "attention_macs",
    "fixed_permutation",
    "load_official",
    "network_config",
    "official_state",
    "profile",
    "resize_positions",
    "sret_small",
    "sret_tiny",
    "sret_tiny_large",
    "teacher_logits",
    "to_onnx",
]
