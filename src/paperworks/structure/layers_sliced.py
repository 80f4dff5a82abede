"""Layers whose residual stream may change its basis and its width, and how a stock layer becomes one.

The attention and feed-forward modules are those of transformers, with narrower matrices; only the residual sums are
ours: where the stream changes its basis or its width, the residual path carries a matrix (``StreamMap``). Norms have
no weight and keep the divisor D of the model as it was trained (SliceGPT, arXiv 2401.15024, section 3).

This file depends on torch and transformers only and is saved with every checkpoint.
"""

# mypy: disable-error-code="misc, attr-defined, union-attr, assignment, arg-type, call-overload, index, operator"
# The sums are mixed into stock layers, whose modules have no declared types.
from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.gemma.modeling_gemma import GemmaDecoderLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.opt.modeling_opt import OPTDecoderLayer
from transformers.models.phi.modeling_phi import PhiDecoderLayer
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from .families import Family


class StreamNorm(nn.Module):
    """RMS norm without a weight: ``x / sqrt(sum(x^2) / divisor + eps)``, computed in float32 or wider.

    ``divisor`` is the width D of the trained model whatever the width of ``x``: with the sliced width in its place
    every activation would be rescaled.
    """

    def __init__(self, divisor: int, eps: float) -> None:
        super().__init__()
        self.divisor = divisor
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) / self.divisor + self.eps)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"divisor={self.divisor}, eps={self.eps}"


