"""The rules as programs: s(CASP) and clingo, facts for rows, Python source, SQL conditions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.fold_se.columns import MISSING, Cells
from paperworks.papers.fold_se.rules import FlatRule, Rule
from paperworks.papers.fold_se.rules import Literal as RuleLiteral
from paperworks.papers.fold_se.ruleset import RuleSet

Style = Literal["scasp", "clingo"]
Order = Literal["exclusive", "simple"]


def predicate_names(attributes: Sequence[str], target: str) -> dict[str, str]:
    """A valid predicate name per attribute: lower case, [a-z0-9_], a letter first, no two alike and none reserved."""
    taken = {target, "row", "not", "is", "mod", "null"}
    names = {}
    for attribute in attributes:
        stem = re.sub(r"[^a-z0-9_]+", "_", attribute.lower()).strip("_") or "a"
        if not stem[0].isalpha() or re.fullmatch(r"(ab|rule)\d+", stem):
            stem = f"a_{stem}"
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name)
        names[attribute] = name
    return names


def prolog_atom(text: str) -> str:
    """A quoted atom of s(CASP)."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def clingo_string(text: str) -> str:
    """A string term of clingo."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def prolog_number(value: float) -> str:
    """The shortest decimal that reads back as the same double, with the point that Prolog wants before an exponent."""
    if np.isinf(value):
        return "1.0Inf" if value > 0 else "-1.0Inf"
    text = repr(float(value))
    return re.sub(r"^(-?\d+)e", r"\1.0e", text)


class _Writer:
    """What the two styles have in common. Numbers are ranks among the program's own thresholds in clingo's style."""

    def __init__(self, rules: RuleSet, style: Style, target: str) -> None:
        if style not in ("scasp", "clingo"):
            raise InputError("style", repr(style), "'scasp' or 'clingo'")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", target):
            raise InputError("target", repr(target), "a predicate name: a lower-case letter, then letters, digits or _")
        self.rules = rules
        self.clingo = style == "clingo"
        self.target = target
        used = [a for rule in rules.rules for a in rule.attributes]
        self.used = tuple(dict.fromkeys(used))
        self.names = predicate_names(rules.attributes, target)
        self.quote: Callable[[str], str] = clingo_string if self.clingo else prolog_atom
        thresholds: dict[str, set[float]] = {}
        for rule in rules.rules:
            for part in rule.walk():
                for literal in part.body:
                    if literal.numeric:
                        thresholds.setdefault(literal.attribute, set()).add(float(literal.value))
        self.thresholds = {a: np.array(sorted(v)) for a, v in thresholds.items()}
        self._variables: dict[str, str] = {}

    def cell(self, value: str | float, attribute: str) -> str:
        if isinstance(value, str):
            return self.quote("null" if value == MISSING else value)
        if self.clingo:
            # x <= t_j exactly when fewer than j + 1 thresholds lie below x.
            return str(int(np.searchsorted(self.thresholds.get(attribute, np.empty(0)), value, side="left")))
        return prolog_number(value)

    def literal(self, literal: RuleLiteral) -> list[str]:
        name = self.names[literal.attribute]
        if not literal.numeric:
            test = f"{name}(X,{self.cell(literal.value, literal.attribute)})"
            return [test if literal.operator == "=" else f"not {test}"]
        variable = self._variables.setdefault(literal.attribute, f"N{len(self._variables) + 1}")
        value = self.cell(literal.value, literal.attribute)
        cell, operator = f"{name}(X,{variable})", literal.operator
        if not self.clingo:
            test = f"{variable}=<{value}" if operator.endswith("<=") else f"{variable}>{value}"
            return [cell, f"not({test})" if operator.startswith("not") else test]
        top = len(self.thresholds[literal.attribute])
        # In clingo's order every string is above every number: "not at most" needs no more, "above" needs a bound.
        if operator in ("<=", "not<="):
            return [cell, f"{variable} {'<=' if operator == '<=' else '>'} {value}"]
        if operator == ">":
            return [cell, f"{variable} > {value}", f"{variable} <= {top}"]
        return [cell, f"not {name}_above_{value}(X)"]

    def helpers(self) -> list[str]:
        """clingo has no negation of a conjunction in a body: one predicate per negated "above"."""
        lines = []
        for rule in self.rules.flat_rules:
            for literal in rule.body:
                if literal.operator == "not>":
                    name, value = self.names[literal.attribute], self.cell(literal.value, literal.attribute)
                    top = len(self.thresholds[literal.attribute])
                    lines.append(f"{name}_above_{value}(X) :- {name}(X,N), N > {value}, N <= {top}.")
        return list(dict.fromkeys(lines)) if self.clingo else []

    def body(self, rule: FlatRule) -> str:
        parts = ["row(X)"] if self.clingo else []
        for literal in rule.body:
            parts += [part for part in self.literal(literal) if part not in parts]
        parts += [f"not {self.exception(name)}" for name in rule.exceptions]
        return ", ".join(parts)

    def exception(self, name: str) -> str:
        return f"{name}(X)" if self.clingo else f"{name}(X,'True')"

    def head(self, label: Any) -> str:
        return f"{self.target}(X,{self.quote(str(label))})"


def to_asp(rules: RuleSet, style: Style = "scasp", *, order: Order = "exclusive", target: str = "label") -> str:
    """The logic program.

    Parameters
    ----------
    style : ``scasp`` writes numbers as they are, in the form that the authors' service prints; ``clingo`` writes them
        as ranks, since clingo has integers only, and adds ``row(X)`` to every body. Use ``facts`` with the same style.
    order : for an ordered list of rules over several classes. ``exclusive`` says in the program that a rule applies
        only where no earlier one does, and is right under stable-model semantics; ``simple`` relies on textual order.
    target : the predicate of the conclusion.

    Rows of the default class are those for which no label is derived. Attribute names are changed into predicate names
    (see the comments at the top of the program).
    """
    if order not in ("exclusive", "simple"):
        raise InputError("order", repr(order), "'exclusive' or 'simple'")
    writer = _Writer(rules, style, target)
    lines = [f"% {writer.names[a]}: {a!r}" for a in writer.used if writer.names[a] != a]
    top = [rule for rule in rules.flat_rules if rule.label is not None]
    if not rules.binary and order == "exclusive":
        for number, rule in enumerate(top):
            earlier = "".join(f", not {other.name}(X)" for other in top[:number])
            lines.append(f"{writer.head(rule.label)} :- {rule.name}(X){earlier}.")
        lines += [f"{rule.name}(X) :- {writer.body(rule)}." for rule in top]
    else:
        lines += [f"{writer.head(rule.label)} :- {writer.body(rule)}." for rule in top]
    for rule in rules.flat_rules[len(top) :]:
        lines.append(f"{writer.exception(rule.name)} :- {writer.body(rule)}.")
    lines += writer.helpers()
    return "\n".join(lines) + "\n"


def facts(rules: RuleSet, cells: Cells, style: Style = "scasp", *, target: str = "label", every: bool = False) -> str:
    """One fact per row and attribute, ``age(0,35.0).``; rows are numbered from 0, a missing value is ``'null'``.

    Only the attributes that the rules use are written, or all with ``every``.
    """
    writer = _Writer(rules, style, target)
    attributes = rules.attributes if every else writer.used
    lines = []
    for row in range(len(cells)):
        if writer.clingo:
            lines.append(f"row({row}).")
        lines += [f"{writer.names[a]}({row},{writer.cell(cells.value(a, row), a)})." for a in attributes]
    return "\n".join(lines) + "\n"


def templates(rules: RuleSet, *, target: str = "label") -> str:
    """s(CASP) templates by which its proofs read as English: ``#pred age(X,Y) :: 'the age of @(X) is @(Y)'.``"""
    writer = _Writer(rules, "scasp", target)
    lines = [f"#pred {target}(X,Y) :: {prolog_atom(f'the {target} of @(X) is @(Y)')}."]
    lines += [f"#pred {writer.names[a]}(X,Y) :: {prolog_atom(f'the {a} of @(X) is @(Y)')}." for a in writer.used]
    lines += [
        f"#pred {rule.name}(X,Y) :: {prolog_atom(f'the exception {rule.name} applies to @(X)')}."
        for rule in rules.flat_rules
        if rule.label is None
    ]
    return "\n".join(lines) + "\n"


