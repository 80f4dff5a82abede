"""The polynomial of sizes, and the constraint over it."""

from __future__ import annotations

import math

import pytest
import torch
from compresso_models import FAMILIES, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.compresso import Gates, Lagrangian, Size
from paperworks.papers.compresso.constraint import sparsity_target
from paperworks.papers.compresso.size import HIDDEN
from paperworks.structure import KeepPlan, count, prune, units_of


@pytest.mark.parametrize("kind", FAMILIES)
def test_integer_sizes_are_those_of_the_cut_model(kind: str) -> None:
    model = tiny(kind)
    size, inner = Size.of(model, "parameters"), Size.of(model)
    units = units_of(model, ["ffn", "kv_group", "hidden"])
    generator = torch.Generator().manual_seed(5)
    masks = {key: torch.rand(units[key].n_units, generator=generator) < 0.6 for key in units}
    masks[0, "kv_group"][:] = False  # a layer without heads
    masks[1, "kv_group"][0] = True
    plan = KeepPlan.of(units, masks)
    kept = {key: len(ids) for key, ids in plan.kept.items()}
    assert size.whole == count(model).parameters
    before = dict(kept)
    for key in kept:
        if kept[key]:
            assert size(kept) - size({**kept, key: kept[key] - 1}) == size.cost(key, kept)
    cut = prune(model, plan, inplace=False)
    assert kept == before
    assert size(kept) == sum(p.numel() for p in cut.parameters())
    biases = sum(p.numel() for n, p in cut.named_parameters() if n.endswith("bias") and "norm" not in n)
    if kind in ("llama", "mistral", "qwen3", "phi3"):
        assert biases == 0
        assert inner(kept) == count(cut).prunable


def test_llama_without_groups_has_the_size_of_the_paper() -> None:
    model = tiny("llama", num_key_value_heads=4)
    assert Size.of(model).whole == 3 * (4 * 32**2 + 3 * 32 * 48)
    assert Size.of(tiny("opt")).whole == 3 * (4 * 32**2 + 2 * 32 * 48)


def test_product_of_sums_is_the_outer_product() -> None:
    model = tiny("llama")
    units = units_of(model, ["ffn", "kv_group", "hidden"])
    gates = Gates(units, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for gate in gates.of.values():
            gate.log_alpha.copy_(3 * torch.randn(gate.log_alpha.shape, generator=torch.Generator().manual_seed(1)))
    chances = gates.p_nonzero()
    explicit = torch.zeros((), dtype=torch.float64)
    hd, group = 8, 2
    for (layer, kind), p in chances.items():
        if layer is not None:
            each = (2 * group + 2) * hd if kind == "kv_group" else 3
            explicit = explicit + each * torch.outer(chances[HIDDEN], p).sum()
    expected: torch.Tensor = Size.of(model)(gates.expected())
    assert expected.dtype == torch.float64
    assert float(expected.detach()) == pytest.approx(float(explicit.detach()), rel=1e-14)


def test_sparsity_at_log_alpha_zero() -> None:
    model = tiny("llama")
    size = Size.of(model)
    gates = Gates(units_of(model, ["ffn", "kv_group", "hidden"]))
    with torch.no_grad():
        for gate in gates.of.values():
            gate.log_alpha.zero_()
    chance = 1 / (1 + math.exp(-2 / 3 * math.log(11)))
    sparsity = 1 - float(size(gates.expected()).detach()) / size.whole
    assert sparsity == pytest.approx(1 - chance**2, abs=1e-6)
    assert sparsity == pytest.approx(0.3081, abs=5e-5)


@given(step=st.integers(0, 500), warmup=st.integers(1, 300), final=st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None)
def test_targets_rise_to_the_final_one(step: int, warmup: int, final: float) -> None:
    for schedule in ("linear", "cubic"):
        now, later = (sparsity_target(k, final, warmup, schedule) for k in (step, step + 1))
        assert 0 <= now <= later <= final * (1 + 1e-12)
        assert sparsity_target(warmup + step, final, warmup, schedule) == pytest.approx(final)
    assert sparsity_target(step, final, warmup, "cubic") >= sparsity_target(step, final, warmup) * (1 - 1e-12)


def test_ascent_below_the_target_pushes_sparsity_up() -> None:
    lagrangian = Lagrangian(0.4, 10)
    optimizer = torch.optim.AdamW(lagrangian.parameters(), lr=0.1, weight_decay=0.0, maximize=True)
    sparsity = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    for step in range(20, 25):
        optimizer.zero_grad()
        lagrangian(sparsity, step).backward()
        optimizer.step()
    assert float(lagrangian.lambda_1) < 0 < float(lagrangian.lambda_2)
    sparsity.grad = None
    lagrangian(sparsity, 30).backward()
    assert sparsity.grad is not None
    assert float(sparsity.grad) < 0
    assert float(lagrangian.lambda_1) == pytest.approx(-0.5, abs=1e-4)  # Adam: the rate a step, whatever the gap


@pytest.mark.parametrize("final", [0.0, 1.0, -0.1, 1.5])
def test_targets_out_of_bounds(final: float) -> None:
    with pytest.raises(InputError, match="target_sparsity"):
        Lagrangian(final, 10)
