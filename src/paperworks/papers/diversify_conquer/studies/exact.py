"""What must hold on any machine: shares of the budget, and the weight update."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.papers.diversify_conquer.allocation import allocate_budget
from paperworks.papers.diversify_conquer.weights import update_weights
from paperworks.runs import Finding, largest


@runs.study(claims=["proportional-budget", "weight-update"], title="budgets and weights by hand", minutes=0.1)
def budgets(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Random cluster sizes and budgets; the worked example of Eq. 6."""
    rng = run.rng("sizes")
    worst_sum, worst_share, most = 0, 0.0, 100 if fast else 2000
    for _ in range(most):
        sizes = rng.integers(0, 500, size=int(rng.integers(1, 60)))
        sizes[0] += 1
        budget = int(rng.integers(0, sizes.sum() + 1))
        counts = allocate_budget(sizes, budget)
        worst_sum = max(worst_sum, abs(int(counts.sum()) - budget))
        worst_share = largest((worst_share, float(np.abs(counts - budget * sizes / sizes.sum()).max())))
    yield Finding(
        "proportional-budget",
        f"Largest difference of the sum of the shares from the budget, {most} random cluster sizes.",
        "exact",
        worst_sum,
        "==",
        0,
    )
    yield Finding(
        "proportional-budget",
        f"Largest distance of a cluster's share from |D_j| / |D| b, {most} random cluster sizes.",
        "exact",
        worst_share,
        "<",
        1.0,
        unit="samples",
    )
    found = update_weights(np.full(4, 0.25), np.array([1.0, 2, 3, 4]))
    yield Finding(
        "weight-update",
        "Largest error of the new weights, four equal ones with scores 1, 2, 3, 4, against 0.1, 0.2, 0.3, 0.4.",
        "exact",
        float(np.abs(found - [0.1, 0.2, 0.3, 0.4]).max()),
        "<=",
        1e-12,
    )
