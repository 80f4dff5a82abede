"""What tests/training/test_processes.py runs in one process and in two: DPO and SFT from folder to folder."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from papers.spar.tiny import TEMPLATE, WORDS
from paperworks.papers.spar import train_dpo, train_sft
from paperworks.papers.spar.training import TuneOptions
from tiny_checkpoint import tiny_inputs


def prepare(folder: Path) -> None:
    """The model that is tuned."""
    tiny_inputs(folder)


def train_losses(batch_size: int, folder: Path) -> dict[str, list[float]]:
    """Losses by step with as many pairs a step in each process; the main one saves the tuned models."""
    turn = [{"role": "user", "content": "the big cat"}]
    said = [[{"role": "assistant", "content": f"goes to the {word} and sees {word}"}] for word in WORDS]
    pairs = [{"prompt": turn, "chosen": a, "rejected": b} for a, b in pairwise(said)]
    chats = [{"messages": turn + answer} for answer in said]
    found = {}
    for name, base, rank in (("dpo", TuneOptions.dpo(), 0), ("sft", TuneOptions.sft(), 2)):
        settings = replace(
            base.settings, steps=3, batch_size=batch_size, accumulation=1, learning_rate=1e-2, device="cpu"
        )
        options = replace(base, settings=settings, max_length=48, chat_template=TEMPLATE, lora_rank=rank)
        out = folder / f"{name}-{batch_size}"
        if name == "dpo":
            tuned = train_dpo(folder / "llama", pairs, out, options=options, device="cpu")
        else:
            tuned = train_sft(folder / "llama", chats, out, options=options, device="cpu")
        found[name] = list(tuned.losses)
    return found
