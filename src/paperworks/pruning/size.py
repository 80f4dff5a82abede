"""What a model costs, whatever was cut from it: parameters, multiplications, bytes in memory, in the cache, on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from paperworks.pruning.architecture import architecture_of, is_sliced
from paperworks.structure import Cost, count


def size_of(model: Any, context: int = 0, dtype: torch.dtype | None = None) -> Cost:
    """The counts of a live model, dense, pruned or sliced. ``parameters`` is ``sum(p.numel())``, tied ones once.

    Bytes are those of ``dtype`` (None: of the weights in memory). A sliced model's residual matrices are inside its
    layers: they count as prunable parameters and are multiplied with.
    """
    if not is_sliced(model):
        return count(model, context=context, dtype=dtype)
    family, config = architecture_of(model), model.config
    inside = f"{family.layers}."
    named = dict(model.named_parameters())
    matrices = {n: p.numel() for n, p in named.items() if n.startswith(inside) and p.ndim == 2}
    biases = sum(p.numel() for n, p in named.items() if n.startswith(inside) and _bias_of_matrix(n, matrices))
    head = model.get_output_embeddings()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    layers = config.num_hidden_layers
    each = (next(iter(named.values())).dtype if dtype is None else dtype).itemsize
    return Cost(
        parameters=sum(p.numel() for p in named.values()),
        prunable=sum(matrices.values()) + biases,
        macs=sum(matrices.values())
        + (0 if head is None else head.weight.numel())
        + context * layers * heads * size * 2,
        bytes=sum(p.numel() for p in named.values()) * each,
        cache=layers * kv_heads * size * 2 * each,
        cache_values=layers * kv_heads * size * 2,
    )


def _bias_of_matrix(name: str, matrices: Mapping[str, int]) -> bool:
    return name.endswith(".bias") and f"{name.removesuffix('bias')}weight" in matrices


def weights_bytes(folder: Path) -> int:
    """Bytes of a checkpoint's weights on disk."""
    found = [f for pattern in ("*.safetensors", "pytorch_model*.bin") for f in folder.glob(pattern)]
    return sum(f.stat().st_size for f in found)
