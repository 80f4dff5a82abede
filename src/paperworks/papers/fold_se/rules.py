"""Literals, default rules with exceptions, and how both are read from a table of cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from paperworks.papers.fold_se.columns import Cells

OPERATORS = ("=", "!=", "<=", "not<=", ">", "not>")
"""The six comparisons. An operator and its exact negation stand side by side: positions 2k and 2k + 1."""

_WORDS = {
    "=": "equal",
    "!=": "not equal",
    "<=": "be less than or equal to",
    "not<=": "not be less than or equal to",
    ">": "be greater than",
    "not>": "not be greater than",
}


@dataclass(frozen=True, slots=True)
class Literal:
    """One test of one cell.

    ``=`` and ``!=`` compare with a string, the other four with a number. A number never equals a string; ``<=`` and
    ``>`` are false for a string, so their negations ``not<=`` and ``not>`` are true for it (also for a missing value).

    Raises InputError for an unknown operator and for a value of the wrong type.
    """

    attribute: str
    operator: str
    value: str | float

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise InputError(f"operator on {self.attribute!r}", repr(self.operator), f"one of {', '.join(OPERATORS)}")
        if self.operator in ("=", "!="):
            if not isinstance(self.value, str):
                raise InputError(f"{self.attribute} {self.operator}", repr(self.value), "a string")
        elif isinstance(self.value, (str, bool)) or math.isnan(self.value):
            raise InputError(f"{self.attribute} {self.operator}", repr(self.value), "a number")
        else:
            object.__setattr__(self, "value", float(self.value))

    @property
    def numeric(self) -> bool:
        """Whether it compares with a number."""
        return not isinstance(self.value, str)

    def negated(self) -> Literal:
        """The literal that is true exactly where this one is false."""
        return replace(self, operator=OPERATORS[OPERATORS.index(self.operator) ^ 1])

    def truth(self, cells: Cells) -> np.ndarray:
        """Truth per row, ``(n,)`` bool."""
        test, flipped = self.operator, False
        if test in ("!=", "not<=", "not>"):
            test, flipped = OPERATORS[OPERATORS.index(test) ^ 1], True
        if test == "=":
            true = cells.equals(self.attribute, str(self.value))
        else:
            numbers = cells.numbers(self.attribute)  # NaN where the cell is a string: both comparisons are false
            true = numbers <= self.value if test == "<=" else numbers > self.value
        return ~true if flipped else true

    def __str__(self) -> str:
        value = show_value(self.value)
        if self.operator.startswith("not"):
            return f"not {self.attribute} {self.operator[3:]} {value}"
        return f"{self.attribute} {self.operator} {value}"

    def words(self) -> str:
        """What the cell should be, in words: ``equal '3'``, ``be greater than 20``."""
        return f"{_WORDS[self.operator]} {show_value(self.value)}"


@dataclass(frozen=True, slots=True)
class Rule:
    """``body`` holds, unless one of ``exceptions`` does.

    ``label`` is the class that a top-level rule concludes, and None for an exception. ``counts`` are the training rows,
    per class in the order of the model's classes, for which this top-level rule is the first that covers them (sums of
    weights where weights were given); None when they are not known.
    A rule with neither body nor exceptions covers nothing.
    """

    body: tuple[Literal, ...]
    exceptions: tuple[Rule, ...] = ()
    label: Any = None
    counts: tuple[float, ...] | None = None

    def covers(self, cells: Cells) -> np.ndarray:
        """Whether each row is covered, ``(n,)`` bool."""
        import numpy as np

        if not self.body and not self.exceptions:
            return np.zeros(len(cells), dtype=bool)
        covered = np.ones(len(cells), dtype=bool)
        for literal in self.body:
            covered &= literal.truth(cells)
        for exception in self.exceptions:
            if covered.any():
                covered &= ~exception.covers(cells)
        return covered

    def walk(self) -> Iterator[Rule]:
        """This rule and all rules nested in it, parents first."""
        yield self
        for exception in self.exceptions:
            yield from exception.walk()

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes used, each once, in order of first use."""
        return tuple(dict.fromkeys(literal.attribute for rule in self.walk() for literal in rule.body))

    def __str__(self) -> str:
        text = " and ".join(map(str, self.body)) or "always"
        if self.exceptions:
            text += " unless (" + ") or (".join(map(str, self.exceptions)) + ")"
        return text


