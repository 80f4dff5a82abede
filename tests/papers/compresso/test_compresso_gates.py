"""Gates: what they start from, what they settle to, and how a budget is filled."""

from __future__ import annotations

import pytest
import torch
from compresso_models import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.compresso import Gates, Size
from paperworks.papers.compresso.gates import kinds_for
from paperworks.papers.compresso.size import HIDDEN
from paperworks.structure import HardConcrete, units_of

MODEL = tiny("llama", num_key_value_heads=4)
SIZE = Size.of(MODEL, "parameters")


def scattered(seed: int, scale: float = 3.0, **options: object) -> Gates:
    gates = Gates(units_of(MODEL, ["ffn", "kv_group", "hidden"]), **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for gate in (*gates.of.values(), *gates.of_layers.values()):
            gate.log_alpha.copy_(scale * torch.randn(gate.log_alpha.shape, generator=generator))
    gates.clamp_()
    return gates


def numbers(masks: dict) -> dict:
    return {key: int((mask != 0).sum()) for key, mask in masks.items()}


def test_starts() -> None:
    gates = Gates(units_of(MODEL, ["ffn", "kv_group", "hidden"]), generator=torch.Generator().manual_seed(0))
    assert float(gates.log_alpha((0, "ffn")).mean()) == pytest.approx(4.595, abs=0.01)
    assert float(gates.log_alpha(HIDDEN).mean()) == pytest.approx(10, abs=0.01)
    assert 0 < float(gates.log_alpha((1, "ffn")).std()) < 0.02
    gates.clamp_()
    assert float(gates.log_alpha((2, "kv_group")).max()) == pytest.approx(4.60517, abs=1e-4)


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 3.0])
def test_share_of_nonzero_samples(log_alpha: float) -> None:
    gate = HardConcrete(1_000_000, mean=log_alpha)
    share = (gate.sample(torch.Generator().manual_seed(0)) > 0).double().mean()
    assert float(share) == pytest.approx(float(gate.p_nonzero()[0].detach()), abs=0.002)


def test_deterministic_masks_round_by_set() -> None:
    gates = scattered(1)
    masks, chances = gates.deterministic(), gates.p_nonzero()
    for key, mask in masks.items():
        zeros = round(len(mask) - float(chances[key].sum().detach()))
        assert int((mask == 0).sum()) == zeros
        alpha = gates.log_alpha(key)
        if 0 < zeros < len(mask):
            assert float(alpha[mask == 0].max()) <= float(alpha[mask != 0].min())
        kept = mask != 0
        torch.testing.assert_close(mask[kept], torch.sigmoid(0.8 * alpha[kept] / (2 / 3)))


def test_a_model_keeps_a_head_and_a_dimension() -> None:
    gates = scattered(0)
    with torch.no_grad():
        for gate in gates.of.values():
            gate.log_alpha.fill_(-9)
    kept = numbers(gates.deterministic())
    assert kept[HIDDEN] == 1
    assert sum(n for key, n in kept.items() if key[1] == "kv_group") == 1


@given(seed=st.integers(0, 10_000), share=st.floats(0.2, 0.95))
@settings(max_examples=25, deadline=None)
def test_fill_meets_the_budget(seed: int, share: float) -> None:
    gates = scattered(seed)
    target = int(share * SIZE.whole)
    masks = gates.fill(gates.deterministic(), SIZE, target)
    kept = numbers(masks)
    assert SIZE(kept) <= target
    cheapest = min((SIZE.cost(key, kept) for key, mask in masks.items() if bool((mask == 0).any())), default=None)
    if cheapest is not None:
        assert target - SIZE(kept) < cheapest  # nothing that was dropped would fit
    assert kept[HIDDEN] >= 1
    assert sum(n for key, n in kept.items() if key[1] == "kv_group") >= 1


def test_fill_drops_and_restores_nearest_to_the_threshold() -> None:
    gates = scattered(3)
    masks = gates.deterministic()
    now = SIZE(numbers(masks))
    fewer = gates.fill(masks, SIZE, now - 300)
    dropped = [a for key in masks for a in gates.log_alpha(key)[(masks[key] != 0) & (fewer[key] == 0)].tolist()]
    stay = [a for key in masks for a in gates.log_alpha(key)[fewer[key] != 0].tolist()]
    assert dropped
    assert min(dropped) <= min(stay) + 1e-6
    more = gates.fill(masks, SIZE, now + 300)
    assert sum(numbers(more).values()) > sum(numbers(masks).values())
    assert all(bool((more[key][masks[key] != 0] == masks[key][masks[key] != 0]).all()) for key in masks)


def test_fill_says_what_can_be_reached() -> None:
    gates = scattered(0)
    with pytest.raises(InputError, match="at least") as caught:
        gates.fill(gates.deterministic(), SIZE, 10)
    assert caught.value.field == "target"


@pytest.mark.parametrize("layer_gates", ["layer", "blocks"])
def test_layer_gates_leave_layers_dense(layer_gates: str) -> None:
    gates = scattered(2, layer_gates=layer_gates)
    with torch.no_grad():
        for gate in gates.of_layers.values():
            gate.log_alpha.copy_(torch.tensor([4.0, -4.0, 4.0]))
    masks, sampled = gates.deterministic(), gates.sample(torch.Generator().manual_seed(0))
    for kind in ("ffn", "kv_group"):
        assert bool((masks[1, kind] == 1).all())
        assert bool((gates.p_nonzero()[1, kind] == 1).all())
        assert bool((sampled[1, kind] == 1).all())
        assert not bool((masks[0, kind] == 1).all())
    gates.expected()[1, "ffn"].backward()
    slope = next(iter(gates.of_layers.values())) if layer_gates == "layer" else gates.of_layers["ffn"]
    assert float(slope.log_alpha.grad[1]) < 0  # opening the gate of a dense layer would make it smaller
    assert float(slope.log_alpha.grad[0]) == 0


def test_units_by_name() -> None:
    assert kinds_for(("heads", "ffn", "hidden")) == ["kv_group", "ffn", "hidden"]
    for wrong in ((), ("neurons",), ("ffn", "ffn")):
        with pytest.raises(InputError, match="units"):
            kinds_for(wrong)
