"""A finding's verdict follows from its numbers alone."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.metrics import mean_interval
from paperworks.runs import Finding, Run, largest, smallest, study
from paperworks.runs.render import margin_text

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


def test_a_missing_figure_never_holds() -> None:
    assert not any(Finding("c", "s", "exact", None, r, 1.0).holds for r in OPERATORS)  # type: ignore[arg-type]
    assert not any(Finding("c", "s", "exact", 1.0, r, None).holds for r in OPERATORS)  # type: ignore[arg-type]
    stored = Finding("c", "s", "exact", None, "<", 1.0).to_dict()
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert not Finding.from_dict(stored).holds


@given(st.lists(st.floats(allow_nan=True), min_size=1))
def test_the_largest_and_the_smallest_do_not_pass_over_a_missing_figure(figures: list[float]) -> None:
    missing = any(math.isnan(figure) for figure in figures)
    for found, expected in ((largest(figures), max), (smallest(figures), min)):
        assert math.isnan(found) if missing else found == expected(figures)
    assert not Finding("c", "s", "exact", largest([0.0, math.nan]), "<=", 1.0).holds


@given(
    st.tuples(st.floats(-1e3, 1e3), st.floats(0, 10), st.floats(0, 10)),
    st.floats(-1e3, 1e3),
    st.floats(0, 1),
    st.sampled_from(sorted(OPERATORS)),
)
def test_an_interval_must_be_on_the_right_side_as_a_whole(
    figure: tuple[float, float, float], bound: float, tolerance: float, relation: str
) -> None:
    middle, down, up = figure
    ends = (middle - down, middle + up)
    found = Finding("c", "s", "empirical", middle, relation, bound, tolerance=tolerance, interval=ends, n=5)  # type: ignore[arg-type]
    single = [Finding("c", "s", "empirical", end, relation, bound, tolerance=tolerance).holds for end in ends]  # type: ignore[arg-type]
    assert found.holds == all(single)
    assert found.holds == (found.margin > 0 or (found.margin == 0 and "=" in relation))
    assert Finding.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_an_estimate_brings_its_interval() -> None:
    same_sign = mean_interval([-1.0, -2.0, -1.5, -1.2, -0.9])
    found = Finding("c", "difference to the baseline", "empirical", same_sign, "<", 0.0, baseline=3.0)
    assert found.holds
    assert found.interval == (same_sign.low, same_sign.high)
    assert (found.interval_method, found.n, found.n_unit) == ("95%, Student t", 5, "seeds")
    noise = Finding("c", "s", "empirical", mean_interval([-1.0, 1.5, -2.0]), "<", 0.0, baseline=3.0)
    assert noise.measured < 0
    assert not noise.holds


@pytest.mark.parametrize(
    ("more", "decided"),
    [
        ({}, False),
        ({"kind": "exact"}, True),
        ({"interval": (0.5, 1.5), "n": 3}, True),
        ({"deterministic": "a fixed trace"}, True),
        ({"test": "four standard errors of 400 networks"}, True),
        ({"baseline": 2.0}, False),
        ({"baseline": 2.0, "interval": (0.5, 1.5), "n": 3}, True),
        ({"baseline": 2.0, "deterministic": "a fixed trace"}, True),
        ({"baseline": 2.0, "kind": "exact"}, True),
    ],
)
def test_an_empirical_figure_needs_an_interval(more: dict, decided: bool) -> None:
    fields = {"claim": "c", "statement": "s", "kind": "empirical", "measured": 1.0, "relation": "<", "bound": 2.0}
    assert (Finding(**(fields | more)).untested == "") == decided


@pytest.mark.parametrize("figure", [0.0, 1.0, 1 / 359, -0.1])
@pytest.mark.parametrize(("n", "decided"), [(2, False), (3, False), (5, False), (6, True), (1000, True)])
def test_equal_values_decide_only_where_their_ends_are_an_interval(figure: float, n: int, decided: bool) -> None:
    coverage = 1 - 2 ** (1 - n)  # of the median by the smallest and the largest of n values
    assert decided == (coverage >= 0.95)
    estimate = mean_interval([figure + 0.1 - 0.1] * n)
    found = Finding("c", "s", "empirical", estimate, "<", 2.0)
    assert found.holds
    assert (found.untested == "") == decided
    assert decided or f"the {n} seeds give the same figure" in found.untested
    for certain in ({"deterministic": "a fixed trace"}, {"test": "a sign test"}, {"kind": "exact"}):
        assert (
            Finding(
                **(
                    {"claim": "c", "statement": "s", "kind": "empirical", "measured": estimate}
                    | certain
                    | {"relation": "<", "bound": 2.0}
                )
            ).untested
            == ""
        )


def test_a_narrow_interval_is_not_one_without_width() -> None:
    found = Finding("c", "s", "empirical", mean_interval([1.0, 1.0, 1.0 + 1e-7]), "<", 2.0)
    assert found.untested == ""


@pytest.mark.parametrize(
    "more", [{"interval": (2.0, 1.0), "n": 3}, {"interval": (0.0, 1.0)}, {"interval": (0.0, 1.0), "n": 1}]
)
def test_intervals_that_are_none_are_refused(more: dict) -> None:
    with pytest.raises(InputError, match=r"interval|n: found"):
        Finding("c", "s", "empirical", 0.5, "<", 1.0, **more)


@pytest.mark.parametrize(
    ("measured", "relation", "bound", "tolerance", "text"),
    [
        (0.9, "<", 1.0, 0.0, "10%"),
        (1.04, "<", 1.0, 0.0, "-4%"),
        (3.0, ">", 2.0, 0.0, "50%"),
        (-0.25, "<", 0.0, 0.0, "0.25"),
        (1.0, "==", 1.0, 0.0, "0"),
        (1.002, "==", 1.0, 0.01, "0.8%"),
        (None, "<", 1.0, 0.0, "–"),
    ],
)
def test_the_margin_is_said(measured: float, relation: str, bound: float, tolerance: float, text: str) -> None:
    found = Finding("c", "s", "exact", measured, relation, bound, tolerance=tolerance)  # type: ignore[arg-type]
    assert margin_text(found.to_dict()) == text


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
