"""The paper's claims, measured with models of 0.2 million parameters on 8 to 10 bits."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from paperworks import runs
from paperworks.papers.icl_discrete.bundle import bundled_model_path
from paperworks.papers.icl_discrete.curves import after_teaching, correct, last
from paperworks.papers.icl_discrete.fitting import TrainOptions, fit
from paperworks.papers.icl_discrete.heads import THRESHOLD, head_scores
from paperworks.papers.icl_discrete.learners import (
    Elimination,
    MultilayerPerceptron,
    Neighbours,
    Null,
    ParityElimination,
    SparseParityEnumeration,
)
from paperworks.papers.icl_discrete.modeling import (
    InContextConfig,
    InContextModel,
    from_language_model,
    load_in_context_model,
    new_model,
)
from paperworks.papers.icl_discrete.reporting import examples_needed
from paperworks.papers.icl_discrete.tasks import BooleanTask, MixedTask, Prompts
from paperworks.runs import Finding

Task = BooleanTask | MixedTask


def _trained(
    run: runs.Run, name: str, task: Task, fast: bool, *, architecture: str = "transformer", steps: int,
    batch: int = 64, points: int = 30, model: InContextModel | None = None,
) -> InContextModel:  # fmt: skip
    """A model of the study's size (4 layers, width 64, 4 heads), trained by Adam at 1e-3 on fresh prompts."""
    if model is None:
        model = new_model(InContextConfig(architecture, task.n_dims, 64, 4, 4, max_points=100), seed=1)
    options = TrainOptions(4 if fast else steps, 16 if fast else batch, points, 1e-3, seed=2)
    run.step(f"{name}: {options.steps} steps")
    fit(model, task, options, checkpoint_dir=run.state / name, progress=run.progress)
    return model.eval()


def _prompts(task: Task, fast: bool, points: int = 30, seed: int = 1000, count: int = 1000) -> Prompts:
    return task.sample(60 if fast else count, points, seed)


def _flipped(prompts: Prompts) -> Prompts:
    return replace(prompts, ys=-prompts.ys)


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
                "teaching-identifies", f"Most functions that agree with a teaching sequence of {title}", "exact",
                most, "==", 1, unit="functions",
            ),
            Finding(
                "teaching-identifies", f"Teaching sequences of {title} have {words} points", "exact",
                right_length, "==", 1,
            ),
        ]  # fmt: skip
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


@runs.study(claims=["simple-classes", "sample-complexity"], title="conjunctions, disjunctions, DNF, CNF", minutes=5)
def simple_classes(run: runs.Run, fast: bool) -> list[Finding]:
    """Train on conjunctions (1000 steps) and on DNF (400); disjunctions and CNF are their negations."""
    findings = []
    task = BooleanTask("conjunction", 8)
    model = _trained(run, "conjunctions", task, fast, steps=1000)
    prompts = _prompts(task, fast)
    hits, nearest, best = (correct(p, prompts) for p in (model, Neighbours(1), Elimination()))
    claim = "simple-classes"
    findings += [
        Finding(
            claim, "Transformer on conjunctions of 8 bits, last 5 of 30 positions: 0.05 above 1-NN", "empirical",
            last(hits), ">=", last(nearest) + 0.05, last(nearest), "1-NN",
            detail=f"always -1: {correct(Null(), prompts).mean():.3f}; elimination {last(best):.3f}",
        ),
        Finding(
            claim, "The same, near 100 %: at least 0.95 after 1000 steps", "empirical", last(hits), ">=", 0.95,
            last(best), "elimination",
        ),
        Finding(
            claim, "Mean over all 30 positions", "empirical", hits.mean(), ">=", 0.85, best.mean(), "elimination"
        ),
    ]  # fmt: skip
    for name in ("disjunction", "sparse_disjunction"):
        dual = BooleanTask(name, 8).sample(len(prompts), 30, 7)
        shown = last(correct(model, _flipped(dual)))
        findings.append(
            Finding(
                claim, f"The same model on {BooleanTask(name).kind.title}, labels negated, last 5: above 1-NN",
                "empirical", shown, ">", last(correct(Neighbours(1), dual)), last(correct(Neighbours(1), dual)), "1-NN",
                detail="A disjunction is the negation of the conjunction of its negated literals.",
            )
        )  # fmt: skip
    formulas = BooleanTask("dnf", 8)
    model = _trained(run, "dnf", formulas, fast, steps=400, points=20)
    for name in ("dnf", "cnf"):
        own = BooleanTask(name, 8).sample(len(prompts), 20, 8)
        shown = last(correct(model, own if name == "dnf" else _flipped(own)))
        other = max(last(correct(Neighbours(k), own)) for k in (1, 3))
        detail = "labels negated, " if name == "cnf" else ""
        findings.append(
            Finding(
                claim, f"Transformer on {name.upper()} of 3 clauses, 8 bits, {detail}last 5 of 20: above 1-NN and 3-NN",
                "empirical", shown, ">", other, other, "better of 1-NN, 3-NN",
                detail=f"400 steps; always -1: {1 - (own.ys > 0).mean():.3f}",
            )
        )  # fmt: skip
    needed, optimal = examples_needed(hits), examples_needed(best)
    findings.append(
        Finding(
            "sample-complexity", "Examples until the accuracy stays at 0.95: at most n = 8 more than elimination",
            "empirical", 31 if needed is None else needed, "<=", (31 if optimal is None else optimal) + 8,
            None if optimal is None else optimal, "elimination", unit="examples",
            detail="31 stands for: not within 30 examples.",
        )
    )  # fmt: skip
    return findings


