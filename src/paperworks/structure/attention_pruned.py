"""Stock modules with forwards for other widths: attention, feed-forwards, LayerNorms over a part of the stream.

This file depends on torch and transformers only and is saved with every checkpoint.
"""

# mypy: disable-error-code="misc, attr-defined, union-attr, assignment, arg-type, call-overload, index, operator"
# The forwards are mixed into stock modules, which have no declared types.
from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import BertSelfAttention
from transformers.models.gemma.modeling_gemma import GemmaAttention, GemmaMLP
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, eager_attention_forward
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralMLP
from transformers.models.opt.modeling_opt import OPTAttention
from transformers.models.phi.modeling_phi import PhiAttention, PhiMLP
from transformers.models.phi3.modeling_phi3 import Phi3Attention, Phi3MLP
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2MLP
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3MLP
from transformers.pytorch_utils import Conv1D


class PartNorm(nn.Module):
    """LayerNorm over the dimensions that are left of ``divisor``, those that are gone counted as zeros.

    mean = sum(x) / divisor; variance = (sum((x - mean)^2) + (divisor - len(x)) mean^2) / divisor.
    """

    def __init__(self, divisor: int, eps: float, weight: nn.Parameter, bias: nn.Parameter) -> None:
        super().__init__()
        self.divisor, self.eps = divisor, eps
        self.weight, self.bias = weight, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = wide.sum(-1, keepdim=True) / self.divisor
        centred = wide - mean
        gone = self.divisor - x.shape[-1]
        variance = (centred.square().sum(-1, keepdim=True) + gone * mean.square()) / self.divisor
        return (centred * torch.rsqrt(variance + self.eps)).to(x.dtype) * self.weight + self.bias

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]} of {self.divisor}, eps={self.eps}"


