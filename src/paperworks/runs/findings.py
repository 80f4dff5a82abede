"""A paper's claims, measured again: studies return findings, and a finding's verdict is computed from its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from paperworks.errors import InputError
from paperworks.runs.report import plain

if TYPE_CHECKING:
    from paperworks.runs.run import Run

Relation = Literal["<", "<=", "==", ">=", ">"]

EQUAL_VALUES = 6
"""From so many equal values on, an interval without width is one at 95 %, whatever their distribution.

The ends of n values hold their median with probability 1 - 2^(1 - n): .938 of 5, .969 of 6. Student's t cannot tell,
as it takes the spread from the values.
"""
ROUNDING = 1e-9
"""Widths below this share of an interval's ends are those of rounding."""


class Estimate(Protocol):
    """A measured figure with its confidence interval, such as ``paperworks.metrics.Interval``."""

    @property
    def estimate(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def level(self) -> float: ...
    @property
    def method(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def unit(self) -> str: ...


@dataclass(frozen=True)
class Finding:
    """One measured statement.

    It holds when ``measured relation bound`` is true, with ``tolerance`` (absolute) added in the statement's favour.
    With an ``interval`` it holds only when that is true of the whole interval: a difference must exclude no difference.
    A figure that is missing (None) or NaN never holds.

    Parameters
    ----------
    claim : id of the claim of ``paper.toml``.
    statement : what was measured, in words.
    kind : ``exact`` findings (an invariance, an identity, a bound, an optimum) must hold on any machine; ``empirical``
        ones may fail.
    measured : the figure; or an estimate with its interval, such as ``metrics.mean_interval(differences)``, which fills
        ``interval``, ``interval_method``, ``n`` and ``n_unit``.
    relation, bound : what the figure must satisfy. Say in ``detail`` what would be a tight bound where this one is not.
    baseline : what the figure was compared with in the same run; ``bound`` is usually computed from it.
    interval, interval_method : ends of the confidence interval of ``measured``, and its level and method.
    n, n_unit : how many independent values are behind the interval, and what they are: seeds, rows, questions. Fewer
        than ``EQUAL_VALUES`` equal ones have an interval without width, which decides nothing (see ``untested``).
    deterministic : for an empirical figure without an interval, why there is none: no random choice took part. A fixed
        seed is one draw of many and a timing is never the same twice: both need an interval.
    test : for an empirical figure whose bound allows for chance by itself: the statistical test, such as "four standard
        errors of the mean of 400 networks".
    """

    claim: str
    statement: str
    kind: Literal["exact", "empirical"]
    measured: float | Estimate | None
    relation: Relation
    bound: float | None
    baseline: float | None = None
    baseline_name: str = ""
    unit: str = ""
    tolerance: float = 0.0
    detail: str = ""
    interval: tuple[float, float] | None = None
    interval_method: str = ""
    n: int | None = None
    n_unit: str = ""
    deterministic: str = ""
    test: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "empirical"):
            raise InputError("kind", repr(self.kind), "'exact' or 'empirical'")
        if self.relation not in ("<", "<=", "==", ">=", ">"):
            raise InputError("relation", repr(self.relation), "one of <, <=, ==, >=, >")
        if not self.tolerance >= 0:
            raise InputError("tolerance", self.tolerance, "0 or more")
        given: Any = self.measured
        if given is not None and hasattr(given, "low"):
            self._set("interval", (given.low, given.high))
            self._set("interval_method", f"{given.level:.0%}, {given.method}")
            self._set("n", given.n)
            self._set("n_unit", given.unit)
            self._set("measured", given.estimate)
        for name in ("measured", "bound", "tolerance"):
            value = getattr(self, name)
            self._set(name, math.nan if value is None else float(value))
        if self.baseline is not None:
            self._set("baseline", float(self.baseline))
        if self.interval is not None:
            low, high = (float(end) for end in self.interval)
            if low > high:
                raise InputError("interval", f"{low:g} to {high:g}", "the lower end first")
            if self.n is None or self.n < 2:
                raise InputError("n", self.n, "how many values are behind the interval, 2 or more")
            self._set("interval", (low, high))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def margin(self) -> float:
        """How far the figure is on the right side of its bound, tolerance included; negative where it does not hold.

        Of an interval, its worst end counts. NaN where a figure is missing.
        """
        figure: float = self.measured  # type: ignore[assignment]
        bound: float = self.bound  # type: ignore[assignment]
        low, high = self.interval or (figure, figure)
        if math.isnan(figure):
            return math.nan
        # at the bound itself, infinite or not, the margin is the tolerance without any rounding
        below = self.tolerance if high == bound else bound + self.tolerance - high
        above = self.tolerance if low == bound else low - (bound - self.tolerance)
        if self.relation == "==":
            return min(below, above)
        return below if self.relation in ("<", "<=") else above

    @property
    def holds(self) -> bool:
        """The verdict; False whenever a number is missing or NaN."""
        if self.relation in ("<", ">"):
            return self.margin > 0
        return self.margin >= 0

    @property
    def untested(self) -> str:
        """Why the figures do not decide the statement; empty where they do.

        An empirical figure needs an interval, be its bound a baseline or a constant; or it says why it is
        deterministic, or which test its bound is of. An interval without width, of fewer than ``EQUAL_VALUES`` values
        that are equal, is none.
        """
        if self.kind == "exact" or self.deterministic or self.test:
            return ""
        if self.interval is None:
            return f"one measurement{' of each' if self.baseline is not None else ''}, without an interval"
        low, high = self.interval
        if high - low <= ROUNDING * max(abs(low), abs(high)) and (self.n or 0) < EQUAL_VALUES:
            unit = self.n_unit or "values"
            return f"the {self.n} {unit} give the same figure: fewer than {EQUAL_VALUES} cannot tell how it spreads"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, with the verdict and its margin."""
        stored = {field.name: plain(getattr(self, field.name)) for field in fields(self)}
        return stored | {"holds": self.holds, "margin": plain(self.margin), "untested": self.untested}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """Read back ``to_dict``; the stored verdict is ignored and computed again."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


def largest(values: Iterable[float]) -> float:
    """The largest of the figures; NaN if one of them is. ``max`` passes over NaN, so that a missing figure would hold.

    Raises ValueError for none at all.
    """
    figures = list(values)
    return math.nan if any(math.isnan(figure) for figure in figures) else max(figures)


def smallest(values: Iterable[float]) -> float:
    """The smallest of the figures; NaN if one of them is. Raises ValueError for none at all."""
    figures = list(values)
    return math.nan if any(math.isnan(figure) for figure in figures) else min(figures)


@dataclass(frozen=True)
class Study:
    """A function that measures some claims. Made by the ``study`` decorator."""

    name: str
    title: str
    claims: tuple[str, ...]
    minutes: float
    function: Callable[[Run, bool], Iterable[Finding]]

    def __call__(self, run: Run, fast: bool) -> list[Finding]:
        """Measure; every finding must belong to one of ``claims``."""
        findings = list(self.function(run, fast))
        for finding in findings:
            if finding.claim not in self.claims:
                raise InputError(
                    f"study {self.name}", f"a finding for claim {finding.claim!r}", f"one of {', '.join(self.claims)}"
                )
        return findings


def study(
    *, claims: Iterable[str], title: str, minutes: float = 1.0
) -> Callable[[Callable[[Run, bool], Iterable[Finding]]], Study]:
    """Mark a function of a paper's ``study.py`` as a study of the named claims.

    ``minutes`` is the usual duration on two cores, shown before a long reproduction starts.
    """

    def wrap(function: Callable[[Run, bool], Iterable[Finding]]) -> Study:
        return Study(function.__name__.strip("_").replace("_", "-"), title, tuple(claims), minutes, function)

    return wrap


def studies_of(module: ModuleType) -> list[Study]:
    """The studies of a paper's ``study`` module, in the order in which they are written."""
    return [value for value in vars(module).values() if isinstance(value, Study)]
