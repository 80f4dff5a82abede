"""Which modules a trace is the same for: those that differ in nothing but the values of their tensors."""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import torch
from torch import nn

from paperworks.nn import evaluation_mode
from paperworks.structure.trace.capture import Inputs, arguments


class _WithoutValues(pickle.Pickler):
    """Writes shape, dtype, device and identity in place of every tensor."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.seen: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, torch.Tensor):
            return None
        number = self.seen.setdefault(id(obj), len(self.seen))  # tied tensors have one number
        return number, tuple(obj.shape), str(obj.dtype), str(obj.device), isinstance(obj, nn.Parameter)


def architecture(model: nn.Module, inputs: Inputs) -> bytes | None:
    """A digest of a module and its example inputs without the values of their tensors.

    Where two modules have the same one, their classes, attributes, shapes and ties are equal, and so are their traces:
    ``capture`` refuses control flow on values. Modules of one architecture may have different digests, since attributes
    are compared as they are stored. Good for this process only. None: the module cannot be pickled, so that nothing is
    known.
    """
    file = io.BytesIO()
    # pickle knows classes by name; one that was defined anew, in a notebook say, has the name of the old one
    code = [(id(type(module)), id(type(module).forward)) for module in model.modules()]
    try:
        with evaluation_mode(model):
            _WithoutValues(file).dump((model, arguments(inputs), code))
    except (pickle.PicklingError, AttributeError, TypeError, NotImplementedError):
        return None
    return hashlib.sha256(file.getvalue()).digest()
