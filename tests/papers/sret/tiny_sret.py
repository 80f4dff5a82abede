"""A network of a few thousand parameters for the tests."""

from typing import Any

import torch

from paperworks.papers.sret import SReTConfig, SReTForImageClassification

SMALL: dict[str, Any] = {
    "image_size": 8,
    "num_channels": 1,
    "base_dims": (4, 4),
    "heads": (2, 4),
    "depth": (4, 2),
    "recursive_num": (2, 1),
    "groups1": (4, 2),
    "groups2": (2, 2),
    "mlp_ratio": 2.0,
    "stem_strides": (1, 1),
    "num_labels": 5,
}


def small(seed: int = 0, **options: Any) -> SReTForImageClassification:
    """The network, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SReTForImageClassification(SReTConfig(**{**SMALL, **options})).eval()


def images(n: int = 3, seed: int = 0, **_: Any) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
