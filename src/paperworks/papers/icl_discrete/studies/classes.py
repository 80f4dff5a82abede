"""Classes of functions, each with a model trained on it."""

from __future__ import annotations

import itertools

import numpy as np

from paperworks import runs
from paperworks.metrics import bootstrap_interval, mean_interval
from paperworks.papers.icl_discrete.curves import correct, last
from paperworks.papers.icl_discrete.learners import (
    Elimination,
    MultilayerPerceptron,
    Neighbours,
    Null,
    SparseParityEnumeration,
)
from paperworks.papers.icl_discrete.reporting import examples_needed
from paperworks.papers.icl_discrete.studies.bench import above, flipped, prompts_of, seeds_of, trained
from paperworks.papers.icl_discrete.tasks import BooleanTask, MixedTask
from paperworks.runs import Finding

THRESHOLD_BUDGET = "1000 steps of 32 prompts of all three classes"


@runs.study(claims=["simple-classes", "sample-complexity"], title="conjunctions, disjunctions, DNF, CNF", minutes=5)
def simple_classes(run: runs.Run, fast: bool) -> list[Finding]:
    """Train on conjunctions (1000 steps) and on DNF (400); disjunctions and CNF are their negations."""
    findings = []
    task = BooleanTask("conjunction", 8)
    model = trained(run, "conjunctions", task, fast, steps=1000)
    prompts = prompts_of(task, fast)
    hits, nearest, best = (correct(p, prompts) for p in (model, Neighbours(1), Elimination()))
    claim = "simple-classes"
    findings += [
        Finding(
            claim,
            "Transformer on conjunctions of 8 bits, last 5 of 30 positions: 0.05 above 1-NN",
            "empirical",
            above(hits, nearest),
            ">=",
            0.05,
            last(nearest),
            "accuracy of 1-NN",
            detail=f"accuracy {last(hits):.3f}; always -1: {correct(Null(), prompts).mean():.3f}; "
            f"elimination {last(best):.3f}",
        ),
        Finding(
            claim,
            "The same, near 100 %: at least 0.95 after 1000 steps",
            "empirical",
            mean_interval(hits[:, -5:].mean(1), unit="prompts"),
            ">=",
            0.95,
            last(best),
            "elimination",
        ),
        Finding(
            claim,
            "Mean over all 30 positions",
            "empirical",
            mean_interval(hits.mean(1), unit="prompts"),
            ">=",
            0.85,
            best.mean(),
            "elimination",
        ),
    ]
    for name in ("disjunction", "sparse_disjunction"):
        dual = BooleanTask(name, 8).sample(len(prompts), 30, 7)
        shown, one = correct(model, flipped(dual)), correct(Neighbours(1), dual)
        findings.append(
            Finding(
                claim,
                f"The same model on {BooleanTask(name).kind.title}, labels negated, last 5: above 1-NN",
                "empirical",
                above(shown, one),
                ">",
                0,
                last(one),
                "accuracy of 1-NN",
                detail=f"accuracy {last(shown):.3f}. A disjunction is the negation of the conjunction of its "
                "negated literals.",
            )
        )
    formulas = BooleanTask("dnf", 8)
    model = trained(run, "dnf", formulas, fast, steps=400, points=20)
    for name in ("dnf", "cnf"):
        own = BooleanTask(name, 8).sample(len(prompts), 20, 8)
        shown = correct(model, own if name == "dnf" else flipped(own))
        other = max((correct(Neighbours(k), own) for k in (1, 3)), key=last)
        detail = "labels negated, " if name == "cnf" else ""
        findings.append(
            Finding(
                claim,
                f"Transformer on {name.upper()} of 3 clauses, 8 bits, {detail}last 5 of 20: above 1-NN and 3-NN",
                "empirical",
                above(shown, other),
                ">",
                0,
                last(other),
                "accuracy of the better of 1-NN, 3-NN",
                detail=f"accuracy {last(shown):.3f} after 400 steps; always -1: {1 - (own.ys > 0).mean():.3f}",
            )
        )

    def needed(right: np.ndarray) -> int:
        found = examples_needed(right)
        return 31 if found is None else found

    more = bootstrap_interval(lambda own, ideal: float(needed(own) - needed(ideal)), hits, best)
    findings.append(
        Finding(
            "sample-complexity",
            "Examples until the accuracy stays at 0.95, more than elimination: at most n = 8",
            "empirical",
            more,
            "<=",
            8,
            needed(best),
            "examples of elimination",
            unit="examples",
            detail="31 stands for: not within 30 examples.",
        )
    )
    return findings


