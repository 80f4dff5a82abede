"""Train the small language model that the package bundles, from the corpora to the saved folder, with one command:

    python scripts/train_bundled_lm.py --out bundled

makes ``bundled/model`` and ``bundled/text``. The corpora are fetched if they are not there (``paperworks data get``).
The work folder keeps the corpus, the tokenizer and the checkpoints: after a stop, the same command goes on from there.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from paperworks import inputs
from paperworks.inputs.corpora import read_corpus
from paperworks.inputs.splits import normalised, passages, split_of, without_passages
from paperworks.language import load_model, perplexity, token_windows
from paperworks.language.ngram import KneserNey
from paperworks.language.windows import JOIN
from paperworks.runs.files import new_folder, require_free, write_text
from paperworks.training import RandomWindows, TrainResult, TrainSettings, train

CORPORA = ("king-james", "wordnet", "jargon")
SHARES = {"train": 0.97, "validation": 0.015, "test": 0.015}
TRAIN_SAMPLE_BYTES = 1_000_000
VOCABULARY = 3072
CONTEXT = 256
BATCH = 16
STEPS = 1600
SEED = 0
END = "<|end|>"
PAD = "<|pad|>"
PROMPTS = ("And it came to pass in", "lighthouse (noun):", "recursive bug: n.")

MODEL = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=256,
    intermediate_size=640,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=CONTEXT,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=1,
)


def corpus(work: Path) -> dict[str, list[str]]:
    """Documents of each split, shuffled. Passages that also stand in the training split are taken out of the others."""
    path = work / "corpus.json"
    if not path.exists():
        splits: dict[str, list[str]] = {name: [] for name in SHARES}
        for name in CORPORA:
            for key, text in read_corpus(name, inputs.get(name)):
                # A gloss or entry that occurs twice must fall on one side: hash what it says, not where it is.
                said = key if name == "king-james" else normalised(text.partition(": ")[2] or text)
                splits[split_of(f"{name} {said}", SHARES)].append(text)
        seen = set().union(*map(passages, splits["train"]))
        for name in ("validation", "test"):
            splits[name] = without_passages(splits[name], seen)
        for number, texts in enumerate(splits.values()):
            np.random.default_rng([SEED, number]).shuffle(texts)
        write_text(path, json.dumps(splits, ensure_ascii=False))
    return json.loads(path.read_text(encoding="utf-8"))


def tokenizer_of(work: Path, texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on the training split: every text can be written with it, and read back exactly."""
    path = work / "tokenizer.json"
    if not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[END, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        write_text(path, tokenizer.to_str())
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(path)),
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """All tokens of the texts, with blank lines between them, uint16; every sixteenth text ends with the end token."""

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    ids: list[int] = []
    for start in range(0, len(texts), 16):
        ids += [*tokens(JOIN.join(texts[start : start + 16])), *tokens(JOIN), tokenizer.eos_token_id]
    return np.asarray(ids, dtype=np.uint16)


@dataclass
class Trained:
    """The trained model, and what its training says."""

    model: LlamaForCausalLM
    settings: TrainSettings
    result: TrainResult
    tokens: np.ndarray


def trained(
    work: Path, tokenizer: PreTrainedTokenizerFast, splits: dict[str, list[str]], options: argparse.Namespace
) -> Trained:
    """Train, or go on training."""
    tokens = stream(tokenizer, splits["train"])
    validation = token_windows(tokenizer, splits["validation"], CONTEXT)
    settings = TrainSettings(
        steps=options.steps,
        batch_size=BATCH,
        learning_rate=3e-3,
        betas=(0.9, 0.95),
        weight_decay=0.1,
        schedule="wsd",
        warmup_steps=100,
        decay_fraction=0.468,
        eval_every=200,
        checkpoint_every=50,
        compile=options.compile,
        device=options.device,
        seed=SEED,
    )
    print(f"{len(tokens):,} training tokens, {settings.steps} steps of {BATCH * CONTEXT} tokens", flush=True)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(MODEL)

    def evaluate(model: torch.nn.Module) -> float:
        value = math.log(perplexity(model, validation))
        print(f"validation: {value:.4f} nats per token", flush=True)
        return value

    started = time.monotonic()

    def on_step(step: int, loss: float, rate: float) -> None:
        if step % 10 == 0:
            print(f"step {step} loss {loss:.4f} rate {rate:.2e} {time.monotonic() - started:.0f} s", flush=True)

    data = RandomWindows(tokens, CONTEXT, SEED)
    result = train(model, data, settings, evaluate=evaluate, checkpoint_dir=work / "checkpoint", on_step=on_step)
    return Trained(model, settings, result, tokens)


