"""Why a row got its label: a proof tree over the rules that decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from paperworks.papers.fold_se.columns import Cells
from paperworks.papers.fold_se.rules import Literal, Rule, exception_names, show_value
from paperworks.papers.fold_se.ruleset import RuleSet


@dataclass(frozen=True)
class LiteralProof:
    """One literal, the cell it looked at and whether it holds."""

    literal: Literal
    value: str | float
    holds: bool

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "does not hold"
        return (
            f"[{'T' if self.holds else 'F'}] the value of {self.literal.attribute} is {show_value(self.value)}, "
            f"which should {self.literal.words()}: {verdict}"
        )


@dataclass(frozen=True)
class RuleProof:
    """A rule on one row: its literals and its exceptions, and whether it covers the row."""

    name: str
    rule: Rule
    covers: bool
    literals: tuple[LiteralProof, ...]
    exceptions: tuple[RuleProof, ...]

    def walk(self) -> Iterator[RuleProof]:
        """This proof and those of the nested exceptions."""
        yield self
        for exception in self.exceptions:
            yield from exception.walk()

    @property
    def failure(self) -> LiteralProof | RuleProof | None:
        """The first thing that makes the rule fail: a false literal or an exception that applies; None if it covers."""
        for literal in self.literals:
            if not literal.holds:
                return literal
        return next((exception for exception in self.exceptions if exception.covers), None)

    def failure_lines(self, indent: str) -> list[str]:
        """Why the rule fails, as indented text."""
        failure = self.failure
        lines = [f"{indent}{self.name} does not apply"]
        if isinstance(failure, LiteralProof):
            lines.append(f"{indent}    {failure}")
        elif failure is not None:
            lines += failure.lines(indent + "    ")
        return lines

    def lines(self, indent: str = "") -> list[str]:
        """The proof as indented text."""
        lines = [f"{indent}{self.name} {'applies' if self.covers else 'does not apply'}"]
        inner = indent + "    "
        lines += [f"{inner}{literal}" for literal in self.literals]
        for exception in self.exceptions:
            lines += exception.lines(inner)
        return lines


@dataclass(frozen=True)
class Explanation:
    """The label of one row, and why.

    ``deciding`` is the proof of the rule that covers the row, None when no rule does; ``tried`` are the proofs of the
    rules before it (all rules, when none covers). ``reduced_row`` has only the attributes that these rules look at.
    """

    label: Any
    deciding: RuleProof | None
    tried: tuple[RuleProof, ...]
    reduced_row: dict[str, str | float]

    def text(self) -> str:
        """The proof tree for people."""
        lines = [f"{self.label}: " + (f"{self.deciding.name} applies" if self.deciding else "no rule applies")]
        if self.deciding is not None:
            lines += self.deciding.lines("  ")
        for proof in self.tried:
            lines += proof.failure_lines("  ")
        row = ", ".join(f"{name} = {show_value(value)}" for name, value in self.reduced_row.items())
        lines.append(f"  the row: {row or 'no attribute is used'}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def explain_row(rules: RuleSet, cells: Cells, row: int, label: Any) -> Explanation:
    """Prove the label of row number ``row``."""
    one = cells.row(row)
    names = exception_names(rules.rules)
    tried: list[RuleProof] = []
    deciding = None
    for number, rule in enumerate(rules.rules, 1):
        proof = _prove(rule, one, f"rule{number}", names)
        if proof.covers:
            deciding = proof
            break
        tried.append(proof)
    looked_at = dict.fromkeys(a for p in [*([deciding] if deciding else []), *tried] for a in p.rule.attributes)
    return Explanation(label, deciding, tuple(tried), {a: one.value(a, 0) for a in looked_at})


def _prove(rule: Rule, one: Cells, name: str, names: dict[Rule, str]) -> RuleProof:
    literals = tuple(
        LiteralProof(literal, one.value(literal.attribute, 0), bool(literal.truth(one)[0])) for literal in rule.body
    )
    exceptions = tuple(_prove(e, one, names[e], names) for e in rule.exceptions)
    covers = (
        bool(rule.body or rule.exceptions)
        and all(literal.holds for literal in literals)
        and not any(exception.covers for exception in exceptions)
    )
    return RuleProof(name, rule, covers, literals, exceptions)
