"""What the studies share: the bundled model, its texts, and random models of other families."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers

from paperworks import runs
from paperworks.language import bundled_text, load_model, perplexity, token_windows
from paperworks.papers.adapt_pruner.pruner import AdaptPruner
from paperworks.structure import count

LENGTH = 64


@dataclass
class Bench:
    """The bundled model (6 layers, 8 query and 4 key-value heads, 640 channels) and its texts."""

    run: runs.Run
    fast: bool

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        return load_model(None, "float32", "cpu")

    @property
    def dense(self) -> Any:
        return self.loaded[0]

    @cached_property
    def pool(self) -> torch.Tensor:
        """Calibration sequences, int64 ``[n, 64]``, of the bundled training text."""
        return token_windows(self.loaded[1], bundled_text("train"), LENGTH)

    @cached_property
    def test(self) -> torch.Tensor:
        return token_windows(self.loaded[1], bundled_text("test"), 128)[: 8 if self.fast else 160]

    @cached_property
    def validation(self) -> torch.Tensor:
        return token_windows(self.loaded[1], bundled_text("validation"), LENGTH)[: 8 if self.fast else 160]

    def perplexity(self, model: Any, windows: torch.Tensor | None = None) -> float:
        return perplexity(model, self.test if windows is None else windows, batch_size=16)

    def target(self, share: float) -> int:
        """Parameters that are left when ``share`` of those inside the layers is gone."""
        size = count(self.dense)
        return size.parameters - round(share * size.prunable)

    def pruned(self, share: float, *, examples: int = 24, seed: int = 0, **options: Any) -> AdaptPruner:
        """A fitted pruner; ``model_`` is the pruned copy."""
        pruner = AdaptPruner(self.target(share), examples=4 if self.fast else examples, seed=seed, **options)
        pruner.fit(copy.deepcopy(self.dense), self.pool, progress=self.run.progress)
        return pruner


def random_models() -> dict[str, Any]:
    """Random models with groups of 1, 2 and 4 query heads: Llama, Qwen2 (biases), Qwen3 (head norms), GPT-2, OPT."""
    llama: dict[str, Any] = {
        "vocab_size": 96,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "head_dim": 8,
        "num_attention_heads": 8,
        "max_position_embeddings": 64,
    }
    configs = {
        "llama": transformers.LlamaConfig(**llama, num_key_value_heads=4),
        "qwen2": transformers.Qwen2Config(**{**llama, "num_key_value_heads": 2}),
        "qwen3": transformers.Qwen3Config(**{**llama, "num_key_value_heads": 4}),
        "gpt2": transformers.GPT2Config(vocab_size=96, n_embd=64, n_layer=4, n_head=8, n_positions=64),
        "opt": transformers.OPTConfig(
            vocab_size=96,
            hidden_size=64,
            ffn_dim=96,
            num_hidden_layers=4,
            num_attention_heads=8,
            max_position_embeddings=64,
            word_embed_proj_dim=64,
        ),
    }
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, config in configs.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        found[name] = model
    return found


def random_tokens(n: int = 16, length: int = 24, seed: int = 3) -> torch.Tensor:
    """int64 ``[n, length]``."""
    return torch.randint(3, 96, (n, length), generator=torch.Generator().manual_seed(seed))