def save(out: Path, tokenizer: PreTrainedTokenizerFast, splits: dict[str, list[str]], done: Trained) -> None:
    """Write ``out/model`` and ``out/text``; ``out`` appears when both are whole."""
    with new_folder(out, "--out") as folder:
        model = done.model.bfloat16()
        model.generation_config.update(do_sample=False, max_new_tokens=64)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        write_text(folder / "model" / "README.md", card(folder / "model", splits, done))
        kept, size = [], 0
        for text in splits["train"]:
            size += len(text.encode()) + len(JOIN)
            if size > TRAIN_SAMPLE_BYTES:
                break
            kept.append(text)
        for name, texts in {**splits, "train": kept}.items():
            write_text(folder / "text" / f"{name}.txt", JOIN.join(texts) + "\n")
        write_text(folder / "text" / "README.md", TEXT_NOTE)
        for file in folder.rglob("*.*"):
            file.chmod(0o644)  # safetensors makes files that only their owner can read


def card(folder: Path, splits: dict[str, list[str]], done: Trained) -> str:
    """The model card, with figures measured on the weights as they were saved."""
    model, tokenizer = load_model(folder, "float32", "cpu")
    rival = KneserNey(done.tokens, VOCABULARY, order=5)
    rows = []
    for name in ("validation", "test"):
        windows = token_windows(tokenizer, splits[name], CONTEXT)
        # The rival sees the tokens before the window too, and predicts the same ones.
        likelihood = rival.log_probabilities(windows.flatten().numpy()).reshape(windows.shape)[:, 1:]
        own, other = perplexity(model, windows), math.exp(-likelihood.mean())
        tokens = sum(
            len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in splits[name]
        )
        letters = sum(len(text.encode()) for text in splits[name])
        bits = math.log2(own) * tokens / letters
        print(f"{name}: {own:.2f}, 5-gram {other:.2f}", flush=True)
        rows.append(f"| {name} | {windows.numel():,} | {own:.2f} | {other:.2f} | {bits:.2f} |")
    seen = done.result.steps * BATCH * CONTEXT
    return CARD.format(
        parameters=sum(p.numel() for p in model.parameters()),
        distinct=len(done.tokens),
        seen=seen,
        passes=seen / len(done.tokens),
        steps=done.result.steps,
        batch=BATCH,
        context=CONTEXT,
        vocabulary=VOCABULARY,
        minutes=done.result.seconds / 60,
        machine=f"{torch.get_num_threads()} CPU threads ({platform.machine()})",
        best=done.result.best_step,
        decay=done.settings.decay_fraction,
        command=f"python scripts/train_bundled_lm.py --out bundled --steps {done.settings.steps}"
        + (" --compile" if done.settings.compile else ""),
        rows="\n".join(rows),
        examples="\n\n".join(quote(model, tokenizer, prompt) for prompt in PROMPTS),
    )


def quote(model: Any, tokenizer: Any, prompt: str) -> str:
    """A greedy continuation, with the prompt in bold."""
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False, pad_token_id=1)
    words = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    return f"> **{prompt}**{words}".rstrip().replace("\n", "\n> ")


