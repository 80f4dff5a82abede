"""Tokens per second of the span-corruption collator beside the training of the bundled code model, on one core.

    python benchmarks/codegen2_collator.py [--repeats 5]

Both work on the same packed sequences of 256 tokens of the standard library, in batches of 16, and are run in turn. The
collator's figure counts raw tokens: sequences of the mixture (half as they are), drawn, corrupted, padded and made
tensors. Figures are medians of processor time; the ratio is the collator's tokens per second over the training's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from paperworks.papers.codegen2 import SpanCorruption, load_code_model, pack, tokenize
from paperworks.papers.codegen2.fitting import TransformedSequences, code_loss, collate
from paperworks.papers.codegen2.models import fused_kernels
from paperworks.papers.codegen2.stdlib import stdlib_files
from paperworks.papers.codegen2.tokens import infill_tokens
from paperworks.training import Rows, TrainSettings, train

LENGTH, BATCH, LEAST_RATIO = 256, 16, 20


def seconds(run: Callable[[], None]) -> float:
    """Processor time of a call."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    """Measure both in turn, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of training in a round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_code_model(device="cpu")
    tokens = infill_tokens(loaded.tokenizer)
    texts = [file.text for file in stdlib_files()[:60]]
    packed = pack(tokenize(loaded.tokenizer, texts), LENGTH, eos_id=tokens.end)
    sequences = [s.tolist() for s in packed.sequences if len(s) == LENGTH][:512]
    collator = SpanCorruption(tokens, ratio=(0.05, 0.5), span=(1, 48), max_len=LENGTH)
    settings = TrainSettings(steps=options.steps, batch_size=BATCH, learning_rate=1e-5, device="cpu")
    shown: Any = TransformedSequences(packed.sequences, tokens, "mix", max_len=LENGTH, ratio=(0.05, 0.5), span=(1, 48))

    def collated() -> None:
        for start in range(0, len(sequences), BATCH):
            collator(sequences[start : start + BATCH])

    def trained() -> None:
        with fused_kernels(loaded.model):
            train(loaded.model, Rows(shown, collate=lambda r: collate(r, tokens.end)), settings, loss=code_loss())

    figures: dict[str, list[float]] = {"collator": [], "training": []}
    collated()
    trained()
    for _ in range(options.repeats):
        figures["collator"].append(len(sequences) * LENGTH / seconds(collated))
        figures["training"].append(options.steps * BATCH * LENGTH / seconds(trained))
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, value in medians.items():
        print(f"{name:10} {value:12,.0f} tokens per second")
    ratio = medians["collator"] / medians["training"]
    print(f"ratio      {ratio:12.1f}   (at least {LEAST_RATIO}: {'yes' if ratio >= LEAST_RATIO else 'NO'})")


if __name__ == "__main__":
    main()
