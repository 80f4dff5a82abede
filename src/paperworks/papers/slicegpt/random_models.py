"""Small models with random weights, one per family: what exact properties are checked on."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 64,
}
_PLAIN = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 101,
    "max_position_embeddings": 64,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": 16},
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 24},
    "phi3": {**_LLAMA, "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0},
    "phi": {**_PLAIN, "intermediate_size": 96},
    "opt": {**_PLAIN, "ffn_dim": 96, "word_embed_proj_dim": 64},
    "gpt2": {
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 101,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
    "bert": {**_PLAIN, "intermediate_size": 96},
}
LAYER_NORM = ("phi", "opt", "gpt2", "bert")
"""The families with LayerNorm and biases."""


def random_model(family: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """A model of the family, 64 wide, with random weights, gains and biases, in evaluation mode."""
    config = AutoConfig.for_model(family, **SETTINGS[family])
    auto: Any = AutoModel if family == "bert" else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = auto.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                # Gains of one and biases of zero would hide a part that was forgotten.
                parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = MethodType(_norm_in_own_dtype, module)
    return model.to(dtype).eval()


def _norm_in_own_dtype(self: Any, x: torch.Tensor) -> torch.Tensor:
    """RMSNorm without transformers' detour through float32, which would hide errors below 1e-6."""
    return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)


def random_tokens(n: int, length: int, seed: int = 0) -> torch.Tensor:
    """Token ids int64 ``[n, length]`` for ``random_model``."""
    return torch.randint(3, 101, (n, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def outputs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits of a decoder, hidden states of an encoder."""
    found = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return found.logits if hasattr(found, "logits") else found.last_hidden_state