@runs.study(claims=["threshold-classes", "threshold-without-attention"], title="threshold functions", minutes=2.2)
def thresholds(run: runs.Run, fast: bool) -> list[Finding]:
    """Train a Transformer, DSS and RetNet on majorities, 0-1 thresholds and integer halfspaces together."""
    classes = tuple(BooleanTask(name, 8) for name in ("majority", "sparse_thres", "int_halfspace"))
    found: dict[str, dict[str, float]] = {}
    kinds = ("transformer", "dss", "retnet")
    prompts = {t.name: _prompts(t, fast, 20) for t in classes}
    for kind in kinds:
        model = _trained(run, kind, MixedTask(classes), fast, architecture=kind, steps=250, points=20)
        found[kind] = {name: last(correct(model, p)) for name, p in prompts.items()}
    findings = []
    for task in classes:
        shown = found["transformer"][task.name]
        null = max((prompts[task.name].ys > 0).mean(), (prompts[task.name].ys < 0).mean())
        title = f"Transformer on {task.kind.title} of 8 bits, last 5 of 20"
        findings += [
            Finding(
                "threshold-classes", f"{title}: above chance by 0.05", "empirical", shown, ">=", null + 0.05, null,
                "the more frequent label",
            ),
            Finding("threshold-classes", f"{title}: not perfect", "empirical", shown, "<", 0.99),
        ]  # fmt: skip
    shown = found["transformer"]["sparse_thres"]
    return findings + [
        Finding(
            "threshold-without-attention", f"{name} on 0-1 thresholds, last 5 of 20: below the Transformer",
            "empirical", found[kind]["sparse_thres"], "<", shown, shown, "Transformer",
            detail="250 steps each, on all three classes",
        )
        for kind, name in (("dss", "DSS"), ("retnet", "RetNet"))
    ]  # fmt: skip


@runs.study(claims=["parity-fails", "parity-by-gradient-descent"], title="sparse parity of 10 bits", minutes=1.7)
def parity(run: runs.Run, fast: bool) -> list[Finding]:
    """Train five architectures in context; beside them enumeration, and an MLP on 100 examples of one parity."""
    task = BooleanTask("sparse_parity", 10)
    prompts = _prompts(task, fast, 30)
    best = last(correct(SparseParityEnumeration(2), prompts))
    names = {"transformer": 300, "lstm": 150, "retnet": 100, "hyena": 60, "dss": 100}
    findings = []
    for kind, steps in names.items():
        model = _trained(run, kind, task, fast, architecture=kind, steps=steps, batch=32)
        accuracy = last(correct(model, prompts))
        findings.append(
            Finding(
                "parity-fails", f"{kind} on Parity-(10,2), last 5 of 30: distance from chance", "empirical",
                abs(accuracy - 0.5), "<=", 0.05, abs(best - 0.5), "enumeration",
                detail=f"accuracy {accuracy:.3f} after {4 if fast else steps} steps of {16 if fast else 32} prompts",
            )
        )  # fmt: skip
    long = task.sample(8 if fast else 30, 150, 3)
    learner = MultilayerPerceptron(steps=200, positions=(100,))
    shown = float(correct(learner, long)[:, 100:].mean())
    findings.append(
        Finding(
            "parity-by-gradient-descent", "MLP 10-100-100-1, 200 steps of Adam on 100 examples of one parity",
            "empirical", shown, ">", 0.9, 0.5, "chance",
        )
    )  # fmt: skip
    return findings


