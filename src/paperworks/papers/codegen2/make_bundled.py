"""Train the small code model that this paper bundles, from the standard library of Python, with one command:

    python -m paperworks.papers.codegen2.make_bundled --out model

The work folder (``OUT.work``) keeps the tokenizer and the checkpoints: after a stop, the same command goes on from
there.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from paperworks.language import perplexity
from paperworks.papers.codegen2.fitting import train
from paperworks.papers.codegen2.models import small_model
from paperworks.papers.codegen2.packing import pack, tokenize
from paperworks.papers.codegen2.stdlib import held_out, stdlib_files
from paperworks.papers.codegen2.tokens import END, add_infill_tokens
from paperworks.runs.files import new_folder, require_free, write_text
from paperworks.training import TrainSettings

VOCABULARY, MASKS, PAD = 2048, 99, "<|pad|>"
CONTEXT, LAYERS, WIDTH, HEADS = 256, 4, 160, 8
STEPS, BATCH, RATE, SEED = 800, 16, 4e-3, 0
RATIO, SPAN = (0.05, 0.5), (1, 48)


def make_tokenizer(work: Path, texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE of the training files, with the infill tokens: every text can be written with it."""
    path = work / "tokenizer.json"
    if not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY - MASKS - 8,  # <sep>, <eom>, three of psm, three of UL2, and the masks come on top
            special_tokens=[END, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        write_text(path, tokenizer.to_str())
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(path)),
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    add_infill_tokens(made, MASKS, fim=True, modes=True)
    return made


def windows(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Held-out sequences of the context's length, int64 ``[n, T]``."""
    packed = pack(tokenize(tokenizer, texts), CONTEXT, eos_id=tokenizer.eos_token_id, buffer=0)
    return torch.from_numpy(np.stack([s for s in packed.sequences if len(s) == CONTEXT])).long()


def main() -> None:
    """Read the options, train, and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="new folder for the model")
    parser.add_argument("--work", type=Path, help="folder for the tokenizer and the checkpoints (OUT.work)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimiser steps ({STEPS})")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="autocast (no)")
    options = parser.parse_args()
    require_free(options.out, "--out")
    work = options.work or options.out.with_name(options.out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    files = stdlib_files()
    texts = [file.text for file in files if not held_out(file)]
    others = [file.text for file in files if held_out(file)]
    tokenizer = make_tokenizer(work, texts)
    test = windows(tokenizer, others)
    model = small_model(
        max(tokenizer.get_vocab().values()) + 1,
        layers=LAYERS,
        width=WIDTH,
        heads=HEADS,
        context=CONTEXT,
        end=tokenizer.eos_token_id,
        seed=SEED,
    )
    settings = TrainSettings(
        steps=options.steps,
        batch_size=BATCH,
        learning_rate=RATE,
        betas=(0.9, 0.95),
        weight_decay=0.1,
        schedule="linear",
        warmup_steps=100,
        eval_every=250,
        checkpoint_every=100,
        precision=options.precision,
        device="cpu",
        seed=SEED,
        restore_best=False,
    )
    started = time.process_time()

    def evaluate(model: torch.nn.Module) -> float:
        value = math.log(perplexity(model, test[:: max(1, len(test) // 64)]))
        print(f"held out: {value:.3f} nats per token, {time.process_time() - started:.0f} s", flush=True)
        return value

    def shown(iterable: Any, description: str, total: int | None = None) -> Any:
        for number, step in enumerate(iterable):
            if number % 50 == 0:
                print(f"step {number} of {total}, {time.process_time() - started:.0f} s", flush=True)
            yield step

    done = train(
        model,
        tokenizer,
        texts,
        settings=settings,
        ratio=RATIO,
        span=SPAN,
        evaluate=evaluate,
        checkpoint_dir=work / "checkpoint",
        progress=cast(Any, shown),
    )
    packed = done.packed["data"]
    sizes = [sum(len(t.encode()) for t in part) for part in (texts, others)]
    value = math.log(perplexity(model, test))
    with new_folder(options.out, "--out") as folder:
        saved: Any = model.half()
        saved.generation_config.update(eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<eom>")])
        saved.generation_config.update(pad_token_id=tokenizer.pad_token_id)
        saved.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        facts = {
            "width": f"{WIDTH}",
            "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
            "files": f"{len(texts):,}",
            "megabytes": f"{sizes[0] / 1e6:.1f}",
            "tokens": f"{packed.tokens:,}",
            "bytes_per_token": f"{sizes[0] / packed.tokens:.2f}",
            "test_files": f"{len(others):,}",
            "loss": f"{value:.3f}",
            "bits": f"{value / math.log(2) * sum(map(len, tokenize(tokenizer, others))) / sizes[1]:.3f}",
            "steps": f"{done.result.steps:,}",
            "seen": f"{done.result.steps * BATCH * CONTEXT:,}",
            "passes": f"{done.result.steps * BATCH / len(packed):.1f}",
            "minutes": f"{(time.process_time() - started) / 60:.0f}",
            "python": platform.python_version(),
            "precision": "float32" if options.precision == "no" else "bfloat16",
        }
        write_text(folder / "README.md", CARD.format(**facts))
        for file in folder.iterdir():
            file.chmod(0o644)
    print(facts)


CARD = """\
---
language: code
license: psf-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Paperworks small code model

A causal language model that completes Python and fills holes in it, for trying methods on. It is small: do not rely on
what it writes. transformers' `CodeGenForCausalLM`, {parameters} parameters, 4 layers, width {width}, 8 heads, rotary
positions on half of a head, context of 256 tokens, byte-level BPE of 2048 tokens with `<sep>`, `<eom>` and 99 masks,
embeddings not tied, weights in float16.

## Data

The standard library of Python {python}, without its tests and tables: {files} files of 2 kB or more, {megabytes} MB,
{tokens} tokens ({bytes_per_token} bytes each). Held out are the package `email` and a twentieth of the other files,
by the SHA-256 of their path: {test_files} files. The code is under the PSF licence, version 2; copyright 2001 Python
Software Foundation, all rights reserved.

## Training

    python -m paperworks.papers.codegen2.make_bundled --out model

The mixture of CodeGen2: half of the sequences as they are, half with 5 to 50% of each file's tokens in spans of 1 to 48
tokens, no task tokens, a loss on every token. {steps} steps of AdamW on 16 sequences of 256 tokens at most
({passes} passes), peak rate 0.004 after 100 steps, then a straight line to 0; computed in {precision}; {minutes}
minutes of one processor core.

## Held out

{loss} nats per token from left to right, on windows of 256 tokens; {bits} bits per byte.

## Prompts

From left to right: the text. To fill a hole: `prefix<mask_1>suffix<|endoftext|><sep><mask_1>`, without white space
around the special tokens; the answer ends with `<eom>`.
"""

if __name__ == "__main__":
    main()
