"""Group norms of adapters and the proximal step against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from paperworks.errors import InputError
from paperworks.pruning.sparsity import group_penalty, lora_group_norms, proximal_step, zero_adapters
from paperworks.structure import units_of
from paperworks.training import add_lora
from training.test_loop import tiny

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _adapted() -> torch.nn.Module:
    model = add_lora(tiny(), TARGETS, r=2, alpha=2, dropout=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=generator)
    return model


def test_group_norms_and_the_proximal_step_are_their_closed_forms() -> None:
    model = _adapted()
    units = units_of(model, ["ffn", "v_channel"])
    mlp = model.get_base_model().model.layers[1].mlp
    parts = [mlp.gate_proj.lora_B["default"].weight, mlp.up_proj.lora_B["default"].weight]
    column = mlp.down_proj.lora_A["default"].weight
    norms = lora_group_norms(model, units[1, "ffn"]).detach()
    for unit in (0, 7, 31):
        expected = math.sqrt(sum(float((p[unit] ** 2).sum()) for p in parts) + float((column[:, unit] ** 2).sum()))
        assert float(norms[unit]) == pytest.approx(expected, rel=1e-5)
    dropped = {(1, "ffn"): [3, 5], (0, "v_channel"): [1]}
    penalty = group_penalty(model, units, dropped)
    by_hand = sum(float(p[u].norm()) for p in parts for u in (3, 5)) + sum(float(column[:, u].norm()) for u in (3, 5))
    attn = model.get_base_model().model.layers[0].self_attn
    value, out = attn.v_proj.lora_B["default"].weight, attn.o_proj.lora_A["default"].weight
    by_hand += float(value[[1, 5]].norm()) + float(out[:, [1, 5, 9, 13]].norm())
    assert penalty.item() == pytest.approx(by_hand / 2, rel=1e-5)
    before = {name: p.clone() for name, p in model.named_parameters()}
    proximal_step(model, units, dropped, 0.5)
    after = lora_group_norms(model, units[1, "ffn"]).detach()
    for unit in range(32):
        expected = max(0.0, float(norms[unit]) - 0.5) if unit in (3, 5) else float(norms[unit])
        assert float(after[unit]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    others = [i for i in range(32) if i not in (3, 5)]
    name = "base_model.model.model.layers.1.mlp.gate_proj.lora_B.default.weight"
    assert torch.equal(dict(model.named_parameters())[name][others], before[name][others])
    zero_adapters(model, units, dropped)
    assert bool((parts[0][[3, 5]] == 0).all() and (column[:, [3, 5]] == 0).all() and (value[[1, 5]] == 0).all())
    with pytest.raises(InputError, match="no adapter"):
        lora_group_norms(tiny(), units[1, "ffn"])
    with pytest.raises(InputError, match="threshold"):
        proximal_step(model, units, dropped, -1)
