"""Configurations of models whose layers have heads, channels and widths of their own.

``hidden_size``, ``num_attention_heads`` and the like stay those of the model as it was trained: scales of attention,
rotary frequencies and divisors of the norms depend on them. What each layer really has is in ``layer_widths``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

from transformers import (
    BertConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)


class PrunedConfig:
    """What every pruned configuration adds to its architecture's own.

    ``layer_widths``: one record per layer, with

    - ``heads`` and ``kv_heads``: query heads and key-value heads (0: the layer has no attention);
    - ``ffn``: channels of the feed-forward (0: it has none);
    - ``qk``: which channels of a query or key head are left, as positions among the trained head's units (rotary pairs
      first, then channels that are not turned), or None for all;
    - ``v``: channels of a value head, or None for all;
    - ``attention_in``, ``attention_out``, ``feed_forward_in``, ``feed_forward_out``: of how many dimensions of the
      stream the block reads or writes, where it is not all (None). Which ones they are is stored with the weights.

    ``hidden_width``: width of the stream, where it is not ``hidden_size``.
    ``added_biases``: paths inside a layer of matrices that have a bias though the architecture's own have none.
    """

    layer_widths: list[dict[str, Any]] | None = None
    hidden_width: int | None = None
    added_biases: list[str] | None = None
    _auto_class: str | None = "AutoConfig"
    before_first: ClassVar[Callable[[], None] | None] = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Called once, before the first configuration is made: where paperworks is imported, it makes the Auto
        # classes know the models.
        announce, PrunedConfig.before_first = PrunedConfig.before_first, None
        if announce is not None:
            announce()
        return super().__new__(cls)


class PrunedLlamaConfig(PrunedConfig, LlamaConfig):
    model_type = "pruned_llama"


class PrunedMistralConfig(PrunedConfig, MistralConfig):
    model_type = "pruned_mistral"


class PrunedQwen2Config(PrunedConfig, Qwen2Config):
    model_type = "pruned_qwen2"


class PrunedQwen3Config(PrunedConfig, Qwen3Config):
    model_type = "pruned_qwen3"


class PrunedGemmaConfig(PrunedConfig, GemmaConfig):
    model_type = "pruned_gemma"


class PrunedPhiConfig(PrunedConfig, PhiConfig):
    model_type = "pruned_phi"


class PrunedPhi3Config(PrunedConfig, Phi3Config):
    model_type = "pruned_phi3"


class PrunedOPTConfig(PrunedConfig, OPTConfig):
    model_type = "pruned_opt"


class PrunedGPT2Config(PrunedConfig, GPT2Config):
    model_type = "pruned_gpt2"


class PrunedBertConfig(PrunedConfig, BertConfig):
    model_type = "pruned_bert"
    add_pooling_layer = True
