"""Channel-wise interpolation: feature maps of another number of channels, by adaptive averages along the channels."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch.nn import functional

from paperworks.errors import InputError


def channel_interpolation(features: torch.Tensor, width: int, axis: int = 1) -> torch.Tensor:
    """Features with ``width`` channels; the same tensor where it has as many.

    ::

        out[t] = mean of features[floor(t c / width) : ceil((t + 1) c / width)]      c: channels of ``features``

    Parameters
    ----------
    features : float, with channels along ``axis``, of any number of dimensions.
    width : channels of the result, 1 or more; fewer or more than ``features`` has.

    Raises
    ------
    InputError : a width below 1, or an axis that there is not.
    """
    if width < 1:
        raise InputError("width", width, "1 or more")
    if not -features.ndim <= axis < features.ndim:
        raise InputError("axis", axis, f"an axis of a tensor with {features.ndim} dimensions")
    shape = features.shape
    axis %= features.ndim
    if shape[axis] == width:
        return features
    # a product with the matrix of the averages: torch's adaptive pooling is 2 to 15 times as slow on a CPU
    matrix = _matrix(shape[axis], width).to(features)
    parts = features.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    return (matrix @ parts).reshape(*shape[:axis], width, *shape[axis + 1 :])


@lru_cache(maxsize=4096)
def _matrix(channels: int, width: int) -> torch.Tensor:
    """The averages as a matrix, float64 ``[width, channels]``, whose rows add up to 1."""
    with torch.inference_mode(False):  # what is kept must serve a backward pass, too
        return functional.adaptive_avg_pool1d(torch.eye(channels, dtype=torch.float64), width).T.contiguous()


def pad_channels(features: torch.Tensor, width: int, axis: int = 1) -> torch.Tensor:
    """Features with zeros in further channels, up to ``width``: what is compared with the interpolation."""
    missing = width - features.shape[axis]
    if missing == 0:
        return features
    last = functional.pad(features.movedim(axis, -1), (0, missing))
    return last.movedim(-1, axis)
