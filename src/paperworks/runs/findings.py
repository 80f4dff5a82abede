"""A paper's claims, measured again: studies return findings, and a finding's verdict is computed from its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from paperworks.errors import InputError

if TYPE_CHECKING:
    from paperworks.runs.run import Run

Relation = Literal["<", "<=", "==", ">=", ">"]


@dataclass(frozen=True)
class Finding:
    """One measured statement.

    It holds when ``measured relation bound`` is true, with ``tolerance`` (absolute) added in the statement's favour.
    ``exact`` findings (an invariance, an identity, a bound, an optimum) must hold on any machine; ``empirical`` ones
    may fail.
    ``baseline`` is what the figure was compared with in the same run; ``bound`` is usually computed from it.
    """

    claim: str
    statement: str
    kind: Literal["exact", "empirical"]
    measured: float
    relation: Relation
    bound: float
    baseline: float | None = None
    baseline_name: str = ""
    unit: str = ""
    tolerance: float = 0.0
    detail: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "empirical"):
            raise InputError("kind", repr(self.kind), "'exact' or 'empirical'")
        if self.relation not in ("<", "<=", "==", ">=", ">"):
            raise InputError("relation", repr(self.relation), "one of <, <=, ==, >=, >")
        if self.tolerance < 0:
            raise InputError("tolerance", self.tolerance, "0 or more")
        for name in ("measured", "bound", "tolerance"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.baseline is not None:
            object.__setattr__(self, "baseline", float(self.baseline))

    @property
    def holds(self) -> bool:
        """The verdict; False whenever a number is NaN."""
        m, b, t = self.measured, self.bound, self.tolerance
        if math.isnan(m) or math.isnan(b):
            return False
        match self.relation:
            case "<":
                return m < b + t
            case "<=":
                return m <= b + t
            case "==":
                return m == b or abs(m - b) <= t
            case ">=":
                return m >= b - t
            case ">":
                return m > b - t
        raise AssertionError(self.relation)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, with the verdict."""
        from paperworks.runs.report import _plain

        names = (
            "claim",
            "statement",
            "kind",
            "measured",
            "relation",
            "bound",
            "baseline",
            "baseline_name",
            "unit",
            "tolerance",
            "detail",
        )
        return {name: _plain(getattr(self, name)) for name in names} | {"holds": self.holds}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Finding:
        """Read back ``to_dict``; the stored verdict is ignored and computed again."""
        return cls(**{name: value for name, value in data.items() if name != "holds"})


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
