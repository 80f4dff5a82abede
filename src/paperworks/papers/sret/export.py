"""The classifier as an ONNX file, compared with PyTorch before it gets its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.nn import evaluation_mode
from paperworks.papers.sret.modeling import SReTForImageClassification
from paperworks.runs.files import new_file

TOLERANCE = 1e-4
"""Largest difference of the logits, relative to the largest logit or 1."""


class _Logits(nn.Module):
    def __init__(self, model: SReTForImageClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).logits


def to_onnx(model: SReTForImageClassification, path: str | Path) -> float:
    """Write a model as ONNX to a new file: ``pixel_values`` float32 ``[n, c, H, W]`` to ``logits`` ``[n, classes]``.

    Permutations are the fixed ones. Any number of images goes through at once. Returns the largest difference between
    the logits of onnxruntime and those of PyTorch, relative to the largest logit or 1. Needs ``paperworks[onnx]``.

    Raises
    ------
    InputError : the file exists, ``permute="always"`` (a file has one permutation), a difference over 1e-4.
    """
    require_extra("onnx", "an ONNX file")
    import onnxruntime

    if model.config.permute == "always" and any(groups > 1 for groups in model.config.groups2):
        raise InputError("permute", "always", "train, fixed or none: a file has one permutation")
    device = next(model.parameters()).device
    module = _Logits(model).cpu()
    generator = torch.Generator().manual_seed(0)
    shape = (model.config.num_channels, *model.config.sides)
    try:
        with new_file(Path(path)) as aside, evaluation_mode(module), torch.no_grad():
            example = torch.rand(2, *shape, generator=generator)
            module(example)  # makes the fixed permutations, which are then constants of the file
            dynamic: Any = {"pixel_values": {0: torch.export.Dim("images", min=1, max=4096)}}
            program: Any = torch.onnx.export(
                module, (example,), dynamo=True, verbose=False, dynamic_shapes=dynamic, output_names=["logits"]
            )
            program.save(str(aside), external_data=False)
            session = onnxruntime.InferenceSession(str(aside), providers=["CPUExecutionProvider"])
            more = torch.rand(5, *shape, generator=generator)
            (found,) = session.run(None, {"pixel_values": more.numpy()})
            expected = module(more).numpy()
            difference = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
            if not difference <= TOLERANCE:
                raise InputError("onnx", f"logits that differ by {difference:.3g}", f"at most {TOLERANCE}")
    finally:
        module.to(device)
    return difference
