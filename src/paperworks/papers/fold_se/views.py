"""What can be read off learned rules, and the languages that they are written out in."""

from __future__ import annotations

from typing import Any

from paperworks.papers.fold_se import programs
from paperworks.papers.fold_se.columns import Cells
from paperworks.papers.fold_se.rules import FlatRule, Rule
from paperworks.papers.fold_se.ruleset import RuleSet


class RuleViews:
    """The rules of a fitted classifier: as objects, counts, programs, SQL, JSON."""

    program_: RuleSet

    def _fitted(self) -> RuleSet:
        raise NotImplementedError

    def _cells(self, X: Any) -> Cells:
        raise NotImplementedError

    @property
    def rules_(self) -> tuple[Rule, ...]:
        """The top-level rules, simplified."""
        return self.program_.rules

    @property
    def flat_rules_(self) -> tuple[FlatRule, ...]:
        """The rules of the program: top-level rules, then each distinct exception once."""
        return self.program_.flat_rules

    @property
    def n_rules_(self) -> int:
        """Rules of the program, exceptions included."""
        return len(self.program_.flat_rules)

    @property
    def n_literals_(self) -> int:
        """Literals in the bodies of the program's rules, without the references to exceptions."""
        return sum(len(rule.body) for rule in self.program_.flat_rules)

    def to_asp(
        self, style: programs.Style = "scasp", *, order: programs.Order = "exclusive", target: str = "label"
    ) -> str:
        """The rules as a logic program; see ``programs.to_asp``."""
        return programs.to_asp(self._fitted(), style, order=order, target=target)

    def facts(self, X: Any, style: programs.Style = "scasp", *, every: bool = False) -> str:
        """The rows as facts for the program of the same style; see ``programs.facts``."""
        return programs.facts(self._fitted(), self._cells(X), style, every=every)

    def to_python(self, name: str = "predict") -> str:
        """Source of a Python function from a row (a dict) to its label."""
        return programs.to_python(self._fitted(), name=name)

    def to_sql(self, label: Any = None) -> str:
        """A condition for SQL's WHERE that is true for the rows predicted ``label``; see ``programs.to_sql``."""
        return programs.to_sql(self._fitted(), label)

    def to_json(self) -> str:
        """The rules as JSON that a person can edit and ``from_json`` reads."""
        return self._fitted().to_json()
