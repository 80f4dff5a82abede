"""The claims that are exact: costs of prefixes, partial evaluation, round trips, EM."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.metrics import ratio_interval
from paperworks.papers.pc_compression import plans, tree_coder
from paperworks.papers.pc_compression.codec import PCCodec
from paperworks.papers.pc_compression.em import Phase
from paperworks.papers.pc_compression.hclt import HCLT
from paperworks.papers.pc_compression.structure import Tree, rooted
from paperworks.runs import Finding, largest, smallest

SEED = 0


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1500 training and 297 test rows of 64 values from 0 to 16."""
    from sklearn.datasets import load_digits

    rows = load_digits().data.astype(np.uint8)[np.random.default_rng(SEED).permutation(1797)]
    return rows[:1500], rows[1500:]


def digits_model(latents: int, fast: bool, seed: int = SEED) -> HCLT:
    schedule = (Phase(10 if fast else 60, 0.2, 0.95), Phase(2 if fast else 10, full=True))
    return HCLT(latents, 17, schedule=schedule, batch_size=128, random_state=seed).fit(digits()[0])


@runs.study(claims=["all-prefixes-cheap"], title="cost of all prefixes", minutes=0.5)
def prefix_cost(run: runs.Run, fast: bool) -> Iterator[Finding]:
    worst, low, high, told = -np.inf, np.inf, 0.0, []
    sizes = (64, 256) if fast else (64, 256, 1024)
    for d in run.progress(sizes, "numbers of variables"):
        for kind, edges in _trees(d, run.rng(f"trees {d}")).items():
            ratio = cost_ratio(rooted(edges, d, "balanced"), 16)
            low, high, worst = (
                smallest((low, ratio)),
                largest((high, ratio)),
                largest((worst, ratio - 1.5 * np.log2(d))),
            )
            told.append(f"{kind} {d}: {ratio:.1f}")
    yield Finding(
        "all-prefixes-cheap",
        "Balanced trees (paths, stars, random, preferential attachment, binary), D = 64 to 1024, K = 16: edges visited "
        "over edges of the circuit, less 1.5 log2 D, at worst.",
        "exact",
        worst,
        "<=",
        0,
        detail=f"ratios {low:.1f} to {high:.1f}; " + ", ".join(told),
    )
    chain = Tree.from_parents([-1, *range(sizes[-1] - 1)])
    yield Finding(
        "all-prefixes-cheap",
        f"A chain of {sizes[-1]} variables rooted at its end: edges visited over edges.",
        "exact",
        cost_ratio(chain, 16),
        "==",
        1.0,
        tolerance=1e-9,
    )
    d = sizes[-1]
    path = [(i, i + 1) for i in range(d - 1)]
    bad = cost_ratio(rooted(path, d, "center"), 16)
    yield Finding(
        "all-prefixes-cheap",
        f"A chain of {d} variables rooted at its centre, without balancing, costs about D / 8.",
        "exact",
        bad,
        "==",
        d / 8,
        tolerance=d / 80,
        detail="the case that balancing is for",
    )
    yield from _wall_time(fast)


def cost_ratio(tree: Tree, k: int) -> float:
    """Edges that the partial evaluations of all variables visit over the edges of the circuit of a tree, by counting.

    K^2 per sum region below the root (K at the root), 2K per binary product, K per input, without making the units.
    """
    parts = tree_coder.parts_of(tree)
    sides: list[tuple[int, int]] = []
    cost: list[int] = []
    made: dict[int, int] = {}

    def leaf(v: int) -> int:
        sides.append((-1, v))
        cost.append(k)
        return len(sides) - 1

    for v in tree.order.tolist():
        if not parts[v]:
            continue
        nodes = [leaf(p) if p == v or not parts[p] else made[p] for p in parts[v]]
        left = nodes[0]
        for right in nodes[1:]:
            sides.append((left, right))
            cost.append(2 * k)
            left = len(sides) - 1
        cost[left] += k * k if v != tree.root else k
        made[v] = left
    _, paths, _ = plans.variable_order(sides, made[tree.root])
    return float(np.array(cost)[paths].sum() / sum(cost))


