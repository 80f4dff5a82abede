"""Teaching sequences, models without attention, a frozen language model, and the bundled model on changed prompts."""

from __future__ import annotations

import itertools
from dataclasses import replace

from paperworks import runs
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
from paperworks.papers.icl_discrete.studies.bench import prompts_of, trained
from paperworks.papers.icl_discrete.tasks import BooleanTask
from paperworks.runs import Finding


@runs.study(claims=["teaching-sequence", "two-algorithms"], title="learning from teaching sequences", minutes=1.7)
def teaching(run: runs.Run, fast: bool) -> list[Finding]:
    """Train on monotone conjunctions with and without teaching, test on both; the bundled model saw both kinds."""
    taught = BooleanTask("teach_conjunction", 8)
    plain = replace(taught, teach_share=0.0)
    models = {
        name: trained(run, name, task, fast, steps=300, points=20)
        for name, task in (("with", taught), ("without", plain))
    }
    shown = {"with": prompts_of(taught, fast, 20, 5), "without": prompts_of(plain, fast, 20, 6)}
    hits = {(a, b): correct(models[a], shown[b]) for a, b in itertools.product(models, shown)}
    # the prompts without teaching are judged at the positions that follow the sequences of the others
    at = shown["with"].taught
    table = {key: after_teaching(value, at, window=20) for key, value in hits.items()}
    words = "; ".join(f"trained {a}, tested {b}: {value:.3f}" for (a, b), value in table.items())
    mixed = load_in_context_model(bundled_model_path())
    general = BooleanTask("teach_biconjunction", 8)
    guided, free = prompts_of(general, fast), prompts_of(replace(general, teach_share=0.0), fast, seed=1001)
    after = after_teaching(correct(mixed, guided), guided.taught, window=30)
    generic, nearest = last(correct(mixed, free)), last(correct(Neighbours(1), free))
    same = after_teaching(correct(mixed, free), guided.taught, window=5)
    directly = after_teaching(correct(mixed, guided), guided.taught, window=5)
    return [
        Finding(
            "teaching-sequence",
            "Accuracy after the teaching sequence, trained and tested with it: 0.03 above without",
            "empirical",
            table["with", "with"],
            ">=",
            table["without", "without"] + 0.03,
            table["without", "without"],
            "trained and tested without, same positions",
            detail=words,
        ),
        Finding(
            "teaching-sequence",
            "Accuracy of the bundled model from the end of the teaching sequence on",
            "empirical",
            after,
            ">=",
            0.98,
            last(correct(Elimination(), guided)),
            "elimination, last 5",
        ),
        Finding(
            "two-algorithms",
            "Bundled model, 5 positions after a teaching sequence: 0.05 above prompts without one",
            "empirical",
            directly,
            ">=",
            same + 0.05,
            same,
            "the same model without teaching, same positions",
        ),
        Finding(
            "two-algorithms",
            "The same model without a teaching sequence, last 5 of 30: 0.03 above 1-NN",
            "empirical",
            generic,
            ">=",
            nearest + 0.03,
            nearest,
            "1-NN",
            detail=f"elimination {last(correct(Elimination(), free)):.3f}",
        ),
        Finding(
            "two-algorithms",
            "A model trained with teaching only does worse without it than one trained without",
            "empirical",
            table["with", "without"],
            "<",
            table["without", "without"],
            table["without", "without"],
            "trained without",
            detail=words,
        ),
    ]


@runs.study(
    claims=["nearest-neighbour-needs-attention", "hyena-equals-transformer"],
    title="models without attention",
    minutes=3,
)
def without_attention(run: runs.Run, fast: bool) -> list[Finding]:
    """Transformer and LSTM on nearest neighbours; Transformer and Hyena on conjunctions, at equal budgets."""
    task = BooleanTask("nearest_neighbours", 8, start=10)
    prompts = prompts_of(task, fast, 25)
    near = {
        kind: last(correct(trained(run, f"near-{kind}", task, fast, architecture=kind, steps=400, points=25), prompts))
        for kind in ("transformer", "lstm")
    }
    simple = BooleanTask("conjunction", 8)
    asked = prompts_of(simple, fast, 20)
    conj = {
        kind: last(
            correct(
                trained(run, f"conj-{kind}", simple, fast, architecture=kind, steps=250, batch=32, points=20), asked
            )
        )
        for kind in ("transformer", "hyena")
    }
    return [
        Finding(
            "nearest-neighbour-needs-attention",
            "Transformer on nearest neighbours, last 5 of 25: above the LSTM",
            "empirical",
            near["transformer"],
            ">",
            near["lstm"],
            near["lstm"],
            "LSTM",
            detail="8 bits, 10 random labels, 400 steps each; the rule itself is right in all",
        ),
        Finding(
            "hyena-equals-transformer",
            "Hyena on conjunctions, last 5 of 20: at most 0.03 below the Transformer",
            "empirical",
            conj["hyena"],
            ">=",
            conj["transformer"] - 0.03,
            conj["transformer"],
            "Transformer",
            detail="250 steps of 32 prompts each; other classes and nearest neighbours were not compared",
        ),
    ]