@runs.study(claims=["teaching-sequence", "two-algorithms"], title="learning from teaching sequences", minutes=1.7)
def teaching(run: runs.Run, fast: bool) -> list[Finding]:
    """Train on monotone conjunctions with and without teaching, test on both; the bundled model saw both kinds."""
    taught = BooleanTask("teach_conjunction", 8)
    plain = replace(taught, teach_share=0.0)
    models = {
        name: _trained(run, name, task, fast, steps=300, points=20)
        for name, task in (("with", taught), ("without", plain))
    }
    shown = {"with": _prompts(taught, fast, 20, 5), "without": _prompts(plain, fast, 20, 6)}
    hits = {(a, b): correct(models[a], shown[b]) for a, b in itertools.product(models, shown)}
    # the prompts without teaching are judged at the positions that follow the sequences of the others
    at = shown["with"].taught
    table = {key: after_teaching(value, at, window=20) for key, value in hits.items()}
    words = "; ".join(f"trained {a}, tested {b}: {value:.3f}" for (a, b), value in table.items())
    mixed = load_in_context_model(bundled_model_path())
    general = BooleanTask("teach_biconjunction", 8)
    guided, free = _prompts(general, fast), _prompts(replace(general, teach_share=0.0), fast, seed=1001)
    after = after_teaching(correct(mixed, guided), guided.taught, window=30)
    generic, nearest = last(correct(mixed, free)), last(correct(Neighbours(1), free))
    same = after_teaching(correct(mixed, free), guided.taught, window=5)
    directly = after_teaching(correct(mixed, guided), guided.taught, window=5)
    return [
        Finding(
            "teaching-sequence", "Accuracy after the teaching sequence, trained and tested with it: 0.03 above without",
            "empirical", table["with", "with"], ">=", table["without", "without"] + 0.03, table["without", "without"],
            "trained and tested without, same positions", detail=words,
        ),
        Finding(
            "teaching-sequence", "Accuracy of the bundled model from the end of the teaching sequence on", "empirical",
            after, ">=", 0.98, last(correct(Elimination(), guided)), "elimination, last 5",
        ),
        Finding(
            "two-algorithms", "Bundled model, 5 positions after a teaching sequence: 0.05 above prompts without one",
            "empirical", directly, ">=", same + 0.05, same, "the same model without teaching, same positions",
        ),
        Finding(
            "two-algorithms", "The same model without a teaching sequence, last 5 of 30: 0.03 above 1-NN", "empirical",
            generic, ">=", nearest + 0.03, nearest, "1-NN",
            detail=f"elimination {last(correct(Elimination(), free)):.3f}",
        ),
        Finding(
            "two-algorithms", "A model trained with teaching only does worse without it than one trained without",
            "empirical", table["with", "without"], "<", table["without", "without"], table["without", "without"],
            "trained without", detail=words,
        ),
    ]  # fmt: skip


@runs.study(
    claims=["nearest-neighbour-needs-attention", "hyena-equals-transformer"],
    title="models without attention",
    minutes=3,
)
def without_attention(run: runs.Run, fast: bool) -> list[Finding]:
    """Transformer and LSTM on nearest neighbours; Transformer and Hyena on conjunctions, at equal budgets."""
    task = BooleanTask("nearest_neighbours", 8, start=10)
    prompts = _prompts(task, fast, 25)
    near = {
        kind: last(correct(_trained(run, f"near-{kind}", task, fast, architecture=kind, steps=400, points=25), prompts))
        for kind in ("transformer", "lstm")
    }
    simple = BooleanTask("conjunction", 8)
    asked = _prompts(simple, fast, 20)
    conj = {
        kind: last(
            correct(
                _trained(run, f"conj-{kind}", simple, fast, architecture=kind, steps=250, batch=32, points=20), asked
            )
        )
        for kind in ("transformer", "hyena")
    }
    return [
        Finding(
            "nearest-neighbour-needs-attention", "Transformer on nearest neighbours, last 5 of 25: above the LSTM",
            "empirical", near["transformer"], ">", near["lstm"], near["lstm"], "LSTM",
            detail="8 bits, 10 random labels, 400 steps each; the rule itself is right in all",
        ),
        Finding(
            "hyena-equals-transformer", "Hyena on conjunctions, last 5 of 20: at most 0.03 below the Transformer",
            "empirical", conj["hyena"], ">=", conj["transformer"] - 0.03, conj["transformer"], "Transformer",
            detail="250 steps of 32 prompts each; other classes and nearest neighbours were not compared",
        ),
    ]  # fmt: skip


