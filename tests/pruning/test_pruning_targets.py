"""Budgets in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.pruning import Target
from paperworks.structure.budgets import Cost

DENSE = Cost(parameters=1000, prunable=600, macs=0, bytes=2000, cache=0)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("0.75x", 750),
        ("0.5p", 700),
        ("0.5P", 700),
        ("999", 999),
        ("0.5k", 500),
        ("1KiB", 512),  # two bytes for each parameter
        (".1X", 100),
        (" 900 ", 900),
    ],
)
def test_every_form(text: str, parameters: int) -> None:
    assert Target.parse(text).parameters(DENSE) == parameters


@pytest.mark.parametrize("text", ["", "x", "0x", "1.2x", "0p", "-5", "1e3", "half", "5MB", "0.75 x y", "nan"])
def test_what_is_no_budget_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InputError, match=r"^target_params: "):
        Target.parse(text, "target_params")


@pytest.mark.parametrize("text", ["1x", "1p", "1000", "2KiB", "1M"])
def test_a_budget_that_asks_for_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="fewer than the model has, 1,000"):
        Target.parse(text).parameters(DENSE)


@given(st.floats(0.001, 0.999))
def test_shares_never_ask_for_more_than_their_share(share: float) -> None:
    text = f"{share:.6f}"
    assert Target.parse(f"{text}x").parameters(DENSE) <= float(text) * 1000
    assert Target.parse(f"{text}p").parameters(DENSE) <= 400 + float(text) * 600