class StreamMap(nn.Module):
    """``x @ weight (+ bias)``: the matrix [d_in, d_out] on a residual path.

    Not an ``nn.Linear``: what treats all linear layers alike (adapters on "all-linear") leaves it alone.
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = False, like: torch.Tensor | None = None) -> None:
        super().__init__()
        like = torch.empty(0) if like is None else like
        # torch computes eye on the meta device, too, although there is nothing to fill
        make = torch.empty if like.is_meta else torch.eye
        self.weight = nn.Parameter(make(d_in, d_out, dtype=like.dtype, device=like.device))
        self.bias = nn.Parameter(like.new_zeros(d_out)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.weight
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, bias={self.bias is not None}"


class StreamPad(nn.Module):
    """Dropout, then zeros up to ``width``. The first layer takes off again what it does not read."""

    def __init__(self, p: float, width: int) -> None:
        super().__init__()
        self.p = p
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.dropout(x, self.p, self.training)
        return nn.functional.pad(x, (0, max(0, self.width - x.shape[-1])))


class SequentialSums:
    """Norm, attention, sum; norm, feed-forward, sum. The two sums are separate, as calibration runs them one by one."""

    sums = ("attention_sum", "feed_forward_sum")

    def attention_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **context)
        return self.attention_residual(hidden_states) + attended

    def feed_forward_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        added = self.mlp(self.post_attention_layernorm(hidden_states))
        return self.feed_forward_residual(hidden_states) + added

    def forward(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        return self.feed_forward_sum(self.attention_sum(hidden_states, **context))


class SlicedLlamaDecoderLayer(SequentialSums, LlamaDecoderLayer):
    pass


class SlicedMistralDecoderLayer(SequentialSums, MistralDecoderLayer):
    pass


class SlicedQwen2DecoderLayer(SequentialSums, Qwen2DecoderLayer):
    pass


class SlicedQwen3DecoderLayer(SequentialSums, Qwen3DecoderLayer):
    pass


class SlicedGemmaDecoderLayer(SequentialSums, GemmaDecoderLayer):
    pass


class Phi3Sums(SequentialSums):
    def attention_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **context)
        return self.attention_residual(hidden_states) + self.resid_attn_dropout(attended)

    def feed_forward_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        added = self.mlp(self.post_attention_layernorm(hidden_states))
        return self.feed_forward_residual(hidden_states) + self.resid_mlp_dropout(added)


class SlicedPhi3DecoderLayer(Phi3Sums, Phi3DecoderLayer):
    pass


class OPTSums(SequentialSums):
    def attention_sum(self, hidden_states: torch.Tensor, use_cache: bool = False, **context: Any) -> torch.Tensor:
        attended, _ = self.self_attn(hidden_states=self.self_attn_layer_norm(hidden_states), **context)
        attended = nn.functional.dropout(attended, p=self.dropout, training=self.training)
        return self.attention_residual(hidden_states) + attended

    def feed_forward_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        added = self.fc2(self.activation_fn(self.fc1(self.final_layer_norm(hidden_states))))
        added = nn.functional.dropout(added, p=self.dropout, training=self.training)
        return self.feed_forward_residual(hidden_states) + added


class SlicedOPTDecoderLayer(OPTSums, OPTDecoderLayer):
    pass


class GPT2Sums(SequentialSums):
    def attention_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        attended, _ = self.attn(self.ln_1(hidden_states), **context)
        return self.attention_residual(hidden_states) + attended

    def feed_forward_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        return self.feed_forward_residual(hidden_states) + self.mlp(self.ln_2(hidden_states))

    def forward(
        self,
        hidden_states: torch.Tensor,
        past_key_values: Any = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        **context: Any,
    ) -> torch.Tensor:
        hidden_states = hidden_states[..., : self.attention_residual.weight.shape[0]]
        attended = self.attention_sum(
            hidden_states, past_key_values=past_key_values, attention_mask=attention_mask, **context
        )
        return self.feed_forward_sum(attended)


class SlicedGPT2Block(GPT2Sums, GPT2Block):
    pass


class PhiSums:
    """Attention and feed-forward read one norm; their outputs and the residual are added at once."""

    sums = ("parallel_sum",)

    def parallel_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        normed = self.input_layernorm(hidden_states)
        attended, _ = self.self_attn(hidden_states=normed, **context)
        added = self.resid_dropout(attended) + self.resid_dropout(self.mlp(normed))
        return added + self.attention_residual(hidden_states)

    def forward(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        return self.parallel_sum(hidden_states, **context)


class SlicedPhiDecoderLayer(PhiSums, PhiDecoderLayer):
    pass


class BertSums:
    """Block, sum, norm. The stream between layers is the normed sum; the residual maps undo and redo the norm's gain.

    ``restore``, in the last layer of a model whose last sum is sliced, leads back to all D dimensions.
    """

    sums = ("attention_sum", "feed_forward_sum")

    def attention_sum(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **context: Any
    ) -> torch.Tensor:
        attended, _ = self.attention.self(hidden_states, attention_mask=attention_mask, **context)
        output = self.attention.output
        return self.attention_residual(hidden_states) + output.dropout(output.dense(attended))

    def feed_forward_sum(self, hidden_states: torch.Tensor, **context: Any) -> torch.Tensor:
        added = self.output.dropout(self.output.dense(self.intermediate(hidden_states)))
        return self.feed_forward_residual(hidden_states) + added

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **context: Any,
    ) -> torch.Tensor:
        hidden_states = self.attention_sum(hidden_states, attention_mask, **context)
        hidden_states = self.feed_forward_sum(self.attention.output.LayerNorm(hidden_states))
        hidden_states = self.output.LayerNorm(hidden_states)
        restore = getattr(self, "restore", None)
        return hidden_states if restore is None else restore(hidden_states)


class SlicedBertLayer(BertSums, BertLayer):
    pass


LAYER_CLASSES: dict[str, type[nn.Module]] = {
    "llama": SlicedLlamaDecoderLayer,
    "mistral": SlicedMistralDecoderLayer,
    "qwen2": SlicedQwen2DecoderLayer,
    "qwen3": SlicedQwen3DecoderLayer,
    "gemma": SlicedGemmaDecoderLayer,
    "phi": SlicedPhiDecoderLayer,
    "phi3": SlicedPhi3DecoderLayer,
    "opt": SlicedOPTDecoderLayer,
    "gpt2": SlicedGPT2Block,
    "bert": SlicedBertLayer,
}


def set_weight(module: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """Give a Linear, Conv1D or Embedding another weight (in its own layout) and, if not None, another bias."""
    module.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)
    if bias is not None:
        module.bias = nn.Parameter(bias, requires_grad=module.weight.requires_grad)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight.shape
    else:
        module.nx, module.nf = weight.shape


def part(module: nn.Module, path: str) -> Any:
    """The submodule at ``path``, whose attributes are those of its stock class."""
    return module.get_submodule(path)


def norm_eps(norm: nn.Module) -> float:
    """The eps of a norm, under the names that transformers gives it."""
    eps = getattr(norm, "variance_epsilon", None)
    return float(norm.eps if eps is None else eps)


def convert_layer(layer: nn.Module, family: Family, sums_bias: tuple[bool, ...], last: bool, slice_head: bool) -> None:
    """Make a stock layer a sliced layer of full width: norms without weight, identity maps on the residual paths.

    Weights of the norms are dropped: absorb them first, or load new weights afterwards. ``sums_bias``: per block,
    whether the norm that feeds it has a bias, for which its inputs (and post-norm residual maps) then need one.
    """
    width = None
    for index, (block, has_bias) in enumerate(zip(family.blocks, sums_bias, strict=True)):
        for path in block.inputs:
            module = layer.get_submodule(path)
            if has_bias:
                give_bias(module)
        first = layer.get_submodule(block.outputs[0])
        width = first.nf if hasattr(first, "nf") else first.out_features
        name = "attention_residual" if index == 0 else "feed_forward_residual"
        bias = has_bias and family.topology == "post_norm"
        setattr(layer, name, StreamMap(width, width, bias=bias, like=first.weight))
        keeps_norm = family.topology == "post_norm" and last and index == 1 and not slice_head
        if not keeps_norm:
            norm = layer.get_submodule(block.norm)
            eps = norm_eps(norm)
            layer.set_submodule(block.norm, StreamNorm(width, eps))
    if family.topology == "post_norm" and last and slice_head:
        layer.restore = StreamMap(width, width, bias=True, like=first.weight)
    layer.__class__ = LAYER_CLASSES[family.model_type]


def resize_layer(layer: nn.Module, family: Family, widths: list[int], width: int) -> None:
    """Give the modules of a converted layer new, empty weights for the stream widths ``[d_in, ..., d_out]``."""
    for index, block in enumerate(family.blocks):
        d_in, d_out = widths[index], widths[index + 1]
        for path in block.inputs:
            module = layer.get_submodule(path)
            new = module.weight.new_empty
            shape = (d_in, module.nf) if hasattr(module, "nf") else (module.out_features, d_in)
            set_weight(module, new(shape))
        for path in block.outputs:
            module = layer.get_submodule(path)
            new = module.weight.new_empty
            shape = (module.nx, d_out) if hasattr(module, "nx") else (d_out, module.in_features)
            set_weight(module, new(shape), None if module.bias is None else new(d_out))
        name = "attention_residual" if index == 0 else "feed_forward_residual"
        old = getattr(layer, name)
        setattr(layer, name, StreamMap(d_in, d_out, bias=old.bias is not None, like=old.weight))
    if getattr(layer, "restore", None) is not None:
        layer.restore = StreamMap(widths[-1], width, bias=True, like=layer.restore.weight)


def sums_bias_of(model: nn.Module, family: Family) -> list[tuple[bool, ...]]:
    """Per layer of a stock model and per block: whether the norm that feeds the block has a bias."""
    fed_by = False
    if family.embedding_norm:
        fed_by = getattr(model.get_submodule(family.embedding_norm), "bias", None) is not None
    found = []
    for layer in model.get_submodule(family.layers):
        own = [getattr(layer.get_submodule(block.norm), "bias", None) is not None for block in family.blocks]
        if family.topology == "post_norm":  # a block is fed by the norm after the block before it
            own, fed_by = [fed_by, *own[:-1]], own[-1]
        found.append(tuple(own))
    return found


def give_bias(module: nn.Linear) -> None:
    """A bias of zeros, where there is none."""
    if module.bias is None:
        module.bias = nn.Parameter(module.weight.new_zeros(module.out_features))


def convert_shell(model: nn.Module, family: Family) -> None:
    """Replace the norms around the layers by norms without weight. Absorb their weights elsewhere first."""
    for path in (family.embedding_norm, family.final_norm):
        if path:
            model.set_submodule(path, StreamNorm(model.config.hidden_size, norm_eps(model.get_submodule(path))))


def pad_stream(model: nn.Module, family: Family, d_last: int) -> None:
    """Pad the stream to its last width where the family's forward needs both ends to be equally wide."""
    if family.padded_at:
        dropout = model.get_submodule(family.padded_at)
        model.set_submodule(family.padded_at, StreamPad(dropout.p, d_last).train(dropout.training))


def resize_embeddings(model: nn.Module, family: Family, d: int) -> None:
    """Give the embeddings new, empty weights for a stream that starts with ``d`` dimensions."""
    for path in family.embeddings:
        module = model.get_submodule(path)
        set_weight(module, module.weight.new_empty(module.num_embeddings, d))


def resize_head(model: nn.Module, family: Family, d: int) -> None:
    """Give the head, if there is one, a new, empty weight for a stream that ends with ``d`` dimensions."""
    if family.head:
        head = model.get_submodule(family.head)
        set_weight(head, head.weight.new_empty(head.out_features, d))
