"""FOLD-SE beside FOLD-R++, RIPPER, FIGS, XGBoost and a decision tree: one process, the same rows, one thread.

    pip install imodels
    PAPERWORKS_DATA=folder/of/csv python benchmarks/fold_se_peers.py [--tables adult,credit_card,mushroom] [--seeds 3]

Writes docs/benchmarks/fold-se.md. Compiling is done before anything is timed, and stated by itself. Seconds are those
of the processor, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Every learner gets one thread; this must stand before the libraries are loaded.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

from paperworks.metrics import ratio_interval  # noqa: E402
from paperworks.papers.fold_se import evaluation, peers  # noqa: E402
from paperworks.papers.fold_se.learn import warm_up  # noqa: E402
from paperworks.papers.fold_se.tasks import Task, load_task  # noqa: E402
from paperworks.runs.files import write_text  # noqa: E402

OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks" / "fold-se.md"

PAPER = {
    "adult": {"foldrpp": "0.84 / 16.7 / 10.066", "RIPPER": "0.70 / 46.9 / 59.505", "XGBoost": "0.86 / – / 274.655"},
    "credit_card": {"foldrpp": "0.82 / 19.1 / 21.349", "RIPPER": "0.77 / 38.4 / 47.422", "XGBoost": "out of memory"},
    "mushroom": {"foldrpp": "1 / 8.0 / 0.523", "RIPPER": "1 / 8.0 / 0.795", "XGBoost": "1 / – / 0.378"},
}
"""Accuracy, rules and seconds of the FOLD-R++ paper's tables (10-fold cross-validation, i5-10400)."""


def _encoded(task: Task, encoder: Any) -> tuple[Any, Any, float]:
    """Training and test rows as an encoder gives them, and its processor seconds on the training rows."""
    train, test = (evaluation.for_tree(part, task.numeric) for part in (task.train, task.test))
    started = time.process_time()
    encoded = encoder.fit_transform(train)
    seconds = time.process_time() - started
    return encoded, encoder.transform(test), seconds


def leaf_depths(node: Any, depth: int = 0) -> Iterator[int]:
    """How many conditions lead to each leaf of a tree of nodes with ``left`` and ``right``."""
    if node.left is None and node.right is None:
        yield depth
    for child in (node.left, node.right):
        if child is not None:
            yield from leaf_depths(child, depth + 1)


def fit_tree(task: Task) -> peers.Fitted:
    """scikit-learn's decision tree on one-hot columns with as many leaves as FOLD-SE has rules and a default."""
    leaves = (peers.fit_ours(task, repeats=1).rules or 0) + 1
    tree = evaluation.decision_tree(task.numeric, task.categorical, leaves, 0)
    train, test, encoding = _encoded(task, tree[:-1])
    started = time.process_time()
    tree[-1].fit(train, task.train_labels)
    seconds = encoding + time.process_time() - started
    depths = tree[-1].decision_path(train).sum(axis=1) - 1
    leaf = tree[-1].apply(train)
    literals = sum(int(depths[leaf == one].max()) for one in np.unique(leaf))
    guesses = tree[-1].predict(test), tree[-1].predict(train)
    return peers.Fitted("decision tree", seconds, encoding, *guesses, tree[-1].get_n_leaves(), literals)


def fit_figs(task: Task) -> peers.Fitted:
    """imodels' FIGS with its defaults (at most 12 splits) on the decision tree's columns, gaps filled by the median."""
    from imodels import FIGSClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    columns = evaluation.decision_tree(task.numeric, task.categorical, 2, 0)[:-1]
    train, test, encoding = _encoded(task, make_pipeline(columns, SimpleImputer(strategy="median")))
    classes, codes = np.unique(task.train_labels, return_inverse=True)
    model = FIGSClassifier()
    started = time.process_time()
    model.fit(train, codes)
    seconds = encoding + time.process_time() - started
    depths = [depth for tree in model.trees_ for depth in leaf_depths(tree)]
    guesses = [classes[np.asarray(model.predict(part), dtype=int)] for part in (test, train)]
    return peers.Fitted("FIGS", seconds, encoding, guesses[0], guesses[1], len(depths), sum(depths))


LEARNERS: list[tuple[str, Callable[[Task], peers.Fitted]]] = [
    ("FOLD-SE", lambda task: peers.fit_ours(task, repeats=1)),
    ("FOLD-R++ (ours)", lambda task: peers.fit_ours(task, "fold-rpp", repeats=1)),
    ("foldrpp", peers.fit_foldrpp),
    ("RIPPER", peers.fit_ripper),
    ("FIGS", fit_figs),
    ("decision tree", fit_tree),
    ("XGBoost", peers.fit_xgboost),
]

ONCE = ("RIPPER",)
"""Learners that take minutes: they run on the first split alone."""

ROUNDS = {"XGBoost": peers.XGBOOST_ROUNDS}
"""Learners that are timed more than once: as in the study ``speed``, on the first split, so many rounds."""


