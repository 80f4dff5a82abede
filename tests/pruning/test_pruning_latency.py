"""A budget of time, with a clock that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from paperworks.errors import InputError
from paperworks.pruning import latency
from paperworks.pruning.latency import parameters_for_latency, seconds_per_token
from paperworks.pruning.target import Target, resolved
from paperworks.structure import count


@pytest.fixture
def model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


class Clock:
    """Seconds in proportion to the prunable parameters, with noise of 1 % and a slow minute now and then."""

    def __init__(self) -> None:
        self.noise = torch.Generator().manual_seed(0)

    def __call__(self, model: Any) -> float:
        noise = 1 + 0.01 * float(torch.rand((), generator=self.noise))
        return count(model).prunable * 1e-6 * noise


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_largest_model_that_is_fast_enough(model: Any, share: float) -> None:
    before = {n: p.clone() for n, p in model.named_parameters()}
    dense = count(model)
    found = parameters_for_latency(model, share, relative=True, clock=Clock(), steps=7)
    left = (found - (dense.parameters - dense.prunable)) / dense.prunable
    assert left <= share + 0.011
    assert left > share - 0.13  # whole groups of heads fall together: a quarter of the attention's third
    absolute = parameters_for_latency(model, share * dense.prunable * 1.005e-6, clock=Clock(), steps=7)
    assert abs(absolute - found) < 0.1 * dense.prunable
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_what_cannot_be_is_told(model: Any) -> None:
    with pytest.raises(InputError, match=r"^target: .*at least .*, the least that is reachable"):
        parameters_for_latency(model, 0.001, relative=True, clock=Clock())
    with pytest.raises(InputError, match=r"less than the dense model takes, [\d.]+ ms"):
        parameters_for_latency(model, 10.0, clock=Clock())
    with pytest.raises(InputError, match="cannot be timed here"):
        Target.parse("0.5t").parameters(count(model))


def test_the_real_clock_runs(model: Any) -> None:
    assert 0 < seconds_per_token(model, prompt=4, new_tokens=2) < 5
    assert Target.parse("20ms") == Target(0.02, "seconds")
    assert Target.parse("0.7t").timed


def test_a_time_is_measured_once_for_a_run(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([5000, 6000])
    monkeypatch.setattr(latency, "parameters_for_latency", lambda *args, **more: next(answers))
    assert [resolved("0.7t", model, tmp_path / "one.json") for _ in range(2)] == [5000, 5000]
    assert resolved("0.7t", model, tmp_path / "other.json") == 6000
    assert resolved("0.5x", model, tmp_path / "share.json") == count(model).parameters // 2
