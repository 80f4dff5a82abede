"""Transformers whose residual stream has a width of its own at every point: the models around ``layers_sliced``.

Cache, generation, gradient checkpointing, attention implementations and adapters are inherited from transformers. This
file depends on torch and transformers only and is saved with every checkpoint.
"""

# mypy: disable-error-code="misc, attr-defined, union-attr, assignment, arg-type, call-arg, call-overload"
# SlicedModel is mixed into stock models, whose modules have no declared types.
from __future__ import annotations

from typing import Any

from torch import nn
from transformers import (
    BertModel,
    GemmaForCausalLM,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
    OPTForCausalLM,
    Phi3ForCausalLM,
    PhiForCausalLM,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from .configuration_sliced import (
    SlicedBertConfig,
    SlicedGemmaConfig,
    SlicedGPT2Config,
    SlicedLlamaConfig,
    SlicedMistralConfig,
    SlicedOPTConfig,
    SlicedPhi3Config,
    SlicedPhiConfig,
    SlicedQwen2Config,
    SlicedQwen3Config,
)
from .families import FAMILIES, Family
from .layers_sliced import (
    convert_layer,
    convert_shell,
    give_bias,
    pad_stream,
    resize_embeddings,
    resize_head,
    resize_layer,
    sums_bias_of,
)


class SlicedModel:
    """Builds the stock model, then gives every matrix on the stream the width of ``config.layer_widths``."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if config.layer_widths is None:
            raise ValueError(f"{type(config).__name__}.layer_widths: found None; expected one record per layer")
        family = FAMILIES[config.model_type.removeprefix("sliced_")]
        build_sliced(self, family, config.stream_widths, config.restored)
        if not any(p.is_meta for p in self.parameters()):
            for module in self.modules():
                self._init_weights(module)


def build_sliced(model: nn.Module, family: Family, stream_widths: list[list[int]], restored: bool) -> None:
    """Turn a freshly built stock model into a sliced one with empty weights of the given widths."""
    width = model.config.hidden_size
    d_last = stream_widths[-1][-1]
    biases = sums_bias_of(model, family)
    layers = model.get_submodule(family.layers)
    for index, (layer, widths) in enumerate(zip(layers, stream_widths, strict=True)):
        convert_layer(layer, family, biases[index], index == len(layers) - 1, slice_head=restored)
        resize_layer(layer, family, widths, width)
    if family.head and getattr(model.get_submodule(family.final_norm), "bias", None) is not None:
        give_bias(model.get_submodule(family.head))
    convert_shell(model, family)
    resize_embeddings(model, family, stream_widths[0][0])
    resize_head(model, family, d_last)
    pad_stream(model, family, d_last)


class SlicedLlamaForCausalLM(SlicedModel, LlamaForCausalLM):
    config_class = SlicedLlamaConfig
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedLlamaDecoderLayer",)


class SlicedMistralForCausalLM(SlicedModel, MistralForCausalLM):
    config_class = SlicedMistralConfig
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedMistralDecoderLayer",)


class SlicedQwen2ForCausalLM(SlicedModel, Qwen2ForCausalLM):
    config_class = SlicedQwen2Config
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedQwen2DecoderLayer",)


class SlicedQwen3ForCausalLM(SlicedModel, Qwen3ForCausalLM):
    config_class = SlicedQwen3Config
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedQwen3DecoderLayer",)


class SlicedGemmaForCausalLM(SlicedModel, GemmaForCausalLM):
    config_class = SlicedGemmaConfig
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedGemmaDecoderLayer",)


class SlicedPhiForCausalLM(SlicedModel, PhiForCausalLM):
    config_class = SlicedPhiConfig
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedPhiDecoderLayer",)


class SlicedPhi3ForCausalLM(SlicedModel, Phi3ForCausalLM):
    config_class = SlicedPhi3Config
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedPhi3DecoderLayer",)


class SlicedOPTForCausalLM(SlicedModel, OPTForCausalLM):
    config_class = SlicedOPTConfig
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedOPTDecoderLayer",)


class SlicedGPT2LMHeadModel(SlicedModel, GPT2LMHeadModel):
    config_class = SlicedGPT2Config
    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = None
    _no_split_modules = ("SlicedGPT2Block",)


class SlicedBertModel(SlicedModel, BertModel):
    config_class = SlicedBertConfig
    _auto_class = "AutoModel"
    _no_split_modules = ("BertEmbeddings", "SlicedBertLayer")

    def __init__(self, config: SlicedBertConfig, add_pooling_layer: bool | None = None) -> None:
        pooled = config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer
        super().__init__(config, add_pooling_layer=pooled)


MODEL_CLASSES: dict[str, type[nn.Module]] = {
    "llama": SlicedLlamaForCausalLM,
    "mistral": SlicedMistralForCausalLM,
    "qwen2": SlicedQwen2ForCausalLM,
    "qwen3": SlicedQwen3ForCausalLM,
    "gemma": SlicedGemmaForCausalLM,
    "phi": SlicedPhiForCausalLM,
    "phi3": SlicedPhi3ForCausalLM,
    "opt": SlicedOPTForCausalLM,
    "gpt2": SlicedGPT2LMHeadModel,
    "bert": SlicedBertModel,
}
