"""How good a model is, dense or pruned: figures by name, with what it costs beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paperworks.errors import InputError
from paperworks.language import load_model, perplexity, token_windows
from paperworks.language.choice import Question, choice_accuracy
from paperworks.nn import stored_dtype
from paperworks.pruning.size import size_of, weights_bytes
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Figures = dict[str, float]


def quality_of(
    model: Any,
    windows: torch.Tensor,
    questions: Sequence[Question] = (),
    *,
    batch_size: int = 8,
    progress: Progress = no_progress,
) -> Figures:
    """Token perplexity on held-out windows int64 ``[n, T]``; where questions are given, ``acc`` and
    ``acc_norm``, how many there are, and what guessing gets."""
    found = {"perplexity": perplexity(model, windows, batch_size=batch_size, progress=progress)}
    if questions:
        scores = choice_accuracy(model, questions, batch_size=batch_size, progress=progress)
        chance = sum(1 / len(question.endings) for question in questions) / len(questions)
        found |= {
            "choice acc": scores["acc"],
            "choice acc_norm": scores["acc_norm"],
            "choice questions": float(len(questions)),
            "choice chance": chance,
        }
    return found


def measured(
    model: Path | Any,
    texts: Sequence[str],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | None = None,
    length: int,
    sequences: int,
    batch_size: int = 8,
    questions: Sequence[Question] = (),
    device: str = "auto",
    progress: Progress = no_progress,
) -> Figures:
    """What a table of before and after shows but for speed, of a live model (with its tokenizer) or a folder (float32).

    Counts are at a context of ``length`` tokens; perplexity is over the first ``sequences`` held-out windows.
    Bytes of the cache are those of ``dtype``, which is the folder's where it is None. ``weights on disk, bytes`` is
    there for folders.
    """
    folder = model if isinstance(model, Path) else None
    live: Any = model
    if folder is not None:
        live, tokenizer = load_model(folder, "float32", device)
        dtype = dtype or stored_dtype(folder)
    if tokenizer is None:
        raise InputError("tokenizer", "none", "the tokenizer of the live model")
    size = size_of(live, length, dtype)
    found: Figures = {
        "parameters": float(size.parameters),
        "of them in the layers' matrices": float(size.prunable),
        f"multiply-accumulates per token, context {length}": float(size.macs),
        "key-value cache per token, bytes": float(size.cache),
    }
    if folder is not None:
        found["weights on disk, bytes"] = float(weights_bytes(folder))
    windows = token_windows(tokenizer, list(texts), length, field="held_out")[:sequences]
    found |= quality_of(live, windows, questions, batch_size=batch_size, progress=progress)
    return found
