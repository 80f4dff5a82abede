"""The claims, measured again on digits with small networks and on MiniLM, and the exact parts on random matrices.

CIFAR, ImageNet, ResNet-50, Swin-T and Llama-2-7B cannot be had here. In their place: handwritten digits (8 x 8), a
residual network (stem 32, blocks 32, 64/2, 64, BatchNorm), a plain one, a small vision transformer, and MiniLM.
"""

from __future__ import annotations

from paperworks.papers.modhifi.studies.digits import counterfactuals, data_quality, pruning
from paperworks.papers.modhifi.studies.exact import bounds, fidelity
from paperworks.papers.modhifi.studies.forgetting import other_networks, unlearning
from paperworks.papers.modhifi.studies.texts import encoder, last_layer

__all__ = [
    "bounds",
    "counterfactuals",
    "data_quality",
    "encoder",
    "fidelity",
    "last_layer",
    "other_networks",
    "pruning",
    "unlearning",
]
