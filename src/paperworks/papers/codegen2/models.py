"""Small models of CodeGen2's architecture, the bundled one, and the user's checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    from transformers import CodeGenForCausalLM

BUNDLED = Path(__file__).parent / "bundled" / "model"
"""The bundled model: see the card beside it."""


def small_model(
    vocabulary: int,
    *,
    layers: int = 3,
    width: int = 96,
    heads: int = 4,
    context: int = 256,
    rotary_dim: int | None = None,
    end: int = 0,
    seed: int = 0,
) -> CodeGenForCausalLM:
    """A new model of CodeGen2's architecture: transformers' ``CodeGenForCausalLM`` with jaxformer's initial values.

    Embeddings are truncated normal with spread 1 / sqrt(V), the two output projections of a block
    (2 / layers) / sqrt(d), all other matrices 1 / sqrt(inputs); biases are 0.

    Parameters
    ----------
    width : divisible by ``heads``, and ``heads`` by 4, the groups in which transformers stores queries, values and
        keys.
    rotary_dim : even, at most ``width / heads``; default half of it, as in the released models.
    end : id of the end token.
    """
    check_seed("seed", seed)
    from transformers import CodeGenConfig, CodeGenForCausalLM

    if heads % 4 or width % heads:
        raise InputError("heads", f"{heads} heads of width {width}", "a multiple of 4 that divides the width")
    size = width // heads
    rotary = max(2, size // 4 * 2) if rotary_dim is None else rotary_dim
    if rotary % 2 or not 2 <= rotary <= size:
        raise InputError("rotary_dim", rotary, f"an even number from 2 to {size}")
    config = CodeGenConfig(
        vocab_size=vocabulary,
        n_positions=context,
        n_ctx=context,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        rotary_dim=rotary,
        bos_token_id=end,
        eos_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CodeGenForCausalLM(config)
        initialize(model)
    return model


def initialize(model: CodeGenForCausalLM) -> None:
    """Draw jaxformer's initial values from PyTorch's global generator, in place."""
    config = model.config
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            torch.nn.init.constant_(parameter, 1.0 if ".ln_" in name and name.endswith("weight") else 0.0)
            continue
        spread = 1 / math.sqrt(parameter.shape[1])
        if name.endswith("wte.weight"):
            spread = 1 / math.sqrt(config.vocab_size)
        elif name.endswith(("attn.out_proj.weight", "mlp.fc_out.weight")):
            spread = 2 / config.n_layer / math.sqrt(config.n_embd)
        torch.nn.init.trunc_normal_(parameter, std=spread, a=-2 * spread, b=2 * spread)


def context_length(model: Any, default: int = 2048) -> int:
    """Tokens that a model can read at once."""
    config = model.config
    return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or default)


@contextmanager
def fused_kernels(model: Any) -> Iterator[None]:
    """While the block lasts, a CodeGen model computes attention and GELU with PyTorch's fused kernels: the same,
    faster.

    transformers' class computes scores, softmax and sum one after the other, with all scores in memory, and the tanh
    form of GELU by its formula. Models of other classes are left as they are.
    """
    changed = [module for module in model.modules() if type(module).__name__ == "CodeGenAttention"]
    activations = [m for m in model.modules() if type(m).__name__ == "CodeGenMLP"]
    activations = [m for m in activations if type(m.act).__name__ == "NewGELUActivation"]
    formula = [m.act for m in activations]

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, None]:
        kind = value.dtype
        query, key = query.to(kind), key.to(kind)
        causal = attention_mask is None and query.shape[2] > 1
        mask = None if attention_mask is None else attention_mask.to(kind)
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return out, None

    for module in changed:
        module._attn = attend
    for module in activations:
        module.act = torch.nn.GELU(approximate="tanh")
    try:
        yield
    finally:
        for module in changed:
            del module._attn
        for module, act in zip(activations, formula, strict=True):
            module.act = act
