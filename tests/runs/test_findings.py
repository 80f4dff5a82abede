"""A finding's verdict follows from its numbers alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.runs import Finding, Run, study

OPERATORS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
}


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(sorted(OPERATORS)))
def test_verdict_without_tolerance_is_the_relation(measured: float, bound: float, relation: str) -> None:
    finding = Finding("c", "s", "exact", measured, relation, bound)  # type: ignore[arg-type]
    assert finding.holds == OPERATORS[relation](measured, bound)


@pytest.mark.parametrize(
    ("relation", "inside", "outside"),
    [("<", 1.05, 1.2), ("<=", 1.1, 1.2), ("==", 0.95, 0.8), (">=", 0.9, 0.8), (">", 0.95, 0.8)],
)
def test_tolerance(relation: str, inside: float, outside: float) -> None:
    assert Finding("c", "s", "exact", inside, relation, 1.0, tolerance=0.1).holds  # type: ignore[arg-type]
    assert not Finding("c", "s", "exact", outside, relation, 1.0, tolerance=0.1).holds  # type: ignore[arg-type]


def test_nan_never_holds() -> None:
    assert not any(Finding("c", "s", "exact", math.nan, r, 1.0).holds for r in OPERATORS)  # type: ignore[arg-type]
    assert not any(Finding("c", "s", "exact", 1.0, r, math.nan).holds for r in OPERATORS)  # type: ignore[arg-type]


def test_a_stored_verdict_is_not_believed() -> None:
    stored = Finding("c", "s", "empirical", 3.0, "<", 2.0).to_dict()
    assert stored["holds"] is False
    assert Finding.from_dict(stored | {"holds": True}).holds is False


@pytest.mark.parametrize("change", [{"kind": "sure"}, {"relation": "~"}, {"tolerance": -1.0}])
def test_bad_findings_are_refused(change: dict) -> None:
    fields = {"claim": "c", "statement": "s", "kind": "exact", "measured": 1.0, "relation": "<", "bound": 2.0}
    with pytest.raises(InputError, match=next(iter(change))):
        Finding(**(fields | change))


def test_a_study_may_only_speak_of_its_claims(tmp_path) -> None:
    @study(claims=["a"], title="t")
    def wanders(run: Run, fast: bool) -> list[Finding]:
        return [Finding("b", "s", "exact", 1, "==", 1)]

    with pytest.raises(InputError, match="claim 'b'"):
        wanders(Run(tmp_path), fast=True)