@runs.study(claims=["threshold-classes", "threshold-without-attention"], title="threshold functions", minutes=3.5)
def thresholds(run: runs.Run, fast: bool) -> list[Finding]:
    """Train a Transformer, DSS and RetNet on majorities, 0-1 thresholds and integer halfspaces together."""
    classes = tuple(BooleanTask(name, 8) for name in ("majority", "sparse_thres", "int_halfspace"))
    kinds = ("transformer", "dss", "retnet")
    prompts = {t.name: prompts_of(t, fast, 20) for t in classes}
    found: dict[tuple[str, str], list[float]] = {}
    for kind, seed in itertools.product(kinds, seeds_of(fast)):
        name = f"{kind}-{seed}"
        model = trained(
            run, name, MixedTask(classes), fast, architecture=kind, steps=1000, batch=32, points=20, seed=seed
        )
        for task, asked in prompts.items():
            found.setdefault((kind, task), []).append(last(correct(model, asked)))
    findings = []
    for own in classes:
        shown = found["transformer", own.name]
        null = max((prompts[own.name].ys > 0).mean(), (prompts[own.name].ys < 0).mean())
        title = f"Transformer on {own.kind.title} of 8 bits, last 5 of 20"
        findings += [
            Finding(
                "threshold-classes",
                f"{title}: above chance by 0.05",
                "empirical",
                mean_interval(shown),
                ">=",
                null + 0.05,
                null,
                "the more frequent label",
                detail=THRESHOLD_BUDGET,
            ),
            Finding("threshold-classes", f"{title}: not perfect", "empirical", mean_interval(shown), "<", 0.99),
        ]
    best = np.array(found["transformer", "sparse_thres"])
    return findings + [
        Finding(
            "threshold-without-attention",
            f"{name} on 0-1 thresholds, last 5 of 20: below the Transformer",
            "empirical",
            mean_interval(found[kind, "sparse_thres"] - best),
            "<",
            0,
            best.mean(),
            "accuracy of the Transformer",
            detail=THRESHOLD_BUDGET,
        )
        for kind, name in (("dss", "DSS"), ("retnet", "RetNet"))
    ]


@runs.study(claims=["parity-fails", "parity-by-gradient-descent"], title="sparse parity of 10 bits", minutes=7)
def parity(run: runs.Run, fast: bool) -> list[Finding]:
    """Train five architectures on parities and, as long, on conjunctions; an MLP on 100 examples of one parity."""
    task, easy = BooleanTask("sparse_parity", 10), BooleanTask("conjunction", 10)
    prompts, control = prompts_of(task, fast, 30), prompts_of(easy, fast, 30)
    best = last(correct(SparseParityEnumeration(2), prompts))
    likely = correct(Null(), control)
    findings = []
    for kind in ("transformer", "lstm", "retnet", "hyena", "dss"):
        steps = 1000 if kind == "transformer" else 250
        budget = f"after {4 if fast else steps} steps of {16 if fast else 32} prompts"
        model = trained(run, kind, task, fast, architecture=kind, steps=steps, batch=32)
        right = correct(model, prompts)[:, -5:].mean(1)
        model = trained(run, f"{kind}-control", easy, fast, architecture=kind, steps=250, batch=32)
        learned = correct(model, control)
        findings += [
            Finding(
                "parity-fails",
                f"{kind} on Parity-(10,2), last 5 of 30: above chance by no more than 0.05",
                "empirical",
                mean_interval(right - 0.5, unit="prompts"),
                "<=",
                0.05,
                best - 0.5,
                "enumeration, above chance",
                detail=f"accuracy {right.mean():.3f} {budget}",
            ),
            Finding(
                "parity-fails",
                f"{kind} on conjunctions of 10 bits with no more steps: above always -1 by 0.1, so that it can learn",
                "empirical",
                above(learned, likely),
                ">=",
                0.1,
                last(likely),
                "accuracy of always -1",
                detail=f"accuracy {last(learned):.3f} after 250 steps",
            ),
        ]
    long = task.sample(8 if fast else 30, 150, 3)
    learner = MultilayerPerceptron(steps=200, positions=(100,))
    shown = mean_interval(correct(learner, long)[:, 100:].mean(1), unit="parities")
    findings.append(
        Finding(
            "parity-by-gradient-descent",
            "MLP 10-100-100-1, 200 steps of Adam on 100 examples of one parity",
            "empirical",
            shown,
            ">",
            0.9,
            0.5,
            "chance",
        )
    )
    return findings