def clingo_labels(rules: RuleSet, cells: Cells, *, order: Order = "exclusive") -> list[set[str]]:
    """The labels that clingo derives for each row from the exported program and facts: the exporter's checker.

    Needs the package ``clingo``. Raises InputError if it is missing, and AssertionError unless the program has exactly
    one stable model.
    """
    try:
        import clingo
    except ImportError:
        raise InputError("clingo", "no such package", "pip install clingo") from None
    control = clingo.Control(["0", "--warn=none"])
    control.add("base", [], to_asp(rules, "clingo", order=order) + facts(rules, cells, "clingo"))
    control.ground([("base", [])])
    models: list[list[Any]] = []
    control.solve(on_model=lambda model: models.append(list(model.symbols(atoms=True))))
    assert len(models) == 1, f"{len(models)} stable models"
    derived: list[set[str]] = [set() for _ in range(len(cells))]
    for symbol in models[0]:
        if symbol.name == "label" and len(symbol.arguments) == 2:
            derived[symbol.arguments[0].number].add(symbol.arguments[1].string)
    return derived


def to_python(rules: RuleSet, *, name: str = "predict") -> str:
    """Source of a function from a row (a dict) to its label, which needs nothing but Python.

    A missing value may be absent, None, NaN or ``""``.
    """
    if not name.isidentifier():
        raise InputError("name", repr(name), "a Python identifier")
    lines = [
        f"def {name}(row):",
        f'    """The label of one row, by {len(rules.rules)} rules."""',
        f"    numeric = {sorted(rules.numeric)!r}",
        "",
        "    def cell(attribute):",
        "        value = row.get(attribute)",
        "        if value is None or value != value:",
        '            return ""',
        "        if attribute in numeric:",
        "            try:",
        "                number = float(value)",
        "            except (TypeError, ValueError):",
        "                return str(value)",
        "            return number if number == number else str(value)",
        "        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:",
        "            return str(int(value))",
        "        return str(value)",
        "",
        "    def at_most(attribute, bound):",
        "        value = cell(attribute)",
        "        return not isinstance(value, str) and value <= bound",
        "",
        "    def above(attribute, bound):",
        "        value = cell(attribute)",
        "        return not isinstance(value, str) and value > bound",
        "",
    ]
    for rule in rules.rules:
        lines += [f"    if {_python(rule)}:", f"        return {_python_value(rule.label)}"]
    lines.append(f"    return {_python_value(rules.default)}")
    return "\n".join(lines) + "\n"


