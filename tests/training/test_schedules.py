"""Learning-rate schedules: values worked out by hand, and what holds for all of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.training import learning_rate_factor


def factors(total: int, **options: object) -> list[float]:
    return [learning_rate_factor(step, total_steps=total, **options) for step in range(total)]  # type: ignore[arg-type]


def test_values() -> None:
    assert factors(4, schedule="constant", warmup_steps=2) == [0.5, 1, 1, 1]
    assert factors(4, schedule="linear") == [1, 0.75, 0.5, 0.25]
    assert factors(6, schedule="linear", warmup_steps=2, final_factor=0.2) == pytest.approx([0.5, 1, 1, 0.8, 0.6, 0.4])
    assert factors(2, schedule="cosine") == pytest.approx([1, 0.5])
    assert factors(10, schedule="wsd", warmup_steps=1, decay_fraction=0.4) == pytest.approx(
        [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    )


@given(
    st.sampled_from(["constant", "linear", "cosine", "wsd"]),
    st.integers(1, 60),
    st.integers(0, 30),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_rises_to_one_and_never_rises_again(schedule: str, total: int, warmup: int, decay: float, final: float) -> None:
    found = factors(total, schedule=schedule, warmup_steps=warmup, decay_fraction=decay, final_factor=final)
    rising, falling = found[:warmup], found[warmup:]
    assert rising == sorted(rising)
    assert all(0 < f <= 1 for f in rising)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(falling))
    assert all(final - 1e-12 <= f <= 1 for f in falling)
