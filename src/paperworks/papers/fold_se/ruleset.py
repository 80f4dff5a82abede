"""A learned model by itself: an ordered list of rules and what holds when none applies. Reads and writes JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from paperworks.errors import InputError, nearest
from paperworks.papers.fold_se.columns import Cells, to_frame
from paperworks.papers.fold_se.rules import OPERATORS, FlatRule, Literal, Rule, flatten

FORMAT = "paperworks.fold-se/1"


@dataclass(frozen=True)
class RuleSet:
    """Rules in the order in which they are tried.

    Attributes
    ----------
    rules : the top-level rules, each with its label.
    classes : all labels, sorted.
    positive : the label that rules conclude in the binary case; None for an ordered list over several classes.
    default : the label of a row that no rule covers: the other class, or for an ordered list the class that is most
        frequent among the training rows that no rule covers.
    default_counts : those training rows per class; None when not known.
    attributes : the columns the model was trained on, in the order of the table.
    numeric : those of them whose cells are read as numbers where they can be.
    mixed : those of the numeric ones that held strings too (other than missing values).
    label_dtype : numpy dtype of the labels, as text.
    """

    rules: tuple[Rule, ...]
    classes: tuple[Any, ...]
    positive: Any
    default: Any
    default_counts: tuple[float, ...] | None
    attributes: tuple[str, ...]
    numeric: tuple[str, ...]
    mixed: tuple[str, ...] = ()
    label_dtype: str = "object"

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule.label not in self.classes:
                raise InputError("rules", f"the label {rule.label!r}", f"one of {', '.join(map(repr, self.classes))}")
            for attribute in rule.attributes:
                if attribute not in self.attributes:
                    hint = nearest(attribute, self.attributes)
                    raise InputError("rules", f"the attribute {attribute!r}", f"a column of the model{hint}")

    @cached_property
    def flat_rules(self) -> tuple[FlatRule, ...]:
        """The rules of the logic program: top-level rules, then each distinct exception once."""
        return flatten(self.rules)

    @property
    def binary(self) -> bool:
        """Whether every rule concludes the positive class and everything else is the other class."""
        return self.positive is not None

    def cells(self, X: Any, *, absent_is_missing: bool = False) -> Cells:
        """A table, or a mapping for one row, as cells that rules read. Arrays have the training table's columns."""
        if isinstance(X, Cells):
            return X
        if isinstance(X, pd.Series):
            X = X.to_dict()
        if isinstance(X, Mapping):
            X = pd.DataFrame({str(name): pd.Series([value]) for name, value in X.items()})
        is_table = isinstance(X, pd.DataFrame) or hasattr(X, "to_pandas")
        frame = to_frame(X, None if is_table else self.attributes)
        return Cells(frame, self.numeric, absent_is_missing=absent_is_missing)

    def coverage(self, cells: Cells) -> np.ndarray:
        """Which rules cover which rows, ``(rows, rules)`` bool."""
        covered = [rule.covers(cells) for rule in self.rules]
        return np.stack(covered, axis=1) if covered else np.zeros((len(cells), 0), dtype=bool)

    def first_cover(self, cells: Cells) -> np.ndarray:
        """The position of the first rule that covers each row, ``(rows,)`` int64; -1 where none does."""
        first = np.full(len(cells), -1, dtype=np.int64)
        for number, rule in enumerate(self.rules):
            first[(first < 0) & rule.covers(cells)] = number
        return first

    def label_of(self, first: np.ndarray, *, default: bool = True) -> np.ndarray:
        """The label that goes with the position of the deciding rule; None instead of the default if it is off."""
        dtype = np.dtype(self.label_dtype) if default else np.dtype(object)
        labels = np.empty(len(self.rules) + 1, dtype=dtype)
        for number, rule in enumerate(self.rules):
            labels[number] = rule.label
        labels[-1] = self.default if default else None
        return labels[first]

    def predict(self, X: Any) -> np.ndarray:
        """The label per row: that of the first covering rule, else the default."""
        return self.label_of(self.first_cover(self.cells(X)))

    def text(self) -> str:
        """The rules for people, one per line."""
        lines = []
        for number, rule in enumerate(self.rules, 1):
            then = f"{'else ' if number > 1 else ''}{rule.label}"
            lines.append(f"{number}. {then} if {rule}")
        lines.append(f"otherwise {self.default}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content."""
        return {
            "format": FORMAT,
            "classes": [_plain(c) for c in self.classes],
            "positive": _plain(self.positive),
            "default": {"label": _plain(self.default), "counts": _counts(self.default_counts)},
            "label_dtype": self.label_dtype,
            "attributes": list(self.attributes),
            "numeric": list(self.numeric),
            "mixed": list(self.mixed),
            "rules": [_rule_to_dict(rule) for rule in self.rules],
        }

    def to_json(self) -> str:
        """The rule set as JSON that a person can edit: ``counts`` may be left out of an edited rule."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> RuleSet:
        """Read what ``to_json`` wrote, edited or not.

        Raises InputError naming the field that cannot be used.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("rules", f"text that is not JSON ({error})", "what to_json wrote") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise InputError("rules.format", repr(found), repr(FORMAT))
        needed = ("classes", "positive", "default", "attributes", "numeric", "rules")
        for name in needed:
            if name not in data:
                raise InputError(f"rules.{name}", "nothing", "a value")
        default = data["default"]
        return cls(
            rules=tuple(_rule_from_dict(rule, f"rules[{i}]", top=True) for i, rule in enumerate(data["rules"])),
            classes=tuple(data["classes"]),
            positive=data["positive"],
            default=default["label"],
            default_counts=tuple(default["counts"]) if default.get("counts") else None,
            attributes=tuple(data["attributes"]),
            numeric=tuple(data["numeric"]),
            mixed=tuple(data.get("mixed", ())),
            label_dtype=data.get("label_dtype", "object"),
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _counts(counts: Sequence[float] | None) -> list[float] | None:
    return None if counts is None else [int(c) if float(c).is_integer() else float(c) for c in counts]


def _rule_to_dict(rule: Rule) -> dict[str, Any]:
    data: dict[str, Any] = {} if rule.label is None else {"then": _plain(rule.label)}
    data["if"] = [[x.attribute, x.operator, x.value] for x in rule.body]
    if rule.exceptions:
        data["unless"] = [_rule_to_dict(exception) for exception in rule.exceptions]
    if rule.counts is not None:
        data["counts"] = _counts(rule.counts)
    return data


def _rule_from_dict(data: Any, where: str, *, top: bool) -> Rule:
    if not isinstance(data, dict):
        raise InputError(where, type(data).__name__, "an object with 'if' and, where there are any, 'unless'")
    known = {"if", "unless"} | ({"then", "counts"} if top else set())
    unknown = set(data) - known
    if unknown:
        name = sorted(unknown)[0]
        raise InputError(f"{where}.{name}", "a field that rules do not have", f"one of {', '.join(sorted(known))}")
    for name in ("if", "then") if top else ("if",):
        if name not in data:
            raise InputError(f"{where}.{name}", "nothing", "a value")
    body = []
    for i, item in enumerate(data["if"]):
        if not (isinstance(item, list) and len(item) == 3 and isinstance(item[0], str)):
            raise InputError(f"{where}.if[{i}]", repr(item), f"[attribute, operator ({', '.join(OPERATORS)}), value]")
        try:
            body.append(Literal(*item))
        except InputError as error:
            raise InputError(f"{where}.if[{i}], {error.field}", error.found, error.expected) from None
    exceptions = tuple(
        _rule_from_dict(e, f"{where}.unless[{i}]", top=False) for i, e in enumerate(data.get("unless", []))
    )
    counts = data.get("counts")
    return Rule(tuple(body), exceptions, data.get("then"), None if counts is None else tuple(counts))
