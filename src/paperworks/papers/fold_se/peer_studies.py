"""The claims about other learners: FOLD-R++, RIPPER, XGBoost and a perceptron, and rules of random subsets."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval, ratio_interval
from paperworks.papers.fold_se import peers
from paperworks.papers.fold_se.classifier import FoldSEClassifier
from paperworks.papers.fold_se.learn import warm_up
from paperworks.papers.fold_se.presets import FoldRPPClassifier
from paperworks.papers.fold_se.tasks import Task, load_task, tasks
from paperworks.runs import Finding


def quiet_fit(model: FoldSEClassifier, task: Task) -> FoldSEClassifier:
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
def foldrpp(run: runs.Run, fast: bool) -> Iterator[Finding]:
    warm_up()
    names = ("adult", "mushroom", "krkp", "heart", "voting", *(() if fast else ("credit_card",)))
    found, note = tasks(names, ("breast-cancer",), fast)
    for task in run.progress(found, "tables"):
        timed = peers.in_turns(task, peers.fit_foldrpp, ROUNDS, "fold-rpp")
        ours, theirs = timed.ours, timed.peer
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
                ratio_interval(timed.ratios),
                ">=",
                5,
                baseline=timed.peer_seconds,
                baseline_name="seconds of foldrpp",
                detail=f"ours {timed.our_seconds:.3f} s. {note}",
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
def stability(run: runs.Run, fast: bool) -> Iterator[Finding]:
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
def multiclass(run: runs.Run, fast: bool) -> Iterator[Finding]:
    for name in run.progress([task.name for task in tasks(("wine", "ecoli", "digits"), (), fast)[0]], "tables"):
        yield from _smaller("multiclass", name, ("fold-se", "fold-rm"), "FOLD-RM", fast, share=1.0, lost=0.02)


@runs.study(claims=["fewer-rules-than-ripper"], title="beside RIPPER", minutes=8)
def ripper(run: runs.Run, fast: bool) -> Iterator[Finding]:
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
def speed(run: runs.Run, fast: bool) -> Iterator[Finding]:
    warm_up()
    found, note = tasks((*LARGE, "mushroom"), ("breast-cancer",), fast)
    for task in run.progress(found[-1:] if fast else found, "tables"):
        for fit, rounds in ((peers.fit_xgboost, peers.XGBOOST_ROUNDS), (peers.fit_mlp, 3)):
            timed = peers.in_turns(task, fit, rounds)
            ours, peer = timed.ours, timed.peer
            yield Finding(
                "speed",
                f"{task.name}: how many times as long {peer.name} takes to fit as FOLD-SE.",
                "empirical",
                ratio_interval(timed.ratios),
                ">=",
                10,
                baseline=timed.peer_seconds,
                baseline_name=f"seconds of {peer.name}",
                detail=f"encoding {peer.encoding_seconds:.2f} s of that; FOLD-SE {timed.our_seconds:.3f} s; "
                f"held-out accuracy {peer.accuracy(task):.4f} and {ours.accuracy(task):.4f}. One thread each, "
                f"processor time, a fit of each in every round. {note}",
            )
