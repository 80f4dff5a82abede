"""Learned masks beside one-shot pruning with the same data and steps, and one kind of data beside another."""

from __future__ import annotations

import copy
import re
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from paperworks import runs
from paperworks.language import bundled_text
from paperworks.language.choice import Question, choice_accuracy, choice_outcomes
from paperworks.metrics import mean_interval
from paperworks.papers.compresso.data import build_examples, definition_rows
from paperworks.papers.compresso.prompt import PromptTemplate, plain_ids
from paperworks.papers.compresso.studies.bench import BATCH, RATE, Bench
from paperworks.runs import Finding
from paperworks.runs.findings import Relation
from paperworks.structure import TaylorScores, magnitude_scores, prune, random_scores, units_of
from paperworks.structure.budgets import uniform_plan
from paperworks.structure.scores import Scores
from paperworks.training import TrainSettings, add_lora, merge_lora, train

TUNING, PRUNING, FINAL = 10, 110, 40
STEPS = TUNING + PRUNING + FINAL
SPARSITY = 0.24
SEEDS = 3


@runs.study(
    claims=["beats-one-shot-pruning"],
    title=f"Against one-shot pruning: 39 % of the channels, {STEPS} LoRA steps of {BATCH} x 64 tokens, {SEEDS} seeds",
    minutes=5,
)
def against_one_shot(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Same channels in number, same adapters on q and v, same steps and windows; only what is cut differs."""
    bench = Bench(run, fast)
    found: dict[str, list[float]] = {name: [] for name in ("Compresso", "Taylor", "L2", "random")}
    widths = []
    for seed in range(2 if fast else SEEDS):
        method = bench.fitted((TUNING, PRUNING, FINAL), target_sparsity=SPARSITY, units=("ffn",), seed=seed)
        found["Compresso"].append(bench.perplexity(method.model_))
        widths.append(method.report_.channels)
        kept = sum(method.report_.channels) / sum(method.report_.channels_before)
        for name, scores in _rankings(bench, seed).items():
            found[name].append(bench.perplexity(_one_shot(bench, scores, kept, seed)))
    mean = {name: statistics.mean(values) for name, values in found.items()}
    table = "; ".join(f"{name} {mean[name]:.2f} ({', '.join(f'{v:.2f}' for v in found[name])})" for name in found)
    note = f"{table}; dense {bench.perplexity(bench.dense()):.2f}; learned widths of 640, seed 0: {widths[0]}"
    relations: tuple[tuple[str, Relation], ...] = (("random", "<"), ("L2", "<"), ("Taylor", "<="))
    return [
        Finding(
            "beats-one-shot-pruning",
            f"Held-out perplexity of Compresso over that of uniform {name} and LoRA, paired by seed",
            "empirical",
            mean_interval([a / b for a, b in zip(found["Compresso"], found[name], strict=True)]),
            relation,
            1.0,
            baseline=mean[name],
            baseline_name=f"uniform {name}, mean perplexity",
            detail=note,
        )
        for name, relation in relations
    ]


def _rankings(bench: Bench, seed: int) -> dict[str, Callable[[Any, Any], Scores]]:
    def taylor(model: Any, units: Any) -> Scores:
        order = torch.randperm(len(bench.windows), generator=torch.Generator().manual_seed(seed))
        with TaylorScores(model, units) as scores:
            for rows in bench.windows[order[: 32 if bench.fast else 128]].split(16):
                scores.add({"input_ids": rows})
            return scores.scores()

    return {
        "Taylor": taylor,
        "L2": lambda model, units: magnitude_scores(model, units),
        "random": lambda model, units: random_scores(units, torch.Generator().manual_seed(seed)),
    }


def _one_shot(bench: Bench, scores: Callable[[Any, Any], Scores], kept: float, seed: int) -> Any:
    """Every layer loses the same share of its channels at once; then the adapters are tuned as long as Compresso's."""
    model = bench.dense()
    units = units_of(model, ["ffn"])
    prune(model, uniform_plan(units, scores(model, units), kept))
    adapted = add_lora(model, ["q_proj", "v_proj"], r=8, alpha=8, dropout=0.0, seed=seed)
    settings = TrainSettings(
        steps=bench.steps(STEPS),
        batch_size=BATCH,
        learning_rate=RATE,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        schedule="linear",
        device="cpu",
        seed=seed,
    )
    train(adapted, bench.windows, settings, progress=bench.run.progress)
    return merge_lora(adapted)


@runs.study(
    claims=["instruction-data"],
    title=f"Which data to prune on: 160 steps of 8 sequences up to 64 tokens, {SEEDS} seeds",
    minutes=5,
)
def training_data(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Instruction rows made of dictionary entries, the same rows with the outputs of others, and plain text."""
    bench = Bench(run, fast)
    template, tokenizer = PromptTemplate.of("none"), bench.tokenizer
    rows = definition_rows(bundled_text("train"))
    order = run.rng("outputs of others").permutation(len(rows))
    shuffled = [{**row, "output": rows[i]["output"]} for row, i in zip(rows, order.tolist(), strict=True)]
    questions = definition_questions(bundled_text("test"), tokenizer, run, 8 if fast else 240)
    sets: dict[str, Any] = {
        "instructions": build_examples(rows, tokenizer, template, 64),
        "shuffled": build_examples(shuffled, tokenizer, template, 64),
        "text": None,
    }
    outcomes: dict[str, list[np.ndarray]] = {name: [] for name in sets}
    perplexities: dict[str, list[float]] = {name: [] for name in sets}
    for seed in range(2 if fast else SEEDS):
        for name, examples in sets.items():
            model = bench.fitted((10, 110, 40), data=examples, target_sparsity=0.268, seed=seed).model_
            outcomes[name].append(choice_outcomes(model, questions, progress=run.progress)[1])
            perplexities[name].append(bench.perplexity(model))
    right = {name: np.mean(found, axis=0) for name, found in outcomes.items()}
    dense = choice_accuracy(copy.deepcopy(bench.dense()), questions, progress=run.progress)["acc_norm"]
    note = "; ".join(
        f"{name}: accuracy by seed {', '.join(f'{found.mean():.3f}' for found in outcomes[name])}, perplexity of text "
        f"{statistics.mean(perplexities[name]):.2f}"
        for name in sets
    )
    return [
        Finding(
            "instruction-data",
            f"Accuracy at telling definitions, mean of the seeds, pruned on instructions, less that of {other}, paired "
            "by question",
            "empirical",
            mean_interval(right["instructions"] - right[other], unit="questions"),
            ">",
            0.0,
            baseline=float(right[other].mean()),
            baseline_name=other,
            detail=f"{note}; dense accuracy {dense:.3f}; {len(questions)} questions with four definitions, asked in "
            "the dictionary's own form, which the text has and the instructions have not",
        )
        for other in ("text", "shuffled")
    ]


def definition_questions(text: str, tokenizer: Any, run: runs.Run, n: int) -> list[Question]:
    """Which of four definitions belongs to a word? The wrong ones are those of other words of the same part of speech.

    A word that stands in its own definition is left out.
    """
    entries = [found.groups() for found in re.finditer(r"(?m)^([^:\n()]+) \((noun|verb)\): ([^;\n]+)$", text)]
    entries = [e for e in entries if not any(word.lower() in e[2].lower() for word in re.findall(r"\w{4,}", e[0]))]
    rng = run.rng("definitions")
    questions = []
    for place in rng.permutation(len(entries))[:n]:
        words, part, _ = entries[place]
        others = [i for i, e in enumerate(entries) if e[1] == part and i != place]
        chosen = [int(place), *rng.choice(others, 3, replace=False).tolist()]
        order = rng.permutation(4)
        endings = [f" {entries[chosen[i]][2]}" for i in order]
        questions.append(
            Question(
                tuple(plain_ids(tokenizer, f"{words} ({part}):")),
                tuple(tuple(plain_ids(tokenizer, e)) for e in endings),
                int((order == 0).argmax()),
                tuple(len(e.encode()) for e in endings),
            )
        )
    return questions
