"""Transformers whose layers have heads, channels and widths of their own: the models around ``layers_pruned``.

Cache, generation, gradient checkpointing, attention implementations, ties and adapters are inherited from transformers.
This file depends on torch and transformers only and is saved with every checkpoint.
"""

# mypy: disable-error-code="misc, attr-defined, union-attr, assignment, arg-type, call-arg, call-overload"
# PrunedModel is mixed into stock models, whose modules have no declared types.
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

from .configuration_pruned import (
    PrunedBertConfig,
    PrunedGemmaConfig,
    PrunedGPT2Config,
    PrunedLlamaConfig,
    PrunedMistralConfig,
    PrunedOPTConfig,
    PrunedPhi3Config,
    PrunedPhiConfig,
    PrunedQwen2Config,
    PrunedQwen3Config,
)
from .families import FAMILIES
from .layers_pruned import dress_model, resize_model


class PrunedModel:
    """Builds the stock model, then gives every module the sizes of ``config.layer_widths``."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if config.layer_widths is None:
            raise ValueError(f"{type(config).__name__}.layer_widths: found None; expected one record per layer")
        family = FAMILIES[config.model_type.removeprefix("pruned_")]
        resize_model(self, family)
        dress_model(self, family)
        if not any(p.is_meta for p in self.parameters()):
            for module in self.modules():
                self._init_weights(module)


class PrunedLlamaForCausalLM(PrunedModel, LlamaForCausalLM):
    config_class = PrunedLlamaConfig
    _auto_class = "AutoModelForCausalLM"


class PrunedMistralForCausalLM(PrunedModel, MistralForCausalLM):
    config_class = PrunedMistralConfig
    _auto_class = "AutoModelForCausalLM"


class PrunedQwen2ForCausalLM(PrunedModel, Qwen2ForCausalLM):
    config_class = PrunedQwen2Config
    _auto_class = "AutoModelForCausalLM"


class PrunedQwen3ForCausalLM(PrunedModel, Qwen3ForCausalLM):
    config_class = PrunedQwen3Config
    _auto_class = "AutoModelForCausalLM"


class PrunedGemmaForCausalLM(PrunedModel, GemmaForCausalLM):
    config_class = PrunedGemmaConfig
    _auto_class = "AutoModelForCausalLM"


class PrunedPhiForCausalLM(PrunedModel, PhiForCausalLM):
    config_class = PrunedPhiConfig
    _auto_class = "AutoModelForCausalLM"


class PrunedPhi3ForCausalLM(PrunedModel, Phi3ForCausalLM):
    config_class = PrunedPhi3Config
    _auto_class = "AutoModelForCausalLM"


class PrunedOPTForCausalLM(PrunedModel, OPTForCausalLM):
    config_class = PrunedOPTConfig
    _auto_class = "AutoModelForCausalLM"


class PrunedGPT2LMHeadModel(PrunedModel, GPT2LMHeadModel):
    config_class = PrunedGPT2Config
    _auto_class = "AutoModelForCausalLM"


class PrunedBertModel(PrunedModel, BertModel):
    config_class = PrunedBertConfig
    _auto_class = "AutoModel"

    def __init__(self, config: PrunedBertConfig, add_pooling_layer: bool | None = None) -> None:
        pooled = config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer
        super().__init__(config, add_pooling_layer=pooled)


PRUNED_CLASSES: dict[str, type[nn.Module]] = {
    "llama": PrunedLlamaForCausalLM,
    "mistral": PrunedMistralForCausalLM,
    "qwen2": PrunedQwen2ForCausalLM,
    "qwen3": PrunedQwen3ForCausalLM,
    "gemma": PrunedGemmaForCausalLM,
    "phi": PrunedPhiForCausalLM,
    "phi3": PrunedPhi3ForCausalLM,
    "opt": PrunedOPTForCausalLM,
    "gpt2": PrunedGPT2LMHeadModel,
    "bert": PrunedBertModel,
}
