"""A trained model at another resolution: the position grid is resized, everything else stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from paperworks.papers.sret.configuration import SReTConfig
from paperworks.papers.sret.modeling import SReTForImageClassification


def resize_positions(
    model: SReTForImageClassification, image_size: int | Sequence[int], **options: Any
) -> SReTForImageClassification:
    """A copy of a model for images of another size, on the same device and in the same mode.

    The grid of positions is resized bicubically; all other weights are the same. Fine-tune it, as the paper does.

    Parameters
    ----------
    image_size : side in pixels, or (height, width).
    options : others of ``SReTConfig`` to change, such as ``groups1``, where the model's groups do not divide the new
        numbers of tokens.

    Raises
    ------
    InputError : a size that the network cannot have, or groups that do not divide; those that do are listed.
    """
    config = SReTConfig(**{**model.config.to_dict(), "image_size": image_size, **options})
    state = {name: value.clone() for name, value in model.state_dict().items()}
    name = "sret.positions"
    with torch.no_grad():
        resized = functional.interpolate(state[name].float(), config.grids[0], mode="bicubic", align_corners=False)
    state[name] = resized.to(state[name].dtype)
    found: Any = SReTForImageClassification(config)
    found.to(device=state[name].device, dtype=state[name].dtype)
    found.load_state_dict(state)
    return found.train(model.training)
