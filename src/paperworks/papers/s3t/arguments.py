"""Arguments of a system in the form that it keeps."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Literal

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.s3t.bases import Base
from paperworks.papers.s3t.layers import Adapted, Lora
from paperworks.papers.s3t.manifest import Manifest
from paperworks.training import TrainSettings


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
        "paperworks": metadata.version("paperworks"),
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
