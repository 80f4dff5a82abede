"""Which layers and tensors a stage owns. Light: a deletion needs no torch."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from paperworks.errors import InputError

BlockOrder = Literal["top-down", "bottom-up", "random"]
BLOCK_ORDERS: tuple[str, ...] = ("top-down", "bottom-up", "random")
PEFT_PREFIX = "base_model.model."
"""In front of the names of a wrapped network's modules."""


def block_layers(layers: int, n_slices: int, per_slice: int, stage: int, order: BlockOrder = "top-down") -> list[int]:
    """The block ``G_l`` of stage l (from 1): ``{T-1-((l-1) n_b + i)}``, disjoint for different stages.

    "bottom-up" starts at the input, "random" shuffles the layers once; both are ablations (Appendix C.2).
    """
    check_fit(layers, n_slices, per_slice)
    if not 1 <= stage <= n_slices:
        raise InputError("stage", stage, f"1 to {n_slices}")
    ranked = list(range(layers - 1, -1, -1))
    if order == "bottom-up":
        ranked.reverse()
    elif order == "random":
        ranked = np.random.default_rng(0).permutation(layers).tolist()
    elif order != "top-down":
        raise InputError("order", repr(order), f"one of {', '.join(BLOCK_ORDERS)}")
    return ranked[(stage - 1) * per_slice : stage * per_slice]


def check_fit(layers: int, n_slices: int, per_slice: int) -> None:
    """Raise InputError unless ``1 <= n_b`` and ``L n_b <= T``."""
    if n_slices > layers:
        raise InputError("n_slices", n_slices, f"at most {layers}, the layers of the network")
    if per_slice < 1 or n_slices * per_slice > layers:
        most = layers // n_slices
        raise InputError("layers_per_slice", per_slice, f"1 to {most}: {n_slices} slices share {layers} layers")


def stored_name(name: str) -> str:
    """The name under which peft stores a tensor of the adapter "default"."""
    return re.sub(r"\.(modules_to_save\.)?default(?=\.|$)", "", name, count=1)
