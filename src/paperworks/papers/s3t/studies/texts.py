"""The bundled language model on texts that it has not seen: slices, and blocks from either end.

Llama architecture, 6 layers, 5.7 million parameters; 120 documents of up to 48 tokens to train on and 120 to measure
on; LoRA r = 8 on query and value, three slices of two layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.language import bundled_model_path, bundled_text, load_tokenizer
from paperworks.metrics import mean_interval
from paperworks.papers.s3t.bases import folder_base
from paperworks.papers.s3t.blocks import BlockOrder
from paperworks.papers.s3t.evaluation import full_fine_tuning, token_loss
from paperworks.papers.s3t.layers import Adapted, Lora
from paperworks.papers.s3t.stages import Job, ShardTraining
from paperworks.runs import Finding
from paperworks.training import TrainSettings

SETTINGS = TrainSettings(epochs=2, batch_size=8, learning_rate=2e-3, device="cpu")
LORA = Lora(8, 16, 0.0)


def documents(count: int, length: int = 48) -> tuple[dict[str, Any], dict[str, Any]]:
    """Token ids of documents to train and to measure on."""
    tokenizer = load_tokenizer(bundled_model_path())
    parts = [part for part in bundled_text("validation").split("\n\n") if len(part) > 200]
    chosen = np.random.default_rng(0).permutation(len(parts))[: 2 * count]
    found = []
    for rows in (chosen[:count], chosen[count:]):
        texts = [parts[row] for row in rows]
        options: dict[str, Any] = {"truncation": True, "max_length": length, "return_tensors": "pt"}
        encoded = tokenizer(texts, padding="max_length", **options)
        labels = encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, -100)
        found.append({"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels})
    return found[0], found[1]


def _sliced(train: dict[str, Any], test: dict[str, Any], order: BlockOrder, seed: int) -> float:
    """Loss of all three stages of one sequence."""
    adapted = Adapted(folder_base(bundled_model_path(), "language").module, LORA, head=())
    job = Job(adapted, "language", 3, 2, order, SETTINGS, seed)
    count = len(train["input_ids"])
    ShardTraining(job, train, None, np.random.default_rng(seed).permutation(count) % 3).sequence((0, 1, 2))
    return token_loss(adapted, test, "cpu")


@runs.study(
    claims=["quality-language-models", "top-down-order"], title="the bundled language model, slice by slice", minutes=2
)
def language(run: runs.Run, fast: bool) -> Iterator[Finding]:
    train, test = documents(12 if fast else 120)
    untouched = Adapted(folder_base(bundled_model_path(), "language").module, LORA, head=())
    before = token_loss(untouched, test, "cpu")
    down, up, full = [], [], []
    for seed in run.progress(range(2 if fast else 3), "seeds"):
        down.append(_sliced(train, test, "top-down", seed))
        up.append(_sliced(train, test, "bottom-up", seed))
        module = folder_base(bundled_model_path(), "language").module
        adapted = full_fine_tuning(module, LORA, train, None, SETTINGS, task="language", head=[], seed=seed)
        full.append(token_loss(adapted, test, "cpu"))
    means = {n: math.exp(float(np.mean(v))) for n, v in (("sliced", down), ("ordinary", full), ("bottom up", up))}
    detail = (
        f"perplexity of the base {math.exp(before):.2f}, slice by slice {means['sliced']:.2f}, ordinary "
        f"{means['ordinary']:.2f}, bottom up {means['bottom up']:.2f}"
    )
    yield Finding(
        "quality-language-models",
        "Bundled language model: loss per token after all three slices less that of ordinary LoRA (nats; 0.02 is 2% of "
        "perplexity).",
        "empirical",
        mean_interval(np.array(down) - np.array(full)),
        "<",
        0.02,
        baseline=float(np.mean(full)),
        baseline_name="loss of ordinary LoRA",
        detail=detail,
    )
    yield Finding(
        "quality-language-models",
        "Bundled language model: loss per token after all three slices less that of the base.",
        "empirical",
        mean_interval(np.array(down) - before),
        "<",
        0.0,
        baseline=before,
        baseline_name="loss of the base",
    )
    yield Finding(
        "top-down-order",
        "Bundled language model: loss per token from the bottom up less that from the top down.",
        "empirical",
        mean_interval(np.array(up) - np.array(down)),
        ">",
        0.0,
        baseline=float(np.mean(down)),
        baseline_name="loss from the top down",
        detail=detail,
    )
