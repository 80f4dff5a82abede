"""Configurations of models whose residual stream has a width of its own at every point.

``hidden_size`` stays the width D that the model had when it was trained: heads, caches and the divisor of the norms
depend on it. The widths that the stream really has are in ``layer_widths``.
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


class SlicedConfig:
    """What every sliced configuration adds to its architecture's own.

    ``layer_widths``: one record per layer. ``stream`` holds the widths of the stream where it enters the layer, after
    the attention's residual sum, and after the feed-forward's: ``[d_in, d_mid, d_out]``; a layer whose attention and
    feed-forward run side by side has ``[d_in, d_out]``. ``d_out`` of a layer is ``d_in`` of the next, and the last
    ``d_out`` is what the head reads. ``restored``: in an encoder, whether a last matrix leads back to ``hidden_size``.
    """

    layer_widths: list[dict[str, list[int]]] | None = None
    restored: bool = False
    _auto_class: str | None = "AutoConfig"
    before_first: ClassVar[Callable[[], None] | None] = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Called once, before the first configuration is made: where paperworks is imported, it makes the Auto
        # classes know the models.
        announce, SlicedConfig.before_first = SlicedConfig.before_first, None
        if announce is not None:
            announce()
        return super().__new__(cls)

    @property
    def stream_widths(self) -> list[list[int]]:
        """``stream`` of every record of ``layer_widths``."""
        return [list(record["stream"]) for record in self.layer_widths or []]


class SlicedLlamaConfig(SlicedConfig, LlamaConfig):
    model_type = "sliced_llama"


class SlicedMistralConfig(SlicedConfig, MistralConfig):
    model_type = "sliced_mistral"


class SlicedQwen2Config(SlicedConfig, Qwen2Config):
    model_type = "sliced_qwen2"


class SlicedQwen3Config(SlicedConfig, Qwen3Config):
    model_type = "sliced_qwen3"


class SlicedGemmaConfig(SlicedConfig, GemmaConfig):
    model_type = "sliced_gemma"


class SlicedPhiConfig(SlicedConfig, PhiConfig):
    model_type = "sliced_phi"


class SlicedPhi3Config(SlicedConfig, Phi3Config):
    model_type = "sliced_phi3"


class SlicedOPTConfig(SlicedConfig, OPTConfig):
    model_type = "sliced_opt"


class SlicedGPT2Config(SlicedConfig, GPT2Config):
    model_type = "sliced_gpt2"


class SlicedBertConfig(SlicedConfig, BertConfig):
    model_type = "sliced_bert"
    add_pooling_layer = True
