"""Teaching sequences, models without attention, a frozen language model, and the bundled model on changed prompts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.icl_discrete.bundle import bundled_model_path
from paperworks.papers.icl_discrete.curves import after_teaching, correct, last
from paperworks.papers.icl_discrete.heads import THRESHOLD, head_scores
from paperworks.papers.icl_discrete.learners import (
    Elimination,
    Neighbours,
)
from paperworks.papers.icl_discrete.modeling import (
    from_language_model,
    load_in_context_model,
)
from paperworks.papers.icl_discrete.studies.bench import above, each_after, per_prompt, prompts_of, seeds_of, trained
from paperworks.papers.icl_discrete.tasks import BooleanTask
from paperworks.runs import Finding


@runs.study(claims=["teaching-sequence", "two-algorithms"], title="learning from teaching sequences", minutes=2.5)
def teaching(run: runs.Run, fast: bool) -> list[Finding]:
    """Train on monotone conjunctions with and without teaching, test on both; the bundled model saw both kinds."""
    taught = BooleanTask("teach_conjunction", 8)
    plain = replace(taught, teach_share=0.0)
    shown = {"with": prompts_of(taught, fast, 20, 5), "without": prompts_of(plain, fast, 20, 6)}
    # the prompts without teaching are judged at the positions that follow the sequences of the others
    at = shown["with"].taught
    found: dict[tuple[str, str], list[float]] = {}
    for seed, (name, task) in itertools.product(seeds_of(fast), (("with", taught), ("without", plain))):
        model = trained(run, f"{name}-{seed}", task, fast, steps=300, batch=32, points=20, seed=seed)
        for asked, prompts in shown.items():
            found.setdefault((name, asked), []).append(after_teaching(correct(model, prompts), at, window=20))
    table = {key: np.array(value) for key, value in found.items()}
    words = "; ".join(f"trained {a}, tested {b}: {value.mean():.3f}" for (a, b), value in table.items())
    mixed = load_in_context_model(bundled_model_path())
    general = BooleanTask("teach_biconjunction", 8)
    guided, free = prompts_of(general, fast), prompts_of(replace(general, teach_share=0.0), fast, seed=1001)
    hits, plainly, nearest = correct(mixed, guided), correct(mixed, free), correct(Neighbours(1), free)
    after = each_after(hits, guided.taught, 30)
    directly, same = each_after(hits, guided.taught, 5), each_after(plainly, guided.taught, 5)
    best = table["without", "without"]
    return [
        Finding(
            "teaching-sequence",
            "Accuracy after the teaching sequence, trained and tested with it: 0.03 above without",
            "empirical",
            mean_interval(table["with", "with"] - best),
            ">=",
            0.03,
            best.mean(),
            "accuracy trained and tested without, same positions",
            detail=words,
        ),
        Finding(
            "teaching-sequence",
            "Accuracy of the bundled model from the end of the teaching sequence on",
            "empirical",
            mean_interval(after, unit="prompts"),
            ">=",
            0.98,
            last(correct(Elimination(), guided)),
            "elimination, last 5",
        ),
        Finding(
            "two-algorithms",
            "Bundled model, 5 positions after a teaching sequence: 0.05 above prompts without one",
            "empirical",
            mean_interval(directly - same, unit="prompts"),
            ">=",
            0.05,
            same.mean(),
            "accuracy of the same model without teaching, same positions",
        ),
        Finding(
            "two-algorithms",
            "The same model without a teaching sequence, last 5 of 30: 0.03 above 1-NN",
            "empirical",
            above(plainly, nearest),
            ">=",
            0.03,
            last(nearest),
            "accuracy of 1-NN",
            detail=f"accuracy {last(plainly):.3f}; elimination {last(correct(Elimination(), free)):.3f}",
        ),
        Finding(
            "two-algorithms",
            "A model trained with teaching only does worse without it than one trained without",
            "empirical",
            mean_interval(table["with", "without"] - best),
            "<",
            0,
            best.mean(),
            "accuracy of one trained without",
            detail=words,
        ),
    ]


@runs.study(
    claims=["nearest-neighbour-needs-attention", "hyena-equals-transformer"],
    title="models without attention",
    minutes=5,
)
def without_attention(run: runs.Run, fast: bool) -> list[Finding]:
    """Transformer and LSTM on nearest neighbours; Transformer and Hyena on conjunctions, at equal budgets."""
    task = BooleanTask("nearest_neighbours", 8, start=10)
    prompts = prompts_of(task, fast, 25)
    simple = BooleanTask("conjunction", 8)
    asked = prompts_of(simple, fast, 20)
    near: dict[str, list[float]] = {"transformer": [], "lstm": []}
    conj: dict[str, list[float]] = {"transformer": [], "hyena": []}
    for seed in seeds_of(fast):
        for kind, found in near.items():
            name = f"near-{kind}-{seed}"
            model = trained(run, name, task, fast, architecture=kind, steps=400, batch=32, points=25, seed=seed)
            found.append(last(correct(model, prompts)))
        for kind, found in conj.items():
            name = f"conj-{kind}-{seed}"
            model = trained(run, name, simple, fast, architecture=kind, steps=250, batch=32, points=20, seed=seed)
            found.append(last(correct(model, asked)))
    return [
        Finding(
            "nearest-neighbour-needs-attention",
            "Transformer on nearest neighbours, last 5 of 25: above the LSTM",
            "empirical",
            mean_interval(np.subtract(near["transformer"], near["lstm"])),
            ">",
            0,
            float(np.mean(near["lstm"])),
            "accuracy of the LSTM",
            detail="8 bits, 10 random labels, 400 steps of 32 prompts each; the rule itself is right in all",
        ),
        Finding(
            "hyena-equals-transformer",
            "Hyena on conjunctions, last 5 of 20, less the Transformer: no more than 0.03 apart",
            "empirical",
            mean_interval(np.subtract(conj["hyena"], conj["transformer"])),
            "==",
            0,
            float(np.mean(conj["transformer"])),
            "accuracy of the Transformer",
            tolerance=0.03,
            detail="250 steps of 32 prompts each; other classes and nearest neighbours were not compared",
        ),
    ]


@runs.study(claims=["frozen-language-model"], title="a frozen language model", minutes=5)
def frozen_language_model(run: runs.Run, fast: bool) -> list[Finding]:
    """Read-in and read-out networks around the bundled language model and around random weights, conjunctions."""
    task = BooleanTask("conjunction", 5)
    prompts = prompts_of(task, fast, 15, count=400)
    found: dict[str, list[float]] = {"trained": [], "random": []}
    highest, count = [], []
    for seed, (name, accuracies) in itertools.product(seeds_of(fast), found.items()):
        start = from_language_model(None, 5, max_points=60, random_backbone=name == "random", seed=3 + seed)
        model = trained(run, f"{name}-{seed}", task, fast, steps=250, batch=16, points=15, model=start, seed=seed)
        accuracies.append(last(correct(model, prompts)))
        if name == "trained":
            scores = head_scores(model, "nn", n_points=40, start=21, prompts=10 if fast else 40)
            highest.append(float(scores.max()))
            count.append(f"{int((scores >= THRESHOLD).sum())} of {scores.size}")
    nearest = last(correct(Neighbours(1), prompts))
    claim, detail = "frozen-language-model", "a Llama of 5.7 million parameters, 250 steps of 16 prompts"
    return [
        Finding(
            claim,
            "Frozen language model on conjunctions of 5 bits, last 5 of 15: no more than 0.02 below 1-NN",
            "empirical",
            mean_interval(found["trained"]),
            ">=",
            nearest - 0.02,
            nearest,
            "1-NN",
            detail=detail,
        ),
        Finding(
            claim,
            "The same: above frozen random weights",
            "empirical",
            mean_interval(np.subtract(found["trained"], found["random"])),
            ">",
            0,
            float(np.mean(found["random"])),
            "accuracy of frozen random weights",
            detail=f"accuracy {np.mean(found['trained']):.3f}",
        ),
        Finding(
            claim,
            "Highest nearest-neighbour score of its heads",
            "empirical",
            mean_interval(highest),
            ">=",
            THRESHOLD,
            detail=f"heads that count as nearest-neighbour heads, by seed: {', '.join(count)}",
        ),
    ]


@runs.study(claims=["robustness"], title="label noise and shifted inputs", minutes=0.3)
def robustness(run: runs.Run, fast: bool) -> list[Finding]:
    """The bundled model on conjunctions, with flipped labels and with other inputs and functions."""
    model = load_in_context_model(bundled_model_path())
    task = BooleanTask("conjunction", 8)
    prompts = prompts_of(task, fast)
    shares = (0.0, 0.05, 0.1, 0.2, 0.3)
    hits = [correct(model, prompts, noise=share, seed=4) for share in shares]
    words = ", ".join(f"{share:g}: {last(value):.3f}" for share, value in zip(shares, hits, strict=True))
    rigid = correct(Elimination(), prompts, noise=0.1, seed=4)
    steepest = max((above(a, b) for a, b in itertools.pairwise(hits)), key=lambda interval: interval.high)
    gaps = {}
    for name, other in {
        "none": task,
        "strong": replace(task, bit_probability=0.9, literals=0.7),
    }.items():
        asked = prompts_of(other, fast, seed=9)
        gaps[name] = per_prompt(correct(Elimination(), asked)) - per_prompt(correct(model, asked))
    return [
        Finding(
            "robustness",
            "Steepest loss of accuracy per step of label noise (0, 0.05, 0.1, 0.2, 0.3)",
            "empirical",
            steepest,
            "<=",
            0.15,
            detail=f"last 5 of 30 positions: {words}",
        ),
        Finding(
            "robustness",
            "With 10 % of the labels flipped it is above elimination, which never recovers",
            "empirical",
            above(hits[2], rigid),
            ">",
            0,
            last(rigid),
            "accuracy of elimination",
        ),
        Finding(
            "robustness",
            "Bits that are 1 with probability 0.9 and conjunctions of 5.6 literals: further below "
            "elimination than on its own prompts, by 0.05",
            "empirical",
            mean_interval(gaps["strong"] - gaps["none"], unit="prompts"),
            ">=",
            0.05,
            gaps["none"].mean(),
            "the gap on its own prompts",
            detail=f"gap {gaps['strong'].mean():.3f}",
        ),
    ]
