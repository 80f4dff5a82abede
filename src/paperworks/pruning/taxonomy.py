"""Where a pruning method stands in the survey's taxonomy (arXiv 2308.06767): speed-up, when, how, and what it joins.

A paper's ``method.py`` declares ``TAXONOMY = Taxonomy(speedup="structured", when="after", how="criterion")`` with
literal arguments. ``declaration_in`` reads it without importing the method, so that listing is quick. Light to import.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from paperworks.errors import InputError, nearest

Speedup = Literal["structured", "semi-structured", "unstructured"]
When = Literal["before", "during", "after", "run-time"]
How = Literal["criterion", "learned"]
Data = Literal["none", "unlabelled", "labelled"]
By = Literal[
    "chance",
    "magnitude",
    "norm",
    "sensitivity",
    "loss change",
    "reconstruction",
    "sparsity regularisation",
    "meta-learning",
    "graph network",
    "reinforcement",
    "architecture search",
]
Unit = Literal["weight", "channel", "filter", "neuron", "head", "block", "layer", "matrix", "embedding"]
Fusion = Literal["quantisation", "decomposition", "architecture search", "distillation", "low-rank adapters"]
Recovery = Literal["none", "update", "finetune", "retrain", "distil"]

NAME = "TAXONOMY"
FUNCTIONS = ("prune", "prune_module")


@dataclass(frozen=True)
class Taxonomy:
    """A method's place in the taxonomy.

    Attributes
    ----------
    speedup : ``structured`` is faster anywhere; ``semi-structured`` (N:M, blocks) and ``unstructured`` need kernels.
    when : ``before`` training, ``during`` it, ``after`` it, or at ``run-time`` for each input.
    how : by a ``criterion``, or ``learned``.
    by : which criterion, or what learns.
    unit : what is removed.
    data : what the choice of units needs: ``none``, ``unlabelled`` or ``labelled`` examples (text counts as labelled
        where the next token is predicted).
    recovery : ``none``; an ``update`` in closed form; ``finetune``; ``retrain`` from rewound weights; ``distil``.
    fusion : what else it joins with pruning.
    """

    speedup: Speedup
    when: When
    how: How
    by: By | None = None
    unit: tuple[Unit, ...] = ()
    data: Data = "none"
    recovery: Recovery = "none"
    fusion: tuple[Fusion, ...] = ()

    def __post_init__(self) -> None:
        for name, known, optional in (
            ("speedup", get_args(Speedup), False),
            ("when", get_args(When), False),
            ("how", get_args(How), False),
            ("by", get_args(By), True),
            ("data", get_args(Data), False),
            ("recovery", get_args(Recovery), False),
        ):
            value = getattr(self, name)
            if value not in known and not (optional and value is None):
                raise InputError(name, value, f"one of {', '.join(known)}{nearest(str(value), known)}")
        for name, known in (("unit", get_args(Unit)), ("fusion", get_args(Fusion))):
            values = getattr(self, name)
            if not isinstance(values, tuple):
                raise InputError(name, repr(values), f"a tuple of some of {', '.join(known)}")
            for value in values:
                if value not in known:
                    raise InputError(name, value, f"some of {', '.join(known)}{nearest(str(value), known)}")

    def row(self) -> list[str]:
        """The cells of ``COLUMNS``."""
        how = self.how if self.by is None else f"{self.how}: {self.by}"
        return [self.speedup, ", ".join(self.unit), self.when, how, self.data, self.recovery, ", ".join(self.fusion)]


COLUMNS = ("speed-up", "unit", "when", "how", "data", "recovery", "fused with")


@dataclass(frozen=True)
class Declaration:
    """What a ``method.py`` says of its method.

    Attributes
    ----------
    taxonomy : None where it declares none.
    functions : which of ``prune`` (language models) and ``prune_module`` (any traced module) it has.
    """

    taxonomy: Taxonomy | None
    functions: tuple[str, ...]


def declaration_in(path: Path) -> Declaration:
    """Read ``method.py`` without running it.

    Raises
    ------
    InputError : the file cannot be parsed, or ``TAXONOMY`` is not ``Taxonomy(...)`` of literal keyword arguments.
    """
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise InputError(str(path), str(error), "a Python file") from None
    taxonomy: Taxonomy | None = None
    names: set[str] = set()
    for statement in body:
        if isinstance(statement, ast.FunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in statement.names}
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(t, ast.Name) and t.id == NAME for t in targets):
                taxonomy = Taxonomy(**_literals(statement.value, path))
    return Declaration(taxonomy, tuple(name for name in FUNCTIONS if name in names))


def _literals(value: ast.expr | None, path: Path) -> Mapping[str, Any]:
    expected = "Taxonomy(...) with literal keyword arguments"
    if not isinstance(value, ast.Call) or value.args or ast.unparse(value.func).rpartition(".")[2] != "Taxonomy":
        raise InputError(f"{NAME} in {path}", "another expression", expected)
    found: dict[str, Any] = {}
    for keyword in value.keywords:
        known = tuple(Taxonomy.__dataclass_fields__)
        if keyword.arg not in known:
            raise InputError(f"{NAME} in {path}", keyword.arg, f"some of {', '.join(known)}")
        try:
            found[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            raise InputError(f"{NAME} in {path}", ast.unparse(keyword.value), expected) from None
    missing = [name for name in ("speedup", "when", "how") if name not in found]
    if missing:
        raise InputError(f"{NAME} in {path}", f"no {', '.join(missing)}", expected)
    return found


def declared_beside(folder: Path) -> dict[str, Declaration]:
    """The declarations of all ``<name>/method.py`` in a folder, by name with hyphens, in the order of the alphabet."""
    return {p.parent.name.replace("_", "-"): declaration_in(p) for p in sorted(folder.glob("*/method.py"))}
