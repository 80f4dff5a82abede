"""A budget in bytes is one of the file that is saved: two bytes for a weight of a bfloat16 checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from paperworks import runs
from paperworks.errors import InputError
from paperworks.language import bundled_model_path
from paperworks.nn import stored_dtype
from paperworks.pruning import PruningJob, measured, weights_bytes
from paperworks.pruning.baselines import magnitude
from paperworks.pruning.source import open_dense, saved_dtype
from paperworks.structure import save_model

MIB = 2**20


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 5.8 MiB in bfloat16."""
    tokenizer = AutoTokenizer.from_pretrained(bundled_model_path())
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=608,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("half") / "model"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert round(weights_bytes(folder) / MIB, 1) == 5.8
    return folder


def test_four_and_a_half_mib_are_2359296_weights(half: Path, tmp_path: Path) -> None:
    assert stored_dtype(half) == torch.bfloat16
    model, tokenizer, most = open_dense(half, "4.5MiB", runs.Run(tmp_path / "run"), "cpu")
    assert next(model.parameters()).dtype == torch.float32
    assert most == 2_359_296
    assert 1 - most / sum(p.numel() for p in model.parameters()) == pytest.approx(0.22, abs=0.01)
    pruned = magnitude(PruningJob(half, most, ("text " * 200,), tmp_path, sequences=2, length=8, device="cpu")).model
    save_model(pruned.to(saved_dtype(half, "auto")), tmp_path / "out", tokenizer)
    assert 0.99 * 4.5 * MIB < weights_bytes(tmp_path / "out") < 4.5 * MIB + 20_000  # and the names of the tensors


def test_more_bytes_than_the_file_has_are_refused(half: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^target: .*4,194,304 parameters .*2 for each"):
        open_dense(half, "8MiB", runs.Run(tmp_path / "run"), "cpu")


def test_bytes_follow_the_type_that_is_asked_for(half: Path, tmp_path: Path) -> None:
    most = open_dense(half, "8MiB", runs.Run(tmp_path / "run"), "cpu", dtype="float32")[2]
    assert most == 2_097_152


def test_the_cache_is_counted_in_the_type_of_the_checkpoint(half: Path) -> None:
    figures: Any = measured(half, ["text " * 200], length=16, sequences=1, device="cpu")
    assert figures["key-value cache per token, bytes"] == 2 * 2 * 4 * 3 * 32  # bytes, keys and values, layers, heads
