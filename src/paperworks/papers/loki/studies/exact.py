"""Exact statements: special cases of the rule, loci and covers, and what the next class adds."""

from __future__ import annotations

import itertools

import numpy as np

from paperworks import runs
from paperworks.papers.loki.frechet import FrechetMean
from paperworks.papers.loki.graphs import TreeSpace, from_edges, random_tree
from paperworks.papers.loki.loci import is_locus_cover, locus, minimum_cover
from paperworks.papers.loki.selection import next_class, plan
from paperworks.papers.loki.spaces import EmbeddingSpace, GridSpace, complete, cycle


@runs.study(
    claims=["complete-graph-is-argmax", "euclidean-identity", "pubmed"], title="Special cases of the rule", minutes=0.1
)
def exact_rules(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Loki by squared distances beside argmax and beside the label nearest to the weighted mean."""
    rng = run.rng("rules")
    observed = rng.choice(50, 12, replace=False)
    weights = rng.dirichlet(np.full(12, 0.5), size=1000)
    predicted = FrechetMean(complete(50), observed).predict(weights)
    found = [
        runs.Finding(
            "complete-graph-is-argmax",
            "Share of 1,000 rows on which Loki on a complete graph of 50 labels is the argmax of 12 observed ones",
            "exact",
            float((predicted == observed[weights.argmax(axis=1)]).mean()),
            "==",
            1.0,
            baseline_name="argmax",
        )
    ]
    points = rng.normal(size=(500, 8))
    seen = rng.choice(500, 40, replace=False)
    p = rng.dirichlet(np.full(40, 0.3), size=300)
    nearest = np.linalg.norm(points[None] - (p @ points[seen])[:, None], axis=-1).argmin(axis=1)
    by_definition = FrechetMean(EmbeddingSpace(points), seen, "dense").predict(p)
    found.append(
        runs.Finding(
            "euclidean-identity",
            "Share of 300 rows on which squared distances to 40 of 500 points give the point nearest to the mean",
            "exact",
            float((by_definition == nearest).mean()),
            "==",
            1.0,
            baseline_name="nearest point to the weighted mean",
        )
    )
    found.append(_columns(rng))
    return found


def _columns(rng: np.random.Generator) -> runs.Finding:
    """The published PubMed script reads columns in another order than the classifier writes them; here names decide."""
    from sklearn.neighbors import KNeighborsClassifier

    from paperworks.papers.loki.classifier import LokiClassifier

    x, y = rng.normal(size=(300, 4)), rng.integers(30, size=300)
    tree = random_tree(30, rng)
    names = rng.permutation(30)
    renamed = TreeSpace(tree.parent, tree.length, [f"class {names[i]}" for i in range(30)], tree.node)
    base = LokiClassifier(KNeighborsClassifier(5), tree).fit(x, y).predict(x)
    other = LokiClassifier(KNeighborsClassifier(5), renamed).fit(x, np.array([f"class {names[i]}" for i in y]))
    same = np.array([f"class {names[i]}" for i in base]) == other.predict(x)
    return runs.Finding(
        "pubmed",
        "Share of 300 rows whose prediction stays the same when the classes get names that sort in another order",
        "exact",
        float(same.mean()),
        "==",
        1.0,
        baseline_name="the same classes under their first names",
        detail="5 nearest neighbours, as in the paper's experiment. Ties between labels would differ by name order.",
    )


@runs.study(
    claims=["tree-locus", "leaves-are-the-minimum-cover", "locus-of-other-spaces"],
    title="Which labels can be reached",
    minutes=1,
)
def loci(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Loci by linear programming, which knows nothing of the shape of the space, beside what the theorems say."""
    trees = [
        random_tree(int(run.rng(f"tree {i}").integers(5, 21)), run.rng(f"shape {i}"), weighted=bool(i % 2))
        for i in range(10 if fast else 50)
    ]
    wrong = covered = without = 0
    for number, tree in enumerate(run.progress(trees, "trees")):
        rng = run.rng(f"observed {number}")
        observed = rng.choice(len(tree), 4, replace=False)
        paths = set(observed.tolist())
        for a, b in itertools.combinations(observed.tolist(), 2):
            through = tree.distances([a])[0] + tree.distances([b])[0]
            paths |= set(np.flatnonzero(np.isclose(through, tree.distances([a], [b]).item())).tolist())
        wrong += set(locus(tree, observed, method="lp", strict=True).tolist()) != paths
        leaves = minimum_cover(tree)
        covered += is_locus_cover(tree, leaves, method="lp", identifying=True)
        for leaf in leaves.tolist():
            without += leaf in set(locus(tree, np.setdiff1d(leaves, [leaf]), method="lp").tolist())
    n = len(trees)
    spaces = _other_spaces(run)
    return [
        runs.Finding(
            "tree-locus",
            f"Random trees of {n}, half of them weighted, whose strict locus is not the union of paths",
            "exact",
            wrong,
            "==",
            0,
            baseline_name="linear programming",
        ),
        runs.Finding(
            "leaves-are-the-minimum-cover",
            f"Random trees of {n} whose leaves reach every label, each of them for some probabilities alone",
            "exact",
            covered,
            "==",
            n,
            baseline_name="linear programming",
        ),
        runs.Finding(
            "leaves-are-the-minimum-cover",
            "Leaves, over all these trees, that can be reached from the other leaves",
            "exact",
            without,
            "==",
            0,
            baseline_name="linear programming",
            detail="A set that lacks a leaf therefore covers no tree: every cover holds all leaves.",
        ),
        runs.Finding(
            "locus-of-other-spaces",
            f"Statements about other spaces, of {len(spaces)}, that linear programming contradicts",
            "exact",
            sum(not holds for holds in spaces.values()),
            "==",
            0,
            detail="; ".join(f"{name}: {'as stated' if holds else 'contradicted'}" for name, holds in spaces.items()),
        ),
    ]


def _other_spaces(run: runs.Run) -> dict[str, bool]:
    grid, small = GridSpace((4, 4)), GridSpace((5, 3))
    cube = from_edges([(a, a ^ (1 << bit)) for a in range(8) for bit in range(3)])
    twelve = [("root", f"s{i}") for i in range(4)] + [(f"s{i % 4}", f"leaf{i}") for i in range(12)]
    level = from_edges(twelve, leaves_only=True)
    spine = [(i, i + 1) for i in range(5)] + [(i, f"leaf{i}") for i in range(6)]
    caterpillar = from_edges(spine, leaves_only=True)
    ends = caterpillar.index(["leaf0", "leaf5"])
    some = run.rng("leaves").choice(12, 5, replace=False)
    return {
        "a complete graph reaches the observed labels only": locus(complete(8), [0, 2, 5]).tolist() == [0, 2, 5],
        "opposite corners cover grids with ties": is_locus_cover(grid, [0, 15]) and is_locus_cover(small, [0, 14]),
        "opposite corners identify only themselves": locus(grid, [0, 15], strict=True).tolist() == [0, 15],
        "four corners identify every label": is_locus_cover(grid, [0, 3, 12, 15], identifying=True)
        and is_locus_cover(small, [0, 2, 12, 14], identifying=True),
        "an antipodal pair covers even cycles": all(is_locus_cover(cycle(n), [0, n // 2]) for n in (4, 6, 8, 10)),
        "odd cycles need three": all(len(minimum_cover(cycle(n))) == 3 for n in (5, 7, 9)),
        "an antipodal pair covers the cube with ties, four vertices strictly": is_locus_cover(cube, cube.index([0, 7]))
        and is_locus_cover(cube, cube.index([0, 3, 5, 6]), identifying=True),
        "leaves of equal depth reach nothing new": locus(level, some).tolist() == sorted(some.tolist()),
        "a caterpillar gains two leaves": len(locus(caterpillar, ends)) == 4,
    }


@runs.study(claims=["next-class-gain"], title="What the next class adds", minutes=0.2)
def gains(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """The farthest label beside every other candidate, and the plan beside all sets of its size."""
    count = 10 if fast else 50
    not_distance = not_best = 0
    for i in run.progress(range(count), "next classes"):
        rng = run.rng(f"next {i}")
        tree = random_tree(20, rng)
        observed = rng.choice(20, 3, replace=False)
        reached = locus(tree, observed)
        chosen = next_class(tree, observed)
        added = [len(locus(tree, [*observed, y])) - len(reached) for y in range(20)]
        if len(chosen):
            not_distance += added[int(chosen[0])] != tree.distances(chosen, reached).min()
        not_best += (added[int(chosen[0])] if len(chosen) else 0) != max(added)
    not_optimal = 0
    for i in run.progress(range(8 if fast else 40), "plans"):
        tree = random_tree(12, run.rng(f"plan {i}"))
        for k in (2, 3, 4):
            best = max(len(locus(tree, list(c))) for c in itertools.combinations(range(12), k))
            not_optimal += len(locus(tree, plan(tree, k))) != best
    return [
        runs.Finding(
            "next-class-gain",
            f"Trees of {count} on which the farthest label adds another number than its distance",
            "exact",
            not_distance,
            "==",
            0,
        ),
        runs.Finding(
            "next-class-gain",
            f"Trees of {count} on which another label adds more",
            "exact",
            not_best,
            "==",
            0,
            baseline_name="every other candidate",
        ),
        runs.Finding(
            "next-class-gain",
            "Plans of 2, 3 and 4 labels from a diameter pair that reach less than the best set",
            "exact",
            not_optimal,
            "==",
            0,
            baseline_name="exhaustive choice",
        ),
    ]
