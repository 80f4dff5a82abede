"""Byte models of the specification's size, their data, and how they are judged.

3 layers, width 96, 4 heads, bytes and 35 special tokens: 0.39 million parameters. Steps of 24 sequences of 96 raw
bytes, AdamW, peak rate 0.004, falling in a straight line to 0.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch

from paperworks.language import bundled_text
from paperworks.papers.codegen2.fitting import Objective, TransformedSequences, code_loss, collate, prefix_logits
from paperworks.papers.codegen2.models import fused_kernels, small_model
from paperworks.papers.codegen2.packing import pack
from paperworks.papers.codegen2.stdlib import stdlib_files
from paperworks.papers.codegen2.tokens import InfillTokens
from paperworks.training import Rows, Shuffled, TrainSettings, Weighted, train

TOKENS = InfillTokens(256, 257, 258, tuple(range(259, 291)), vocabulary=291)
RIVAL_TOKENS = replace(TOKENS, fim=(291, 292, 293), modes=(294, 295, 296), vocabulary=297)
"""The same with the tokens that prefix-suffix-middle infilling and UL2 need."""
RAW, CONTEXT, BATCH, RATE = 96, 160, 24, 4e-3
HELD_OUT = 60
PREFIX, MIDDLE, SUFFIX = 40, 8, 40
Data = Literal["code", "prose", "both"]


@functools.cache
def texts(kind: Literal["code", "prose"]) -> tuple[list[bytes], list[bytes]]:
    """Documents to train on and held out: the standard library with its tests; the bundled English."""
    if kind == "prose":
        found = [[p.encode() for p in bundled_text(split).split("\n\n")] for split in ("train", "test")]
        return found[0], [p for p in found[1] if len(p) >= PREFIX + MIDDLE + SUFFIX]
    files = [file.text.encode() for file in stdlib_files(tests=True)]
    order = np.random.default_rng(0).permutation(len(files))
    return [files[i] for i in order[HELD_OUT:]], [files[i] for i in order[:HELD_OUT]]


@functools.cache
def sequences(kind: Literal["code", "prose"], most: int | None = None) -> list[np.ndarray]:
    """Training sequences of 96 bytes; ``most``: of the first documents with so many bytes together."""
    documents, size = [], 0
    for text in texts(kind)[0]:
        if most is not None and size >= most:
            break
        documents.append(np.frombuffer(text if most is None else text[: most - size], dtype=np.uint8))
        size += len(documents[-1])
    return pack(documents, RAW, eos_id=TOKENS.end, seed=0).sequences


@functools.cache
def windows(kind: Literal["code", "prose"], count: int) -> np.ndarray:
    """Held-out windows of 40 + 8 + 40 bytes, int64 ``[count, 88]``."""
    rng = np.random.default_rng(1)
    held = [text for text in texts(kind)[1] if len(text) >= PREFIX + MIDDLE + SUFFIX]
    size = np.array([len(text) for text in held], dtype=np.float64)
    found = []
    for number in rng.choice(len(held), count, p=size / size.sum()):
        start = int(rng.integers(len(held[number]) - PREFIX - MIDDLE - SUFFIX + 1))
        found.append(np.frombuffer(held[number], np.uint8)[start : start + PREFIX + MIDDLE + SUFFIX])
    return np.stack(found).astype(np.int64)


@functools.lru_cache(maxsize=64)
def trained(
    objective: Objective, data: Data, seed: int, steps: int, most: int | None = None, tokens: InfillTokens = TOKENS
) -> Any:
    """A model trained from scratch; the seed decides its first weights, the order and all draws."""
    kinds = ("code", "prose") if data == "both" else (data,)
    parts = [sequences(cast(Any, kind), most) for kind in kinds]
    shown = TransformedSequences(
        [s for part in parts for s in part],
        tokens,
        objective,
        max_len=CONTEXT,
        ratio=(0.05, 0.5),
        span=(1, 16),
        seed=seed,
    )
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in parts])
    source = Rows(
        cast(Any, shown),
        Shuffled() if len(parts) == 1 else Weighted(weights),
        collate=lambda rows: collate(rows, tokens.end),
    )
    model = small_model(cast(int, tokens.vocabulary), context=CONTEXT, end=tokens.end, seed=seed)
    settings = TrainSettings(steps=steps, batch_size=BATCH, learning_rate=RATE, device="cpu", seed=seed)
    with fused_kernels(model):
        train(model, source, settings, loss=code_loss())
    return model.eval()


def bits(model: Any, rows: np.ndarray, first: int, last: int | None = None) -> np.ndarray:
    """Bits per byte of the targets from place ``first`` to ``last`` of each row, float64 ``[n]``; causal attention."""
    found = []
    with torch.inference_mode(), fused_kernels(model):
        for start in range(0, len(rows), 250):
            ids = torch.from_numpy(rows[start : start + 250])
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
            found.append(losses[:, first - 1 : None if last is None else last - 1].double().mean(1).numpy())
    return np.concatenate(found) / math.log(2)


def infill_rows(rows: np.ndarray, suffixes: np.ndarray) -> np.ndarray:
    """Windows in the infill format with the given suffixes, int64 ``[n, 92]``; the middle stands at the end."""
    column = np.ones((len(rows), 1), dtype=np.int64)
    mask = TOKENS.masks[0]
    prefix, middle = rows[:, :PREFIX], rows[:, PREFIX : PREFIX + MIDDLE]
    return np.concatenate(
        [prefix, mask * column, suffixes, TOKENS.end * column, TOKENS.sep * column, mask * column, middle], 1
    )


def continued(model: Any, rows: np.ndarray, known: int, first: int | None = None) -> np.ndarray:
    """Bits per byte of what follows the first ``known`` bytes of each row, float64 ``[n]``.

    ``first`` : a token in front of the row; with it the known bytes are a prefix that is read in both directions, as
    UL2's S denoiser shows them. Without it attention is causal.
    """
    if first is None:
        return bits(model, rows, known)
    ids = np.concatenate([np.full((len(rows), 1), first), rows], 1)
    found = []
    with torch.inference_mode(), fused_kernels(model):
        for start in range(0, len(ids), 250):
            batch = torch.from_numpy(ids[start : start + 250])
            logits = prefix_logits(model, batch, torch.full((len(batch),), known + 1))[:, known:-1].float()
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch[:, known + 1 :], reduction="none")
            found.append(losses.double().mean(1).numpy())
    return np.concatenate(found) / math.log(2)


def left_to_right(model: Any, rows: np.ndarray) -> np.ndarray:
    """Bits per byte of whole windows from left to right, ``[n]``."""
    return bits(model, rows, 1)