def keep_freed_memory() -> None:
    """Let glibc keep what PyTorch frees: getting it anew in every step can cost half of the time."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        trim_threshold, top_pad, most_maps = -1, -2, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(most_maps, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 2**28)


def main() -> None:
    """Read the options and do all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="new folder for model/ and text/")
    parser.add_argument("--work", type=Path, help="folder for the corpus and the checkpoints (OUT.work)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimiser steps ({STEPS})")
    parser.add_argument(
        "--compile", action="store_true", help="use torch.compile: needs a C++ compiler, a third faster"
    )
    parser.add_argument("--device", default="cpu", help="device of PyTorch (cpu)")
    options = parser.parse_args()
    keep_freed_memory()
    require_free(options.out, "--out")
    work = options.work or options.out.with_name(options.out.name + ".work")
    splits = corpus(work)
    tokenizer = tokenizer_of(work, splits["train"])
    save(options.out, tokenizer, splits, trained(work, tokenizer, splits, options))


CARD = """\
---
language: en
license: other
library_name: transformers
pipeline_tag: text-generation
---

# Paperworks small language model

A causal language model for trying methods on: Llama architecture, {parameters:,} parameters, hidden size 256, 6 layers,
8 heads, 4 key-value heads, feed-forward width 640, context of {context} tokens, byte-level BPE of {vocabulary} tokens,
embeddings not tied. It speaks the English of its three corpora. It knows little: do not rely on what it says.

## Data

| corpus | licence |
| --- | --- |
| the King James text, by chapter | public domain; the data file may be copied, modified or distributed at will |
| WordNet 3.0, synsets with gloss and examples | WordNet 3.0 licence, copyright 2006 by Princeton University |
| the Jargon File 4.4.7, by entry | public domain |

Split by a hash of the chapter's name, of the gloss, or of the entry's text: 97 % training, 1.5 % validation, 1.5 %
test. Passages of five words or more that also stand in the training text were taken out of validation and test.

The weights may be used, copied, modified and distributed for any purpose; the WordNet notice (in `../text/README.md`)
goes with them.

## Training

    {command}

{steps:,} steps of AdamW on {batch} windows of {context} tokens: {seen:,} tokens seen, {passes:.1f} passes over
{distinct:,} distinct ones. The peak rate is 0.003, after 100 steps of warm-up; over the last {decay:.0%} of the steps
it falls to zero. The weights of step {best:,} had the lowest validation loss; they are saved in bfloat16. It took
{minutes:.0f} minutes on {machine}, shared with other work.

## Held-out perplexity

Per token, on windows of {context} tokens that do not overlap: exp(total negative log-likelihood / predicted tokens).
The weights are the saved bfloat16 ones, computed with in float32. Beside it stands an interpolated modified Kneser-Ney
5-gram model (`paperworks.language.ngram`) of the same training tokens, on the same predictions; unlike the language
model, it may look back beyond the window's first token.

| split | tokens | this model | 5-gram | bits per byte |
| --- | --- | --- | --- | --- |
{rows}

## Greedy continuations

{examples}
"""

TEXT_NOTE = """\
# Bundled text

Documents from the King James text, WordNet 3.0 and the Jargon File 4.4.7, with a blank line between two documents.
`validation.txt` and `test.txt` are held out from the training of the bundled language model; `train.txt` is a sample of
what it was trained on.

The King James text and the Jargon File are in the public domain. WordNet's notice:

> WordNet Release 3.0. This software and database is being provided to you, the LICENSEE, by Princeton University under
> the following license. By obtaining, using and/or copying this software and database, you agree that you have read,
> understood, and will comply with these terms and conditions.
>
> Permission to use, copy, modify and distribute this software and database and its documentation for any purpose and
> without fee or royalty is hereby granted, provided that you agree to comply with the following copyright notice and
> statements, including the disclaimer, and that the same appear on ALL copies of the software, database and
> documentation, including modifications that you make for internal use or for distribution.
>
> WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
>
> THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES,
> EXPRESS OR IMPLIED. BY WAY OF EXAMPLE, BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR
> WARRANTIES OF MERCHANTABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE OF THE LICENSED SOFTWARE,
> DATABASE OR DOCUMENTATION WILL NOT INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS OR OTHER RIGHTS.
>
> The name of Princeton University or Princeton may not be used in advertising or publicity pertaining to distribution
> of the software and/or database. Title to copyright in this software, database and any associated documentation shall
> at all times remain with Princeton University and LICENSEE agrees to preserve same.
"""

if __name__ == "__main__":
    main()
