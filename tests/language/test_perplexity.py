"""Perplexity against a loop that predicts one token at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from paperworks.errors import InputError
from paperworks.language import Calibration, measure_speed, perplexity, window_losses

IDS = torch.randint(300, (5, 9), generator=torch.Generator().manual_seed(1))


def plain_nll(model: Any, row: list[int]) -> list[float]:
    """-log p of each token of the row after the first, each from a forward pass of its own."""
    found = []
    for t in range(1, len(row)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row[:t]])).logits[0, -1].double()
        found.append(float(torch.logsumexp(logits, 0) - logits[row[t]]))
    return found


def test_token_and_word_perplexity_of_full_windows(small_model: Any) -> None:
    nll = [x for row in IDS.tolist() for x in plain_nll(small_model, row)]
    assert perplexity(small_model, IDS) == pytest.approx(math.exp(sum(nll) / len(nll)), rel=1e-5)
    assert perplexity(small_model, IDS, "seq_mean") == pytest.approx(math.exp(sum(nll) / len(nll)), rel=1e-5)
    assert perplexity(small_model, IDS, "word", words=20) == pytest.approx(math.exp(sum(nll) / 20), rel=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
def test_masks(small_model: Any, side: str) -> None:
    lengths = [9, 4, 2, 7, 1]
    mask = torch.zeros_like(IDS)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    if side == "left":
        mask = mask.flip(1)
    rows = [row[m == 1].tolist() for row, m in zip(IDS, mask, strict=True)]
    nll = [plain_nll(small_model, row) for row in rows]
    data = Calibration.from_tokens(IDS, mask)
    losses, counts = window_losses(small_model, data, batch_size=2)
    assert counts.tolist() == [n - 1 for n in lengths]
    assert losses.tolist() == pytest.approx([sum(row) for row in nll], rel=1e-5)
    flat = [x for row in nll for x in row]
    means = [sum(row) / len(row) for row in nll if row]
    assert perplexity(small_model, data, batch_size=3) == pytest.approx(math.exp(sum(flat) / len(flat)), rel=1e-5)
    assert perplexity(small_model, data, "seq_mean") == pytest.approx(math.exp(sum(means) / len(means)), rel=1e-5)


def test_the_padding_id_is_a_token_like_any_other(small_model: Any) -> None:
    pad = small_model.config.pad_token_id
    ids = IDS.clone()
    ids[:, 3:6] = pad
    nll = [x for row in ids.tolist() for x in plain_nll(small_model, row)]
    assert perplexity(small_model, ids) == pytest.approx(math.exp(sum(nll) / len(nll)), rel=1e-5)


def test_batch_size_does_not_matter_and_the_mode_comes_back(small_model: Any) -> None:
    small_model.train()
    try:
        values = [perplexity(small_model, IDS, batch_size=b) for b in (1, 2, 5, 100)]
        assert small_model.training
    finally:
        small_model.eval()
    assert values == pytest.approx([values[0]] * 4, rel=1e-6)


class Broken(torch.nn.Module):
    """Gives the same logit everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        logits = torch.zeros(*input_ids.shape, 300) + self.value
        return type("Output", (), {"logits": logits})


def test_uniform_and_broken_models() -> None:
    assert perplexity(Broken(0.0), IDS) == pytest.approx(300, rel=1e-6)
    assert perplexity(Broken(float("nan")), IDS) == math.inf


def test_errors(small_model: Any) -> None:
    with pytest.raises(InputError, match="kind"):
        perplexity(small_model, IDS, "byte")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="words"):
        perplexity(small_model, IDS, "word")
    with pytest.raises(InputError, match="words"):
        perplexity(small_model, IDS, words=3)
    with pytest.raises(InputError, match="windows"):
        perplexity(small_model, IDS[:, :1])
    with pytest.raises(InputError, match="neighbouring"):
        perplexity(small_model, Calibration.from_tokens(IDS[:1, :3], torch.tensor([[1, 0, 1]])))


def test_speed_is_consistent(small_model: Any) -> None:
    found = measure_speed(small_model, batch_size=2, prompt=5, new_tokens=3, repetitions=3)
    assert found.prefill_tokens_per_second == pytest.approx(2 * 5 / found.prefill_seconds)
    assert found.decode_tokens_per_second == pytest.approx(2 / found.seconds_per_token)
    assert found.seconds_per_token > 0
    with pytest.raises(InputError, match="repetitions"):
        measure_speed(small_model, repetitions=0)
