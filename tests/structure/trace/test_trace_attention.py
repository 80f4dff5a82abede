"""Torch's attention with matrices of its own: torch's outputs, heads and streams that can be cut, and files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.structure import magnitude_scores
from paperworks.structure.trace import (
    PrunableMultiheadAttention,
    analyze,
    cut,
    load_cut,
    prunable_attention,
    ranked_plan,
    save_cut,
    verify,
)


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(16, 4, **options)
    for parameter in made.parameters():  # torch's biases are zeros at first
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.mark.parametrize(
    "options",
    [{}, {"kdim": 5, "vdim": 7}, {"bias": False}, {"batch_first": True}],
    ids=["packed", "dims", "no bias", "b"],
)
def test_outputs_weights_and_gradients_are_those_of_torch(options: dict[str, Any]) -> None:
    dense = attention(**options)
    ours = prunable_attention(copy.deepcopy(dense))
    query, key = torch.randn(2, 6, 16), torch.randn(2, 9, options.get("kdim", 16))
    value = torch.randn(2, 9, options.get("vdim", 16))
    if not options.get("batch_first"):
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 7:] = True
    for mask in (None, torch.randn(6, 9), torch.randn(8, 6, 9), torch.ones(6, 9, dtype=torch.bool).triu(1)):
        pad = padding if mask is None or mask.dtype == torch.bool else padding.float() * -1e4
        for need, average in ((False, True), (True, True), (True, False)):
            expected, found = (
                m(query, key, value, pad, need_weights=need, attn_mask=mask, average_attn_weights=average)
                for m in (dense, ours)
            )
            assert torch.allclose(expected[0], found[0], atol=1e-5)
            if not need:
                assert found[1] is None
            else:
                assert torch.allclose(expected[1], found[1], atol=1e-6)
    for m in (dense, ours):
        m(query, key, value)[0].square().sum().backward()
    gradient = dense.in_proj_weight.grad[:16] if dense.in_proj_weight is not None else dense.q_proj_weight.grad
    assert torch.allclose(gradient, ours.q_proj.weight.grad, atol=1e-3, rtol=1e-4)
    assert torch.allclose(dense.out_proj.weight.grad, ours.out_proj.weight.grad, atol=1e-3, rtol=1e-4)


def test_one_sequence_and_the_hint_of_a_causal_mask() -> None:
    dense = attention()
    ours = prunable_attention(copy.deepcopy(dense))
    x, mask = torch.randn(5, 16), nn.Transformer.generate_square_subsequent_mask(5)
    for expected, found in zip(
        dense(x, x, x, attn_mask=mask), ours(x, x, x, attn_mask=mask, is_causal=True), strict=True
    ):
        assert expected.shape == found.shape
        assert torch.allclose(expected, found, atol=1e-5)
    with pytest.raises(InputError, match="attn_mask"):
        ours(x, x, x, is_causal=True)


class Encoder(nn.Module):
    """Torch's encoder between two linear layers; padding is what holds zeros."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.up, self.encoder, self.out = nn.Linear(5, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        return self.out(self.encoder(self.up(x), src_key_padding_mask=padding).mean(1))


def test_torchs_encoder_loses_heads_and_half_of_its_operations(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, x = Encoder().eval(), torch.randn(2, 6, 5)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    with torch.no_grad():
        expected = model(x), model(x, padding)
    assert prunable_attention(model) is model
    assert torch.allclose(model(x), expected[0], atol=1e-5)
    assert torch.allclose(model(x, padding), expected[1], atol=1e-5)
    groups = analyze(model, x)
    heads = [group for group in groups.values() if group.kind == "head"]
    assert [(group.n_units, group.by_default) for group in heads] == [(4, True), (4, True)]
    assert {v.result for v in verify(groups)} == {"exact", "coupled"}
    plan = ranked_plan(groups, magnitude_scores(model, groups.units), macs=0.5)
    assert groups.cost(plan).macs <= 0.5 * groups.cost().macs
    small = cut(groups, plan)
    assert sum(p.numel() for p in small.parameters()) == groups.cost(plan).parameters
    save_cut(small, tmp_path / "small")
    for build in (Encoder, lambda: prunable_attention(Encoder())):
        assert torch.equal(load_cut(tmp_path / "small", build)(x), small(x))
    file = tmp_path / "small" / "pruning.json"
    for bad in ("encoder", [3]):
        file.write_text(json.dumps({**json.loads(file.read_text()), "attention": bad}))
        with pytest.raises(InputError, match=r"pruning\.json"):
            load_cut(tmp_path / "small", Encoder)


class Doubled(nn.MultiheadAttention):
    """Attention of another function."""

    def forward(self, *args: Any, **options: Any) -> Any:
        out, weights = super().forward(*args, **options)
        return 2 * out, weights


def test_a_subclass_stays() -> None:
    model = nn.ModuleList([Doubled(16, 4)])
    assert type(prunable_attention(model)[0]) is Doubled
    with pytest.raises(InputError, match="only"):
        prunable_attention(model, only=["0"])


def test_shared_modules_stay_shared_and_other_attention_stays() -> None:
    dense = attention()
    model = nn.ModuleDict(
        {"a": dense, "b": dense, "learned": attention(add_bias_kv=True), "zero": attention(add_zero_attn=True)}
    )
    assert isinstance(prunable_attention(copy.deepcopy(model), only=["a"])["b"], nn.MultiheadAttention)
    prunable_attention(model)
    assert model["a"] is model["b"]
    assert [type(model[name]) for name in ("a", "learned", "zero")] == [
        PrunableMultiheadAttention,
        nn.MultiheadAttention,
        nn.MultiheadAttention,
    ]
    with pytest.raises(InputError, match="only"):
        prunable_attention(model, only=["a"])
