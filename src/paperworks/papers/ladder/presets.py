"""The settings of the released code, data set by data set."""

from __future__ import annotations

from typing import Any

from paperworks.errors import InputError, nearest

_SGD = {"optimizer": "sgd", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 32, "loss": "ce"}
_ADAMW = {"optimizer": "adamw", "lr": 5e-5, "weight_decay": 1e-4, "batch_size": 32, "loss": "bce"}

PAPER_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "waterbirds": {
        "discovery": {"top_k": 200, "percentile": 55},
        "aligner": {"epochs": 30, "lr": 0.01},
        "rectifier": {"n": 600, "epochs": 9, **_SGD},
    },
    "celeba": {
        "discovery": {"top_k": 200, "percentile": 50},
        "aligner": {"epochs": 30, "lr": 0.01},
        "rectifier": {"n": 130, "epochs": 13, **_SGD},
    },
    "metashift": {"discovery": {"top_k": 50, "percentile": 55}, "aligner": {"epochs": 30, "lr": 0.01}, "rectifier": {}},
    "nih-cxr": {
        "discovery": {"top_k": 100, "percentile": 55},
        "aligner": {"epochs": 200, "lr": 0.01},
        "rectifier": {"n": 120, "epochs": 20, **_ADAMW},
    },
    "rsna": {
        "discovery": {"top_k": 100, "percentile": 40},
        "aligner": {"epochs": 30, "lr": 0.01},
        "rectifier": {"n": 75, "epochs": 30, **_ADAMW},
    },
}
PAPER_SETTINGS["vindr"] = PAPER_SETTINGS["rsna"]


def paper_settings(name: str) -> dict[str, dict[str, Any]]:
    """Keyword arguments of ``SliceDiscovery``, ``LinearAligner("sgd")`` and ``SliceRectifier`` for a data set.

    One of waterbirds, celeba, metashift (whose heads were not released), nih-cxr, rsna, vindr.
    """
    if name not in PAPER_SETTINGS:
        raise InputError("name", repr(name), f"one of {', '.join(PAPER_SETTINGS)}{nearest(name, PAPER_SETTINGS)}")
    return {part: dict(values) for part, values in PAPER_SETTINGS[name].items()}
