"""Arguments of a system in the form that it keeps."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from paperworks import classification
from paperworks.classification.data import as_labels, read_rows
from paperworks.errors import InputError
from paperworks.papers.s3t.bases import Base
from paperworks.papers.s3t.blocks import BLOCK_ORDERS
from paperworks.papers.s3t.layers import Adapted, Lora
from paperworks.papers.s3t.manifest import Manifest
from paperworks.training import TrainSettings
from paperworks.version import __version__


def as_ids(ids: Sequence[Any] | str | int) -> list[str]:
    """One id or several as text."""
    return [str(ids)] if isinstance(ids, (str, int, np.integer)) else [str(i) for i in ids]


def check_ids(names: list[str], count: int) -> None:
    """Raise InputError unless there is a different id for every record."""
    if len(names) != count:
        raise InputError("ids", f"{len(names)} ids", f"{count}, one per record")
    if len(set(names)) < count:
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InputError("ids", f"{twice!r} twice", "a different id for every record")


def check_options(**given: str) -> None:
    """Raise InputError for a task, an order of blocks or an aggregation that there is not."""
    known: dict[str, Sequence[str]] = {
        "task": ("classification", "language"),
        "order": BLOCK_ORDERS,
        "aggregation": ("mean_probs", "mean_logits", "vote"),
    }
    for name, value in given.items():
        if value not in known[name]:
            raise InputError(name, repr(value), f"one of {', '.join(known[name])}")


def as_codes(labels: Any, count: int) -> np.ndarray:
    """Class codes int64 ``[n]``."""
    if labels is None:
        raise InputError("labels", "none", "a class code for every record")
    return as_labels(labels, count).numpy()


def check_classes(module: torch.nn.Module, codes: np.ndarray | None, known: Sequence[str], examples: Any) -> None:
    """Raise InputError where the network or the names have fewer classes than the labels."""
    if codes is None:
        return
    outputs = classification.predict_logits(module, read_rows(examples, [0]), device="cpu").shape[-1]
    if codes.max() >= outputs or len(known) > outputs:
        raise InputError("labels", f"class {int(codes.max())}", f"0 to {outputs - 1}, the outputs of the network")
    if codes.max() >= len(known):
        raise InputError("classes", f"{len(known)} names", f"{int(codes.max()) + 1} or more, one for every label")


def as_lora(config: Any) -> Lora:
    """Options of adapters from ``Lora``, a ``peft.LoraConfig`` or None."""
    if config is None:
        return Lora()
    return config if isinstance(config, Lora) else Lora.from_peft(config)


def stored_settings(content: Mapping[str, Any]) -> TrainSettings:
    """The settings that a manifest holds."""
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in content.items()
        if name in TrainSettings.__annotations__
    }
    return TrainSettings(**known)


def versions() -> dict[str, str]:
    """Versions of what decides the weights."""
    import peft
    import transformers

    return {
        "paperworks": __version__,
        "torch": torch.__version__,
        "peft": peft.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def shards_of(manifest: Manifest, shards: Literal["dead", "all"] | Sequence[int]) -> list[int]:
    """Numbers of shards: "dead" ones that serve nothing, "all", or as given."""
    every = list(range(manifest.system.n_shards))
    if isinstance(shards, str):
        if shards not in ("dead", "all"):
            raise InputError("shards", repr(shards), "'dead', 'all' or numbers of shards")
        return every if shards == "all" else [s for s in every if s not in manifest.live_shards]
    wrong = [s for s in shards if s not in every]
    if wrong:
        raise InputError("shards", wrong[0], f"0 to {len(every) - 1}")
    return sorted(set(shards))


def adapter_config(adapted: Adapted, base: Base) -> dict[str, Any]:
    """The content of ``adapter_config.json`` for all layers, as plain values."""
    config = adapted.model.peft_config["default"].to_dict()
    config |= {"inference_mode": True, "base_model_name_or_path": base.about.get("path")}
    plain = json.dumps(config, default=lambda value: sorted(value) if isinstance(value, set) else str(value))
    return dict(json.loads(plain))
