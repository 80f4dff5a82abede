"""The segmenter as files that run alone: a folder of transformers, and ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation, load_segmenter
from paperworks.runs.files import new_file, new_folder


def save_segmenter(model: GKCForOpenVocabularySegmentation, folder: Path) -> str:
    """Save a segmenter to a new folder, read it back, and compare; returns what was found, in one sentence.

    The folder has no teacher and no text tower: their tensors are not part of the model.

    Raises InputError if the folder is taken, or if what is read back gives other outputs.
    """
    with new_folder(folder) as aside:
        model.save_pretrained(aside)
    again = load_segmenter(folder)
    height, width = model.config.image_size
    pixels = torch.linspace(-1, 1, 3 * int(height) * int(width)).view(1, 3, int(height), int(width))
    with torch.no_grad(), evaluation_mode(model):
        before, after = model(pixels.to(model.no_object.device)), again(pixels)
    difference = max(float((before[name].cpu() - after[name]).abs().max()) for name in ("class_logits", "mask_logits"))
    if difference > 1e-3:
        raise InputError("segmenter", f"outputs that differ by {difference:g} after reading back", "the same outputs")
    return f"Read back without teacher and text tower, the saved segmenter's outputs differ by {difference:g} at most."


class _Plain(nn.Module):
    def __init__(self, model: GKCForOpenVocabularySegmentation) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(pixel_values)
        return found.class_logits, found.mask_logits


def export_onnx(model: GKCForOpenVocabularySegmentation, path: Path) -> None:
    """Write a segmenter with its vocabulary as ONNX: ``pixel_values [n, 3, H, W]`` to class and mask logits.

    Height and width are the model's ``image_size``; n is 1. The file is run in onnxruntime and compared.

    Raises InputError if the file exists, the extra ``onnx`` is missing, or the outputs differ by more than 1e-3.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError("onnx", "not installed", "the extra: pip install 'paperworks[onnx]'") from None
    height, width = (int(side) for side in model.config.image_size)
    pixels = torch.linspace(-1, 1, 3 * height * width).view(1, 3, height, width)
    plain = _Plain(model).cpu()
    with new_file(path) as aside, evaluation_mode(plain), torch.no_grad(), _quiet():
        wanted = plain(pixels)
        torch.onnx.export(
            plain,
            (pixels,),
            str(aside),
            input_names=["pixel_values"],
            output_names=["class_logits", "mask_logits"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        found = onnxruntime.InferenceSession(str(aside), providers=["CPUExecutionProvider"]).run(
            None, {"pixel_values": pixels.numpy()}
        )
        gap = max(float(np.abs(a.numpy() - b).max()) for a, b in zip(wanted, found, strict=True))
        if gap > 1e-3:
            raise InputError("onnx", f"outputs that differ by {gap:g} in onnxruntime", "1e-3 at most")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about itself: the outputs are compared, and that is what counts."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
