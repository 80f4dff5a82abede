"""The network as an ONNX file, compared with PyTorch before it gets its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.papers.petct_slices.slice_classifier import SliceClassifier
from paperworks.runs.files import new_file

TOLERANCE = 1e-4


class _Probability(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sigmoid(self.network(inputs))


def export_onnx(classifier: SliceClassifier, path: str | Path) -> float:
    """Write the network as ONNX to a new file: ``inputs`` float32 ``[n, channels, size, size]`` to ``probability``.

    The input is made as ``classifier.json`` says. Any number of slices goes through at once. Returns the largest
    difference between onnxruntime's probabilities and PyTorch's. Needs ``paperworks[onnx]``.

    Raises
    ------
    InputError : the file exists, an untrained classifier, a network that is told the center, a difference over 1e-4.
    """
    require_extra("onnx", "an ONNX file")
    import onnxruntime

    network = classifier.network_
    if network is None:
        raise InputError("classifier", "not trained yet", "fit, or from_pretrained")
    if network.center_mode != "none":
        found = f"caw by {network.center_mode}, which needs the center"
        raise InputError("onnx", found, "cag, or caw by balanced batches")
    size, channels = classifier.options.image_size, len(classifier.options.inputs().channels)
    example = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    module = _Probability(network.cpu()).eval()
    with new_file(Path(path)) as aside, torch.no_grad():
        dynamic: Any = {"inputs": {0: torch.export.Dim("slices", min=1, max=4096)}}
        program: Any = torch.onnx.export(
            module, (example,), dynamo=True, verbose=False, dynamic_shapes=dynamic, output_names=["probability"]
        )
        program.save(str(aside), external_data=False)
        session = onnxruntime.InferenceSession(str(aside), providers=["CPUExecutionProvider"])
        more = torch.rand(5, channels, size, size, generator=torch.Generator().manual_seed(1))
        (found,) = session.run(None, {"inputs": more.numpy()})
        difference = float(np.abs(found - module(more).numpy()).max())
        if not difference <= TOLERANCE:
            raise InputError("onnx", f"probabilities that differ by {difference:.3g}", f"at most {TOLERANCE}")
    return difference
