"""How good and how fast a model is, dense or sliced: perplexity for decoders, agreement of embeddings for encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import spearmanr

from paperworks.errors import InputError
from paperworks.language import (
    Calibration,
    load_model,
    perplexity,
    token_windows,
)
from paperworks.nn import evaluation_mode, load_strict, resolve_device, resolve_dtype
from paperworks.pruning import architecture_of
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def is_encoder(folder: Path) -> bool:
    """Whether a checkpoint is an encoder: it gives embeddings, not next tokens."""
    return not architecture_of(folder).head


def load_encoder(folder: Path, dtype: str, device: str) -> PreTrainedModel:
    """An encoder without its pooling head's output in use, in evaluation mode."""
    from transformers import AutoModel

    return load_strict(AutoModel, folder, dtype=resolve_dtype(dtype)).to(resolve_device(device))


def encoder_sequences(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], n: int, length: int, seed: int
) -> Calibration:
    """``n`` passages drawn without replacement, cut to ``length`` tokens with special tokens, padded on the right.

    A passage is a part of a text between blank lines, of at least 20 characters.
    """
    passages = [p.strip() for text in texts for p in text.split("\n\n") if len(p.strip()) >= 20]
    if n > len(passages):
        raise InputError("sequences", f"{n} passages from {len(passages)}", f"at most {len(passages)}, or more text")
    drawn = [passages[i] for i in np.random.default_rng(seed).permutation(len(passages))[:n]]
    batch = tokenizer(
        drawn, truncation=True, max_length=length, padding="longest", padding_side="right", return_tensors="pt"
    )
    return Calibration.from_tokens(batch["input_ids"], batch["attention_mask"])


def mean_embeddings(
    model: torch.nn.Module, data: Calibration, batch_size: int = 16, *, progress: Progress = no_progress
) -> np.ndarray:
    """Mean-pooled last hidden states over the tokens that are not masked, float64 ``[n, D]``."""
    device = next(model.parameters()).device
    pooled = []
    with evaluation_mode(model), torch.inference_mode():
        batches = list(data.batches(batch_size))
        for batch in progress(batches, "embeddings", len(batches)):
            ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.double()
            weights = mask.unsqueeze(-1).double()
            pooled.append(((hidden * weights).sum(1) / weights.sum(1)).cpu().numpy())
    return np.concatenate(pooled)


def embedding_agreement(dense: np.ndarray, sliced: np.ndarray) -> dict[str, float]:
    """How far two sets of embeddings ``[n, D]`` of the same texts agree.

    ``cosine``: the mean cosine of a text's two embeddings. ``spearman``: the rank correlation of all pairwise cosine
    similarities, on which a search by similarity depends. n is at least 3.
    """
    dense, sliced = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (dense, sliced))
    upper = np.triu_indices(len(dense), 1)
    correlation = spearmanr((dense @ dense.T)[upper], (sliced @ sliced.T)[upper]).statistic
    return {"cosine": float((dense * sliced).sum(1).mean()), "spearman": float(correlation)}


def decoder_quality(
    folder: Path,
    texts: Sequence[str],
    *,
    length: int,
    sequences: int,
    batch_size: int,
    dtype: str,
    device: str,
    progress: Progress = no_progress,
) -> dict[str, float]:
    """Token perplexity on held-out windows."""
    model, tokenizer = load_model(folder, dtype, device)
    windows = token_windows(tokenizer, texts, length, field="held_out")[:sequences]
    return {
        "perplexity": perplexity(model, windows, batch_size=batch_size, progress=progress),
        "held-out tokens": float(windows.numel()),
    }