@dataclass(frozen=True, slots=True)
class FlatRule:
    """A rule of the program: ``head`` holds if ``body`` does and none of the named ``exceptions`` does.

    ``name`` is ``rule1``, ``rule2``, ... for the top-level rules and ``ab1``, ``ab2``, ... for exceptions; ``label`` is
    None for exceptions.
    """

    name: str
    label: Any
    body: tuple[Literal, ...]
    exceptions: tuple[str, ...]

    def __str__(self) -> str:
        parts = [*map(str, self.body), *(f"not {name}" for name in self.exceptions)]
        head = self.name if self.label is None else f"{self.name}: {self.label}"
        return f"{head} if {' and '.join(parts)}"


def show_value(value: str | float) -> str:
    """A value for people: strings quoted, whole numbers without a point, others as they read back."""
    if isinstance(value, str):
        return "missing" if value == "" else repr(value)
    return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def simplify(rule: Rule) -> Rule:
    """An equivalent rule with fewer parts: one-literal exceptions join the body, bounds merge."""
    return _merge(_absorb(rule))


def _absorb(rule: Rule) -> Rule:
    """Move every exception that is a single literal into the body, as its exact negation."""
    body, kept = list(rule.body), []
    for exception in map(_absorb, rule.exceptions):
        if len(exception.body) == 1 and not exception.exceptions:
            body.append(exception.body[0].negated())
        else:
            kept.append(exception)
    return replace(rule, body=tuple(body), exceptions=tuple(kept))


def _merge(rule: Rule) -> Rule:
    merged = [literal for literal in rule.body if not literal.numeric]
    numeric = [literal for literal in rule.body if literal.numeric]
    for attribute in dict.fromkeys(literal.attribute for literal in numeric):
        merged += _bounds(attribute, [literal for literal in numeric if literal.attribute == attribute])
    return replace(rule, body=tuple(merged), exceptions=tuple(map(_merge, rule.exceptions)))


def _bounds(attribute: str, literals: Sequence[Literal]) -> list[Literal]:
    lower = [float(x.value) for x in literals if x.operator in (">", "not<=")]
    upper = [float(x.value) for x in literals if x.operator in ("<=", "not>")]
    # One plain comparison makes the cell a number, and for a number the negated forms equal the plain ones.
    number = any(x.operator in ("<=", ">") for x in literals)
    merged = []
    if lower:
        merged.append(Literal(attribute, ">" if number else "not<=", max(lower)))
    if upper:
        merged.append(Literal(attribute, "<=" if number else "not>", min(upper)))
    return merged


def exception_names(rules: Sequence[Rule]) -> dict[Rule, str]:
    """ab1, ab2, ... for every exception at any depth: its own exceptions first, equal ones share a name."""
    names: dict[Rule, str] = {}

    def visit(exception: Rule) -> None:
        for inner in exception.exceptions:
            visit(inner)
        names.setdefault(exception, f"ab{len(names) + 1}")

    for rule in rules:
        for exception in rule.exceptions:
            visit(exception)
    return names


def flatten(rules: Sequence[Rule]) -> tuple[FlatRule, ...]:
    """The rules of the program: the top-level ones, then each distinct exception once, as ab1, ab2, ..."""
    names = exception_names(rules)

    def flat(rule: Rule, name: str) -> FlatRule:
        return FlatRule(name, rule.label, rule.body, tuple(names[exception] for exception in rule.exceptions))

    top = [flat(rule, f"rule{number}") for number, rule in enumerate(rules, 1)]
    return (*top, *(flat(rule, name) for rule, name in names.items()))
