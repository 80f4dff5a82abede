"""Channel-wise interpolation and what it is compared with."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.tas.interpolation import channel_interpolation, pad_channels


@settings(max_examples=40, deadline=None)
@given(channels=st.integers(1, 40), width=st.integers(1, 40))
def test_it_is_the_mean_over_intervals(channels: int, width: int) -> None:
    x = torch.randn(2, channels, 3, dtype=torch.float64)
    ends = [(t * channels // width, math.ceil((t + 1) * channels / width)) for t in range(width)]
    expected = torch.stack([x[:, low:high].mean(1) for low, high in ends], 1)
    assert torch.allclose(channel_interpolation(x, width), expected, atol=1e-12)


def test_it_is_adaptive_pooling_along_the_channels() -> None:
    x = torch.randn(3, 7, 4, 5)
    expected = functional.adaptive_avg_pool3d(x, (12, 4, 5))
    assert torch.allclose(channel_interpolation(x, 12), expected, atol=1e-6)


def test_the_same_width_is_the_same_tensor() -> None:
    x = torch.randn(2, 5, 3, 3)
    assert channel_interpolation(x, 5) is x
    assert pad_channels(x, 5) is x


def test_a_width_that_was_first_met_in_inference_mode_serves_a_backward_pass() -> None:
    with torch.inference_mode():
        channel_interpolation(torch.randn(2, 13, dtype=torch.float64), 17)
    x = torch.randn(2, 13, dtype=torch.float64, requires_grad=True)
    channel_interpolation(x, 17).sum().backward()
    assert torch.allclose(x.grad.sum(), torch.tensor(34.0, dtype=torch.float64))  # type: ignore[union-attr]


def test_any_axis() -> None:
    x = torch.randn(2, 4, 6)
    assert torch.equal(channel_interpolation(x, 9, -1), channel_interpolation(x.movedim(-1, 1), 9).movedim(1, -1))
    assert torch.equal(pad_channels(x, 8, -1)[..., 6:], torch.zeros(2, 4, 2))


def test_bad_input() -> None:
    x = torch.randn(2, 4)
    with pytest.raises(InputError, match="width"):
        channel_interpolation(x, 0)
    with pytest.raises(InputError, match="axis"):
        channel_interpolation(x, 3, 2)
