"""The paper's claims, measured again on tables that two cores can bear."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.fold_se import peers, published
from paperworks.papers.fold_se.classifier import FoldSEClassifier
from paperworks.papers.fold_se.columns import RankCodes, rank_codes
from paperworks.papers.fold_se.learn import Learner, Rows, warm_up
from paperworks.papers.fold_se.presets import FoldRPPClassifier
from paperworks.papers.fold_se.programs import clingo_labels
from paperworks.papers.fold_se.rules import OPERATORS, Literal
from paperworks.papers.fold_se.search import score
from paperworks.papers.fold_se.tasks import Task, load_task, tasks
from paperworks.runs import Finding


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
                worst = max(worst, abs(value - _counted(cells, is_positive, literal, gini)))
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
            model = _quiet_fit(FoldSEClassifier(tail=tail, numeric=list(task.numeric)), task)
            least = max(1, math.floor(tail * len(task.train)))
            shortfall = max(shortfall, least - min(model.newly_covered_, default=math.inf))
            kept += len(model.newly_covered_)
            if model.program_.binary:
                positives = int((task.train_labels == model.program_.positive).sum())
                too_many = max(too_many, len(model.rules_) - positives // least)
        unpruned = _quiet_fit(FoldSEClassifier(tail=0.9 / len(task.train), numeric=list(task.numeric)), task)
        plain = _quiet_fit(FoldSEClassifier(tail=0.0, numeric=list(task.numeric)), task)
        unequal += plain.rules_ != unpruned.rules_
    detail = f"{kept} kept rules of {len(found)} tables, tails 0 to 0.05"
    yield Finding(
        "tail-invariant",
        "Largest shortfall of a kept rule's newly covered rows below floor(tail * rows), at every depth.",
        "exact",
        max(shortfall, 0.0),
        "==",
        0,
        unit="rows",
        detail=detail,
    )
    yield Finding(
        "tail-invariant",
        "Top-level rules beyond the number of positives divided by floor(tail * rows).",
        "exact",
        max(too_many, 0),
        "==",
        0,
        unit="rules",
        detail=detail,
    )
    yield Finding(
        "tail-invariant", "Tables on which tail 0 differs from a tail below one row.", "exact", unequal, "==", 0
    )


def _quiet_fit(model: FoldSEClassifier, task: Task) -> FoldSEClassifier:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule was learned")
        return model.fit(task.train, task.train_labels)


LARGE = ("adult", "credit_card")
HASH_SEEDS = 6
ROUNDS = 5
"""How often two learners are timed in turn; what else the machine does falls on both."""
SPLITS = 10
RIPPER_ROWS, RIPPER_SPLITS = 3000, 5
"""RIPPER takes minutes on a whole table: its rules are counted on random parts."""


@runs.study(
    claims=["foldrpp-equality", "faster-than-foldrpp", "fewer-rules-than-foldrpp"],
    title="beside PyPI foldrpp",
    minutes=2,
)
def _foldrpp(run: runs.Run, fast: bool) -> Iterator[Finding]:
    warm_up()
    names = ("adult", "mushroom", "krkp", "heart", "voting", *(() if fast else ("credit_card",)))
    found, note = tasks(names, ("breast-cancer",), fast)
    for task in run.progress(found, "tables"):
        rounds = [(peers.fit_ours(task, "fold-rpp", repeats=1), peers.fit_foldrpp(task)) for _ in range(ROUNDS)]
        ours, theirs = rounds[0]
        differing = int((ours.train_predictions != theirs.train_predictions).sum())
        tried = 0
        while differing and tried < HASH_SEEDS:
            peer = peers.foldrpp_train_predictions(task, tried)
            differing = min(differing, int((ours.train_predictions != peer).sum()))
            tried += 1
        yield Finding(
            "foldrpp-equality",
            f"{task.name}: training rows that the preset and PyPI foldrpp classify differently.",
            "exact",
            differing,
            "==",
            0,
            unit="rows",
            detail=f"{len(task.train)} rows, {ours.rules} and {theirs.rules} rules; its order of equally good values "
            + (f"was tried {tried} times more" if tried else "agreed at once"),
        )
        if task.name in ("adult", "mushroom", "credit_card", "breast-cancer"):
            yield Finding(
                "faster-than-foldrpp",
                f"{task.name}: how many times as long PyPI foldrpp takes to fit as our preset.",
                "empirical",
                mean_interval([b.seconds / a.seconds for a, b in rounds], unit="rounds"),
                ">=",
                5,
                baseline=theirs.seconds,
                baseline_name="seconds of foldrpp",
                detail=f"ours {ours.seconds:.3f} s. {note}",
            )
    for name in (task.name for task in tasks(LARGE, ("breast-cancer",), fast)[0]):
        yield from _smaller(
            "fewer-rules-than-foldrpp", name, ("fold-se", "fold-rpp"), "FOLD-R++", fast, share=0.5, lost=0.01
        )


def _smaller(
    claim: str, name: str, kinds: tuple[str, str], other: str, fast: bool, *, share: float, lost: float
) -> Iterator[Finding]:
    """Rules and held-out accuracy of two of our learners over random splits of a table, each split for both."""
    splits = [load_task(name, seed=seed, rows=2000 if fast else None) for seed in range(2 if fast else SPLITS)]
    pairs = [[peers.fit_ours(task, kind, repeats=1) for kind in kinds] for task in splits if task is not None]
    rules, accuracy = (
        np.array([[value(fit, task) for fit in pair] for pair, task in zip(pairs, splits, strict=True)])
        for value in (lambda fit, task: fit.rules, lambda fit, task: fit.accuracy(task))
    )
    literals = " and ".join(f"{np.mean([pair[i].literals for pair in pairs]):.1f}" for i in (0, 1))
    yield Finding(
        claim,
        f"{name}: rules of {kinds[0].upper()}, exceptions included, over those of {other}.",
        "empirical",
        mean_interval(rules[:, 0] / rules[:, 1], unit="random splits"),
        "<=" if share < 1 else "<",
        share,
        baseline=float(rules[:, 1].mean()),
        baseline_name=f"{other}, rules",
        detail=f"mean rules {rules[:, 0].mean():.1f} and {rules[:, 1].mean():.1f}, literals {literals}",
    )
    yield Finding(
        claim,
        f"{name}: held-out accuracy lost against {other}.",
        "empirical",
        mean_interval(accuracy[:, 1] - accuracy[:, 0], unit="random splits"),
        "<=",
        lost,
        baseline=float(accuracy[:, 1].mean()),
        baseline_name=f"accuracy of {other}",
        detail=f"{kinds[0].upper()} {accuracy[:, 0].mean():.4f}",
    )


@runs.study(claims=["stability"], title="rules from random subsets", minutes=0.5)
def _stability(run: runs.Run, fast: bool) -> Iterator[Finding]:
    found, note = tasks((*LARGE, "mushroom"), ("breast-cancer",), fast)
    for task in run.progress(found, "tables"):
        agreement, sizes = {}, {}
        for name, kind in (("FOLD-SE", FoldSEClassifier), ("FOLD-R++", FoldRPPClassifier)):
            rng = run.rng(task.name)  # the same subsets for both
            predicted, count = [], []
            for _ in range(4 if fast else 2 * SPLITS):
                part = rng.permutation(len(task.train))[: int(0.9 * len(task.train))]
                model = kind(numeric=list(task.numeric), positive_label=task.positive)
                model.fit(task.train.iloc[part], task.train_labels[part])
                predicted.append(model.predict(task.test))
                count.append(model.n_rules_)
            # every subset is in one pair only, so that the pairs are independent given the table
            agreement[name] = np.array([np.mean(a == b) for a, b in zip(predicted[::2], predicted[1::2], strict=True)])
            sizes[name] = f"{np.mean(count):.1f} ± {np.std(count):.1f}"
        others = float(agreement["FOLD-R++"].mean())
        yield Finding(
            "stability",
            f"{task.name}: share of held-out rows on which rules from two random 90% subsets agree, less FOLD-R++'s.",
            "empirical",
            mean_interval(agreement["FOLD-SE"] - agreement["FOLD-R++"], unit="pairs of subsets"),
            ">=",
            0,
            baseline=others,
            baseline_name="FOLD-R++",
            detail=f"agreement {agreement['FOLD-SE'].mean():.4f}; "
            f"rules {sizes['FOLD-SE']}; FOLD-R++ {sizes['FOLD-R++']}. {note}",
        )


@runs.study(claims=["multiclass"], title="more than two classes", minutes=0.3)
def _multiclass(run: runs.Run, fast: bool) -> Iterator[Finding]:
    for name in run.progress([task.name for task in tasks(("wine", "ecoli", "digits"), (), fast)[0]], "tables"):
        yield from _smaller("multiclass", name, ("fold-se", "fold-rm"), "FOLD-RM", fast, share=1.0, lost=0.02)


@runs.study(claims=["fewer-rules-than-ripper"], title="beside RIPPER", minutes=8)
def _ripper(run: runs.Run, fast: bool) -> Iterator[Finding]:
    found, note = tasks((*LARGE, "mushroom"), ("breast-cancer",), fast)
    for task in run.progress(found[-1:] if fast else found, "tables"):
        ours, theirs = peers.fit_ours(task, repeats=1), peers.fit_ripper(task)
        parts = [load_task(task.name, seed=seed, rows=RIPPER_ROWS) for seed in range(2 if fast else RIPPER_SPLITS)]
        sizes = np.array(
            [
                [peers.fit_ours(part, repeats=1).rules, peers.fit_ripper(part).rules]
                for part in parts
                if part is not None
            ]
        )
        yield Finding(
            "fewer-rules-than-ripper",
            f"{task.name}: rules of FOLD-SE, exceptions included, less those of RIPPER, on random parts of at most "
            f"{RIPPER_ROWS:,} rows.",
            "empirical",
            mean_interval(sizes[:, 0] - sizes[:, 1], unit="random parts"),
            "<",
            0,
            baseline=float(sizes[:, 1].mean()),
            baseline_name="RIPPER, rules",
            detail=f"on the whole table {ours.rules} and {theirs.rules} rules, {ours.literals} and {theirs.literals} "
            f"literals; fit {ours.seconds:.2f} s and {theirs.seconds:.1f} s. {note}",
        )
        right = [(fit.predictions == task.test_labels).astype(float) for fit in (ours, theirs)]
        yield Finding(
            "fewer-rules-than-ripper",
            f"{task.name}: held-out accuracy less RIPPER's, both trained on the whole table.",
            "empirical",
            mean_interval(right[0] - right[1], unit="held-out rows"),
            ">=",
            0,
            baseline=theirs.accuracy(task),
            baseline_name="RIPPER",
            detail=f"FOLD-SE {ours.accuracy(task):.4f}",
        )


@runs.study(claims=["speed"], title="beside XGBoost and a perceptron", minutes=6)
def _speed(run: runs.Run, fast: bool) -> Iterator[Finding]:
    warm_up()
    found, note = tasks((*LARGE, "mushroom"), ("breast-cancer",), fast)
    for task in run.progress(found[-1:] if fast else found, "tables"):
        for fit, rounds in ((peers.fit_xgboost, ROUNDS), (peers.fit_mlp, 3)):
            pairs = [(peers.fit_ours(task, repeats=1), fit(task)) for _ in range(rounds)]
            ours, peer = pairs[0]
            yield Finding(
                "speed",
                f"{task.name}: how many times as long {peer.name} takes to fit as FOLD-SE.",
                "empirical",
                mean_interval([b.seconds / a.seconds for a, b in pairs], unit="rounds"),
                ">=",
                10,
                baseline=peer.seconds,
                baseline_name=f"seconds of {peer.name}",
                detail=f"encoding {peer.encoding_seconds:.2f} s of that; FOLD-SE {ours.seconds:.3f} s; "
                f"held-out accuracy {peer.accuracy(task):.4f} and {ours.accuracy(task):.4f}. One thread each. {note}",
            )
