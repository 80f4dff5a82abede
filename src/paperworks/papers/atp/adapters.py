"""LoRA as ATP has it: factor 1, dropout behind A, and a start from the smallest singular directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.pruning import lora_targets
from paperworks.structure.units import base_of
from paperworks.training import add_lora


def attach(model: Any, *, rank: int, dropout: float, svd: bool, seed: int) -> Any:
    """Freeze ``model`` and add y = W x + dropout(A x) B to every matrix of its layers (alpha / r = 1).

    Parameters
    ----------
    svd : with W = U S V^T, the adapter takes the ``rank`` smallest singular components and the frozen part keeps the
        rest; otherwise A is random and B is 0. In both cases the function is unchanged.

    Raises
    ------
    InputError : a rank above the size of a matrix (SVD), or a value out of bounds.
    """
    if not 0 <= dropout < 1:
        raise InputError("dropout", dropout, "a share from 0 to below 1")
    if svd and rank >= (least := _least_side(model)):
        raise InputError("rank", rank, f"below {least}, the smallest side of a matrix, for a start by SVD")
    adapted = add_lora(model, lora_targets(base_of(model)), r=rank, alpha=rank, dropout=0.0, seed=seed)
    for module in lora_modules(adapted):
        for part in module.lora_A.values():
            part.float()
            part.register_forward_hook(_dropout(dropout))
        for part in module.lora_B.values():
            part.float()
        if svd:
            _start_by_svd(module, rank)
    return adapted


def lora_modules(model: Any) -> Iterator[Any]:
    """Every module that carries an adapter."""
    for module in base_of(model).modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            yield module


def _least_side(model: Any) -> int:
    names = set(lora_targets(base_of(model)))
    return min(
        min(m.weight.shape)
        for name, m in base_of(model).named_modules()
        if name.rsplit(".", 1)[-1] in names and getattr(m, "weight", None) is not None and m.weight.ndim == 2
    )


def _dropout(share: float) -> Any:
    # peft drops inputs of A; the paper's code drops its outputs
    return lambda module, args, out: functional.dropout(out, share, module.training)


@torch.no_grad()
def _start_by_svd(module: Any, rank: int) -> None:
    weight = module.base_layer.weight
    flipped = hasattr(module.base_layer, "nf")
    dense = (weight.T if flipped else weight).double()
    u, s, vt = torch.linalg.svd(dense, full_matrices=False)
    for a, b in zip(module.lora_A.values(), module.lora_B.values(), strict=True):
        a.weight.copy_(vt[-rank:])
        b.weight.copy_(u[:, -rank:] * s[-rank:])
        rest = dense - b.weight.double() @ a.weight.double()
        weight.copy_(rest.T if flipped else rest)
