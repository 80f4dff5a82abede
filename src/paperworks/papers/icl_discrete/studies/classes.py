"""Classes of functions, each with a model trained on it."""

from __future__ import annotations

from paperworks import runs
from paperworks.papers.icl_discrete.curves import correct, last
from paperworks.papers.icl_discrete.learners import (
    Elimination,
    MultilayerPerceptron,
    Neighbours,
    Null,
    SparseParityEnumeration,
)
from paperworks.papers.icl_discrete.reporting import examples_needed
from paperworks.papers.icl_discrete.studies.bench import flipped, prompts_of, trained
from paperworks.papers.icl_discrete.tasks import BooleanTask, MixedTask
from paperworks.runs import Finding


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
            last(hits),
            ">=",
            last(nearest) + 0.05,
            last(nearest),
            "1-NN",
            detail=f"always -1: {correct(Null(), prompts).mean():.3f}; elimination {last(best):.3f}",
        ),
        Finding(
            claim,
            "The same, near 100 %: at least 0.95 after 1000 steps",
            "empirical",
            last(hits),
            ">=",
            0.95,
            last(best),
            "elimination",
        ),
        Finding(claim, "Mean over all 30 positions", "empirical", hits.mean(), ">=", 0.85, best.mean(), "elimination"),
    ]
    for name in ("disjunction", "sparse_disjunction"):
        dual = BooleanTask(name, 8).sample(len(prompts), 30, 7)
        shown = last(correct(model, flipped(dual)))
        findings.append(
            Finding(
                claim,
                f"The same model on {BooleanTask(name).kind.title}, labels negated, last 5: above 1-NN",
                "empirical",
                shown,
                ">",
                last(correct(Neighbours(1), dual)),
                last(correct(Neighbours(1), dual)),
                "1-NN",
                detail="A disjunction is the negation of the conjunction of its negated literals.",
            )
        )
    formulas = BooleanTask("dnf", 8)
    model = trained(run, "dnf", formulas, fast, steps=400, points=20)
    for name in ("dnf", "cnf"):
        own = BooleanTask(name, 8).sample(len(prompts), 20, 8)
        shown = last(correct(model, own if name == "dnf" else flipped(own)))
        other = max(last(correct(Neighbours(k), own)) for k in (1, 3))
        detail = "labels negated, " if name == "cnf" else ""
        findings.append(
            Finding(
                claim,
                f"Transformer on {name.upper()} of 3 clauses, 8 bits, {detail}last 5 of 20: above 1-NN and 3-NN",
                "empirical",
                shown,
                ">",
                other,
                other,
                "better of 1-NN, 3-NN",
                detail=f"400 steps; always -1: {1 - (own.ys > 0).mean():.3f}",
            )
        )
    needed, optimal = examples_needed(hits), examples_needed(best)
    findings.append(
        Finding(
            "sample-complexity",
            "Examples until the accuracy stays at 0.95: at most n = 8 more than elimination",
            "empirical",
            31 if needed is None else needed,
            "<=",
            (31 if optimal is None else optimal) + 8,
            None if optimal is None else optimal,
            "elimination",
            unit="examples",
            detail="31 stands for: not within 30 examples.",
        )
    )
    return findings


@runs.study(claims=["threshold-classes", "threshold-without-attention"], title="threshold functions", minutes=2.2)
def thresholds(run: runs.Run, fast: bool) -> list[Finding]:
    """Train a Transformer, DSS and RetNet on majorities, 0-1 thresholds and integer halfspaces together."""
    classes = tuple(BooleanTask(name, 8) for name in ("majority", "sparse_thres", "int_halfspace"))
    found: dict[str, dict[str, float]] = {}
    kinds = ("transformer", "dss", "retnet")
    prompts = {t.name: prompts_of(t, fast, 20) for t in classes}
    for kind in kinds:
        model = trained(run, kind, MixedTask(classes), fast, architecture=kind, steps=250, points=20)
        found[kind] = {name: last(correct(model, p)) for name, p in prompts.items()}
    findings = []
    for task in classes:
        shown = found["transformer"][task.name]
        null = max((prompts[task.name].ys > 0).mean(), (prompts[task.name].ys < 0).mean())
        title = f"Transformer on {task.kind.title} of 8 bits, last 5 of 20"
        findings += [
            Finding(
                "threshold-classes",
                f"{title}: above chance by 0.05",
                "empirical",
                shown,
                ">=",
                null + 0.05,
                null,
                "the more frequent label",
            ),
            Finding("threshold-classes", f"{title}: not perfect", "empirical", shown, "<", 0.99),
        ]
    shown = found["transformer"]["sparse_thres"]
    return findings + [
        Finding(
            "threshold-without-attention",
            f"{name} on 0-1 thresholds, last 5 of 20: below the Transformer",
            "empirical",
            found[kind]["sparse_thres"],
            "<",
            shown,
            shown,
            "Transformer",
            detail="250 steps each, on all three classes",
        )
        for kind, name in (("dss", "DSS"), ("retnet", "RetNet"))
    ]


@runs.study(claims=["parity-fails", "parity-by-gradient-descent"], title="sparse parity of 10 bits", minutes=1.7)
def parity(run: runs.Run, fast: bool) -> list[Finding]:
    """Train five architectures in context; beside them enumeration, and an MLP on 100 examples of one parity."""
    task = BooleanTask("sparse_parity", 10)
    prompts = prompts_of(task, fast, 30)
    best = last(correct(SparseParityEnumeration(2), prompts))
    names = {"transformer": 300, "lstm": 150, "retnet": 100, "hyena": 60, "dss": 100}
    findings = []
    for kind, steps in names.items():
        model = trained(run, kind, task, fast, architecture=kind, steps=steps, batch=32)
        accuracy = last(correct(model, prompts))
        findings.append(
            Finding(
                "parity-fails",
                f"{kind} on Parity-(10,2), last 5 of 30: distance from chance",
                "empirical",
                abs(accuracy - 0.5),
                "<=",
                0.05,
                abs(best - 0.5),
                "enumeration",
                detail=f"accuracy {accuracy:.3f} after {4 if fast else steps} steps of {16 if fast else 32} prompts",
            )
        )
    long = task.sample(8 if fast else 30, 150, 3)
    learner = MultilayerPerceptron(steps=200, positions=(100,))
    shown = float(correct(learner, long)[:, 100:].mean())
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
