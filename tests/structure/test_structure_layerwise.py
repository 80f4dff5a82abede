"""Statistics of a checkpoint folder, layer by layer, are bit for bit those of the model in memory."""

from __future__ import annotations

import hashlib

import pytest
import torch
from tiny_transformers import KINDS, VOCAB, tiny, token_ids
from transformers import AutoModelForCausalLM

import forked
from paperworks.errors import InputError
from paperworks.structure import (
    ChannelMoments,
    LayerChange,
    LayerwiseRunner,
    TaylorScores,
    activation_scores,
    layerwise_memory_bytes,
    layerwise_scores,
    layerwise_taylor,
    magnitude_scores,
    read_channels,
    units_of,
)

MODES = ("param_first", "param_second", "param_mix", "vectorize")
SET = 6 * 20 * 32 * 4
"""Bytes of the activations between two layers of the tiny models, for the tokens of ``_tokens``."""


def _tokens(padded: bool):
    ids, mask = token_ids(6, 20), None
    if padded:
        mask = torch.ones_like(ids)
        mask[1, 15:] = 0
        mask[5, 3:] = 0
    batches = [{"input_ids": ids[rows]} for rows in (slice(0, 4), slice(4, 6))]
    if mask is not None:
        batches = [{**b, "attention_mask": mask[r]} for b, r in zip(batches, (slice(0, 4), slice(4, 6)), strict=True)]
    return ids, mask, batches


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint folder by family, made when it is first asked for."""
    root = tmp_path_factory.mktemp("streamed")

    def folder_of(kind: str):
        if not (root / kind).exists():
            tiny(kind, **({"num_attention_heads": 8} if kind == "llama" else {})).save_pretrained(root / kind)
        return root / kind, tiny(kind, **({"num_attention_heads": 8} if kind == "llama" else {}))

    return folder_of


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_statistics_of_a_folder_are_those_of_the_model(folders, tmp_path, kind, padded):
    folder, model = folders(kind)
    ids, mask, batches = _tokens(padded)
    budget = 0 if padded else SET
    found = layerwise_scores(
        folder,
        ids,
        mask,
        layer_metrics=("cosine", "manhattan"),
        batch_size=4,
        activation_budget=budget,
        spill_dir=tmp_path,
    )
    units = units_of(model)
    channels, plain = read_channels(model, units, batches), activation_scores(model, units, batches)
    magnitude = magnitude_scores(model, units)
    assert found.channels.keys() == channels.keys() == set(units)
    for key, read in channels.items():
        for name in ("mean", "variance", "columns", "wanda", "standardised"):
            assert torch.equal(getattr(found.channels[key], name), getattr(read, name)), (key, name)
        assert torch.equal(found.magnitude[key], magnitude[key])
        torch.testing.assert_close(found.activation[key], plain[key], rtol=1e-6, atol=0)
    for metric in ("cosine", "manhattan"):
        with LayerChange(model, metric) as change, torch.no_grad():
            for batch in batches:
                change.set_mask(batch.get("attention_mask"))
                model(**batch)
        assert torch.equal(found.layer_change[metric], change.importance())
    assert found.tokens == (ids.numel() if mask is None else int(mask.sum()))
    assert found.spilled_bytes == (SET if padded else 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma", "phi", "gpt2", "opt"])
def test_gradients_of_a_folder_are_those_of_the_whole_loss(folders, tmp_path, kind):
    folder, model = folders(kind)
    ids, mask, batches = _tokens(kind != "gemma")
    before = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}
    # three of the five sets of activations fit the budget, the others are on disk
    found = layerwise_taylor(
        folder, ids, mask, modes=MODES, batch_size=4, activation_budget=3 * SET, spill_dir=tmp_path
    )
    with TaylorScores(model, units_of(model), second_order=True) as taylor:
        for batch in batches:
            taylor.add(batch)
        for mode in MODES:
            for key, scores in taylor.scores(mode).items():
                torch.testing.assert_close(found[mode][key], scores, rtol=1e-6, atol=1e-6 * float(scores.max()))
    assert before == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_a_tied_head_and_half_precision_weights_are_read_as_they_should(tmp_path):
    tiny("llama", torch.bfloat16, tie_word_embeddings=True).save_pretrained(tmp_path / "m")
    ids, _, batches = _tokens(False)
    found = layerwise_taylor(tmp_path / "m", ids, batch_size=4)["param_first"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    units = units_of(model)
    with TaylorScores(model, units) as taylor:
        for batch in batches:
            taylor.add(batch)
        expected = taylor.scores()
    for key in units:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=0)


def test_only_one_layer_has_weights_at_a_time(folders):
    folder, _ = folders("llama")
    with LayerwiseRunner(folder, token_ids(2, 8)) as stream:
        for number in stream.layers():
            real = {name.split(".")[2] for name, p in stream.model.named_parameters() if not p.is_meta}
            assert real == {str(number)}
        assert all(p.is_meta for p in stream.model.parameters())


HELD = """
import sys