class PartOfStream:
    """``stream_reads`` and ``stream_writes``: int64 buffers with the dimensions of the stream that a block touches."""

    def read(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.stream_reads is None else x.index_select(-1, self.stream_reads)

    def write(self, y: torch.Tensor) -> torch.Tensor:
        if self.stream_writes is None:
            return y
        whole = y.new_zeros(*y.shape[:-1], self.stream_width)
        return whole.index_copy(-1, self.stream_writes, y)


class WidthsAttention(PartOfStream):
    """Attention with any number of heads, query and value heads of different widths, a part of the rotary pairs."""

    inputs: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    output = "o_proj"
    norms: tuple[str, str] | None = None

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        x = self.read(hidden_states)
        if self.head_counts[0] == 0:
            return self.finish(x.new_zeros(*x.shape[:-1], 0)), None
        query, key, value = self.split(x)
        if position_embeddings is not None:
            query, key = self.turn(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        window = getattr(self, "sliding_window", None) or getattr(self.config, "sliding_window", None)
        if getattr(self, "layer_type", "sliding_attention") != "sliding_attention":
            window = None
        if window is not None:
            kwargs["sliding_window"] = window
        dropout = self.drop_rate() if self.training else 0.0
        attended, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return self.finish(attended.reshape(*x.shape[:-1], -1).contiguous()), weights

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Query, key and value, [b, heads, T, channels]."""
        (heads, kv_heads), (qk, v) = self.head_counts, self.head_widths
        projected = [getattr(self, name)(x) for name in self.inputs]
        if len(projected) == 1:
            projected = list(projected[0].split([heads * qk, kv_heads * qk, kv_heads * v], -1))
        shapes = ((heads, qk), (kv_heads, qk), (kv_heads, v))
        parts = [y.view(*x.shape[:-1], *shape) for y, shape in zip(projected, shapes, strict=True)]
        for index, norm in enumerate(self.norms or ()):
            parts[index] = getattr(self, norm)(parts[index])
        return tuple(y.transpose(1, 2) for y in parts)

    def turn(
        self, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotary positions on the pairs that are left, at their own frequencies."""
        if self.turned is not None:
            pairs = torch.tensor(self.turned, dtype=torch.int64, device=cos.device)
            both = torch.cat([pairs, pairs + cos.shape[-1] // 2])
            cos, sin = cos.index_select(-1, both), sin.index_select(-1, both)
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        width = cos.shape[-1]

        def apply(x: torch.Tensor) -> torch.Tensor:
            rotated, rest = x[..., :width], x[..., width:]
            first, second = rotated.chunk(2, -1)
            return torch.cat([rotated * cos + torch.cat([-second, first], -1) * sin, rest], -1)

        return apply(query), apply(key)

    def drop_rate(self) -> float:
        return self.attention_dropout

    def finish(self, attended: torch.Tensor) -> torch.Tensor:
        return self.write(getattr(self, self.output)(attended))


class PrunedLlamaAttention(WidthsAttention, LlamaAttention):
    pass


class PrunedMistralAttention(WidthsAttention, MistralAttention):
    pass


class PrunedQwen2Attention(WidthsAttention, Qwen2Attention):
    pass


class PrunedQwen3Attention(WidthsAttention, Qwen3Attention):
    norms = ("q_norm", "k_norm")


class PrunedGemmaAttention(WidthsAttention, GemmaAttention):
    pass


class PrunedPhi3Attention(WidthsAttention, Phi3Attention):
    inputs = ("qkv_proj",)


class PrunedPhiAttention(WidthsAttention, PhiAttention):
    output = "dense"

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value = super().split(x)
        return (self.q_layernorm(query), self.k_layernorm(key), value) if self.qk_layernorm else (query, key, value)


class PrunedOPTAttention(WidthsAttention, OPTAttention):
    output = "out_proj"

    def drop_rate(self) -> float:
        return self.dropout


class PrunedGPT2Attention(WidthsAttention, GPT2Attention):
    inputs = ("c_attn",)

    def drop_rate(self) -> float:
        return self.attn_dropout.p

    def finish(self, attended: torch.Tensor) -> torch.Tensor:
        return self.write(self.resid_dropout(self.c_proj(attended)))


class PrunedBertAttention(WidthsAttention, BertSelfAttention):
    inputs = ("query", "key", "value")

    def drop_rate(self) -> float:
        return self.dropout.p

    def finish(self, attended: torch.Tensor) -> torch.Tensor:
        return attended


class WidthsMLP(PartOfStream):
    """A feed-forward that reads and writes a part of the stream."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.write(super().forward(self.read(hidden_states)))


class PrunedLlamaMLP(WidthsMLP, LlamaMLP):
    pass


class PrunedMistralMLP(WidthsMLP, MistralMLP):
    pass


class PrunedQwen2MLP(WidthsMLP, Qwen2MLP):
    pass


class PrunedQwen3MLP(WidthsMLP, Qwen3MLP):
    pass


class PrunedGemmaMLP(WidthsMLP, GemmaMLP):
    pass


class PrunedPhiMLP(WidthsMLP, PhiMLP):
    pass


class PrunedPhi3MLP(WidthsMLP, Phi3MLP):
    pass


class PrunedGPT2MLP(WidthsMLP, GPT2MLP):
    pass


class EmptyConv1D(Conv1D):
    """A Conv1D without inputs, which gives its bias: the stock forward cannot reshape what has no elements."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(*x.shape[:-1], self.nf)


ATTENTION_CLASSES: dict[str, type[nn.Module]] = {
    "llama": PrunedLlamaAttention,
    "mistral": PrunedMistralAttention,
    "qwen2": PrunedQwen2Attention,
    "qwen3": PrunedQwen3Attention,
    "gemma": PrunedGemmaAttention,
    "phi": PrunedPhiAttention,
    "phi3": PrunedPhi3Attention,
    "opt": PrunedOPTAttention,
    "gpt2": PrunedGPT2Attention,
    "bert": PrunedBertAttention,
}
MLP_CLASSES: dict[str, type[nn.Module]] = {
    "llama": PrunedLlamaMLP,
    "mistral": PrunedMistralMLP,
    "qwen2": PrunedQwen2MLP,
    "qwen3": PrunedQwen3MLP,
    "gemma": PrunedGemmaMLP,
    "phi": PrunedPhiMLP,
    "phi3": PrunedPhi3MLP,
    "gpt2": PrunedGPT2MLP,
}
