"""The paper's claims, measured again on tables that two cores can bear."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from paperworks import runs
from paperworks.papers.fold_se import published
from paperworks.papers.fold_se.classifier import FoldSEClassifier
from paperworks.papers.fold_se.columns import RankCodes, rank_codes
from paperworks.papers.fold_se.learn import Learner, Rows
from paperworks.papers.fold_se.peer_studies import (
    foldrpp,
    multiclass,
    quiet_fit,
    ripper,
    speed,
    stability,
)
from paperworks.papers.fold_se.programs import clingo_labels
from paperworks.papers.fold_se.rules import OPERATORS, Literal
from paperworks.papers.fold_se.search import score
from paperworks.papers.fold_se.tasks import load_task
from paperworks.runs import Finding, largest


def _split_column(cells: list[str | float], positive: np.ndarray) -> tuple[RankCodes, Rows, Rows]:
    table = rank_codes(pd.DataFrame({"i": pd.Series(cells, dtype=object)}), ["i"])
    rows = Rows(np.arange(len(cells), dtype=np.int32), np.ones(len(cells), dtype=np.int64))
    return table, rows.take(positive), rows.take(~positive)


def _all_scores(table: RankCodes, positive: Rows, negative: Rows, complete: bool, gini: bool) -> dict[Literal, float]:
    """The learner's own scores of a column's literals: the best one again and again, each time without those found.

    A literal and its negation are left out together; only one of the two passes the guard, or both have the same score.
    """
    learner = Learner(table, ratio=0.5, minimum=0, complete=complete, gini=gini)
    used: tuple[tuple[int, int, int], ...] = ()
    scores = {}
    while found := learner.best_literal(positive, negative, used):
        value, (column, operator, code) = found
        scores[Literal(table.attributes[column], OPERATORS[operator], table.value(column, code))] = value
        used += ((column, operator, code),)
    return scores


def _counted(cells: list[str | float], positive: np.ndarray, literal: Literal, gini: bool) -> float:
    """A literal's score from the truth of every row."""
    true = np.array([_holds(literal, cell) for cell in cells])
    counts = [(true & positive).sum(), (~true & positive).sum(), (~true & ~positive).sum(), (true & ~positive).sum()]
    tp, fn, tn, fp = map(float, counts)
    return score(tp, fn, tn, fp, gini)


def _holds(literal: Literal, cell: str | float) -> bool:
    if literal.operator in ("=", "!="):
        return (cell == literal.value) == (literal.operator == "=")
    test = not isinstance(cell, str) and (
        cell <= float(literal.value) if literal.operator.endswith("<=") else cell > float(literal.value)
    )
    return test != literal.operator.startswith("not")


@runs.study(claims=["worked-example"], title="the printed examples", minutes=0.1)
def _worked_example(run: runs.Run, fast: bool) -> Iterator[Finding]:
    for example in published.EXAMPLES:
        cells = [*example.positive, *example.negative]
        is_positive = np.arange(len(cells)) < len(example.positive)
        wrong = sum(
            abs(_counted(cells, is_positive, Literal("i", *literal), example.gini) - printed)
            > 0.5 * 10**-example.decimals + 1e-9
            for literal, printed in example.scores.items()
        )
        table, positive, negative = _split_column(cells, is_positive)
        learner = Learner(table, ratio=0.5, minimum=0, complete=example.complete, gini=example.gini)
        found = learner.best_literal(positive, negative, ())
        assert found is not None
        column, operator, code = found[1]
        picked = (OPERATORS[operator], table.value(column, code))
        yield Finding(
            "worked-example",
            f"{example.name}: printed scores ({len(example.scores)}) that differ from ours at the printed precision.",
            "exact",
            wrong,
            "==",
            0,
        )
        yield Finding(
            "worked-example",
            f"{example.name}: the literal picked is {' '.join(map(str, example.best))}.",
            "exact",
            float(picked == example.best),
            "==",
            1,
            detail=f"picked {picked[0]} {picked[1]} with score {found[0]:.4f}",
        )


@runs.study(claims=["prefix-sums"], title="prefix sums against counting", minutes=0.2)
def _prefix_sums(run: runs.Run, fast: bool) -> Iterator[Finding]:
    rng = run.rng("columns")
    worst, checked = 0.0, 0
    for _ in run.progress(range(40 if fast else 400), "random columns"):
        n = int(rng.integers(2, 40))
        pool: list[str | float] = [*map(float, rng.integers(-3, 6, 6)), "", "a", "b"]
        cells = [pool[i] for i in rng.integers(0, len(pool), n)]
        is_positive = rng.random(n) < rng.random()
        for complete, gini in ((True, True), (False, False), (True, False)):
            table, positive, negative = _split_column(cells, is_positive)
            for literal, value in _all_scores(table, positive, negative, complete, gini).items():
                worst = largest((worst, abs(value - _counted(cells, is_positive, literal, gini))))
                checked += 1
    yield Finding(
        "prefix-sums",
        "Largest difference between a literal's score by prefix sums and by counting rows, random mixed columns.",
        "exact",
        worst,
        "==",
        0,
        detail=f"{checked} literals",
    )