def _python_value(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _python_float(value: float) -> str:
    return f'float("{value}")' if np.isinf(value) else repr(value)


def _python(rule: Rule) -> str:
    parts = []
    for x in rule.body:
        if not x.numeric:
            parts.append(f"cell({x.attribute!r}) {'==' if x.operator == '=' else '!='} {x.value!r}")
        else:
            test = "at_most" if x.operator.endswith("<=") else "above"
            call = f"{test}({x.attribute!r}, {_python_float(float(x.value))})"
            parts.append(f"not {call}" if x.operator.startswith("not") else call)
    parts += [f"not ({_python(exception)})" for exception in rule.exceptions]
    return " and ".join(parts) or "False"


def to_sql(rules: RuleSet, label: Any = None) -> str:
    """A condition for WHERE that is true for the rows to which the model gives ``label`` (default: the positive one).

    Every part is true or false, never unknown, also for NULL, which stands for a missing value. Raises InputError for a
    label that the model does not have, and if a rule compares numbers in a column that held strings too.
    """
    label = rules.positive if label is None else label
    if label is None or label not in rules.classes:
        raise InputError("label", repr(label), f"one of {', '.join(map(repr, rules.classes))}")
    for rule in rules.rules:
        for part in rule.walk():
            for literal in part.body:
                if literal.numeric and literal.attribute in rules.mixed:
                    raise InputError(
                        f"column {literal.attribute!r}", "numbers and strings", "one type per column, as SQL has it"
                    )
    conditions = [_sql(rule) for rule in rules.rules]
    chosen = []
    for number, rule in enumerate(rules.rules):
        if rule.label == label:
            earlier = [conditions[k] for k in range(number) if rules.rules[k].label != label]
            chosen.append(" AND ".join([conditions[number], *(f"NOT {c}" for c in earlier)]))
    if rules.default == label:
        others = [c for c, rule in zip(conditions, rules.rules, strict=True) if rule.label != label]
        chosen.append(" AND ".join(f"NOT {c}" for c in others) or "1 = 1")
    return "\n   OR ".join(f"({c})" for c in chosen) or "1 = 0"


def _sql(rule: Rule) -> str:
    parts = [_sql_literal(literal) for literal in rule.body]
    parts += [f"NOT {_sql(exception)}" for exception in rule.exceptions]
    return "(" + (" AND ".join(parts) or "1 = 0") + ")"


def _sql_literal(literal: RuleLiteral) -> str:
    column = '"' + literal.attribute.replace('"', '""') + '"'
    if literal.numeric:
        value, plain = repr(float(literal.value)), literal.operator.removeprefix("not")
        if literal.operator.startswith("not"):
            return f"({column} IS NULL OR {column} {'>' if plain == '<=' else '<='} {value})"
        return f"({column} IS NOT NULL AND {column} {plain} {value})"
    if literal.value == MISSING:
        return f"({column} IS {'' if literal.operator == '=' else 'NOT '}NULL)"
    text = "'" + str(literal.value).replace("'", "''") + "'"
    if literal.operator == "=":
        return f"({column} IS NOT NULL AND {column} = {text})"
    return f"({column} IS NULL OR {column} <> {text})"
