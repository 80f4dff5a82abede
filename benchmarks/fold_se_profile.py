"""Where the time of a fit goes, beside the time that reading the codes takes, and beside XGBoost.

    PAPERWORKS_DATA=folder python benchmarks/fold_se_profile.py [--tables adult credit_card] [--repeat 3]

Processor seconds of one thread, the best of ``--repeat``. ``read codes`` is one sum over the rank codes of all columns;
learning cannot take less than that for each choice of a literal, since a choice looks at every row that is left.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from paperworks.papers.fold_se import FoldSEClassifier, peers, tasks
from paperworks.papers.fold_se.columns import choose_numeric, rank_codes
from paperworks.papers.fold_se.learn import Learner, Rows, minimum_cover, warm_up


def best(repeat: int, function: Callable[[], Any]) -> tuple[float, Any]:
    """The least processor seconds of several calls, and the last result."""
    least, result = np.inf, None
    for _ in range(repeat):
        started = time.process_time()
        result = function()
        least = min(least, time.process_time() - started)
    return least, result


def main() -> None:
    """Print one line per table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["adult", "credit_card"])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    warm_up()
    for name in options.tables:
        task = tasks.load_task(name)
        if task is None:
            print(f"{name}: not here (set PAPERWORKS_DATA)")
            continue
        model = FoldSEClassifier(numeric=list(task.numeric), positive_label=task.positive)
        fit, _ = best(options.repeat, lambda m=model, t=task: m.fit(t.train, t.train_labels))  # type: ignore[misc]
        numeric = choose_numeric(task.train, list(task.numeric), None)
        ranks, table = best(options.repeat, lambda t=task, n=numeric: rank_codes(t.train, n))  # type: ignore[misc]
        positive = task.train_labels == task.positive
        rows = Rows(np.arange(len(positive), dtype=np.int32), np.ones(len(positive), np.int64))
        minimum = minimum_cover(0.005, float(len(positive)))

        def learn(table: Any = table, minimum: Any = minimum, rows: Rows = rows, positive: Any = positive) -> Learner:
            learner = Learner(table, ratio=0.5, minimum=minimum, complete=True, gini=True)
            learner.learn_rules(rows.take(positive), rows.take(~positive))
            return learner

        learning, learner = best(options.repeat, learn)
        read, _ = best(options.repeat, lambda t=table: [column.sum() for column in t.codes])  # type: ignore[misc]
        print(
            f"{name}, {len(positive):,} rows: fit {1000 * fit:.1f} ms, of which ranks {1000 * ranks:.1f}, learning "
            f"{1000 * learning:.1f}; {learner.selections} choices, read codes {1000 * read:.2f} ms each, at least "
            f"{1000 * read * learner.selections:.1f} ms"
        )
        other, _ = best(options.repeat, lambda t=task: peers.fit_xgboost(t))  # type: ignore[misc]
        print(f"  XGBoost {1000 * other:.0f} ms of processor time: {other / fit:.1f} times")


if __name__ == "__main__":
    main()
