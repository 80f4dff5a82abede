"""Torch's own attention with a matrix of its own for queries, keys, values and output, so that it can be cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from paperworks.errors import InputError


class PrunableMultiheadAttention(nn.Module):
    """``nn.MultiheadAttention`` whose heads, channels of heads and streams may each be cut.

        query -> q_proj -> [b, heads, L, head_dim] -.
        key   -> k_proj -> [b, heads, S, head_dim] -+-> softmax(q k^T scale + mask) v -> out_proj -> [b, L, embed_dim]
        value -> v_proj -> [b, heads, S, any]      -'

    torch packs the three inputs into one matrix and compares every width with the one it was made with. Here the widths
    are those of the matrices. Made by ``prunable_attention``. The function, the arguments and the outputs of
    ``forward`` are torch's. ``scale`` is that of the dense module, also after a cut.
    """

    in_proj_bias = None  # with the next line: torch's encoder layers call forward, not their own kernel
    _qkv_same_embed_dim = False

    def __init__(self, dense: nn.MultiheadAttention) -> None:
        """The weights are copied from ``dense``; type, device and mode are its own."""
        super().__init__()
        self.num_heads, self.batch_first, self.dropout = dense.num_heads, dense.batch_first, dense.dropout
        self.scale = dense.head_dim**-0.5
        packed, bias = dense.in_proj_weight, dense.in_proj_bias
        own = (dense.q_proj_weight, dense.k_proj_weight, dense.v_proj_weight)
        matrices: Iterable[torch.Tensor] = own if packed is None else packed.chunk(3)  # type: ignore[assignment]
        biases = [None] * 3 if bias is None else bias.chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(_linear, matrices, biases)
        self.out_proj = _linear(dense.out_proj.weight, dense.out_proj.bias)
        self.train(dense.training)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See ``nn.MultiheadAttention.forward``. ``is_causal`` is a hint there, and needs ``attn_mask``."""
        if is_causal and attn_mask is None:
            raise InputError("attn_mask", None, "the causal mask, of which is_causal is a hint")
        single = query.dim() == 2
        if single:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        batch = query.shape[0]
        q, k, v = (
            project(x).view(batch, x.shape[1], self.num_heads, -1).transpose(1, 2)
            for project, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        mask = _mask(attn_mask, key_padding_mask, batch, q.dtype)
        share = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.scale) @ k.transpose(-2, -1)
            weights = dropout((scores if mask is None else scores + mask).softmax(-1), share)
            heads = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            heads = scaled_dot_product_attention(q, k, v, mask, share, scale=self.scale)
        out = self.out_proj(heads.transpose(1, 2).flatten(2))
        if single:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights


def prunable_attention(model: Any, only: Iterable[str] | None = None) -> Any:
    """Replace every ``nn.MultiheadAttention`` by a ``PrunableMultiheadAttention``; edits and returns ``model``.

    Parameters are new objects afterwards: make optimizers after it. ``load_cut`` does the same to what ``build`` makes.
    Attention with learned or zero keys beside those of the input (``add_bias_kv``, ``add_zero_attn``) stays as it is,
    as do subclasses, whose function may be another.

    Parameters
    ----------
    model : a module; where it is an ``nn.MultiheadAttention`` itself, the new one is returned.
    only : names of the modules to replace. None replaces all.

    Raises
    ------
    InputError : ``only`` names a module that is none of torch's attention.
    """
    wanted = None if only is None else set(only)
    found = dense_attention(model)
    if wanted is not None and wanted - set(found):
        raise InputError(
            "only", min(wanted - set(found)), f"names of nn.MultiheadAttention: {', '.join(found) or 'none'}"
        )
    made: dict[int, PrunableMultiheadAttention] = {}  # a module under two names stays one
    for name, dense in found.items():
        if not is_replaceable(dense) or (wanted is not None and name not in wanted):
            continue
        if id(dense) not in made:
            made[id(dense)] = PrunableMultiheadAttention(dense)
        if not name:
            return made[id(dense)]
        model.set_submodule(name, made[id(dense)])
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # its kernel reads the packed matrix
    return model


def is_replaceable(module: nn.Module) -> bool:
    """Whether ``prunable_attention`` replaces a module."""
    return type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn


def dense_attention(model: nn.Module) -> dict[str, nn.MultiheadAttention]:
    """Torch's own attention by name; a module under two names has both."""
    modules = model.named_modules(remove_duplicate=False)
    return {name: m for name, m in modules if type(m) is nn.MultiheadAttention}


def replaced_attention(model: nn.Module) -> list[str]:
    """Names of the modules that ``prunable_attention`` made."""
    return [n for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, PrunableMultiheadAttention)]


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """A layer with a copy of these weights."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
    return made


def _mask(
    attention: torch.Tensor | None, padding: torch.Tensor | None, batch: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """What is added to the scores, broadcast over ``[b, heads, L, S]``: bool masks are True where nothing is read."""
    found = None
    if attention is not None:
        shape = attention.shape if attention.dim() == 2 else (batch, -1, *attention.shape[1:])
        found = _added(attention, dtype).view(shape)
    if padding is not None:
        added = _added(padding, dtype)[:, None, None, :]
        found = added if found is None else found + added
    return found


def _added(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))
