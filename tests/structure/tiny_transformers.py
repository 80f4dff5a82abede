"""Random models of every family, a few thousand parameters each, with gains and biases far from 1 and 0."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

D = 32
VOCAB = 96
DECODERS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "phi3", "opt", "gpt2")
KINDS = (*DECODERS, "bert")

_LLAMA_LIKE = {
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "gemma": "GemmaConfig",
    "phi": "PhiConfig",
    "phi3": "Phi3Config",
}


def tiny_config(kind: str, **changes: Any) -> Any:
    """Three layers, 32 wide, 4 heads, 2 key-value heads where the family has them."""
    if kind in _LLAMA_LIKE:
        fields: dict[str, Any] = {
            "vocab_size": VOCAB,
            "hidden_size": D,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        if kind in ("gemma", "qwen3"):
            fields["head_dim"] = 8
        return getattr(transformers, _LLAMA_LIKE[kind])(**{**fields, **changes})
    if kind == "opt":
        fields = {"ffn_dim": 48, "word_embed_proj_dim": D, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        fields |= {"hidden_size": D, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64}
        return transformers.OPTConfig(**{"vocab_size": VOCAB, **fields, **changes})
    if kind == "gpt2":
        fields = {"n_embd": D, "n_layer": 3, "n_head": 4, "n_positions": 64}
        fields |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        return transformers.GPT2Config(**{"vocab_size": VOCAB, **fields, **changes})
    fields = {"hidden_size": D, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    return transformers.BertConfig(**{"vocab_size": VOCAB, "max_position_embeddings": 64, **fields, **changes})


def tiny(kind: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A model in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto = transformers.AutoModel if kind == "bert" else transformers.AutoModelForCausalLM
        model = auto.from_config(tiny_config(kind, **changes)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.to(dtype)


def token_ids(n: int = 16, length: int = 24, seed: int = 3) -> torch.Tensor:
    """int64 [n, length], without special tokens."""
    return torch.randint(3, VOCAB, (n, length), generator=torch.Generator().manual_seed(seed))


def outputs(model: nn.Module, ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Logits, or last hidden states of an encoder."""
    with torch.no_grad():
        return model(input_ids=ids, **kwargs)[0]


def exact_norms(model: nn.Module) -> nn.Module:
    """Stock RMS norms compute in float32 whatever they are given; for comparisons in float64 they must not."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
            offset = 1.0 if type(module).__name__ == "GemmaRMSNorm" else 0.0

            def forward(x: torch.Tensor, m: Any = module, eps: float = eps, offset: float = offset) -> torch.Tensor:
                return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * (m.weight + offset)

            module.forward = forward
    return model


def random_basis(width: int, generator: torch.Generator) -> torch.Tensor:
    """An orthogonal matrix, float64."""
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=generator))[0]


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether all parameters have the same names and bits."""
    left, right = dict(a.named_parameters()), dict(b.named_parameters())
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
