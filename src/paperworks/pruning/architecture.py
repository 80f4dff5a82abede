"""The architecture behind a checkpoint folder or a live model, whatever was cut from it: dense, sliced or pruned."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from paperworks.errors import InputError
from paperworks.nn.loading import check_model_folder
from paperworks.structure import Family, spec_for
from paperworks.structure.modeling_sliced import MODEL_CLASSES


def architecture_of(source: Path | Any) -> Family:
    """The family of a checkpoint folder or a live model. Raises InputError for an unknown one, naming the folder."""
    kind = check_model_folder(source).get("model_type", "") if isinstance(source, Path) else source.config.model_type
    try:
        return spec_for(SimpleNamespace(model_type=str(kind).removeprefix("sliced_").removeprefix("pruned_")))
    except InputError as error:
        if not isinstance(source, Path):
            raise
        raise InputError("model", f"{source}, whose model_type is {error.found}", error.expected) from None


def is_sliced(model: Any) -> bool:
    """Whether the stream of a live model was cut (SliceGPT), rather than its heads, channels or layers."""
    return type(model) in MODEL_CLASSES.values()


def lora_targets(source: Path | Any) -> list[str]:
    """The last part of the names of all attention and feed-forward matrices: peft's ``target_modules``."""
    family = architecture_of(source)
    paths = [p for block in (family.attention, family.feed_forward) for p in (*block.inputs, *block.outputs)]
    return list(dict.fromkeys(path.rsplit(".", 1)[-1] for path in paths))
