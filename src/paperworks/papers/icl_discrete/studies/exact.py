"""Teaching sequences and learners: exact."""

from __future__ import annotations

import numpy as np

from paperworks import runs
from paperworks.papers.icl_discrete.curves import correct
from paperworks.papers.icl_discrete.learners import (
    Elimination,
    Neighbours,
    ParityElimination,
)
from paperworks.papers.icl_discrete.tasks import BooleanTask
from paperworks.runs import Finding


@runs.study(claims=["teaching-identifies"], title="teaching sequences", minutes=0.2)
def teaching_sequences(run: runs.Run, fast: bool) -> list[Finding]:
    """Count the functions of a class that agree with each teaching sequence."""
    findings = []
    cases = [("teach_biconjunction", 5, "|R| + 2", 2), ("teach_conjunction", 8, "|R| + 1", 1)]
    for name, n, words, extra in [*cases, ("teach_sparse_parity", 10, "k", 0)]:
        task = BooleanTask(name, n)
        functions, _ = task.enumerate()
        most, right_length = 0, True
        for row in range(len(functions)):
            function = functions[row]
            points = task.teaching_sequence(function)
            labels = functions.labels(np.broadcast_to(points, (len(functions), *points.shape)))
            most = max(most, int((labels == function(points)).all(1).sum()))
            relevant = task.sparsity if extra == 0 else int(np.abs(function.functions.weights).sum())  # type: ignore[attr-defined]
            right_length &= len(points) == relevant + extra
        title = f"{len(functions)} {task.kind.title.removesuffix(' with a teaching sequence')} of {n} bits"
        findings += [
            Finding(
                "teaching-identifies",
                f"Most functions that agree with a teaching sequence of {title}",
                "exact",
                most,
                "==",
                1,
                unit="functions",
            ),
            Finding(
                "teaching-identifies",
                f"Teaching sequences of {title} have {words} points",
                "exact",
                right_length,
                "==",
                1,
            ),
        ]
    return findings


@runs.study(claims=["optimal-learners"], title="optimal learners", minutes=0.2)
def optimal_learners(run: runs.Run, fast: bool) -> list[Finding]:
    """Count the errors of elimination, and of Gaussian elimination where the points determine the label."""
    false, excess = 0, -(10**6)
    for n in (4, 8, 16, 28):
        prompts = BooleanTask("conjunction", n).sample(100 if fast else 1000, 3 * n, n)
        guess = Elimination().scores(prompts.xs, prompts.ys)
        false += int(((guess > 0) & (prompts.ys < 0)).sum())
        excess = max(excess, int((guess != prompts.ys).sum(1).max()) - (n + 1))
    wrong = undecided = 0
    for n in (4, 10, 20):
        prompts = BooleanTask("parity", n).sample(100 if fast else 1000, 2 * n + 20, n)
        scores = ParityElimination().scores(prompts.xs, prompts.ys)
        # an undetermined label raises the rank: at full rank, every later one is determined
        full = np.cumsum(np.abs(scores) < 2, axis=1) == n
        full = np.concatenate([np.zeros_like(full[:, :1]), full[:, :-1]], 1)
        wrong += int((np.sign(scores) != prompts.ys)[full].sum())
        undecided += int((np.abs(scores) < 2)[full].sum())
    near = BooleanTask("nearest_neighbours", 8).sample(200, 40, 0)
    one = correct(Neighbours(1), near)[:, near.start :].mean()
    claim = "optimal-learners"
    return [
        Finding(claim, "False positives of elimination on conjunctions, n = 4 to 28", "exact", false, "==", 0),
        Finding(claim, "Errors of elimination in a prompt, beyond n + 1", "exact", excess, "<=", 0),
        Finding(claim, "Wrong labels of Gaussian elimination at full rank, n = 4 to 20", "exact", wrong, "==", 0),
        Finding(claim, "Labels that it leaves open at full rank", "exact", undecided, "==", 0),
        Finding(claim, "Accuracy of 1-NN on nearest-neighbour labels from position s on", "exact", one, "==", 1),
    ]
