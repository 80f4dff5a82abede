"""Tiny random models, with a byte tokenizer and rows to tune on."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

D, VOCAB = 32, 320
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "phi", "gpt2", "opt")
NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "phi3": "Phi3", "phi": "Phi"}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ROWS = [
    {"instruction": f"Say number {n}.", "input": "in words" if n % 2 else "", "output": f"It is {n} and {n + 1}."}
    for n in range(16)
]


def tiny(kind: str, positions: int = 128, **changes: Any) -> Any:
    """Three layers, 32 wide, 4 heads (2 key-value heads where the family has them), with gains far from 1."""
    if kind in NAMES:
        fields: dict[str, Any] = {
            "vocab_size": VOCAB,
            "hidden_size": D,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": positions,
            **SPECIAL,
        }
        fields |= {"head_dim": 8} if kind == "qwen3" else {}
        config = getattr(transformers, f"{NAMES[kind]}Config")(**{**fields, **changes})
    elif kind == "opt":
        fields = {"ffn_dim": 48, "word_embed_proj_dim": D, "hidden_size": D, "num_hidden_layers": 3, **SPECIAL}
        fields |= {"num_attention_heads": 4, "max_position_embeddings": positions, "vocab_size": VOCAB}
        config = transformers.OPTConfig(**{**fields, **changes})
    else:
        fields = {"n_embd": D, "n_layer": 3, "n_head": 4, "n_positions": positions, "vocab_size": VOCAB, **SPECIAL}
        config = transformers.GPT2Config(**{**fields, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def token_ids(n: int = 16, length: int = 24, seed: int = 3) -> torch.Tensor:
    """int64 [n, length], without special tokens."""
    return torch.randint(3, VOCAB, (n, length), generator=torch.Generator().manual_seed(seed))


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, behind <pad>, <bos> and <eos>."""
    letters = ["<pad>", "<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
