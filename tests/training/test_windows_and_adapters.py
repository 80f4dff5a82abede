"""Windows over a token stream, and low-rank adapters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.training import RandomWindows, TrainSettings, add_lora, merge_lora, train

from .test_loop import tiny, tokens


@given(st.integers(2, 9), st.integers(2, 60), st.integers(0, 5))
def test_windows_are_pieces_of_the_stream_that_do_not_overlap(length: int, extra: int, epoch: int) -> None:
    stream = np.arange(2 * length + extra, dtype=np.uint16)
    windows = RandomWindows(stream, length, seed=4)
    windows.set_epoch(epoch)
    rows = [windows[i]["input_ids"] for i in range(len(windows))]
    assert all(row.dtype == torch.int64 and len(row) == length for row in rows)
    joined = torch.cat(rows).numpy()
    start = int(joined[0])
    assert 0 <= start < length
    assert np.array_equal(joined, stream[start : start + len(joined)])
    assert len(stream) - len(joined) < 2 * length


def test_borders_move_with_the_epoch_and_the_seed_only() -> None:
    stream = np.arange(1000)
    windows, again = RandomWindows(stream, 100, seed=1), RandomWindows(stream, 100, seed=1)
    offsets = []
    for epoch in range(5):
        windows.set_epoch(epoch)
        offsets.append(int(windows[0]["input_ids"][0]))
    again.set_epoch(3)
    assert int(again[0]["input_ids"][0]) == offsets[3]
    assert len(set(offsets)) > 1
    with pytest.raises(InputError, match="tokens"):
        RandomWindows(stream, 501)


def test_lora_starts_as_nothing_and_merges_into_the_weights() -> None:
    model = tiny()
    ids = tokens(3)
    before = model(input_ids=ids).logits
    names = set(model.state_dict())
    adapted = add_lora(model, ["q_proj", "down_proj"], r=3, alpha=10, dropout=0.0, seed=2)
    torch.testing.assert_close(adapted(input_ids=ids).logits, before)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 2  # A and B of two modules in two layers
    assert all("lora_" in name for name in trained)
    train(adapted, tokens(), TrainSettings(steps=5, learning_rate=1e-2))
    with_adapter = adapted.eval()(input_ids=ids).logits
    assert not torch.allclose(with_adapter, before, atol=1e-3)
    merged = merge_lora(adapted)
    assert set(merged.state_dict()) == names
    assert all(p.requires_grad for p in merged.parameters())
    torch.testing.assert_close(merged(input_ids=ids).logits, with_adapter, atol=1e-4, rtol=1e-4)


def test_lora_draws_from_its_seed_and_leaves_the_global_generator() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    weights = [add_lora(tiny(), ["v_proj"], r=2, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    key = next(k for k in weights[0] if "lora_A" in k)
    assert torch.equal(weights[0][key], weights[1][key])
    assert not torch.equal(weights[0][key], weights[2][key])


def test_lora_with_a_stabilized_scale_whole_names_and_a_head() -> None:
    names = ["model.layers.0.self_attn.q_proj"]
    adapted = add_lora(tiny(), names, r=4, alpha=8, dropout=0.0, rank_stabilized=True, train_also=["lm_head"])
    layer = adapted.get_submodule(f"base_model.model.{names[0]}")
    assert layer.scaling["default"] == 8 / 4**0.5
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len([name for name in trained if "lora_" in name]) == 2
    assert [name for name in trained if "lora_" not in name] == [
        "base_model.model.lm_head.modules_to_save.default.weight"
    ]
    with pytest.raises(InputError, match="train_also: found head"):
        add_lora(tiny(), names, train_also=["head"])


def test_lora_errors() -> None:
    with pytest.raises(InputError, match=r"targets: found \['query'\]; expected .*q_proj"):
        add_lora(tiny(), ["query", "q_proj"])
    with pytest.raises(InputError, match="targets"):
        add_lora(tiny(), [])
    with pytest.raises(InputError, match=r"^r:"):
        add_lora(tiny(), ["q_proj"], r=0)
    with pytest.raises(InputError, match=r"lora_rank: found 100000; expected at most \d+"):
        add_lora(tiny(), ["q_proj"], r=100_000)
    with pytest.raises(InputError, match="dropout"):
        add_lora(tiny(), ["q_proj"], dropout=1.0)