@runs.study(claims=["frozen-language-model"], title="a frozen language model", minutes=2)
def frozen_language_model(run: runs.Run, fast: bool) -> list[Finding]:
    """Read-in and read-out networks around the bundled language model and around random weights, conjunctions."""
    task = BooleanTask("conjunction", 5)
    prompts = prompts_of(task, fast, 15, count=400)
    found, models = {}, {}
    for name, random in (("trained", False), ("random", True)):
        model = from_language_model(None, 5, max_points=60, random_backbone=random, seed=3)
        models[name] = trained(run, name, task, fast, steps=250, batch=16, points=15, model=model)
        found[name] = last(correct(models[name], prompts))
    nearest = last(correct(Neighbours(1), prompts))
    scores = head_scores(models["trained"], "nn", n_points=40, start=21, prompts=10 if fast else 40)
    claim, detail = "frozen-language-model", "a Llama of 5.7 million parameters, 250 steps of 16 prompts"
    return [
        Finding(
            claim,
            "Frozen language model on conjunctions of 5 bits, last 5 of 15: no more than 0.02 below 1-NN",
            "empirical",
            found["trained"],
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
            found["trained"],
            ">",
            found["random"],
            found["random"],
            "frozen random weights",
        ),
        Finding(
            claim,
            "Highest nearest-neighbour score of its heads",
            "empirical",
            scores.max(),
            ">=",
            THRESHOLD,
            detail=f"{int((scores >= THRESHOLD).sum())} of {scores.size} heads count as nearest-neighbour heads",
        ),
    ]


@runs.study(claims=["robustness"], title="label noise and shifted inputs", minutes=0.3)
def robustness(run: runs.Run, fast: bool) -> list[Finding]:
    """The bundled model on conjunctions, with flipped labels and with other inputs and functions."""
    model = load_in_context_model(bundled_model_path())
    task = BooleanTask("conjunction", 8)
    prompts = prompts_of(task, fast)
    shares = (0.0, 0.05, 0.1, 0.2, 0.3)
    noisy = [last(correct(model, prompts, noise=share, seed=4)) for share in shares]
    words = ", ".join(f"{share:g}: {value:.3f}" for share, value in zip(shares, noisy, strict=True))
    rigid = last(correct(Elimination(), prompts, noise=0.1, seed=4))
    gaps = {}
    for name, other in {
        "none": task,
        "strong": replace(task, bit_probability=0.9, literals=0.7),
    }.items():
        asked = prompts_of(other, fast, seed=9)
        gaps[name] = last(correct(Elimination(), asked)) - last(correct(model, asked))
    return [
        Finding(
            "robustness",
            "Steepest loss of accuracy per step of label noise (0, 0.05, 0.1, 0.2, 0.3)",
            "empirical",
            max(a - b for a, b in itertools.pairwise(noisy)),
            "<=",
            0.15,
            detail=f"last 5 of 30 positions: {words}",
        ),
        Finding(
            "robustness",
            "With 10 % of the labels flipped it is above elimination, which never recovers",
            "empirical",
            noisy[2],
            ">",
            rigid,
            rigid,
            "elimination",
        ),
        Finding(
            "robustness",
            "Bits that are 1 with probability 0.9 and conjunctions of 5.6 literals: further below "
            "elimination than on its own prompts, by 0.05",
            "empirical",
            gaps["strong"],
            ">=",
            gaps["none"] + 0.05,
            gaps["none"],
            "the gap on its own prompts",
        ),
    ]