def measure(names: list[str], seeds: int) -> list[list[str]]:
    """One row of text per table and learner: means over the seeds' splits."""
    rows = []
    for name in names:
        found: dict[str, list[tuple[float, ...]]] = {}
        ratios: dict[str, list[float]] = {}
        agree: list[float] = []
        for seed in range(seeds):
            task = load_task(name, seed=seed)
            if task is None:
                print(f"{name}: not here; set PAPERWORKS_DATA to a folder with {name}.csv", file=sys.stderr)
                break
            fits = {}
            for learner, fit in LEARNERS:
                if learner in ONCE and seed:
                    continue
                print(f"{name}, split {seed}: {learner} ...", end=" ", file=sys.stderr, flush=True)
                timed = peers.in_turns(task, fit, 1 if seed else ROUNDS.get(learner, 1))
                fits[learner] = one = timed.peer
                print(f"{timed.peer_seconds:.2f} s, accuracy {one.accuracy(task):.4f}", file=sys.stderr, flush=True)
                nothing = float("nan")
                size = (nothing if one.rules is None else one.rules, nothing if one.literals is None else one.literals)
                values = (one.accuracy(task), *size, timed.peer_seconds, one.encoding_seconds)
                found.setdefault(learner, []).append(values)
                if learner not in ROUNDS or not seed:
                    ratios.setdefault(learner, []).extend(timed.ratios)
            agree.append(float(np.mean(fits["FOLD-R++ (ours)"].train_predictions == fits["foldrpp"].train_predictions)))
        for learner, values in found.items():
            accuracy, rules, literals, seconds, encoding = np.mean(values, axis=0)
            spread = np.ptp([one[0] for one in values]) / 2
            paper = PAPER.get(name, {}).get("foldrpp" if learner.startswith("FOLD-R++") else learner, "")
            rows.append(
                [
                    name,
                    learner,
                    f"{accuracy:.4f} ± {spread:.4f}" if len(values) > 1 else f"{accuracy:.4f}",
                    "" if np.isnan(rules) else f"{rules:.1f}",
                    "" if np.isnan(literals) else f"{literals:.1f}",
                    f"{seconds:.3f}",
                    f"{encoding:.3f}" if encoding else "",
                    "1" if learner == "FOLD-SE" else times(ratios[learner]),
                    paper,
                ]
            )
        if agree:
            print(f"{name}: our FOLD-R++ agrees with foldrpp on {np.mean(agree):.4%} of training rows", file=sys.stderr)
    return rows


def times(ratios: list[float]) -> str:
    """How many times as long as FOLD-SE, with an interval where there are several rounds."""
    if len(ratios) == 1:
        return f"{ratios[0]:.1f}"
    found = ratio_interval(ratios)
    return f"{found.estimate:.1f} [{found.low:.1f}, {found.high:.1f}]"


def kept_rows(page: Path, measured: list[str]) -> list[list[str]]:
    """Rows of a page that this command wrote, of tables that are not measured now."""
    if not page.exists():
        return []
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[0] not in measured]


def document(rows: list[list[str]], seeds: int, compile_seconds: float) -> str:
    """The benchmark's page."""
    heads = [
        "table",
        "learner",
        "accuracy",
        "rules",
        "literals",
        "fit seconds",
        "of that encoding",
        "times FOLD-SE",
        "paper: accuracy / rules / seconds",
    ]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    packages = ["foldrpp", "wittgenstein", "imodels", "xgboost", "scikit-learn", "numba", "numpy", "pandas"]
    versions = ", ".join(f"{p} {version(p)}" for p in packages)
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    notes = [
        f"Rows: {seeds} stratified split{'s' * (seeds > 1)} into 80% to learn from and 20% for the accuracy, the same "
        "for all; one process, one thread each. Accuracies and sizes are means over the splits; ± is half "
        "the distance of the extremes. RIPPER has the first split alone.",
        "Rules and literals count exceptions, but not the references to them. The rules of the decision tree and of "
        "FIGS are their leaves, and a leaf has as many literals as there are tests above it.",
        "Fit seconds are the processor's. Those of FOLD-SE and of our FOLD-R++ begin with the table as pandas holds it "
        "and include reading its columns. foldrpp gets rows in its own form, whose making is not counted. XGBoost, "
        "FIGS and the tree get one-hot columns, whose making is counted and shown.",
        "Times FOLD-SE: FOLD-SE and a learner fit in turns, once each in every round; geometric mean of the rounds' "
        f"ratios with its 95 % interval. XGBoost has {peers.XGBOOST_ROUNDS} rounds on the first split, as in the study "
        "`speed`; the others have one on each split, and RIPPER one.",
        f"The load average was {os.getloadavg()[2]:.1f} over the last 15 minutes. Processor time depends on the load, "
        "too: what else runs takes a share of the caches and of the cores' units.",
        "Compiling the search, once after installing, or loading it compiled, took "
        f"{compile_seconds:.1f} s before the first fit.",
        "XGBoost, FIGS and RIPPER have their libraries' defaults; RIPPER learns the rarer class, FOLD-SE and FOLD-R++ "
        "the one that the FOLD-R++ authors chose.",
        "The last column is the FOLD-R++ paper's: 10-fold cross-validation on its machine, rules are means. FOLD-SE's "
        "own table could not be read; its figures for rain in Australia (2.5 rules, 6.1 literals, 0.82) are "
        "from memory.",
        f"{machine}; {versions}.",
    ]
    head = ["# FOLD-SE beside its peers", "", "Written by `benchmarks/fold_se_peers.py`; do not edit.", ""]
    return "\n".join([*head, *lines, "", *(f"- {note}" for note in notes)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default="adult,credit_card,mushroom", help="tables, separated by commas")
    parser.add_argument("--seeds", type=int, default=3, help="how many splits")
    parser.add_argument("--keep", action="store_true", help="keep the page's rows of other tables")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="the page to write")
    options = parser.parse_args()
    started = time.perf_counter()
    warm_up()
    compiling = time.perf_counter() - started
    tables = options.tables.split(",")
    rows = measure(tables, options.seeds)
    if not rows:
        sys.exit(2)
    if options.keep:
        rows = sorted(kept_rows(options.out, tables) + rows, key=lambda row: row[0])
    text = document(rows, options.seeds, compiling)
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