@runs.study(claims=["published-programs", "service-accuracy"], title="the authors' service", minutes=0.2)
def _published(run: runs.Run, fast: bool) -> Iterator[Finding]:
    for program in published.PROGRAMS:
        table = published.read_published(program.table)
        assert table.label is not None
        labels, positive = table.label.to_numpy(), published.POSITIVE[program.table]
        train, _ = published.published_split(labels, positive, program.seed)
        model = FoldSEClassifier(numeric=list(table.numeric), positive_label=True)
        model.fit(table.features.iloc[train], labels[train] == positive)
        cells = model.program_.cells(table.features.iloc[train])
        ours = [rule.covers(cells) for rule in model.rules_]
        theirs = [rule.covers(cells) for rule in program.rules]
        differing = sum(int((a != b).sum()) for a, b in zip(ours, theirs, strict=False))
        differing += len(train) * abs(len(ours) - len(theirs))
        literal = [(r.body, r.exceptions) for r in model.rules_] == [(r.body, r.exceptions) for r in program.rules]
        yield Finding(
            "published-programs",
            f"{program.table}, split {program.seed}: training rows that a rule covers otherwise than printed.",
            "exact",
            differing,
            "==",
            0,
            unit="rows",
            detail=f"{len(program.rules)} rules; {'literally the same program' if literal else 'other literals'}",
        )
    for name, (accuracy, size) in published.SERVICE_MEANS.items():
        table = published.read_published(name)
        assert table.label is not None
        labels = table.label.to_numpy() == published.POSITIVE[name]
        found = []
        for seed in published.SERVICE_SEEDS:
            train, test = published.published_split(table.label.to_numpy(), published.POSITIVE[name], seed)
            model = FoldSEClassifier(numeric=list(table.numeric), positive_label=True)
            model.fit(table.features.iloc[train], labels[train])
            found.append((model.score(table.features.iloc[test], labels[test]), model.n_rules_))
        mean = np.mean(found, axis=0)
        yield Finding(
            "service-accuracy",
            f"{name}: mean accuracy over ten splits.",
            "exact",
            float(mean[0]),
            "==",
            accuracy,
            baseline=accuracy,
            baseline_name="the service",
            tolerance=5e-7,
        )
        yield Finding(
            "service-accuracy",
            f"{name}: mean number of rules over ten splits.",
            "exact",
            float(mean[1]),
            "==",
            size,
            baseline=size,
            baseline_name="the service",
            tolerance=1e-9,
        )


@runs.study(claims=["semantics"], title="clingo on the exported programs", minutes=0.5)
def _semantics(run: runs.Run, fast: bool) -> Iterator[Finding]:
    names = ("heart", "ecoli", "breast-cancer", "wine", "digits", "adult", "credit_card", "mushroom", "krkp")
    rng = run.rng("rows")
    found = [task for name in names if (task := load_task(name, rows=2000 if fast else None)) is not None]
    for task in run.progress(found, "tables"):
        model = FoldSEClassifier(numeric=list(task.numeric)).fit(task.train, task.train_labels)
        both = pd.concat([task.train, task.test])
        rows = both.iloc[rng.integers(0, len(both), 50 if fast else 200)]
        cells = model.program_.cells(rows)
        expected = model.program_.label_of(model.covering_rule(rows), default=False)
        derived = clingo_labels(model.program_, cells)
        wrong = sum(d != (set() if e is None else {str(e)}) for d, e in zip(derived, expected, strict=True))
        yield Finding(
            "semantics",
            f"{task.name}: rows for which clingo derives other labels from facts and program than the model concludes.",
            "exact",
            wrong,
            "==",
            0,
            unit="rows",
            detail=f"{len(rows)} rows, {model.n_rules_} rules",
        )


@runs.study(claims=["tail-invariant"], title="what every kept rule covers", minutes=0.2)
def _tail(run: runs.Run, fast: bool) -> Iterator[Finding]:
    names = ("heart", "ecoli", "breast-cancer", "wine", "digits", "adult", "mushroom")
    found = [task for name in names if (task := load_task(name, rows=1000 if fast else None)) is not None]
    shortfall, kept = 0.0, 0
    too_many, unequal = 0, 0
    for task in run.progress(found, "tables"):
        for tail in (0.0, 0.001, 0.005, 0.01, 0.05):
            model = quiet_fit(FoldSEClassifier(tail=tail, numeric=list(task.numeric)), task)
            least = max(1, math.floor(tail * len(task.train)))
            shortfall = largest((shortfall, least - min(model.newly_covered_, default=math.inf)))
            kept += len(model.newly_covered_)
            if model.program_.binary:
                positives = int((task.train_labels == model.program_.positive).sum())
                too_many = max(too_many, len(model.rules_) - positives // least)
        unpruned = quiet_fit(FoldSEClassifier(tail=0.9 / len(task.train), numeric=list(task.numeric)), task)
        plain = quiet_fit(FoldSEClassifier(tail=0.0, numeric=list(task.numeric)), task)
        unequal += plain.rules_ != unpruned.rules_
    detail = f"{kept} kept rules of {len(found)} tables, tails 0 to 0.05"
    yield Finding(
        "tail-invariant",
        "Largest shortfall of a kept rule's newly covered rows below floor(tail * rows), at every depth.",
        "exact",
        largest((shortfall, 0.0)),
        "==",
        0,
        unit="rows",
        detail=detail,
    )
    yield Finding(
        "tail-invariant",
        "Top-level rules beyond the number of positives divided by floor(tail * rows).",
        "exact",
        largest((too_many, 0)),
        "==",
        0,
        unit="rules",
        detail=detail,
    )
    yield Finding(
        "tail-invariant", "Tables on which tail 0 differs from a tail below one row.", "exact", unequal, "==", 0
    )


__all__ = ["foldrpp", "multiclass", "ripper", "speed", "stability"]
