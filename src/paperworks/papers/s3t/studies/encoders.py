"""A pretrained sentence encoder on WordNet's glosses: quality at full depth, and as requests arrive.

all-MiniLM-L6-v2 (6 layers), 8 noun lexicographer files, 50 glosses of each to train on and 60 to test on, 20 tokens,
mean pooling and a linear head; one shard, three slices of two layers, three rotations; LoRA r = 16, alpha = 16, rsLoRA,
query and value, no dropout; AdamW 3e-3, linear, batches of 32, 4 epochs a stage.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from paperworks import inputs, runs
from paperworks.inputs.wordnet import WordNet
from paperworks.metrics import mean_interval
from paperworks.papers.s3t.bases import sentence_base
from paperworks.papers.s3t.evaluation import (
    accuracy_of,
    decline,
    full_fine_tuning,
    stage_logits,
    uniform_requests,
)
from paperworks.papers.s3t.layers import Lora
from paperworks.papers.s3t.system import S3T
from paperworks.papers.s3t.theory import harmonic
from paperworks.runs import Finding
from paperworks.training import TrainSettings

FILES = ("plant", "animal", "artifact", "person", "act", "food", "location", "substance")
SETTINGS = TrainSettings(epochs=4, batch_size=32, learning_rate=3e-3, schedule="linear", device="cpu")
LORA = Lora(16, 16, 0.0)
STREAMS, REQUESTS = 100, 8
LENGTH = 20


def glosses(train: int, test: int) -> tuple[tuple[Any, np.ndarray], tuple[Any, np.ndarray]]:
    """Encoded glosses and their files' codes, to train and to test on."""
    from paperworks.language import load_tokenizer

    wordnet = WordNet(inputs.path("wordnet"))
    by_file = {name: [synset.definition for synset in wordnet.lexicographer_file(f"noun.{name}")] for name in FILES}
    tokenizer = load_tokenizer(inputs.path("minilm"))
    rng = np.random.default_rng(0)
    texts: list[list[str]] = [[], []]
    codes: list[list[int]] = [[], []]
    for code, name in enumerate(FILES):
        chosen = rng.permutation(len(by_file[name]))[: train + test]
        for part, rows in enumerate((chosen[:train], chosen[train:])):
            texts[part] += [by_file[name][row] for row in rows]
            codes[part] += [code] * len(rows)
    found = []
    for part in (0, 1):
        options = {"padding": "max_length", "truncation": True, "max_length": LENGTH, "return_tensors": "pt"}
        encoded = tokenizer(texts[part], **options)
        found.append((dict(encoded), np.array(codes[part])))
    return found[0], found[1]


@runs.study(
    claims=["quality-encoders", "quality-under-deletions"],
    title="all-MiniLM-L6-v2 on glosses of WordNet",
    minutes=5,
)
def encoders(run: runs.Run, fast: bool) -> Iterator[Finding]:
    (x, y), (test, truth) = glosses(*((8, 8) if fast else (50, 60)))
    settings = replace(SETTINGS, epochs=0.5) if fast else SETTINGS
    system = S3T(sentence_base(len(FILES)), n_slices=3, peft_config=LORA, settings=settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        system.fit(x, y, progress=run.progress)
    logits = stage_logits(system, test, progress=run.progress)
    orders = [sequence.order for sequence in system.manifest.sequences[0]]
    right = {key: float((value.argmax(1) == truth).mean()) for key, value in logits.items()}
    full = []
    for seed in run.progress(range(3), "ordinary fine-tuning"):
        adapted = full_fine_tuning(sentence_base(len(FILES)).module, LORA, x, y, settings, seed=seed)
        hits, count = accuracy_of(adapted, test, truth, "cpu")
        full.append(hits / count)
    stages = [[right[0, order, depth] for order in orders] for depth in (1, 2, 3)]
    detail = (
        "accuracy of stages 1 to 3, mean over three orders: "
        + ", ".join(f"{np.mean(values):.3f}" for values in stages)
        + f"; ordinary LoRA {np.mean(full):.3f} ({', '.join(f'{v:.3f}' for v in full)})"
    )
    yield Finding(
        "quality-encoders",
        "Glosses of WordNet, 8 classes: accuracy of all three stages less that of ordinary LoRA of "
        "all layers, which may "
        "be 0.05 higher.",
        "empirical",
        mean_interval(np.array(stages[2]) - np.array(full), unit="orders, each with a seed of ordinary LoRA"),
        ">",
        -0.05,
        baseline=float(np.mean(full)),
        baseline_name="accuracy of ordinary LoRA",
        detail=detail,
    )
    streams = uniform_requests(1, 3, STREAMS, REQUESTS, run.rng("requests"))
    kept = decline(logits, truth, {0: orders}, streams)
    sisa = decline(logits, truth, {0: orders[:1]}, streams)
    curves = "; ".join(
        f"{name}: " + ", ".join(f"{v:.3f}" for v in found.accuracy.mean(0)[1:7])
        for name, found in (("S3T", kept), ("SISA", sisa))
    )
    for number in (1, 2, 3):
        gain = kept.accuracy[:, number] - sisa.accuracy[:, number]
        yield Finding(
            "quality-under-deletions",
            f"Glosses of WordNet, after {number} request{'s' * (number > 1)}: accuracy of S3T (3 orders) less that of "
            "SISA (the first order), from the same trained stages.",
            "empirical",
            mean_interval(gain, unit="streams of requests"),
            ">",
            0.1,
            baseline=float(sisa.accuracy[:, number].mean()),
            baseline_name="accuracy of SISA",
            detail=f"mean accuracy after 1 to 6 requests, a dead system scores 1/8: {curves}" if number == 1 else "",
        )
    long = uniform_requests(1, 3, 2000, 60, run.rng("lives"))
    for name, chosen, expected in (("S3T", orders, 3 * harmonic(3)), ("SISA", orders[:1], 3.0)):
        lives = decline(logits, truth, {0: chosen}, long).lives
        error = float(abs(lives.mean() - expected) / (lives.std(ddof=1) / np.sqrt(len(lives))))
        yield Finding(
            "quality-under-deletions",
            f"{name}: distance of the mean requests until nothing is live (2,000 streams) from the closed form, in "
            "standard errors.",
            "exact",
            error,
            "<=",
            4.0,
            detail=f"mean {lives.mean():.3f}, closed form {expected:.3f}; chance passes 4 once in 16,000",
        )
