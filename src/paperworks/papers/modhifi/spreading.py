"""A cut network in the sizes of the dense one, with zeros where units left."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from paperworks.structure.trace.positions import KeptPositions, tensor_at


@torch.no_grad()
def spread(model: nn.Module, smaller: nn.Module, kept: KeptPositions) -> nn.Module:
    """Write the values of a cut model into one of the dense sizes, in place; returns it.

    Parameters
    ----------
    model : of the dense sizes; what it holds is written over, but for running variances where units left.
    kept : where the values of the cut model's tensors belong.
    """
    for name, value in smaller.state_dict().items():
        tensor = tensor_at(model, name)
        if name in kept:
            if not name.endswith("running_var"):
                tensor.zero_()
            axes = [kept[name].get(axis, torch.arange(size)).numpy() for axis, size in enumerate(tensor.shape)]
            tensor[np.ix_(*axes)] = value.to(tensor)
        elif tensor.shape == value.shape:  # a tied tensor is written under its first name
            tensor.copy_(value)
    return model