@runs.study(claims=["frozen-language-model"], title="a frozen language model", minutes=2)
def frozen_language_model(run: runs.Run, fast: bool) -> list[Finding]:
    """Read-in and read-out networks around the bundled language model and around random weights, conjunctions."""
    task = BooleanTask("conjunction", 5)
    prompts = _prompts(task, fast, 15, count=400)
    found, models = {}, {}
    for name, random in (("trained", False), ("random", True)):
        model = from_language_model(None, 5, max_points=60, random_backbone=random, seed=3)
        models[name] = _trained(run, name, task, fast, steps=250, batch=16, points=15, model=model)
        found[name] = last(correct(models[name], prompts))
    nearest = last(correct(Neighbours(1), prompts))
    scores = head_scores(models["trained"], "nn", n_points=40, start=21, prompts=10 if fast else 40)
    claim, detail = "frozen-language-model", "a Llama of 5.7 million parameters, 250 steps of 16 prompts"
    return [
        Finding(
            claim, "Frozen language model on conjunctions of 5 bits, last 5 of 15: no more than 0.02 below 1-NN",
            "empirical", found["trained"], ">=", nearest - 0.02, nearest, "1-NN", detail=detail,
        ),
        Finding(
            claim, "The same: above frozen random weights", "empirical", found["trained"], ">", found["random"],
            found["random"], "frozen random weights",
        ),
        Finding(
            claim, "Highest nearest-neighbour score of its heads", "empirical", scores.max(), ">=", THRESHOLD,
            detail=f"{int((scores >= THRESHOLD).sum())} of {scores.size} heads count as nearest-neighbour heads",
        ),
    ]  # fmt: skip


@runs.study(claims=["robustness"], title="label noise and shifted inputs", minutes=0.3)
def robustness(run: runs.Run, fast: bool) -> list[Finding]:
    """The bundled model on conjunctions, with flipped labels and with other inputs and functions."""
    model = load_in_context_model(bundled_model_path())
    task = BooleanTask("conjunction", 8)
    prompts = _prompts(task, fast)
    shares = (0.0, 0.05, 0.1, 0.2, 0.3)
    noisy = [last(correct(model, prompts, noise=share, seed=4)) for share in shares]
    words = ", ".join(f"{share:g}: {value:.3f}" for share, value in zip(shares, noisy, strict=True))
    rigid = last(correct(Elimination(), prompts, noise=0.1, seed=4))
    gaps = {}
    for name, other in {
        "none": task,
        "strong": replace(task, bit_probability=0.9, literals=0.7),
    }.items():
        asked = _prompts(other, fast, seed=9)
        gaps[name] = last(correct(Elimination(), asked)) - last(correct(model, asked))
    return [
        Finding(
            "robustness", "Steepest loss of accuracy per step of label noise (0, 0.05, 0.1, 0.2, 0.3)", "empirical",
            max(a - b for a, b in itertools.pairwise(noisy)), "<=", 0.15, detail=f"last 5 of 30 positions: {words}",
        ),
        Finding(
            "robustness", "With 10 % of the labels flipped it is above elimination, which never recovers", "empirical",
            noisy[2], ">", rigid, rigid, "elimination",
        ),
        Finding(
            "robustness", "Bits that are 1 with probability 0.9 and conjunctions of 5.6 literals: further below "
            "elimination than on its own prompts, by 0.05", "empirical",
            gaps["strong"], ">=", gaps["none"] + 0.05, gaps["none"], "the gap on its own prompts",
        ),
    ]  # fmt: skip
