"""FOLD-SE's learning of default rules with exceptions, and its relatives FOLD-R++ and FOLD-RM."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from paperworks.papers.fold_se.columns import RankCodes
from paperworks.papers.fold_se.rules import OPERATORS, Literal, Rule
from paperworks.papers.fold_se.search import best_literal, select

CodedLiteral = tuple[int, int, int]
"""Column, position in ``rules.OPERATORS``, rank code."""


@dataclass(frozen=True)
class CodedRule:
    """A rule over rank codes."""

    body: tuple[CodedLiteral, ...]
    exceptions: tuple[CodedRule, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Some rows of the training table: their numbers (int32) and weights (int64 ones, or float64)."""

    numbers: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def weight(self) -> float:
        """The sum of the weights: without weights the number of rows."""
        return self.weights.sum()

    def take(self, mask: np.ndarray) -> Rows:
        """The rows under a mask ``(len(self),)`` bool."""
        return Rows(self.numbers[mask], self.weights[mask])


class Learner:
    """Learns rules from a coded table.

    Parameters
    ----------
    table : the training table.
    ratio : a rule stops growing when (weight of) false positives / true positives is at most this.
    minimum : a rule that newly covers less than this (weight of) positives ends the rule set it was learned for; the
        ``floor(tail * N0)`` of FOLD-SE, 0 for FOLD-R++ and FOLD-RM.
    complete : the literal set, gini : the score; see ``search.best_literal``.
    """

    def __init__(self, table: RankCodes, *, ratio: float, minimum: float, complete: bool, gini: bool) -> None:
        self.table = table
        self.ratio = ratio
        self.minimum = minimum
        self.complete = complete
        self.gini = gini
        self.selections = 0
        """How many times the best literal was looked for."""
        self.newly_covered: list[float] = []
        """What each kept rule, at every depth, newly covered of its own positives, in the order of learning."""
        self._space: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def best_literal(
        self, positive: Rows, negative: Rows, used: tuple[CodedLiteral, ...]
    ) -> tuple[float, CodedLiteral] | None:
        """The best literal and its score, or None if none is right at least as often as wrong."""
        if self._space is None:
            widest = int(self.table.value_counts.max(initial=1))
            counts = np.zeros((2, widest), dtype=positive.weights.dtype)
            self._space = counts, np.zeros(widest, dtype=np.int32), np.zeros(widest, dtype=np.int8)
        self.selections += 1
        table = self.table
        score, column, operator, code = best_literal(
            table.codes,
            table.numeric_counts,
            table.value_counts,
            positive.numbers,
            negative.numbers,
            positive.weights,
            negative.weights,
            np.array(used, dtype=np.int64).reshape(-1, 3),
            self.complete,
            self.gini,
            *self._space,
        )
        return None if column < 0 else (score, (column, operator, code))

    def keep(self, rows: Rows, literal: CodedLiteral, *, true: bool = True) -> Rows:
        """The rows on which the literal is true (or false)."""
        column, operator, code = literal
        count = self.table.numeric_counts[column]
        return Rows(*select(self.table.codes[column], rows.numbers, rows.weights, operator, code, count, true))

    def covered(self, rule: CodedRule, rows: Rows) -> np.ndarray:
        """Whether each row is covered by the rule, ``(len(rows),)`` bool."""
        mask = np.zeros(len(rows), dtype=bool)
        if rule.body or rule.exceptions:
            # Row numbers are kept beside their positions, so that exceptions look at the rows that reach them only.
            reached = Rows(np.arange(len(rows), dtype=np.int32), rows.numbers)
            mask[self._reached(rule, reached).numbers] = True
        return mask

    def _reached(self, rule: CodedRule, at: Rows) -> Rows:
        # Here ``weights`` carries the row numbers and ``numbers`` the positions in the question.
        for literal in rule.body:
            column, operator, code = literal
            count = self.table.numeric_counts[column]
            rows, positions = select(self.table.codes[column], at.weights, at.numbers, operator, code, count, True)
            at = Rows(positions, rows)
        for exception in rule.exceptions:
            out = self._reached(exception, at).numbers
            at = at.take(~np.isin(at.numbers, out, assume_unique=True))
        return at

    def learn_rules(self, positive: Rows, negative: Rows, used: tuple[CodedLiteral, ...] = ()) -> list[CodedRule]:
        """Rules that cover the positives one after the other (binary FOLD-SE; negatives stay for every rule)."""
        rules = []
        while len(positive):
            rule = self.learn_rule(positive, negative, used)
            covered = self.covered(rule, positive)
            newly = positive.weights[covered].sum()
            if not covered.any() or newly < self.minimum:
                break
            positive = positive.take(~covered)
            rules.append(rule)
            self.newly_covered.append(float(newly))
        return rules

    def learn_rule(self, positive: Rows, negative: Rows, used: tuple[CodedLiteral, ...]) -> CodedRule:
        """One default rule: literals until few negatives are left, then exceptions with the roles swapped."""
        body: tuple[CodedLiteral, ...] = ()
        while True:
            found = self.best_literal(positive, negative, used + body)
            if found is None:
                return CodedRule(body)
            body += (found[1],)
            positive, negative = self.keep(positive, found[1]), self.keep(negative, found[1])
            if negative.weight <= self.ratio * positive.weight:
                exceptions = self.learn_rules(negative, positive, used + body) if len(negative) else []
                return CodedRule(body, tuple(exceptions))

    def learn_ordered(self, rows: Rows, labels: np.ndarray) -> list[tuple[int, CodedRule]]:
        """An ordered list of (class, rule) for any number of classes (FOLD-RM, FOLD-SE-M).

        ``labels`` is ``(table rows,)``, small integers. Each round learns one rule for the class that is most frequent
        among the rows still undecided; all rows that it covers, right or wrong, are then decided.
        """
        rules = []
        while len(rows):
            target = _most_frequent(labels[rows.numbers], rows.weights)
            is_target = labels[rows.numbers] == target
            positive, negative = rows.take(is_target), rows.take(~is_target)
            rule = self.learn_rule(positive, negative, ())
            covered = self.covered(rule, positive)
            newly = positive.weights[covered].sum()
            if not covered.any() or newly < self.minimum:
                break
            left, wrong = positive.take(~covered), negative.take(~self.covered(rule, negative))
            rows = Rows(np.concatenate([left.numbers, wrong.numbers]), np.concatenate([left.weights, wrong.weights]))
            rules.append((target, rule))
            self.newly_covered.append(float(newly))
        return rules

    def decode(self, rule: CodedRule) -> Rule:
        """The rule over attribute names and cell values."""
        body = tuple(
            Literal(self.table.attributes[column], OPERATORS[operator], self.table.value(column, code))
            for column, operator, code in rule.body
        )
        return Rule(body, tuple(map(self.decode, rule.exceptions)))


def _most_frequent(labels: np.ndarray, weights: np.ndarray) -> int:
    """The label of the largest weight; of equal ones the one that appears last in the order of first appearance."""
    present, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    totals = np.bincount(inverse, weights=weights)
    tied = np.flatnonzero(totals == totals.max())
    return int(present[tied[np.argmax(first[tied])]])


def minimum_cover(tail: float, total: float) -> int:
    """``floor(tail * N0)``: how many new positives a rule must cover, for N0 rows given to fit."""
    return math.floor(tail * total)


def warm_up() -> None:
    """Compile the search, or load it compiled: some seconds on first use, so that no measured fit contains them."""
    table = RankCodes(
        ("a",), np.array([[0, 1, 2]], dtype=np.int32), np.array([3]), np.array([3]), (np.arange(3.0),), ((),)
    )
    learner = Learner(table, ratio=0.5, minimum=0, complete=True, gini=True)
    rows = Rows(np.arange(3, dtype=np.int32), np.ones(3, dtype=np.int64))
    learner.learn_rules(rows.take(np.array([True, True, False])), rows.take(np.array([False, False, True])))
