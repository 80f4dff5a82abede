"""Folding and rotating change nothing; slicing is what is left after dropping columns."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_transformers import KINDS, D, exact_norms, outputs, random_basis, tiny, token_ids

from paperworks.errors import InputError
from paperworks.structure import cuts_of, fold_norms, residual_stream, rotate, slice_stream
from paperworks.structure.layers_sliced import StreamNorm


@pytest.mark.parametrize("slice_head", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("kind", KINDS)
def test_folding_and_rotating_leave_the_function_unchanged(kind, dtype, bound, slice_head):
    model, ids = tiny(kind, dtype), token_ids(2)
    folded = fold_norms(copy.deepcopy(model), slice_head=slice_head)
    dense = outputs(exact_norms(model) if dtype == torch.float64 else model, ids)
    exact_norms(folded)  # Qwen3's norms inside the heads stay
    assert (outputs(folded, ids) - dense).abs().max() < bound
    generator = torch.Generator().manual_seed(5)
    rotated = rotate(folded, [random_basis(D, generator) for _ in range(cuts_of(folded))])
    assert (outputs(rotated, ids) - dense).abs().max() < bound
    assert dense.abs().max() > 0.5  # the bounds above mean something


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt2", "phi", "bert"])
def test_slicing_is_rotating_with_fewer_columns(kind):
    ids = token_ids(2)
    generator = torch.Generator().manual_seed(6)
    folded = fold_norms(tiny(kind, torch.float64))
    n = cuts_of(folded)
    bases = [random_basis(D, generator) for _ in range(n)]
    widths = [24] * n
    sliced = slice_stream(rotate(copy.deepcopy(folded), bases), widths)
    at_once = rotate(folded, [basis[:, :24] for basis in bases])
    assert sliced.config.stream_widths == at_once.config.stream_widths
    assert (outputs(sliced, ids) - outputs(at_once, ids)).abs().max() < 1e-10


def test_directions_that_the_stream_never_uses_can_go():
    model = tiny("llama", torch.float64)
    with torch.no_grad():  # the last 8 coordinates are never written
        model.model.embed_tokens.weight[:, 24:] = 0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[24:] = 0
            layer.mlp.down_proj.weight[24:] = 0
    ids = token_ids(2)
    folded = fold_norms(model)
    dense = outputs(folded, ids)
    sliced = slice_stream(folded, [24] * cuts_of(folded))
    assert sum(p.numel() for p in sliced.model.embed_tokens.parameters()) == 96 * 24
    assert (outputs(sliced, ids) - dense).abs().max() < 1e-12


def test_the_norm_divides_by_the_original_width():
    x = torch.randn(5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (0, 8))
    norm = StreamNorm(32, 1e-3)
    torch.testing.assert_close(norm(x), norm(padded)[:, :24], rtol=1e-14, atol=0)
    torch.testing.assert_close(norm(x), x / (x.square().sum(-1, keepdim=True) / 32 + 1e-3).sqrt(), rtol=1e-12, atol=0)


def test_each_family_keeps_its_eps():
    folded = fold_norms(tiny("qwen2", rms_norm_eps=3e-4))
    assert {m.eps for m in folded.modules() if isinstance(m, StreamNorm)} == {3e-4}


def test_products_in_pieces_equal_products_at_once(monkeypatch):
    weight = torch.randn(37, 32, generator=torch.Generator().manual_seed(1))
    basis = random_basis(32, torch.Generator().manual_seed(2))[:, :16]
    whole = [
        residual_stream.along_stream(weight, 1, lambda r: r @ basis, 16),
        residual_stream.along_stream(weight.T, 0, lambda r: r @ basis, 16),
    ]
    monkeypatch.setattr(residual_stream, "CHUNK_BYTES", 8 * 32 * 5)
    pieces = [
        residual_stream.along_stream(weight, 1, lambda r: r @ basis, 16),
        residual_stream.along_stream(weight.T, 0, lambda r: r @ basis, 16),
    ]
    for a, b in zip(whole, pieces, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(whole[0], (weight.double() @ basis).float())
    torch.testing.assert_close(whole[1], whole[0].T)


def test_a_tied_head_becomes_a_matrix_of_its_own():
    model = tiny("gpt2")
    assert model.lm_head.weight is model.transformer.wte.weight
    table = model.transformer.wte.weight.detach().clone()
    folded = fold_norms(model)
    assert folded.config.tie_word_embeddings is False
    assert not torch.equal(folded.lm_head.weight, folded.transformer.wte.weight)
    folded.tie_weights()
    assert not torch.equal(folded.lm_head.weight, folded.transformer.wte.weight)
    assert table.shape == folded.lm_head.weight.shape


@pytest.mark.parametrize(
    ("bases", "field"),
    [
        ([torch.eye(D, dtype=torch.float64)] * 3, "bases"),
        ([torch.eye(D, dtype=torch.float64)] * 6 + [torch.eye(16, dtype=torch.float64)], "bases[6]"),
    ],
)
def test_wrong_bases_are_refused(bases, field):
    folded = fold_norms(tiny("llama"))
    with pytest.raises(InputError) as caught:
        rotate(folded, bases)
    assert caught.value.field == field


def test_a_dense_model_has_no_stream_to_rotate():
    with pytest.raises(InputError, match="fold_norms"):
        rotate(tiny("llama"), [])