import torch

from paperworks.runs.usage import resident_bytes
from paperworks.structure.layerwise import LayerwiseRunner

large = torch.ones(9 * 2**20)
del large  # the C library now keeps blocks of up to 36 MiB
blocks, between = [], []
for _ in range(100):  # holes between objects that live on
    blocks.append(torch.ones(600_000))
    between.append(bytearray(3000))
del blocks
with LayerwiseRunner(sys.argv[1], torch.ones(2, 16, dtype=torch.int64), batch_size=2) as stream:
    for _ in stream.layers():
        print(resident_bytes())
"""


def test_memory_stays_at_what_one_layer_takes(tmp_path):
    """Many layers: what is held between them does not grow by their size, in a heap with holes as well."""
    model = tiny("llama", hidden_size=256, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=4)
    model.save_pretrained(tmp_path / "m")
    whole = sum(p.numel() for p in model.parameters()) * 4
    # a process of its own: other tests' threads take and free memory in this one
    done = forked.run(forked.code, HELD, str(tmp_path / "m"))
    assert done.code == 0, done.errors[-2000:]
    held = [int(line) for line in done.output.split()]
    parts = layerwise_memory_bytes(tmp_path / "m", 16, sequences=2, batch_size=2)
    assert parts["weights"] < whole / 10
    assert len(held) == 12
    assert max(held[2:]) - min(held[2:]) < parts["weights"] / 2
    more = layerwise_memory_bytes(tmp_path / "m", 16, sequences=2, batch_size=2, taylor=True)
    assert more["weights"] == 3 * parts["weights"]
    assert parts["budget"] == 2 * 16 * 256 * 4
    assert more["budget"] == 14 * parts["budget"]


def test_moments_far_from_zero_do_not_cancel():
    x = 1e6 + torch.randn(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e-3
    moments = ChannelMoments()
    for piece in x.split(37):
        moments.update(piece)
    torch.testing.assert_close(moments.mean, x.mean(0), rtol=1e-15, atol=0)
    torch.testing.assert_close(moments.variance, x.var(0, correction=0), rtol=1e-6, atol=0)
    torch.testing.assert_close(moments.power, x.square().mean(0), rtol=1e-14, atol=0)


def test_what_cannot_be_streamed_is_refused(folders, tmp_path):
    folder, _ = folders("llama")
    ids = token_ids(2, 8)
    with pytest.raises(InputError, match="activation_budget"):
        layerwise_scores(folder, ids, activation_budget=-1)
    with pytest.raises(InputError, match="kinds"):
        layerwise_scores(folder, ids, kinds=["v_channel"])
    with pytest.raises(InputError, match="kinds"):
        layerwise_taylor(folder, ids, kinds=["hidden"])
    with pytest.raises(InputError, match="token id"):
        layerwise_scores(folder, torch.full((1, 4), VOCAB))
    with pytest.raises(InputError, match="causal language model"):
        layerwise_taylor(folders("bert")[0], ids)
    bad = tiny("llama")
    with torch.no_grad():
        bad.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    bad.save_pretrained(tmp_path / "bad")
    with pytest.raises(InputError, match="NaN"):
        layerwise_scores(tmp_path / "bad", ids)
    with pytest.raises(InputError, match="a loss of nan"):
        layerwise_taylor(tmp_path / "bad", ids)
