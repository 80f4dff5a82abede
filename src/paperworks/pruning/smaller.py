"""Image classifiers that were made smaller, as folders."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from paperworks.pruning.images import ImageLogits
from paperworks.structure.trace import save_cut
from paperworks.structure.trace.cutter import CutStep
from paperworks.structure.trace.cutting import HISTORY
from paperworks.structure.trace.saving import builds_itself


def save_smaller(model: nn.Module, folder: Path, source: str = "") -> str:
    """Save a cut network; returns how it is loaded again, in words.

    A model of transformers is saved on its own, without the module that prepares its input, and with its processor.

    Parameters
    ----------
    source : the folder that the dense network came from, where its processor is.
    """
    if isinstance(model, ImageLogits):
        inner = model.network
        steps = getattr(model, HISTORY, [])
        prefix = "network."
        own = [
            CutStep(
                {name.removeprefix(prefix): axes for name, axes in step.tensors.items()},
                [(path.removeprefix(prefix), name, value) for path, name, value in step.attributes],
            )
            for step in steps
        ]
        object.__setattr__(inner, HISTORY, own)
        save_cut(inner, folder)
        processor = Path(source).expanduser() / "preprocessor_config.json"
        if source and processor.is_file():
            shutil.copy(processor, folder)
        return "structure.trace.load_cut(folder)"
    save_cut(model, folder)
    if builds_itself(model):
        return "structure.trace.load_cut(folder)"
    return f"structure.trace.load_cut(folder, build=...), which makes the dense {type(model).__name__}"