def _trees(d: int, rng: np.random.Generator) -> dict[str, list[tuple[int, int]]]:
    degree = np.ones(d)
    attached = []
    for v in range(1, d):
        parent = int(rng.choice(v, p=degree[:v] / degree[:v].sum()))
        degree[parent] += 1
        attached.append((parent, v))
    return {
        "path": [(i, i + 1) for i in range(d - 1)],
        "star": [(0, i) for i in range(1, d)],
        "random": [(int(rng.integers(v)), v) for v in range(1, d)],
        "attachment": attached,
        "binary": [((v - 1) // 2, v) for v in range(1, d)],
    }


def _wall_time(fast: bool) -> Iterator[Finding]:
    train, test = digits()
    model = HCLT(8, 17, shape="balanced", schedule=(Phase(1, 0.2, 0.2),), batch_size=128).fit(train)
    circuit, rows = model.circuit(), test[: 20 if fast else 100]
    circuit.marginals_along_order(rows[:2])
    circuit.score_samples(rows[:2])
    ratios = []
    for _ in range(2 if fast else 5):
        start = time.process_time()
        circuit.marginals_along_order(rows)
        middle = time.process_time()
        for _ in range(64):
            circuit.score_samples(rows)
        ratios.append((time.process_time() - middle) / (middle - start))
    yield Finding(
        "all-prefixes-cheap",
        "sklearn digits, balanced tree: time of 64 full passes over that of all prefixes.",
        "empirical",
        ratio_interval(ratios),
        ">=",
        5,
        baseline=1.0,
        baseline_name="partial evaluation",
        detail="the partial evaluation makes prefix marginals and lows, that is two passes over each path; "
        f"by edges the ratio is {64 * circuit.n_edges / circuit.evaluation_cost():.1f} for one",
    )


@runs.study(claims=["partial-evaluation-is-exact"], title="partial evaluation against sums", minutes=0.2)
def exactness(run: runs.Run, fast: bool) -> Iterator[Finding]:
    worst = chain = 0.0
    every = np.array(list(itertools.product(range(3), repeat=5)), dtype=np.uint8)
    for seed in run.progress(range(3 if fast else 12), "random circuits"):
        rng = np.random.default_rng([SEED, seed])
        tree = Tree.from_parents([-1, *(int(rng.integers(v)) for v in range(1, 5))])
        model = HCLT(2, 3, schedule=(Phase(1, full=True),), random_state=seed).fit(
            rng.integers(0, 3, (9, 5)), tree=tree
        )
        circuit = model.circuit()
        p = np.exp(model.score_samples(every))
        whole, low = circuit.marginals_along_order(every)
        for i in range(5):
            done = circuit.order[: i + 1]
            for n in range(0, len(every), 7):
                inside = (every[:, done] == every[n, done]).all(1)
                below = (every[:, done[:-1]] == every[n, done[:-1]]).all(1) & (every[:, done[-1]] < every[n, done[-1]])
                worst = largest(
                    (worst, abs(np.exp(whole[n, i]) - p[inside].sum()), abs(np.exp(low[n, i]) - p[below].sum()))
                )
    model = digits_model(4, True)
    rows = digits()[1][:50]
    whole, _ = model.circuit().marginals_along_order(rows)
    steps = np.diff(whole, axis=1, prepend=0.0)
    chain = float(np.abs(steps.sum(1) - model.score_samples(rows)).max())
    yield Finding(
        "partial-evaluation-is-exact",
        "Random circuits, D = 5, C = 3, K = 2: largest difference of prefix marginals "
        "and lows from sums over all completions.",
        "exact",
        worst,
        "<=",
        1e-12,
    )
    yield Finding(
        "partial-evaluation-is-exact",
        "sklearn digits: largest difference in log p between the product of all steps and a full pass.",
        "exact",
        chain,
        "<=",
        1e-9,
        unit="nats",
    )


@runs.study(claims=["lossless"], title="round trips", minutes=0.2)
def lossless(run: runs.Run, fast: bool) -> Iterator[Finding]:
    model = digits_model(4, True)
    rng = run.rng("noise")
    cases = {
        "digits": digits()[1],
        "uniform noise": rng.integers(0, 17, (100, 64)).astype(np.uint8),
        "constant rows": np.full((50, 64), 16, dtype=np.uint8),
        "one row": digits()[1][:1],
    }
    wrong, unequal = 0, 0
    for mode in ("tree", "partial"):
        for rows in run.progress(list(cases.values()), f"{mode} mode"):
            one = PCCodec(model, mode=mode, rows_per_stream=7)  # type: ignore[arg-type]
            data = one.compress(rows)
            wrong += int((one.decompress(data) != rows).sum())
            unequal += data != PCCodec(model, mode=mode, rows_per_stream=7, n_jobs=2).compress(rows)  # type: ignore[arg-type]
    yield Finding(
        "lossless",
        "Values that differ after compressing and decompressing digits, noise, constant rows and a "
        "single row, in both modes.",
        "exact",
        wrong,
        "==",
        0,
    )
    yield Finding("lossless", "Files that differ between one thread and two.", "exact", unequal, "==", 0)


@runs.study(claims=["em-never-decreases"], title="full-batch EM", minutes=0.2)
def em(run: runs.Run, fast: bool) -> Iterator[Finding]:
    from paperworks.papers.pc_compression import em

    train = digits()[0][: 200 if fast else 1500].astype(np.uint16)
    model = HCLT(4, 17, pseudocount=0.0, schedule=(Phase(1, full=True),)).fit(train)
    machine, weights = model._passes, model.parameters_.astype(np.float64)
    before, drop, off = -np.inf, -np.inf, 0.0
    for _ in run.progress(range(10 if fast else 40), "steps"):
        flows, found = machine.expect(weights, train)
        now = float(found.mean())
        drop = largest((drop, before - now))
        before = now
        regions = [flows.prior.sum(), *flows.inputs.sum((1, 2))]
        off = largest((off, float(np.abs(np.array(regions) - len(train)).max())))
        em.maximise(weights, flows, 0.0, 0.0)
    yield Finding(
        "em-never-decreases",
        "sklearn digits, no pseudocount: largest drop of the mean log-likelihood between steps.",
        "exact",
        drop,
        "<=",
        1e-8,
        unit="nats",
    )
    yield Finding(
        "em-never-decreases",
        "Largest difference between the flows of a region and the number of rows.",
        "exact",
        off,
        "<=",
        1e-6,
    )
